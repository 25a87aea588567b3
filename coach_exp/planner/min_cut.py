"""The exact minimum of w_e·T_e + w_t·T_t + w_c·T_c over all cuts, by minimum s-t cuts.

In: the costs of a problem and the three weights, or many of them. Out: the end set of least
weighted sum (without overlap). The minimum lies in one virtual block, so blocks are solved apart,
and only those that can still win. The cuts of a small block are listed once for all weights; of a
large one a network is solved for each: a layer on the source side is on the end. An arc of infinite
capacity from each consumer back to its producer keeps the end set closed under predecessors:
without it the cut would be free to place a layer on the end whose input is on the cloud.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np

from coach_exp.planner.cost_model import CostModel
from coach_exp.planner.listed_cuts import Counts, Floats, ListedCuts, inner_cuts, outer_cuts
from coach_exp.types.plan import StageTimes

MAX_LISTED = 1 << 14  # cuts of a block
WHOLE = 2.0**90  # a network's largest capacity as an integer; far finer than the digits of a float


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of T_e, T_t and T_c, not negative."""

    end: float = 1.0
    link: float = 1.0
    cloud: float = 1.0

    def of(self, stage: StageTimes) -> float:
        """The weighted sum of stage times, in seconds."""
        return self.end * stage.end_s + self.link * stage.link_s + self.cloud * stage.cloud_s


@dataclass(frozen=True, slots=True)
class WeightedCut:
    """A cut of least weighted sum: its end set (positions), stage times, and the sum."""

    end_set: frozenset[int]
    stage: StageTimes
    value: float


def weighted_min_cut(model: CostModel, weights: Weights) -> WeightedCut:
    """The minimum for one choice of weights: see `MinCuts.least`."""
    return MinCuts(model).least([weights])[0]


class MinCuts:
    """Weighted minimum cuts of one problem. What does not depend on the weights is kept from one
    question to the next."""

    def __init__(self, model: CostModel, max_listed: int = MAX_LISTED) -> None:
        self._model = model
        self._max_listed = max_listed
        self._outer = _Listed(outer_cuts(model))
        self._inner = [block for block in range(model.blocks) if _has_cuts(model, block)]
        self._parts: dict[int, _Part] = {}

    def least(self, weights: Sequence[Weights]) -> list[WeightedCut]:
        """For each choice of weights the cut of least weighted sum of stage times among all that
        the input rule allows; constraints (3) and (4) are not looked at, so the sum bounds every
        plan from below."""
        rows = np.array([(each.end, each.link, each.cloud) for each in weights])
        values, cuts = self._outer.least(rows)
        best: list[tuple[_Part, int]] = [(self._outer, cut) for cut in cuts.tolist()]
        floors = {block: _floors(self._model, block, rows) for block in self._inner}
        for block in sorted(floors, key=lambda block: (floors[block] - values).min()):
            asked = np.flatnonzero(floors[block] < values)
            if not len(asked):
                continue
            part = self._part(block)
            found, cuts = part.least(rows[asked])
            for row, value, cut in zip(asked.tolist(), found, cuts.tolist(), strict=True):
                if value < values[row]:
                    values[row], best[row] = value, (part, cut)
        made = {each: each[0].cut(each[1]) for each in set(best)}
        return [WeightedCut(*made[each], float(v)) for each, v in zip(best, values, strict=True)]

    def _part(self, block: int) -> "_Part":
        if block not in self._parts:
            listed = inner_cuts(self._model, block, self._max_listed)
            self._parts[block] = _Network(self._model, block) if listed is None else _Listed(listed)
        return self._parts[block]


def _has_cuts(model: CostModel, block: int) -> bool:
    """Whether the block has layers inside, and a cut there that the input rule allows."""
    entry, exit_ = model.span(block)
    pinned = entry == 0 and not model.problem.raw_input_may_cross
    return exit_ > entry + 1 and not (pinned and 0 in model.graph.predecessors[exit_])


def _floors(model: CostModel, block: int, rows: Floats) -> Floats:
    """For each row of weights: no cut inside the block has a lower weighted sum."""
    entry, exit_ = model.span(block)
    end, link, cloud = rows.T
    inner = slice(entry + 1, exit_)
    min_s = np.minimum(
        np.multiply.outer(model.end_s[inner], end), np.multiply.outer(model.cloud_s[inner], cloud)
    ).sum(axis=0)
    fixed = end * model.end_before[entry] + cloud * model.cloud_from[exit_]
    return np.asarray(fixed + min_s + link * min(model.send_s[entry:exit_]))


class _Listed:
    """The minimum among listed cuts."""

    def __init__(self, cuts: ListedCuts) -> None:
        self._cuts = cuts

    def least(self, rows: Floats) -> tuple[Floats, Counts]:
        """The least sum for each row of weights, and the number of the cut that has it."""
        # not `@`: for three columns the threads of a BLAS take longer than the work
        sums = np.einsum("rk,ck->rc", rows, self._cuts.stages)
        places = sums.argmin(axis=1)
        return sums[np.arange(len(rows)), places], places

    def cut(self, number: int) -> tuple[frozenset[int], StageTimes]:
        """End set and stage times of a cut that was found."""
        return self._cuts.end_set(number), StageTimes(*self._cuts.stages[number].tolist())


class _Network:
    """The minimum within a large block, whose entry is pinned to the end and its exit to the
    cloud."""

    def __init__(self, model: CostModel, block: int) -> None:
        self._model = model
        self._entry, self._exit = model.span(block)
        self._found: dict[frozenset[int], StageTimes] = {}

    def least(self, rows: Floats) -> tuple[Floats, Counts]:
        """The least sum for each row of weights, and the number of the cut that has it."""
        weights = [Weights(*row) for row in rows.tolist()]
        cuts = [self._solved(each) for each in weights]
        numbers = {held: number for number, held in enumerate(self._found)}
        values = [each.of(self._found[held]) for each, held in zip(weights, cuts, strict=True)]
        return np.array(values), np.array([numbers[held] for held in cuts])

    def cut(self, number: int) -> tuple[frozenset[int], StageTimes]:
        """End set and stage times of a cut that was found."""
        return list(self._found.items())[number]

    def _solved(self, weights: Weights) -> frozenset[int]:
        network = _network(self._model, range(self._entry, self._exit + 1), weights)
        _, (end_side, _) = nx.minimum_cut(network, "end", "cloud")
        inner = frozenset(i for i in end_side if isinstance(i, int))
        held = inner.union(range(self._entry + 1))
        if held not in self._found:
            self._found[held] = self._model.of(held)[0].stage
        return held


_Part = _Listed | _Network


def _network(model: CostModel, span: Sequence[int], weights: Weights) -> nx.DiGraph:
    network = nx.DiGraph()
    entry, exit_ = span[0], span[-1]
    network.add_edge("end", entry)  # no capacity: infinite
    network.add_edge(exit_, "cloud")
    for layer in span[1:-1]:
        network.add_edge("end", layer, capacity=weights.cloud * model.cloud_s[layer])
        network.add_edge(layer, "cloud", capacity=weights.end * model.end_s[layer])
    for layer in span[:-1]:
        users = model.graph.successors[layer]
        sent = ("sent", layer)  # the tensor crosses once, however many consumers it has
        if layer > 0 or model.problem.raw_input_may_cross:
            crossing_s = weights.link * model.send_s[layer] + weights.end * model.decide_s[layer]
            network.add_edge(layer, sent, capacity=crossing_s)
        else:
            network.add_edge(layer, sent)
        for user in users:
            network.add_edge(sent, user)
            network.add_edge(user, layer)
    _make_whole(network)
    return network


def _make_whole(network: nx.DiGraph) -> None:
    """Make the capacities integers, which flows add up without rounding. A sum of floats may miss
    a capacity by its last digit; that arc then passes for open, and the cut that is read off the
    flow is not the least."""
    finite = [arc for *_, arc in network.edges(data=True) if "capacity" in arc]
    largest = max(arc["capacity"] for arc in finite) or 1.0
    for arc in finite:
        arc["capacity"] = int(arc["capacity"] / largest * WHOLE)
