"""How far divide and conquer stays behind exhaustive search, on random graphs and on classifiers.

In: numbers of graphs and names of torchvision models. Out: tables of gaps. The gap of a plan is its
objective over the least of all cuts, less one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from coach_exp.pipeline.parts import Parts
from coach_exp.planner.divide_conquer import Moves
from coach_exp.planner.planning import ObjectiveName, Planner
from coach_exp.profiling.device import DeviceSpec, analytic
from coach_exp.profiling.devices import analytic_spec
from coach_exp.quant.affine import UniformAffine
from coach_exp.quant.precision import FixedBits
from coach_exp.results.findings import Findings, Table
from coach_exp.results.progress import Display
from coach_exp.studies.random_graphs import SHAPES, random_problem
from coach_exp.types.errors import InfeasibleError
from coach_exp.types.graph import LayerGraph
from coach_exp.types.method import Link, Problem
from coach_exp.types.workload import Workload

MOVES: tuple[Moves, ...] = ("one", "two")
EQUAL = 1e-9  # gaps up to this are rounding
INPUT_PIXELS = {"inception_v3": 299, "swin_v2_t": 256}  # those that do not take 224
AUXILIARY = {"googlenet", "inception_v3"}  # have classifiers that only training uses

# `sum` is `weighted` with equal weights.
OBJECTIVES: tuple[ObjectiveName, ...] = ("paper", "bottleneck", "latency", "weighted")


@dataclass(frozen=True, slots=True)
class Gap:
    """One plan against the best of all cuts; `where` names the graph, or device and bandwidth."""

    group: str
    where: str
    objective: ObjectiveName
    moves: Moves
    gap: float


@dataclass(frozen=True, slots=True)
class Summary:
    """Gaps of many plans: `equal` is the share without one."""

    group: str
    objective: str
    moves: Moves
    plans: int
    equal: float
    mean: float
    p95: float
    maximum: float

    @staticmethod
    def of(group: str, objective: str, moves: Moves, gaps: Sequence[Gap]) -> "Summary":
        """The summary of some gaps, at least one."""
        values = np.array([each.gap for each in gaps])
        return Summary(
            group=group,
            objective=objective,
            moves=moves,
            plans=len(values),
            equal=float((values <= EQUAL).mean()),
            mean=float(values.mean()),
            p95=float(np.percentile(values, 95, method="inverted_cdf")),
            maximum=float(values.max()),
        )


def gaps_of(
    problem: Problem, group: str, where: str, objective: ObjectiveName, limit: int
) -> list[Gap]:
    """The gap with each number of moves. Raises InfeasibleError above `limit` cuts."""
    best = Planner("exhaustive", objective, limit=limit).plan(problem).objective.value
    found = []
    for moves in MOVES:
        value = Planner(objective=objective, moves=moves).plan(problem).objective.value
        found.append(Gap(group, where, objective, moves, _over(value, best)))
    return found


def _over(value: float, best: float) -> float:
    """Rounding gives differences in the last digits, which are no gap.

    >>> _over(3.0, 2.0), _over(1e-20, 0.0)
    (0.5, inf)
    """
    if value == best:
        return 0.0
    gap = value / best - 1 if best > 0 else float("inf")
    return 0.0 if abs(gap) <= EQUAL else gap


# --- Problems -------------------------------------------------------------------------------------


def random_problems(shape: str, count: int, max_layers: int, seed: int) -> Iterator[Problem]:
    """Small enough to try every cut; those that came out too large are drawn again."""
    rng = np.random.default_rng([seed, list(SHAPES).index(shape)])
    for _ in range(count):
        while True:
            drawn = random_problem(rng, shape, int(rng.integers(2, max_layers)))
            if len(drawn.graph) <= max_layers:
                break
        yield drawn


def layer_graph(name: str) -> LayerGraph:
    """A torchvision classifier, captured without weights and without computing."""
    import torch
    from torchvision.models import get_model

    from coach_exp.profiling.capture import capture

    options = {"aux_logits": False, "init_weights": False} if name in AUXILIARY else {}
    if name.startswith("regnet"):  # its constructor computes with values
        model = get_model(name).to("meta")
    else:
        with torch.device("meta"):
            model = get_model(name, **options)
    pixels = INPUT_PIXELS.get(name, 224)
    return capture(model, (3, pixels, pixels)).graph


def _problem(
    graph: LayerGraph, end: DeviceSpec, cloud: DeviceSpec, bits: int, mbps: float
) -> Problem:
    return Problem(
        graph=graph,
        end=analytic(graph, end),
        cloud=analytic(graph, cloud),
        link=Link(bandwidth_bps=1e6 * mbps),
        codec=UniformAffine(),
        bits=FixedBits(bits, graph.input.name),
        workload=Workload("saturated", tasks=1),
    )


@dataclass(frozen=True, slots=True)
class Architecture:
    """A classifier and its number of cuts, device-only included."""

    name: str
    layers: int
    cuts: int


@dataclass(frozen=True)
class Classifiers:
    """Gaps of classifiers, what was planned, and why the others were not."""

    gaps: Sequence[Gap]
    planned: Sequence[Architecture]
    left_out: Mapping[str, str]


# --- The study ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Gaps:
    """`graphs`: random ones of each shape, of at most `max_layers` with the input, under every
    objective; `architectures`: torchvision's names, on the end `devices` and the `cloud` of `conf`,
    under `objectives`; `limit`: cuts up to which the exhaustive search runs."""

    graphs: NonNegativeInt = 300
    max_layers: PositiveInt = 14
    seed: NonNegativeInt = 0
    architectures: tuple[str, ...] = ()
    devices: tuple[str, ...] = ("nx", "tx2")
    cloud: str = "a6000"
    bits: PositiveInt = 4
    mbps: tuple[PositiveFloat, ...] = (2, 10, 50)
    objectives: tuple[ObjectiveName, ...] = ("paper", "bottleneck", "latency")
    limit: PositiveInt = 2_000_000

    def __call__(self, parts: Parts, display: Display) -> Findings:
        """The value is the mean gap with moves=two over all random graphs, NaN where there are
        none. The parts are not asked. Raises ConfigError for a device that `conf` lacks."""
        ends = {name: analytic_spec(name) for name in self.devices}
        cloud = analytic_spec(self.cloud)
        drawn = self._random(display)
        real = self._classifiers(ends, cloud, display)
        by_shape, by_name = _by_shape(drawn), _by_name(real.gaps)
        every = (
            _shape_table(by_shape, self.graphs),
            _name_table(by_name, real.planned),
            _exception_table(real.gaps),
            Table("Not compared", ("classifier", "cause"), [*real.left_out.items()]),
        )
        two = [each.gap for each in drawn if each.moves == "two"]
        return Findings(
            name="gaps",
            tables=tuple(table for table in every if table.rows),
            data={
                "settings": asdict(self),
                "random": [asdict(each) for each in by_shape],
                "classifiers": [asdict(each) for each in by_name],
                "architectures": [asdict(each) for each in real.planned],
                "left_out": real.left_out,
                "nonzero": [asdict(each) for each in (*drawn, *real.gaps) if each.gap > EQUAL],
            },
            value=float(np.mean(two)) if two else float("nan"),
        )

    def _random(self, display: Display) -> list[Gap]:
        """All shapes, all objectives."""
        found: list[Gap] = []
        done, count = 0, len(SHAPES) * self.graphs
        for shape in SHAPES:
            problems = random_problems(shape, self.graphs, self.max_layers, self.seed)
            for number, problem in enumerate(problems):
                for objective in OBJECTIVES:
                    found += gaps_of(problem, shape, str(number), objective, self.limit)
                done += 1
                display.progress("random graphs", done, count)
        return found

    def _classifiers(
        self, ends: Mapping[str, DeviceSpec], cloud: DeviceSpec, display: Display
    ) -> Classifiers:
        """All architectures, one after the other."""
        found: list[Gap] = []
        planned: list[Architecture] = []
        left_out: dict[str, str] = {}
        for done, name in enumerate(self.architectures, start=1):
            graph = layer_graph(name)
            try:
                for end, spec in ends.items():
                    for mbps in self.mbps:
                        problem = _problem(graph, spec, cloud, self.bits, mbps)
                        for objective in self.objectives:
                            where = f"{end}, {mbps:g} Mbps"
                            found += gaps_of(problem, name, where, objective, self.limit)
                cuts = Planner("exhaustive", limit=self.limit).plan(problem).evaluations
                planned.append(Architecture(name, len(graph), cuts))
            except InfeasibleError as error:
                left_out[name] = str(error)
            display.progress("classifiers", done, len(self.architectures))
        return Classifiers(found, planned, left_out)


# --- Tables ---------------------------------------------------------------------------------------

FIGURES = ("plans", "equal %", "mean %", "p95 %", "max %")


def _by_shape(gaps: Sequence[Gap]) -> list[Summary]:
    """Of each shape, objective and number of moves, and over all objectives."""
    rows = []
    for shape in dict.fromkeys(each.group for each in gaps):
        for moves in MOVES:
            own = [each for each in gaps if (each.group, each.moves) == (shape, moves)]
            for objective in dict.fromkeys(each.objective for each in own):
                chosen = [each for each in own if each.objective == objective]
                rows.append(Summary.of(shape, objective, moves, chosen))
            rows.append(Summary.of(shape, "all", moves, own))
    return rows


def _by_name(gaps: Sequence[Gap]) -> list[Summary]:
    """Of each classifier and number of moves, over devices, bandwidths and objectives."""
    return [
        Summary.of(
            name, "all", moves, [each for each in gaps if (each.group, each.moves) == (name, moves)]
        )
        for name in dict.fromkeys(each.group for each in gaps)
        for moves in MOVES
    ]


def _shape_table(rows: Sequence[Summary], graphs: int) -> Table:
    return Table(
        f"Gap to exhaustive search, {graphs} random graphs of each shape",
        ("shape", "objective", "moves", *FIGURES),
        [[each.group, each.objective, each.moves, *_figures(each)] for each in rows],
    )


def _name_table(rows: Sequence[Summary], planned: Sequence[Architecture]) -> Table:
    sizes = {each.name: (str(each.layers), f"{each.cuts:,}") for each in planned}
    return Table(
        "Gap to exhaustive search, torchvision classifiers",
        ("classifier", "layers", "cuts", "moves", *FIGURES),
        [
            [each.group, *sizes[each.group], each.moves, *_figures(each)]
            for each in rows
            if each.group in sizes
        ],
    )


def _exception_table(gaps: Sequence[Gap]) -> Table:
    return Table(
        "Classifiers with a gap",
        ("classifier", "where", "objective", "moves", "gap %"),
        [
            [each.group, each.where, each.objective, each.moves, f"{100 * each.gap:.3g}"]
            for each in gaps
            if each.gap > EQUAL
        ],
    )


def _figures(row: Summary) -> tuple[str, ...]:
    gaps = (f"{100 * gap:.3f}" if gap else "0" for gap in (row.mean, row.p95, row.maximum))
    return str(row.plans), f"{100 * row.equal:.1f}", *gaps
