"""Cuts listed once, as arrays: those at the cut vertices, and all of a small block.

In: the costs of a problem. Out: of each cut its stage times and its end set. They do not depend on
the weights of the stage times, so the best cuts by many weights take one product of matrices.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coach_exp.planner.cost_model import CostModel
from coach_exp.planner.runs import ENTRY, Runs

Floats = NDArray[np.float64]
Counts = NDArray[np.intp]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ListedCuts:
    """Cuts that the input rule allows. Cut k holds all layers up to position `entry[k]` on the end
    and the first `held[k, r]` of the layers `runs[r]`; `stages[k]`: its T_e, T_t, T_c in seconds.
    """

    entry: Counts
    held: Counts
    runs: tuple[tuple[int, ...], ...]
    stages: Floats

    def end_set(self, cut: int) -> frozenset[int]:
        """The end set of a cut, by position."""
        inner = zip(self.runs, self.held[cut], strict=True)
        before = frozenset(range(self.entry[cut] + 1))
        return before.union(*(layers[:held] for layers, held in inner))


def outer_cuts(model: CostModel) -> ListedCuts:
    """Device-only, and the cuts just behind each cut vertex."""
    candidates = [model.boundary(block) for block in range(model.blocks)]
    if not model.problem.raw_input_may_cross:
        del candidates[0]
    candidates.append(model.device_only())
    entry = np.array([model.chain[each.block] for each in candidates])
    stages = [(s.end_s, s.link_s, s.cloud_s) for s in (each.stage for each in candidates)]
    return ListedCuts(entry, np.zeros((len(entry), 0), dtype=np.intp), (), np.array(stages))


def inner_cuts(model: CostModel, block: int, limit: int) -> ListedCuts | None:
    """All cuts of a block, that just behind its entry included; None above `limit` cuts."""
    entry, exit_ = model.span(block)
    runs = Runs.of(model.graph, entry, exit_, model.end_s, model.cloud_s)
    held = _closed(runs, limit)
    if held is None:
        return None
    crosses = _crosses(model, runs, entry, exit_, held)
    if entry == 0 and not model.problem.raw_input_may_cross:
        allowed = ~crosses[:, ENTRY]
        held, crosses = held[allowed], crosses[allowed]
    end_s, link_s, cloud_s = stages = np.zeros((3, len(held)))
    end_s += model.end_before[entry] + crosses[:, ENTRY] * model.decide_s[entry]
    link_s += crosses[:, ENTRY] * model.send_s[entry]
    cloud_s += model.cloud_from[exit_]
    for run, layers in enumerate(runs.layers):
        count, sent = held[:, run], crosses[:, run]
        end_s += np.array(runs.end_s[run])[count]
        cloud_s += np.array(runs.cloud_s[run])[count]
        end_s += sent * np.array([0.0, *(model.decide_s[i] for i in layers)])[count]
        link_s += sent * np.array([0.0, *(model.send_s[i] for i in layers)])[count]
    return ListedCuts(np.full(len(held), entry), held, runs.layers, stages.T)


def _closed(runs: Runs, limit: int) -> Counts | None:
    """Every way to hold the first layers of each run, found run by run: some of a run may be held
    where the runs that it needs are held whole. A run never lowers the count."""
    held = np.zeros((1, 0), dtype=np.intp)
    for run, layers in enumerate(runs.layers):
        may_hold = held[_whole(runs, held, runs.sources[run])]
        if len(held) + len(may_hold) * len(layers) > limit:
            return None
        none = np.zeros((len(held), 1), dtype=np.intp)
        some = np.tile(np.arange(1, len(layers) + 1), len(may_hold))[:, None]
        held = np.vstack(
            [np.hstack([held, none]), np.hstack([np.repeat(may_hold, len(layers), axis=0), some])]
        )
    return held


def _whole(runs: Runs, held: Counts, needed: Sequence[int]) -> Flags:
    """In which cuts all of the needed runs are held whole; the entry always is."""
    whole = np.ones(len(held), dtype=np.bool_)
    for run in needed:
        if run != ENTRY:
            whole &= held[:, run] == len(runs.layers[run])
    return whole


def _crosses(model: CostModel, runs: Runs, entry: int, exit_: int, held: Counts) -> Flags:
    """Of each run whether the output of its last end layer crosses, and in the last column whether
    the entry's does. Inside a run a layer has one consumer; the exit is on the cloud."""
    lengths = np.array([len(layers) for layers in runs.layers])
    at_end = np.hstack([held == lengths, np.ones((len(held), 1), dtype=np.bool_)])
    crosses = np.hstack([(held > 0) & (held < lengths), np.zeros((len(held), 1), dtype=np.bool_)])
    for run, sources in enumerate(runs.sources):
        for source in sources:
            crosses[:, source] |= at_end[:, source] & (held[:, run] == 0)
    for layer in model.graph.predecessors[exit_]:
        source = runs.run_of[layer - entry]
        crosses[:, source] |= at_end[:, source]
    return crosses
