"""What the methods of other papers must find, by trying everything: least sum, least largest stage,
one cut of a chain, the best mixture of two.

In: a problem as a method meets it. Out: every closed end set with its three stage times, and plain
minima over them. Nothing here uses the planner, a min-cut, a hull or a binary search.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from math import ceil

import numpy as np
from numpy.typing import NDArray

from coach_exp.quant.precision import FixedBits
from coach_exp.types.graph import LayerGraph
from coach_exp.types.method import Problem
from helpers.reference import MAX_LAYERS, closed_end_sets

Array = NDArray[np.float64]


def payload_bytes(problem: Problem, layer: str, bits: int) -> int:
    """Header and elements without gaps, where the size was not measured."""
    size = problem.codec.header_bytes + ceil(problem.graph[layer].elements * bits / 8)
    return problem.measured_bytes.get(layer) or size


def of_width(problem: Problem, bits: int) -> Problem:
    """Every tensor but the raw input at one width."""
    raw = problem.graph.input.name
    return replace(problem, bits=FixedBits(bits, raw, problem.bits.bits(raw)))


def crossing(graph: LayerGraph, end_set: frozenset[str]) -> set[str]:
    """Of the end's tensors, those that a layer outside reads."""
    outside = (layer.inputs for layer in graph.layers if layer.name not in end_set)
    return {name for inputs in outside for name in inputs} & end_set


def through_all(graph: LayerGraph) -> list[int]:
    """Positions of the layers after which, all before them done, only their own output is alive.

    It is not enough that every other layer is an ancestor or a descendant: so is the only layer of
    a residual branch, past which the block's input goes.
    """
    names = [layer.name for layer in graph.layers]
    prefixes = ((i, frozenset(names[: i + 1])) for i in range(len(names)))
    return [i for i, prefix in prefixes if crossing(graph, prefix) <= {names[i]}]


def closed_sets_by_block(graph: LayerGraph) -> Iterator[frozenset[str]]:
    """The same sets as `closed_end_sets`, for graphs that are long but not wide."""
    names = [layer.name for layer in graph.layers]
    for entry, exit_ in pairwise(through_all(graph)):
        prefix = names[: entry + 1]
        needs = [set(graph.predecessors[i]) - set(range(entry + 1)) for i in range(exit_)]
        open_: list[tuple[int, tuple[int, ...]]] = [(entry + 1, ())]
        while open_:
            layer, held = open_.pop()
            if layer == exit_:
                yield frozenset([*prefix, *(names[i] for i in held)])
                continue
            open_.append((layer + 1, held))
            if needs[layer] <= set(held):
                open_.append((layer + 1, (*held, layer)))
    yield frozenset(names)


@dataclass(frozen=True, eq=False)
class Cuts:
    """Every cut of a graph: [cuts] arrays of seconds on the end and on the cloud, and of bytes on
    the link; `row` finds a cut by its end set."""

    graph: LayerGraph
    row: dict[frozenset[str], int]
    end_s: Array
    sent_bytes: Array
    cloud_s: Array

    @staticmethod
    def of(problem: Problem) -> "Cuts":
        graph, end, cloud = problem.graph, problem.end.layer_s, problem.cloud.layer_s
        small = len(graph) <= MAX_LAYERS
        sets = list(closed_end_sets(problem) if small else closed_sets_by_block(graph))
        size = {
            layer.name: payload_bytes(problem, layer.name, problem.bits.bits(layer.name))
            for layer in graph.layers
        }
        sent = [crossing(graph, held) for held in sets]
        return Cuts(
            graph,
            {held: k for k, held in enumerate(sets)},
            np.array([sum(end[name] for name in held) for held in sets]),
            np.array([float(sum(size[name] for name in names)) for names in sent]),
            np.array([sum(cloud[name] for name in size if name not in held) for held in sets]),
        )

    def stages(self, bandwidth_bps: float) -> Array:
        """T_e, T_t, T_c of every cut: [cuts, 3]."""
        return np.stack([self.end_s, 8 * self.sent_bytes / bandwidth_bps, self.cloud_s], axis=1)

    @cached_property
    def everything(self) -> list[int]:
        """All rows."""
        return list(range(len(self.row)))

    @cached_property
    def boundaries(self) -> list[int]:
        """Rows of the cuts just behind a layer through which all data flows, in the order of the
        model; device-only is the last."""
        names = [layer.name for layer in self.graph.layers]
        return [self.row[frozenset(names[: i + 1])] for i in through_all(self.graph)]

    @cached_property
    def prefixes(self) -> list[int]:
        """Rows of the cuts that end after the k-th layer as the framework executes them."""
        names = [layer.name for layer in self.graph.layers]
        return [self.row[frozenset(names[: k + 1])] for k in range(len(names))]


def min_sum(stages: Array) -> float:
    """The least T_e + T_t + T_c."""
    return float(stages.sum(axis=1).min())


def min_max(stages: Array) -> tuple[float, float]:
    """The least largest stage, and the least sum of those cuts that reach it."""
    largest = stages.max(axis=1)
    best = float(largest.min())
    return best, float(stages[largest <= best * (1 + 1e-9)].sum(axis=1).min())


def best_mixture(end_s: Array, link_s: Array) -> float:
    """min over mixtures of cuts of max{Σ p f, Σ p g}, two machines: one cut, or two, of which one
    has the longer end and the other the longer link, mixed so that both are as long."""
    pure = float(np.maximum(end_s, link_s).min())
    link_heavy, end_heavy = end_s < link_s, end_s >= link_s
    f_a, lack = end_s[link_heavy][:, None], (link_s - end_s)[link_heavy][:, None]
    f_b, excess = end_s[end_heavy][None, :], (end_s - link_s)[end_heavy][None, :]
    if not f_a.size or not f_b.size:
        return pure
    share = excess / (lack + excess)
    return min(pure, float((share * f_a + (1 - share) * f_b).min()))


def adjacent_pair(end_s: Array, link_s: Array) -> float:
    """The published rule on the cuts of a line, first to last: leave out those that send no less
    than an earlier one, take the first with f ≥ g and the one before it, balance the two."""
    kept: list[tuple[float, float]] = []
    for f, g in zip(end_s.tolist(), link_s.tolist(), strict=True):
        if all(g < earlier for _, earlier in kept):
            kept.append((f, g))
    at = next(k for k, (f, g) in enumerate(kept) if f >= g)
    f_b, g_b = kept[at]
    if at == 0:
        return f_b
    f_a, g_a = kept[at - 1]
    share = (f_b - g_b) / ((g_a - f_a) + (f_b - g_b))
    return share * f_a + (1 - share) * f_b
