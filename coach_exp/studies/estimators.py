"""How far each bandwidth estimator is from the truth: one stream of equal tasks over many traces.

In: the paper's steps, a random walk and, where a folder is given, every trace file below it. Out: a
table of bias, error and lag for each family of traces and each estimator, `estimators.md`,
`estimators.json` with every single trace, and `estimators.png`, estimate against truth over time.

Each task sends `elements` at `bits` (by default ResNet101's crossing tensor in the paper's Table
II, 98 KiB). Two tasks are in flight, so the link never waits while it is the bottleneck, and the
end decides about a task just after a transfer has ended, with that transfer known. Such a stream
decides more often while the link is fast, and hardly ever in an outage.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from omegaconf import OmegaConf
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from coach_exp.network.estimator import Estimator, Ewma, HarmonicMean, Oracle
from coach_exp.network.trace import Trace, random_walk, steps
from coach_exp.network.trace_files import read_trace
from coach_exp.pipeline.parts import Parts
from coach_exp.pipeline.simulator import simulate
from coach_exp.planner.planning import Planner
from coach_exp.plots.figures import COLOURS, new_figure
from coach_exp.quant.affine import UniformAffine
from coach_exp.quant.precision import FixedBits
from coach_exp.results.estimation import EstimateError, estimate_error
from coach_exp.results.progress import Display
from coach_exp.results.tables import markdown, text_table
from coach_exp.studies.settings import StudySettings
from coach_exp.types.errors import ConfigError, LinkError
from coach_exp.types.graph import Layer, LayerGraph
from coach_exp.types.method import FixedPlans, Link, Problem
from coach_exp.types.plan import PlanSet
from coach_exp.types.profile import DeviceProfile
from coach_exp.types.task import Records
from coach_exp.types.workload import Workload

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CONF = Path(__file__).parents[2] / "conf" / "bandwidth"
PANELS = 8  # of the picture
SHOWN_S = 30.0  # of each trace in the picture


class Settings(StudySettings):
    """`traces`: a folder of trace files, each sub-folder a family; `weights` of EWMAs; `transfers`
    of harmonic means; `bin_s` for Mahimahi files."""

    kind: Literal["estimators"] = "estimators"
    traces: Path | None = None
    weights: tuple[Annotated[float, Field(gt=0, le=1)], ...] = (0.3,)
    transfers: tuple[PositiveInt, ...] = (5,)
    elements: PositiveInt = 200_704
    bits: PositiveInt = 4
    end_ms: PositiveFloat = 5.0
    cloud_ms: PositiveFloat = 2.0
    in_flight: PositiveInt = 2
    walks: PositiveInt = 5
    bin_s: PositiveFloat = 0.5
    seed: NonNegativeInt = 0


@dataclass(frozen=True)
class Case:
    """A trace to score on: its family, its name, and the seconds of it that are used."""

    family: str
    name: str
    trace: Trace
    duration_s: float

    @property
    def mean_mbps(self) -> float:
        """Mean true rate."""
        return self.trace.carried_bits(self.duration_s) / self.duration_s / 1e6


@dataclass(frozen=True, slots=True)
class Score:
    """One estimator on one trace."""

    family: str
    trace: str
    mean_mbps: float
    estimator: str
    tasks: int
    error: EstimateError

    def as_json(self) -> dict[str, Any]:
        """Flat, with bias and error in percent."""
        facts, error = asdict(self), self.error
        del facts["error"]
        return facts | {
            "bias_percent": error.bias_percent,
            "error_percent": error.error_percent,
            "lag_s": error.lag_s,
            "scored": error.scored,
            "outages": error.outages,
        }


# --- The traces -----------------------------------------------------------------------------------


def own_cases(settings: Settings) -> Iterator[Case]:
    """Figs. 5(a) and 5(b) and random walks, as in `conf/bandwidth`."""
    for name in ("fig5a", "fig5b"):
        given = OmegaConf.load(CONF / f"{name}.yaml")
        trace = steps([1e6 * mbps for mbps in given.mbps], given.step_s)
        yield Case(name, name, trace, given.step_s * len(given.mbps))
    walk = OmegaConf.load(CONF / "random_walk.yaml")
    for seed in range(settings.seed, settings.seed + settings.walks):
        trace = random_walk(
            *(1e6 * walk.low_mbps, 1e6 * walk.high_mbps, walk.step_s),
            *(walk.volatility, walk.duration_s, seed),
        )
        yield Case("random_walk", f"seed {seed}", trace, trace.period_s)


def real_cases(folder: Path, bin_s: float) -> tuple[list[Case], dict[str, str]]:
    """Every trace below a folder, by family and name, and why the other files are none. Raises
    ConfigError where there is no folder, or no trace in it.
    """
    if not folder.is_dir():
        raise ConfigError(f"study.traces = {folder}: is no folder; give one that holds trace files")
    found: list[Case] = []
    left_out: dict[str, str] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        try:
            trace = read_trace(path, bin_s=bin_s)
        except LinkError as error:
            left_out[name] = str(error).replace(str(path), path.name)
            continue
        family = str(path.parent.relative_to(folder)) if path.parent != folder else folder.name
        found.append(Case(family, name, trace, trace.period_s))
    if not found:
        raise ConfigError(f"study.traces = {folder}: holds no trace file")
    return found, left_out


# --- The stream -----------------------------------------------------------------------------------


def estimators(settings: Settings) -> dict[str, Callable[[Trace], Estimator]]:
    """What makes each estimator for a trace, by the name in the table."""

    def ewma(weight: float) -> Callable[[Trace], Estimator]:
        return lambda trace: Ewma(trace.initial_bps, weight)

    def harmonic(transfers: int) -> Callable[[Trace], Estimator]:
        return lambda trace: HarmonicMean(trace.initial_bps, transfers)

    averages = {f"ewma {weight:g}": ewma(weight) for weight in settings.weights}
    means = {f"harmonic {count}": harmonic(count) for count in settings.transfers}
    return averages | means | {"oracle": Oracle}


def stream(case: Case, estimator: Estimator, settings: Settings) -> Records:
    """As many tasks as the link carries in its duration, one after the other, cut behind the one
    layer of the end.
    """
    graph = LayerGraph.of(
        [
            Layer("in", (), elements=settings.elements),
            Layer("cut", ("in",), elements=settings.elements),
            Layer("out", ("cut",), elements=1),
        ]
    )
    codec = UniformAffine()
    payload_bits = 8 * codec.expected_bytes(settings.elements, settings.bits)
    tasks = max(1, int(case.trace.carried_bits(case.duration_s) / payload_bits))
    problem = Problem(
        graph=graph,
        end=DeviceProfile("end", {"in": 0.0, "cut": settings.end_ms / 1e3, "out": 0.0}),
        cloud=DeviceProfile("cloud", {"in": 0.0, "cut": 0.0, "out": settings.cloud_ms / 1e3}),
        link=Link(case.trace.initial_bps),
        codec=codec,
        bits=FixedBits(settings.bits, "in", 8),
        workload=Workload("saturated", tasks, in_flight=settings.in_flight),
    )
    plan = Planner(objective="bottleneck", release="after_decision").plan_for(
        problem, ["in", "cut"]
    )
    return simulate(problem, FixedPlans(PlanSet((plan,))), case.trace, estimator)


def scores(cases: Sequence[Case], settings: Settings, display: Display) -> list[Score]:
    """Every estimator on every trace; a trace on which nothing could be decided is skipped."""
    found = []
    for done, case in enumerate(cases, start=1):
        for name, make in estimators(settings).items():
            records = stream(case, make(case.trace), settings)
            error = estimate_error(records.decided_s, records.estimated_bps, records.true_bps)
            if error is not None:
                found.append(
                    Score(case.family, case.name, case.mean_mbps, name, len(records), error)
                )
        display.progress("streams", done, len(cases))
    return found


# --- The study ------------------------------------------------------------------------------------


def study(settings: Mapping[str, Any], directory: Path, display: Display, _: Parts) -> float:
    """Score, tabulate, draw; returns the mean error in percent of the first estimator over all
    traces. Raises ConfigError naming wrong settings.
    """
    checked = Settings.read(settings)
    cases: list[Case] = list(own_cases(checked))
    left_out: dict[str, str] = {}
    if checked.traces is not None:
        real, left_out = real_cases(checked.traces, checked.bin_s)
        cases += real
    every = scores(cases, checked, display)
    heads, rows = table(every)
    display.say(text_table("estimated against true bandwidth", heads, rows))
    for name, cause in left_out.items():
        display.say(f"{name} is left out: {cause}")
    written = {
        "settings": checked.model_dump(mode="json"),
        "scores": [each.as_json() for each in every],
        "left_out": left_out,
    }
    (directory / "estimators.json").write_text(json.dumps(written, indent=2) + "\n")
    (directory / "estimators.md").write_text(markdown(heads, rows))
    draw(cases, checked, directory / "estimators.png")
    first = [e.error.error_percent for e in every if e.estimator == every[0].estimator]
    return float(np.mean(first))


def table(every: Sequence[Score]) -> tuple[list[str], list[list[str]]]:
    """Means over the traces of a family, medians of the lag, sums of decisions in outages."""
    heads = ["traces", "number", "Mbps", "estimator", "bias %", "error %", "lag s", "in outages"]
    rows = []
    for family, name in dict.fromkeys((each.family, each.estimator) for each in every):
        own = [each for each in every if (each.family, each.estimator) == (family, name)]
        errors = [each.error for each in own]
        rows.append(
            [
                *(family, str(len(own)), f"{np.mean([each.mean_mbps for each in own]):.1f}", name),
                f"{np.mean([e.bias_percent for e in errors]):z.1f}",
                f"{np.mean([e.error_percent for e in errors]):z.1f}",
                f"{np.median([e.lag_s for e in errors]):.2f}",
                str(sum(e.outages for e in errors)),
            ]
        )
    return heads, rows


# --- The picture ----------------------------------------------------------------------------------


def draw(cases: Sequence[Case], settings: Settings, path: Path) -> None:
    """The first trace of each family: the truth as a grey area, each estimate as a line of what the
    end believed when it decided.
    """
    first = {case.family: case for case in reversed(cases)}
    shown = [first[family] for family in dict.fromkeys(case.family for case in cases)][:PANELS]
    figure = new_figure(10, 1.9 * len(shown) + 0.5)
    panels = figure.subplots(len(shown), squeeze=False)[:, 0]
    for axes, case in zip(panels, shown, strict=True):
        _panel(axes, case, settings)
    panels[0].legend(loc="upper right", ncols=4, frameon=False, fontsize=9)
    panels[-1].set_xlabel("time (s)")
    figure.savefig(path)


def _panel(axes: "Axes", case: Case, settings: Settings) -> None:
    until_s = min(case.duration_s, SHOWN_S)
    starts_s, rates_bps = case.trace.steps(until_s)
    axes.stairs(rates_bps / 1e6, np.append(starts_s, until_s), fill=True, color="#E4E4E4")
    for k, (name, make) in enumerate(estimators(settings).items()):
        records = stream(case, make(case.trace), settings)
        axes.step(
            records.decided_s,
            records.estimated_bps / 1e6,
            where="post",
            color=COLOURS[k % len(COLOURS)],
            lw=1.3,
            zorder=2 if name == "oracle" else 3,
            label=name,
        )
    axes.set(xlim=(0, until_s), ylabel="Mbps")
    axes.set_ylim(0, 1.25 * float(rates_bps.max()) / 1e6)
    name = case.name if case.name.startswith(case.family) else f"{case.family}, {case.name}"
    axes.set_title(name, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
