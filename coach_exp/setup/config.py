"""The config of one job as checked values, and the rules that hold between its groups.

In: the composed Hydra config. Out: one frozen `Config`, or a ConfigError that names every wrong
key, its value and the rule, before any work starts. What a group may say is said by its component's
class (`types.component`); here stand the keys of the top level, and what holds between groups.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BeforeValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

from coach_exp.learning.training import Training
from coach_exp.network.sources import TraceSource
from coach_exp.online.method import OnlinePart
from coach_exp.online.replan import Replan
from coach_exp.planner.planning import Planning
from coach_exp.profiling.devices import Device
from coach_exp.quant.widths import Precision
from coach_exp.setup.renamed import refuse_renamed
from coach_exp.setup.transport import Transport
from coach_exp.tracking.settings import Tracking
from coach_exp.types.component import Component, Facts, built, of_class
from coach_exp.types.errors import ConfigError
from coach_exp.types.method import Method
from coach_exp.types.outcomes import Codec
from coach_exp.types.workload import Arrivals


@dataclass(frozen=True, slots=True)
class RawInput:
    """How the raw input crosses the link, for every method alike; `forbidden`: not at all."""

    encoding: Literal["uint8", "float32", "jpeg", "forbidden"] = "uint8"
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 90

    @property
    def bits(self) -> int:
        """Bits per element of the raw input, before a JPEG file is made of it."""
        return 32 if self.encoding == "float32" else 8


@dataclass(frozen=True, slots=True)
class Output:
    """Where things are written."""

    root: Path


def _as_tuple(value: Any) -> Any:
    return value if value is None or isinstance(value, list | tuple) else (value,)


class AnyJob(Protocol):
    """What is to be done: called with a `jobs.job.Job`."""

    def __call__(self, job: Any) -> float | None:
        """Returns the number that a sweep may optimise."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """The whole config of one job. `plain` is the same as it was composed, to be hashed and logged;
    model, data and method are read when they are first needed."""

    plain: Mapping[str, Any]
    job: AnyJob
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    device: Device
    cloud: Device
    bandwidth: TraceSource
    estimator: Annotated[Component, Facts(("initial_bps", "trace"))]
    method: Mapping[str, Any]
    planner: Planning
    quantizer: Codec
    precision: Precision
    cache: OnlinePart
    replan: Replan
    workload: Arrivals
    transport: Transport
    tracking: Tracking
    training: Training
    exit_training: Training
    input: RawInput
    output: Output
    compute: Literal["profile", "live"]
    weights: str
    stream: Literal["low", "medium", "high"]
    division: Literal["as_published", "same_codec", "same_online"]
    seed: NonNegativeInt
    references: Annotated[tuple[str, ...] | None, BeforeValidator(_as_tuple)]
    rtt_ms: NonNegativeFloat
    result_return: bool
    t_max_ms: PositiveFloat | None

    def __post_init__(self) -> None:
        rules = (_guarantee_is_of_one_plan, _end_trusts_an_authority, _truth_is_known)
        broken = [words for rule in rules if (words := rule(self)) is not None]
        if broken:
            raise ConfigError("\n".join(broken))

    def built_method(self) -> Method:
        """The method that the config names. Raises ConfigError when it cannot be made."""
        method: Method = built(self.method, "method", Method)
        return method

    def save(self, path: Path) -> Path:
        """Write it as YAML, nothing left to resolve; returns the path."""
        OmegaConf.save(OmegaConf.create(dict(self.plain)), path)
        return path

    @property
    def replay_s(self) -> float:
        """Seconds of a simulated run that are repeated over loopback; 0: none."""
        transport = self.transport
        return getattr(transport, "replay_s", 0.0) if transport.kind == "simulated" else 0.0

    @property
    def job_name(self) -> str:
        """What the job is called: the module of its class."""
        return type(self.job).__module__.rpartition(".")[2]


def validated(config: DictConfig) -> Config:
    """The checked config. Raises ConfigError naming each wrong key, its value and the rule."""
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {error.msg}") from error
    assert isinstance(plain, dict)
    given = {str(key): value for key, value in plain.items()}
    refuse_renamed(given)
    checked: Config = of_class(Config, given, "", facts=("plain",))(plain=given)
    return checked


# --- What holds between groups --------------------------------------------------------------------


def _guarantee_is_of_one_plan(config: Config) -> str | None:
    if config.replan.mbps and getattr(config.cache, "budget", None) == "guarantee":
        return (
            "replan: cache.budget = guarantee speaks of one plan, not of changing between several; "
            "use replan=never, or the budget paper or joint"
        )
    return None


def _end_trusts_an_authority(config: Config) -> str | None:
    transport = config.transport
    own = getattr(transport, "tls_certificate", None)
    if own is None or getattr(transport, "tls_authority", None) is not None:
        return None
    if config.job_name != "serve" and transport.kind != "simulated":
        return (
            "transport: an end speaks TLS where transport.tls_authority says who signed the "
            "cloud's certificate, and tls_certificate alone would leave it without: give both"
        )
    return None


def _truth_is_known(config: Config) -> str | None:
    if not config.transport.shaped and "trace" in config.estimator.asks:
        return (
            "transport: estimator = oracle reads the trace, which a link that is not shaped does "
            "not follow; use estimator=ewma or harmonic, or transport.shaped=true"
        )
    return None
