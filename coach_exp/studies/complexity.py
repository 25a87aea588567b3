"""How the effort of planning grows with the network (paper, Section III-B: O(cn) evaluations for a
virtual block of n branches of c layers, against O(c^n) for trying every cut).

In: sizes. Out: evaluations of one block, and planning time against the layers of a whole network,
as tables and drawn, and the exponents with which they grow. Every number is a median over random
problems. Their times are such that no bound spares the search its work: in a block end,
cloud and link are busy about equally long when the cut is in the middle; in a network the tensors
are small, where the bound under a block's objective is loose.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from coach_exp.pipeline.parts import Parts
from coach_exp.planner.divide_conquer import Moves
from coach_exp.planner.planning import ObjectiveName, Planner
from coach_exp.plots.complexity import Growth, growths
from coach_exp.results.findings import Findings, Table
from coach_exp.results.progress import Display
from coach_exp.studies.random_graphs import Inputs, problem
from coach_exp.types.method import Problem

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOVES: tuple[Moves, ...] = ("one", "two")
SEARCHES = (*(f"moves={moves}" for moves in MOVES), "exhaustive")
OBJECTIVES: tuple[ObjectiveName, ...] = ("paper", "bottleneck", "latency")
NETWORK_BRANCHES = (3, 6, 6, 4)  # layers of the branches of each block of a network


# --- Measuring ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Effort:
    """Medians over problems of one size: `branches` × `layers` is the block, or the number of
    blocks and the layers in all."""

    search: str
    objective: ObjectiveName
    branches: int
    layers: int
    evaluations: float
    planning_s: float


@dataclass(frozen=True, slots=True)
class Fits:
    """Exponents: evaluations of a block ~ (c·n)^p for one and two moves, ~ c^(k·n) for all cuts;
    planning time of a network ~ layers^q. NaN where there are too few sizes to fit."""

    one_move: float
    two_moves: float
    exhaustive: float
    network_time: float


def block(branches: int, layers: int) -> Inputs:
    """One virtual block: parallel chains between an input and an output."""
    inputs: Inputs = {"in": []}
    ends = list(_branches(inputs, "in", "", [layers] * branches))
    inputs["out"] = ends
    return inputs


def network(total: int) -> Inputs:
    """Blocks in a row, each of parallel chains that are joined, of about `total` layers."""
    inputs: Inputs = {"in": []}
    last = "in"
    for number in range(max(1, round(total / (sum(NETWORK_BRANCHES) + 1)))):
        ends = list(_branches(inputs, last, f"{number}.", NETWORK_BRANCHES))
        last = f"{number}.join"
        inputs[last] = ends
    return inputs


def balanced(rng: np.random.Generator, inputs: Inputs, tensor_s: float) -> Problem:
    """About a second for each layer on either side, and `tensor_s` for each tensor on the link; the
    raw input takes as long as two seconds for each layer."""
    end, cloud, tensor = (
        dict(zip(inputs, rng.uniform(0.5, 1.5, len(inputs)).tolist(), strict=True))
        for _ in range(3)
    )
    first = next(iter(inputs))
    sizes = {name: drawn * tensor_s for name, drawn in tensor.items()}
    at_once = 2.0 * (len(inputs) - 1)
    return problem(inputs, {**end, first: 0.0}, {**cloud, first: 0.0}, {**sizes, first: at_once})


def balanced_block(rng: np.random.Generator, branches: int, layers: int) -> Problem:
    """Sending a tensor of each branch takes as long as half of all layers."""
    return balanced(rng, block(branches, layers), layers / 2)


def _branches(inputs: Inputs, source: str, prefix: str, lengths: Sequence[int]) -> Iterator[str]:
    """Add parallel chains behind `source`; the last layer of each."""
    for branch, length in enumerate(lengths):
        here = source
        for layer in range(length):
            name = f"{prefix}{branch}.{layer}"
            inputs[name], here = [here], name
        yield here


def effort(planner: Planner, drawn: Sequence[Problem], branches: int, layers: int) -> Effort:
    """Plan each problem once."""
    evaluations, taken_s = [], []
    for each in drawn:
        start = perf_counter()
        plan = planner.plan(each)
        taken_s.append(perf_counter() - start)
        evaluations.append(plan.evaluations)
    search = f"moves={planner.moves}" if planner.search == "divide_conquer" else "exhaustive"
    return Effort(search, planner.objective, branches, layers, median(evaluations), median(taken_s))


def cuts(branches: int, layers: int) -> int:
    """How many cuts a block has: c + 1 places on each of n branches, and device-only.

    >>> cuts(branches=2, layers=1)  # (in | a | b | a and b) and device-only
    5
    """
    return int((layers + 1) ** branches) + 1


@dataclass(frozen=True)
class Efforts:
    """Those of small blocks, of networks, and of one large block."""

    blocks: list[Effort] = field(default_factory=list)
    networks: list[Effort] = field(default_factory=list)
    large: list[Effort] = field(default_factory=list)


# --- Exponents ------------------------------------------------------------------------------------


def fits(blocks: Sequence[Effort], networks: Sequence[Effort]) -> Fits:
    """Least squares in logarithms; blocks of one branch or one layer are left out of the block
    fits, for there both laws are the same or constant."""
    inner = [each for each in blocks if each.branches > 1 and each.layers > 1]

    def of(search: str) -> list[Effort]:
        return [each for each in inner if each.search == search]

    def power(search: str) -> float:
        return _slope(
            [np.log(each.branches * each.layers) for each in of(search)],
            [np.log(each.evaluations) for each in of(search)],
        )

    return Fits(
        one_move=power("moves=one"),
        two_moves=power("moves=two"),
        exhaustive=_slope(
            [each.branches * np.log(each.layers) for each in of("exhaustive")],
            [np.log(each.evaluations) for each in of("exhaustive")],
        ),
        network_time=_slope(
            [np.log(each.layers) for each in networks],
            [np.log(each.planning_s) for each in networks],
        ),
    )


def _slope(x: list[float], y: list[float]) -> float:
    """Of the line with the least squares; NaN for fewer than two places."""
    places: NDArray[np.float64] = np.array(x)
    if len(set(x)) < 2:
        return float("nan")
    return float(np.polyfit(places, np.array(y), 1)[0])


# --- The study ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Complexity:
    """`branches`, `layers`: of one block, every pair is planned; `limit`: cuts up to which the
    exhaustive search runs; `totals`: layers of networks; `large`: (branches, layers) of one large
    block, none to leave it out; `seeds`: problems per point."""

    branches: tuple[PositiveInt, ...] = (1, 2, 3, 4, 5, 6)
    layers: tuple[PositiveInt, ...] = (1, 2, 3, 4, 5, 6, 7, 8)
    limit: PositiveInt = 20_000
    totals: tuple[PositiveInt, ...] = (100, 1_000, 10_000, 100_000)
    large: tuple[PositiveInt, PositiveInt] | None = (100, 100)
    seeds: PositiveInt = 3

    def __call__(self, parts: Parts, display: Display) -> Findings:
        """The value is the exponent p of the plain Algorithm 1. The parts are not asked."""
        found = self._measured(display)
        fitted = fits(found.blocks, found.networks)
        pairs = [(n, c) for n in self.branches for c in self.layers]
        skipped = [f"{n}×{c}" for n, c in pairs if cuts(n, c) > self.limit]
        tables = [
            Table("One block, objective paper", BLOCK_HEADS, _block_rows(found.blocks)),
            _size_table("Networks of blocks in a row, moves=two", "blocks", found.networks),
        ]
        if found.large:
            tables.append(_size_table("One large block, moves=two", "branches", found.large))
        return Findings(
            name="complexity",
            tables=tuple(tables),
            figures={"complexity": _drawn(found, fitted)},
            data={
                "settings": asdict(self),
                "fits": asdict(fitted),
                "exhaustive_skipped": skipped,
                **asdict(found),
            },
            notes=tuple(self._words(fitted, skipped)),
            value=fitted.one_move,
        )

    def _measured(self, display: Display) -> Efforts:
        """Plan everything, one size after the other."""
        blocks = [partial(self._block, n, c) for n in self.branches for c in self.layers]
        networks = [partial(self._network, total) for total in self.totals]
        large: list[Callable[[], list[Effort]]] = []
        if self.large:
            large = [partial(self._large, objective, *self.large) for objective in OBJECTIVES]
        found = Efforts()
        done, count = 0, len(blocks) + len(networks) + len(large)
        for tasks, group in (
            (blocks, found.blocks),
            (networks, found.networks),
            (large, found.large),
        ):
            for task in tasks:
                group.extend(task())
                done += 1
                display.progress("planning", done, count)
        return found

    def _rngs(self) -> Iterator[np.random.Generator]:
        return (np.random.default_rng(seed) for seed in range(self.seeds))

    def _block(self, branches: int, layers: int) -> list[Effort]:
        drawn = [balanced_block(rng, branches, layers) for rng in self._rngs()]
        planners = [Planner(moves=moves) for moves in MOVES]
        if cuts(branches, layers) <= self.limit:
            planners.append(Planner(search="exhaustive"))
        return [effort(planner, drawn, branches, layers) for planner in planners]

    def _network(self, total: int) -> list[Effort]:
        inputs = network(total)
        blocks = (len(inputs) - 1) // (sum(NETWORK_BRANCHES) + 1)
        drawn = [balanced(rng, inputs, tensor_s=1.0) for rng in self._rngs()]
        return [effort(Planner(), drawn, blocks, len(inputs) - 1)]

    def _large(self, objective: ObjectiveName, branches: int, layers: int) -> list[Effort]:
        drawn = balanced_block(next(self._rngs()), branches, layers)
        return [effort(Planner(objective=objective), [drawn], branches, layers)]

    def _words(self, fitted: Fits, skipped: Sequence[str]) -> Iterator[str]:
        if skipped:
            yield (
                f"– : exhaustive search skipped, more than limit = {self.limit:,} cuts "
                f"({', '.join(skipped)})"
            )
        yield (
            f"evaluations of a block of n branches of c layers: (c·n)^{fitted.one_move:.2f} with "
            f"moves=one, (c·n)^{fitted.two_moves:.2f} with moves=two, "
            f"c^({fitted.exhaustive:.2f}·n) exhaustive; planning time of a network: "
            f"layers^{fitted.network_time:.2f}"
        )


# --- What is shown --------------------------------------------------------------------------------

BLOCK_HEADS = ("n × c", *(f"{s}\n{what}" for what in ("evaluations", "ms") for s in SEARCHES))


def _block_rows(blocks: Sequence[Effort]) -> list[list[str]]:
    """A row per block: evaluations and milliseconds of each search."""
    sizes = dict.fromkeys((each.branches, each.layers) for each in blocks)
    of = {(each.branches, each.layers, each.search): each for each in blocks}
    rows = []
    for n, c in sizes:
        found = [of.get((n, c, search)) for search in SEARCHES]
        evaluations = [f"{each.evaluations:,.0f}" if each else "–" for each in found]
        times = [f"{1e3 * each.planning_s:.2f}" if each else "–" for each in found]
        rows.append([f"{n} × {c}", *evaluations, *times])
    return rows


def _size_table(title: str, what: str, efforts: Sequence[Effort]) -> Table:
    heads = ("objective", what, "layers", "evaluations", "s", "µs a layer")
    rows = []
    for each in efforts:
        layers = each.layers if what == "blocks" else each.branches * each.layers
        rows.append(
            [
                each.objective,
                f"{each.branches:,}",
                f"{layers:,}",
                f"{each.evaluations:,.0f}",
                f"{each.planning_s:.3g}",
                f"{1e6 * each.planning_s / layers:.0f}",
            ]
        )
    return Table(title, heads, rows)


def _drawn(found: Efforts, fitted: Fits) -> "Figure":
    """Two panels: evaluations against the layers of one block, time against those of a network."""

    def of(search: str, law: str, branches: int | None = None) -> Growth:
        own = [each for each in found.blocks if each.search == search]
        own = [each for each in own if branches is None or each.branches == branches]
        layers = [each.branches * each.layers for each in own]
        return Growth(law, layers, [each.evaluations for each in own])

    tried = [each.branches for each in found.blocks if each.search == "exhaustive"]
    return growths(
        divided=[
            of("moves=one", f"moves=one ~ (c·n)$^{{{fitted.one_move:.2f}}}$"),
            of("moves=two", f"moves=two ~ (c·n)$^{{{fitted.two_moves:.2f}}}$"),
        ],
        exhaustive=of("exhaustive", f"exhaustive ~ c$^{{{fitted.exhaustive:.2f}\\,n}}$"),
        branches={n: of("exhaustive", f"n={n}", n) for n in dict.fromkeys(tried)},
        network=Growth(
            f"moves=two ~ layers$^{{{fitted.network_time:.2f}}}$",
            [each.layers for each in found.networks],
            [each.planning_s for each in found.networks],
        ),
    )
