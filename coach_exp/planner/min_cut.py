"""The exact minimum of w_e·T_e + w_t·T_t + w_c·T_c over all cuts, by minimum s-t cuts.

In: the costs of a problem and the three weights. Out: the end set of least weighted sum (without
overlap). A layer on the source side is on the end. An arc of infinite capacity from each consumer
back to its producer keeps the end set closed under predecessors: without it the cut would be free
to place a layer on the end whose input is on the cloud. The minimum lies in one virtual block, so
blocks are solved apart, and only those that can still win.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import networkx as nx

from coach_exp.planner.cost_model import CostModel
from coach_exp.types.plan import StageTimes


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
    """The cut of least weighted sum of stage times among all feasible in the sense of the input
    rule; constraints (3) and (4) are not looked at, so the sum bounds every plan from below."""
    everything = frozenset(range(len(model.graph)))
    last = model.device_only().stage
    best = WeightedCut(everything, last, weights.of(last))
    inhabited = []
    for block in range(model.blocks):
        entry = model.chain[block]
        if entry > 0 or model.problem.raw_input_may_cross:
            stage = model.boundary(block).stage
            if weights.of(stage) < best.value:
                best = WeightedCut(frozenset(range(entry + 1)), stage, weights.of(stage))
        if _has_cuts(model, block):
            inhabited.append((_floor(model, block, weights), block))
    for floor, block in sorted(inhabited):
        if floor >= best.value:
            break
        found = _block_cut(model, block, weights)
        if found.value < best.value:
            best = found
    return best


def _has_cuts(model: CostModel, block: int) -> bool:
    """Whether the block has layers inside, and a cut there that the input rule allows."""
    entry, exit_ = model.span(block)
    pinned = entry == 0 and not model.problem.raw_input_may_cross
    return exit_ > entry + 1 and not (pinned and 0 in model.graph.predecessors[exit_])


def _floor(model: CostModel, block: int, weights: Weights) -> float:
    """No cut inside the block has a lower weighted sum."""
    entry, exit_ = model.span(block)
    least_s = sum(
        min(weights.end * model.end_s[i], weights.cloud * model.cloud_s[i])
        for i in range(entry + 1, exit_)
    )
    fixed = weights.end * model.end_before[entry] + weights.cloud * model.cloud_from[exit_]
    return fixed + least_s + weights.link * min(model.send_s[entry:exit_])


def _block_cut(model: CostModel, block: int, weights: Weights) -> WeightedCut:
    """The block's best cut; its entry is pinned to the end and its exit to the cloud."""
    entry, exit_ = model.span(block)
    network = _network(model, range(entry, exit_ + 1), weights)
    _, (end_side, _) = nx.minimum_cut(network, "end", "cloud")
    held = frozenset(range(entry + 1)) | {i for i in end_side if isinstance(i, int)}
    candidate, _ = model.of(held)
    return WeightedCut(held, candidate.stage, weights.of(candidate.stage))


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
    return network
