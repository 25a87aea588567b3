"""The config as typed, range-checked values: what YAML and the command line may say.

In: the composed Hydra config. Out: one frozen `Config`, or a ConfigError that names every wrong
key, its value and the rule, before any work starts. Settings that belong to one component (a data
set, a model, a method) are checked by that component.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from coach_exp.network.trace_files import TraceFormat
from coach_exp.planner.planning import ObjectiveName, SearchName
from coach_exp.types.errors import ConfigError
from coach_exp.types.online import Budget, Rule, Update
from coach_exp.types.plan import Release
from coach_exp.types.workload import Workload


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class _Open(BaseModel):
    """A group whose other keys are checked by the component they are for."""

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)


def _as_list(value: Any) -> Any:
    return value if value is None or isinstance(value, list | tuple) else [value]


class Steps(_Group):
    """Rates one after the other; the last one stays."""

    kind: Literal["steps"]
    mbps: Annotated[tuple[PositiveFloat, ...], BeforeValidator(_as_list)] = Field(min_length=1)
    step_s: PositiveFloat


class RandomWalk(_Group):
    """A geometric random walk between two rates."""

    kind: Literal["random_walk"]
    low_mbps: PositiveFloat
    high_mbps: PositiveFloat
    step_s: PositiveFloat
    volatility: NonNegativeFloat
    duration_s: PositiveFloat
    seed: NonNegativeInt

    @model_validator(mode="after")
    def _ordered(self) -> "RandomWalk":
        if self.low_mbps > self.high_mbps:
            raise ValueError(f"low_mbps = {self.low_mbps} exceeds high_mbps = {self.high_mbps}")
        return self


class TraceFile(_Group):
    """A recorded trace; see `network.trace_files.load_trace`."""

    kind: Literal["file"]
    path: Path
    format: TraceFormat
    begin_s: NonNegativeFloat
    duration_s: PositiveFloat | None
    scale: PositiveFloat
    clip_mbps: tuple[NonNegativeFloat, PositiveFloat] | None
    loop: bool
    bin_s: PositiveFloat

    @field_validator("clip_mbps")
    @classmethod
    def _ordered(cls, clip: tuple[float, float] | None) -> tuple[float, float] | None:
        if clip is not None and clip[0] > clip[1]:
            raise ValueError(f"the low end {clip[0]} exceeds the high end {clip[1]}")
        return clip


class EwmaGroup(_Group):
    """See `network.estimator.Ewma`."""

    kind: Literal["ewma"]
    weight: Annotated[float, Field(gt=0, le=1)]


class HarmonicGroup(_Group):
    """See `network.estimator.HarmonicMean`."""

    kind: Literal["harmonic"]
    transfers: PositiveInt


class OracleGroup(_Group):
    """See `network.estimator.Oracle`."""

    kind: Literal["oracle"]


class Analytic(_Open):
    """A roofline profile; the constants are read by `profiling.device`."""

    kind: Literal["analytic"]
    slowdown: PositiveFloat = 1.0


class Measured(_Group):
    """This machine, timed layer by layer."""

    kind: Literal["measured"]
    name: str
    slowdown: PositiveFloat = 1.0
    repeats: PositiveInt
    warmup: NonNegativeInt
    torch_device: str


class ProfileFile(_Group):
    """A saved profile, JSON or CSV."""

    kind: Literal["file"]
    name: str
    slowdown: PositiveFloat = 1.0
    path: Path


Device = Annotated[Analytic | Measured | ProfileFile, Field(discriminator="kind")]


class PlannerGroup(_Group):
    """Settings of the planner; see `planner.planning.Planner`."""

    target: str = Field(alias="_target_")
    search: SearchName
    objective: ObjectiveName
    release: Release
    moves: Literal["one", "two"]
    limit: PositiveInt
    weights: tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat]


class UaqGroup(_Group):
    """See `quant.affine.UniformAffine`."""

    kind: Literal["uaq"]
    header_bytes: NonNegativeInt
    per_channel: bool


class BitshuffleGroup(_Group):
    """See `quant.bitshuffle.BitshuffleLz4`."""

    kind: Literal["bitshuffle_lz4"]
    header_bytes: NonNegativeInt


Width = Literal[1, 2, 3, 4, 5, 6, 7, 8, 16, 32]


class FixedPrecision(_Group):
    """One width for every crossing tensor."""

    kind: Literal["fixed"]
    bits: Width


class SearchedPrecision(_Group):
    """The fewest bits within the accuracy limit; `bits` where no model is trained."""

    kind: Literal["search"]
    limit_points: PositiveFloat
    bits: Width
    cuts: PositiveInt


class CacheGroup(_Group):
    """The online part; see `online.method.Online`."""

    target: str = Field(alias="_target_")
    exits: bool
    adjust: bool
    rule: Rule
    update: Update
    count_cap: PositiveInt | None
    budget: Budget
    limit_points: PositiveFloat = Field(lt=100)
    delta: PositiveFloat = Field(lt=1)
    max_bits: Width | None

    @field_validator("budget")
    @classmethod
    def _guaranteed_centres_stay(cls, budget: Budget, info: ValidationInfo) -> Budget:
        if budget == "guarantee" and info.data.get("update") not in ("none", None):
            raise ValueError(
                "guarantee holds for the centres that were calibrated, not for centres that move; "
                "add cache.update=none, or use paper or joint"
            )
        return budget


class ReplanGroup(_Group):
    """When a method changes its plan; see `online.replan.Replan`."""

    target: str = Field(alias="_target_")
    mbps: tuple[PositiveFloat, ...]
    period_s: PositiveFloat
    change: NonNegativeFloat


class WorkloadGroup(_Group):
    """How tasks arrive; see `types.workload.Workload`. No `tasks`: the stream split, once."""

    kind: Literal["single_stream", "saturated", "periodic", "poisson"]
    tasks: PositiveInt | None
    in_flight: PositiveInt
    rate_hz: PositiveFloat | None = None
    drop: bool = False
    seed: NonNegativeInt = 0

    def workload(self, split: int | None) -> Workload:
        """The frozen value that methods and the simulator see; `split` is the number of samples in
        the stream split, None where there is none. Raises ConfigError when that is asked for."""
        tasks = split if self.tasks is None else self.tasks
        if tasks is None:
            raise ConfigError(
                "workload.tasks = null is one pass over the stream split, and without trained "
                "weights there is no stream: give a number"
            )
        return Workload(**{**self.model_dump(), "tasks": tasks})


class TransportGroup(_Group):
    """How tasks reach the cloud; see `pipeline.uplink.CloudAddress` and
    `pipeline.cloud_settings.CloudSettings`."""

    kind: Literal["simulated", "loopback", "remote"]
    replay_s: NonNegativeFloat
    max_s: PositiveFloat | None
    host: str = Field(min_length=1)
    port: int = Field(ge=0, le=65535)
    shaped: bool
    token_file: Path | None
    tls_authority: Path | None
    tls_certificate: Path | None
    tls_key: Path | None
    server_name: str | None
    connect_s: PositiveFloat
    stall_s: PositiveFloat
    answer_s: PositiveFloat
    send_buffer_kib: PositiveInt | None
    max_clients: PositiveInt


class Tracking(_Group):
    """Where runs are kept."""

    kind: Literal["mlflow", "none"]
    uri: str | None
    experiment: str
    resume: bool


class Input(_Group):
    """How the raw input crosses the link, for every method alike."""

    encoding: Literal["uint8", "float32", "jpeg", "forbidden"]
    jpeg_quality: int = Field(ge=1, le=100)

    @property
    def bits(self) -> int:
        """Bits per element of the raw input, before a JPEG file is made of it."""
        return 32 if self.encoding == "float32" else 8


class Output(_Group):
    """Where things are written."""

    root: Path


class MethodGroup(_Open):
    """A method: what builds it, and its arguments."""

    target: str = Field(alias="_target_")
    name: str


class JobGroup(_Open):
    """What is to be done; see `coach_exp.jobs`."""

    target: str = Field(alias="_target_")

    @property
    def serves(self) -> bool:
        """Whether this process is the cloud."""
        return self.target == "coach_exp.jobs.serve.Serve"


class Config(_Group):
    """The whole config of one job."""

    job: JobGroup
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    device: Device
    cloud: Device
    bandwidth: Annotated[Steps | RandomWalk | TraceFile, Field(discriminator="kind")]
    estimator: Annotated[EwmaGroup | HarmonicGroup | OracleGroup, Field(discriminator="kind")]
    method: MethodGroup
    planner: PlannerGroup
    quantizer: Annotated[UaqGroup | BitshuffleGroup, Field(discriminator="kind")]
    precision: Annotated[FixedPrecision | SearchedPrecision, Field(discriminator="kind")]
    cache: CacheGroup
    replan: ReplanGroup
    workload: WorkloadGroup
    transport: TransportGroup
    compute: Literal["profile", "live"]
    tracking: Tracking
    training: Mapping[str, Any]
    exit_training: Mapping[str, Any]
    input: Input
    output: Output
    weights: str
    stream: Literal["low", "medium", "high"]
    division: Literal["as_published", "same_codec", "same_online"]
    seed: NonNegativeInt
    references: Annotated[tuple[str, ...] | None, BeforeValidator(_as_list)]
    rtt_ms: NonNegativeFloat
    result_return: bool
    t_max_ms: PositiveFloat | None

    @field_validator("replan")
    @classmethod
    def _a_guarantee_is_of_one_plan(cls, replan: ReplanGroup, info: ValidationInfo) -> ReplanGroup:
        cache = info.data.get("cache")
        if replan.mbps and cache is not None and cache.budget == "guarantee":
            raise ValueError(
                "cache.budget = guarantee speaks of one plan, not of changing between several; "
                "use replan=never, or the budget paper or joint"
            )
        return replan

    @field_validator("transport")
    @classmethod
    def _tls_is_whole(cls, transport: TransportGroup, info: ValidationInfo) -> TransportGroup:
        if (transport.tls_certificate is None) != (transport.tls_key is None):
            raise ValueError(
                "a certificate goes with its key: give both transport.tls_certificate and "
                "transport.tls_key, or neither"
            )
        if transport.tls_certificate is None or transport.tls_authority is not None:
            return transport
        job = info.data.get("job")
        if not (job and job.serves) and transport.kind != "simulated":
            raise ValueError(
                "an end speaks TLS where transport.tls_authority says who signed the cloud's "
                "certificate, and tls_certificate alone would leave it without: give both"
            )
        return transport

    @field_validator("transport")
    @classmethod
    def _the_truth_is_known(cls, transport: TransportGroup, info: ValidationInfo) -> TransportGroup:
        if not transport.shaped and isinstance(info.data.get("estimator"), OracleGroup):
            raise ValueError(
                "estimator = oracle reads the trace, which a link that is not shaped does not "
                "follow; use estimator=ewma or harmonic, or transport.shaped=true"
            )
        return transport


def validated(config: DictConfig) -> Config:
    """The typed config. Raises ConfigError naming each wrong key, its value and the rule."""
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {error.msg}") from error
    try:
        return Config.model_validate(plain)
    except ValidationError as error:
        sentences: dict[str, str] = {}
        for detail in error.errors():
            key, sentence = _sentence(plain, detail)
            sentences.setdefault(key, sentence)
        raise ConfigError("\n".join(sentences.values())) from None


def _sentence(plain: Any, detail: Mapping[str, Any]) -> tuple[str, str]:
    """The key and one wrong value in words; discriminators in pydantic's location are no keys."""
    keys: list[str] = []
    value = plain
    for part in detail["loc"]:
        if isinstance(value, Mapping) and part in value:
            value = value[part]
            keys.append(str(part))
        elif detail["type"] == "missing" and part == detail["loc"][-1]:
            keys.append(str(part))
    rule = detail["msg"].removeprefix("Value error, ").replace("Input should", "should")
    rule = "is not set; it must be given" if value is None else rule
    shown = "" if isinstance(value, Mapping) else f" = {value}"
    key = ".".join(keys)
    return key, f"{key}{shown}: {rule}"
