"""How the effort of planning grows with the network (paper, Section III-B: O(cn) evaluations for a
virtual block of n branches of c layers, against O(c^n) for trying every cut).

In: sizes. Out: tables, `complexity.json`, and `complexity.png` with evaluations of one block on the
left and planning time against the layers of a whole network on the right. Every figure is a median
over random problems. Their times are such that no bound spares the search its work: in a block end,
cloud and link are busy about equally long when the cut is in the middle; in a network the tensors
are small, where the bound under a block's objective is loose.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from coach_exp.pipeline.parts import Parts
from coach_exp.planner.divide_conquer import Moves
from coach_exp.planner.planning import ObjectiveName, Planner
from coach_exp.plots.figures import COLOURS, new_figure
from coach_exp.results.progress import Display
from coach_exp.studies.random_graphs import Inputs, problem
from coach_exp.studies.settings import StudySettings
from coach_exp.types.method import Problem

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

MOVES: tuple[Moves, ...] = ("one", "two")
OBJECTIVES: tuple[ObjectiveName, ...] = ("paper", "bottleneck", "latency")
NETWORK_BRANCHES = (3, 6, 6, 4)  # layers of the branches of each block of a network


class Settings(StudySettings):
    """`branches`, `layers`: of one block, every pair is planned; `limit`: cuts up to which the
    exhaustive search runs; `totals`: layers of networks; `large`: (branches, layers) of one large
    block, none to leave it out; `seeds`: problems per point."""

    kind: Literal["complexity"] = "complexity"
    branches: tuple[PositiveInt, ...] = (1, 2, 3, 4, 5, 6)
    layers: tuple[PositiveInt, ...] = (1, 2, 3, 4, 5, 6, 7, 8)
    limit: PositiveInt = 20_000
    totals: tuple[PositiveInt, ...] = (100, 1_000, 10_000, 100_000)
    large: tuple[PositiveInt, PositiveInt] | None = (100, 100)
    seeds: PositiveInt = 3


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


def measure(
    settings: Settings, display: Display
) -> tuple[list[Effort], list[Effort], list[Effort]]:
    """Small blocks, networks, the large block."""

    rngs = [partial(np.random.default_rng, seed) for seed in range(settings.seeds)]

    def small(branches: int, layers: int) -> list[Effort]:
        drawn = [balanced_block(rng(), branches, layers) for rng in rngs]
        planners = [Planner(moves=moves) for moves in MOVES]
        if cuts(branches, layers) <= settings.limit:
            planners.append(Planner(search="exhaustive"))
        return [effort(planner, drawn, branches, layers) for planner in planners]

    def whole(total: int) -> list[Effort]:
        inputs = network(total)
        blocks = (len(inputs) - 1) // (sum(NETWORK_BRANCHES) + 1)
        drawn = [balanced(rng(), inputs, tensor_s=1.0) for rng in rngs]
        return [effort(Planner(), drawn, blocks, len(inputs) - 1)]

    def large(objective: ObjectiveName, branches: int, layers: int) -> list[Effort]:
        drawn = balanced_block(rngs[0](), branches, layers)
        return [effort(Planner(objective=objective), [drawn], branches, layers)]

    Task = Callable[[], list[Effort]]
    tasks: tuple[list[Task], list[Task], list[Task]] = (
        [partial(small, n, c) for n in settings.branches for c in settings.layers],
        [partial(whole, total) for total in settings.totals],
        [partial(large, name, *settings.large) for name in OBJECTIVES] if settings.large else [],
    )
    done, count = 0, sum(map(len, tasks))
    found: tuple[list[Effort], list[Effort], list[Effort]] = ([], [], [])
    for kind, group in zip(tasks, found, strict=True):
        for task in kind:
            group.extend(task())
            done += 1
            display.progress("planning", done, count)
    return found


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


def study(settings: Mapping[str, Any], directory: Path, display: Display, _: Parts) -> float:
    """Measure, fit and draw; returns the exponent p of the plain Algorithm 1. Raises ConfigError
    naming wrong settings."""
    checked = Settings.read(settings)
    blocks, networks, large = measure(checked, display)
    fitted = fits(blocks, networks)
    display.say(_block_table(blocks))
    skipped = [
        f"{n}×{c}" for n in checked.branches for c in checked.layers if cuts(n, c) > checked.limit
    ]
    if skipped:
        display.say(
            f"– : exhaustive search skipped, more than study.limit = {checked.limit:,} cuts "
            f"({', '.join(skipped)})"
        )
    display.say(_size_table("Networks of blocks in a row, moves=two", "blocks", networks))
    if large:
        display.say(_size_table("One large block, moves=two", "branches", large))
    display.say(
        f"evaluations of a block of n branches of c layers: (c·n)^{fitted.one_move:.2f} with "
        f"moves=one, (c·n)^{fitted.two_moves:.2f} with moves=two, c^({fitted.exhaustive:.2f}·n) "
        f"exhaustive; planning time of a network: layers^{fitted.network_time:.2f}"
    )
    written = {
        "settings": checked.model_dump(),
        "fits": asdict(fitted),
        "exhaustive_skipped": skipped,
        **{
            name: [asdict(each) for each in group]
            for name, group in (("blocks", blocks), ("networks", networks), ("large", large))
        },
    }
    (directory / "complexity.json").write_text(json.dumps(written, indent=2) + "\n")
    draw(blocks, networks, fitted, directory / "complexity.png")
    return fitted.one_move


def _block_table(blocks: Sequence[Effort]) -> "Table":
    """A row per block: evaluations and milliseconds of each search."""
    from rich import box
    from rich.table import Table

    made = Table(title="One block, objective paper", box=box.SIMPLE_HEAD, pad_edge=False)
    searches = (*(f"moves={moves}" for moves in MOVES), "exhaustive")
    for head in ("n × c", *(f"{s}\n{what}" for what in ("evaluations", "ms") for s in searches)):
        made.add_column(head, justify="right")
    sizes = dict.fromkeys((each.branches, each.layers) for each in blocks)
    of = {(each.branches, each.layers, each.search): each for each in blocks}
    for n, c in sizes:
        found = [of.get((n, c, search)) for search in searches]
        made.add_row(
            f"{n} × {c}",
            *(f"{each.evaluations:,.0f}" if each else "–" for each in found),
            *(f"{1e3 * each.planning_s:.2f}" if each else "–" for each in found),
        )
    return made


def _size_table(title: str, what: str, rows: Sequence[Effort]) -> "Table":
    from rich import box
    from rich.table import Table

    made = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("objective", what, "layers", "evaluations", "s", "µs a layer"):
        made.add_column(head, justify="right")
    for each in rows:
        layers = each.layers if what == "blocks" else each.branches * each.layers
        made.add_row(
            each.objective,
            f"{each.branches:,}",
            f"{layers:,}",
            f"{each.evaluations:,.0f}",
            f"{each.planning_s:.3g}",
            f"{1e6 * each.planning_s / layers:.0f}",
        )
    return made


# --- The picture ----------------------------------------------------------------------------------


def draw(blocks: Sequence[Effort], networks: Sequence[Effort], fitted: Fits, path: Path) -> None:
    """Two panels: evaluations against the layers of one block, time against those of a network."""
    figure = new_figure(10, 4.2)
    left, right = figure.subplots(1, 2)
    _draw_blocks(left, blocks, fitted)
    _draw_networks(right, networks, fitted)
    for axes in (left, right):
        axes.set(xscale="log", yscale="log")
        axes.grid(color="#E4E4E4", lw=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


def _draw_blocks(axes: "Axes", blocks: Sequence[Effort], fitted: Fits) -> None:
    """Divide and conquer as points; the exhaustive search as one line for each n."""
    law = {
        "moves=one": f"moves=one ~ (c·n)$^{{{fitted.one_move:.2f}}}$",
        "moves=two": f"moves=two ~ (c·n)$^{{{fitted.two_moves:.2f}}}$",
        "exhaustive": f"exhaustive ~ c$^{{{fitted.exhaustive:.2f}\\,n}}$",
    }
    for (search, label), colour, marker in zip(
        law.items(), (COLOURS[0], COLOURS[2], COLOURS[4]), "osx", strict=True
    ):
        own = [each for each in blocks if each.search == search]
        x, y = ([each.branches * each.layers for each in own], [each.evaluations for each in own])
        axes.plot(x, y, marker, color=colour, ms=5, mfc="none", label=label)
        if search != "exhaustive":
            continue
        for n in dict.fromkeys(each.branches for each in own):
            line = [each for each in own if each.branches == n]
            axes.plot(
                [n * each.layers for each in line],
                [each.evaluations for each in line],
                color=colour,
                lw=1,
            )
            axes.annotate(
                f"n={n}",
                (n * line[-1].layers, line[-1].evaluations),
                xytext=(0, 5),
                textcoords="offset points",
                ha="center",
                fontsize=7,
                color=colour,
            )
    axes.set(xlabel="layers of the block, c·n", ylabel="cuts evaluated")
    axes.margins(y=0.08)
    axes.set_title("One block of n branches of c layers", loc="left", fontsize=11)
    axes.legend(loc="upper left", frameon=False, fontsize=9)


def _draw_networks(axes: "Axes", networks: Sequence[Effort], fitted: Fits) -> None:
    x, y = ([each.layers for each in networks], [each.planning_s for each in networks])
    label = f"moves=two ~ layers$^{{{fitted.network_time:.2f}}}$"
    axes.plot(x, y, "s-", color=COLOURS[2], mfc="none", lw=1.5, label=label)
    if x:
        linear = [y[0] * each / x[0] for each in x]
        axes.plot(x, linear, "--", color="#6A6A6A", lw=1, label="linear")
    axes.set(xlabel="layers of the network", ylabel="planning time (s)")
    axes.set_title("Blocks in a row", loc="left", fontsize=11)
    axes.legend(loc="upper left", frameon=False, fontsize=9)
