"""How far each bandwidth estimator is from the truth: one stream of equal tasks over many traces.

In: the paper's steps, a random walk and, where a folder is given, every trace file below it. Out: a
table of bias, error and lag for each family of traces and each estimator, the scores on every
single trace, and a picture, estimate against truth over time.

Each task sends `elements` at `bits` (by default ResNet101's crossing tensor in the paper's Table
II, 98 KiB). Two tasks are in flight, so the link never waits while it is the bottleneck, and the
end decides about a task just after a transfer has ended, with that transfer known. Such a stream
decides more often while the link is fast, and hardly ever in an outage.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from omegaconf import OmegaConf
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from coach_exp.network.estimator import Estimator, Ewma, HarmonicMean, Oracle
from coach_exp.network.trace import Trace, random_walk, steps
from coach_exp.network.trace_files import read_trace
from coach_exp.pipeline.parts import Parts
from coach_exp.pipeline.simulator import simulate
from coach_exp.planner.planning import Planner
from coach_exp.plots.estimators import Believed, belief_panels
from coach_exp.quant.affine import UniformAffine
from coach_exp.quant.precision import FixedBits
from coach_exp.results.estimation import EstimateError, estimate_error
from coach_exp.results.findings import Findings, Table
from coach_exp.results.progress import Display
from coach_exp.types.errors import ConfigError, LinkError
from coach_exp.types.graph import Layer, LayerGraph
from coach_exp.types.method import FixedPlans, Link, Problem
from coach_exp.types.packaged import CONF
from coach_exp.types.plan import PlanSet
from coach_exp.types.profile import DeviceProfile
from coach_exp.types.task import Records
from coach_exp.types.workload import Workload

Make = Callable[[Trace], Estimator]

PANELS = 8  # of the picture
SHOWN_S = 30.0  # of each trace in the picture


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


def own_cases(walks: range) -> Iterator[Case]:
    """Figs. 5(a) and 5(b) and random walks of some seeds, as in `conf/bandwidth`."""
    folder = CONF / "bandwidth"
    for name in ("fig5a", "fig5b"):
        given = OmegaConf.load(folder / f"{name}.yaml")
        trace = steps([1e6 * mbps for mbps in given.mbps], given.step_s)
        yield Case(name, name, trace, given.step_s * len(given.mbps))
    walk = OmegaConf.load(folder / "random_walk.yaml")
    low_bps, high_bps = 1e6 * walk.low_mbps, 1e6 * walk.high_mbps
    for seed in walks:
        trace = random_walk(low_bps, high_bps, walk.step_s, walk.volatility, walk.duration_s, seed)
        yield Case("random_walk", f"seed {seed}", trace, trace.period_s)


def real_cases(folder: Path, bin_s: float) -> tuple[list[Case], dict[str, str]]:
    """Every trace below a folder, by family and name, and why the other files are none. Raises
    ConfigError where there is no folder, or no trace in it.
    """
    if not folder.is_dir():
        raise ConfigError(f"traces = {folder}: is no folder; give one that holds trace files")
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
        raise ConfigError(f"traces = {folder}: holds no trace file")
    return found, left_out


# --- The study ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Estimators:
    """`traces`: a folder of trace files, each sub-folder a family; `weights` of EWMAs; `transfers`
    of harmonic means; each task sends `elements` at `bits` and takes `end_ms` and `cloud_ms`;
    `walks` are random ones, with seeds from `seed` on; `bin_s` is for Mahimahi files."""

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

    def __call__(self, parts: Parts, display: Display) -> Findings:
        """The value is the mean error in percent of the first estimator over all traces. The parts
        are not asked. Raises ConfigError where a folder is named that holds no trace."""
        cases = list(own_cases(range(self.seed, self.seed + self.walks)))
        left_out: Mapping[str, str] = {}
        if self.traces is not None:
            real, left_out = real_cases(self.traces, self.bin_s)
            cases += real
        every = self._scores(cases, display)
        first = [e.error.error_percent for e in every if e.estimator == every[0].estimator]
        folder = None if self.traces is None else str(self.traces)
        return Findings(
            name="estimators",
            tables=(Table("estimated against true bandwidth", HEADS, _cells(every)),),
            figures={"estimators": belief_panels([self._believed(c) for c in _firsts(cases)])},
            data={
                "settings": asdict(self) | {"traces": folder},
                "scores": [each.as_json() for each in every],
                "left_out": left_out,
            },
            notes=tuple(f"{name} is left out: {cause}" for name, cause in left_out.items()),
            value=float(np.mean(first)),
        )

    def _scores(self, cases: Sequence[Case], display: Display) -> list[Score]:
        """Every estimator on every trace; a trace on which nothing could be decided is skipped."""
        found = []
        for done, case in enumerate(cases, start=1):
            for name, make in self._estimators().items():
                records = self._stream(case, make(case.trace))
                error = estimate_error(records.decided_s, records.estimated_bps, records.true_bps)
                if error is not None:
                    found.append(
                        Score(case.family, case.name, case.mean_mbps, name, len(records), error)
                    )
            display.progress("streams", done, len(cases))
        return found

    def _estimators(self) -> dict[str, Make]:
        """What makes each estimator for a trace, by the name in the table."""

        def ewma(weight: float) -> Make:
            return lambda trace: Ewma(trace.initial_bps, weight)

        def harmonic(transfers: int) -> Make:
            return lambda trace: HarmonicMean(trace.initial_bps, transfers)

        averages = {f"ewma {weight:g}": ewma(weight) for weight in self.weights}
        means = {f"harmonic {count}": harmonic(count) for count in self.transfers}
        return averages | means | {"oracle": Oracle}

    def _stream(self, case: Case, estimator: Estimator) -> Records:
        """As many tasks as the link carries in its duration, one after the other, cut behind the
        one layer of the end."""
        graph = LayerGraph.of(
            [
                Layer("in", (), elements=self.elements),
                Layer("cut", ("in",), elements=self.elements),
                Layer("out", ("cut",), elements=1),
            ]
        )
        codec = UniformAffine()
        payload_bits = 8 * codec.expected_bytes(self.elements, self.bits)
        tasks = max(1, int(case.trace.carried_bits(case.duration_s) / payload_bits))
        problem = Problem(
            graph=graph,
            end=DeviceProfile("end", {"in": 0.0, "cut": self.end_ms / 1e3, "out": 0.0}),
            cloud=DeviceProfile("cloud", {"in": 0.0, "cut": 0.0, "out": self.cloud_ms / 1e3}),
            link=Link(case.trace.initial_bps),
            codec=codec,
            bits=FixedBits(self.bits, "in", 8),
            workload=Workload("saturated", tasks, in_flight=self.in_flight),
        )
        planner = Planner(objective="bottleneck", release="after_decision")
        plan = planner.plan_for(problem, ["in", "cut"])
        return simulate(problem, FixedPlans(PlanSet((plan,))), case.trace, estimator)

    def _believed(self, case: Case) -> Believed:
        """What the end believed of the link whenever it decided, each estimator."""
        estimates = {}
        for name, make in self._estimators().items():
            records = self._stream(case, make(case.trace))
            estimates[name] = (records.decided_s, records.estimated_bps)
        named = case.name.startswith(case.family)
        title = case.name if named else f"{case.family}, {case.name}"
        return Believed(title, case.trace, min(case.duration_s, SHOWN_S), estimates)


def _firsts(cases: Sequence[Case]) -> list[Case]:
    """The first trace of each family, as many as are drawn."""
    first = {case.family: case for case in reversed(cases)}
    return [first[family] for family in dict.fromkeys(case.family for case in cases)][:PANELS]


# --- The table ------------------------------------------------------------------------------------

HEADS = ("traces", "number", "Mbps", "estimator", "bias %", "error %", "lag s", "in outages")


def _cells(every: Sequence[Score]) -> list[list[str]]:
    """Means over the traces of a family, medians of the lag, sums of decisions in outages."""
    rows = []
    for family, name in dict.fromkeys((each.family, each.estimator) for each in every):
        own = [each for each in every if (each.family, each.estimator) == (family, name)]
        errors = [each.error for each in own]
        rows.append(
            [
                family,
                str(len(own)),
                f"{np.mean([each.mean_mbps for each in own]):.1f}",
                name,
                f"{np.mean([e.bias_percent for e in errors]):z.1f}",
                f"{np.mean([e.error_percent for e in errors]):z.1f}",
                f"{np.median([e.lag_s for e in errors]):.2f}",
                str(sum(e.outages for e in errors)),
            ]
        )
    return rows
