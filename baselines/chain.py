"""Single cuts by their stage times, as arrays: where one tensor crosses, and where the layers run
in one fixed order are cut in two.

In: the costs of a problem. Out: for every candidate its end set and T_e, T_t, T_c. Device-only, at
which nothing is sent, is the last of both; a cut that sends a raw input that may not leave, or that
breaks t_max_ms, is no candidate.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from coach_exp.planner.candidate import TOLERANCE, rounded
from coach_exp.planner.cost_model import CostModel

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Cuts:
    """Candidates in the order of growing end sets: the end holds the first `held[k]` layers.
    `away_s` are the seconds that a task is under way besides its stages, 0 where nothing is sent.
    """

    held: NDArray[np.int64]
    end_s: Floats
    link_s: Floats
    cloud_s: Floats
    away_s: Floats

    @property
    def latency_s(self) -> Floats:
        """T_e + T_t + T_c and the way there and back, nothing overlapping."""
        return self.end_s + self.link_s + self.cloud_s + self.away_s

    @property
    def period_s(self) -> Floats:
        """The longest stage."""
        return np.maximum(np.maximum(self.end_s, self.link_s), self.cloud_s)

    def end_set(self, k: int) -> frozenset[int]:
        """The end layers of a candidate, by position."""
        return frozenset(range(int(self.held[k])))


def cut_vertex_cuts(model: CostModel) -> Cuts:
    """Cuts behind the layers through which all data flows: exactly one tensor crosses."""
    places = np.array(model.chain[:-1])
    end_before, decide_s = np.array(model.end_before), np.array(model.decide_s)
    cloud_from = np.array(model.cloud_from)
    return _cuts(
        model,
        places + 1,
        end_before[places] + decide_s[places],
        np.array(model.send_s)[places],
        cloud_from[places + 1],
    )


def prefix_cuts(model: CostModel) -> Cuts:
    """Cuts behind every prefix of the topological order. Each tensor that a layer behind the cut
    still needs is sent, once: O(layers + edges)."""
    graph, count = model.graph, len(model.graph)
    send_s, decide_s = np.array(model.send_s), np.array(model.decide_s)
    # A layer's output is alive from its own place until its last consumer is held.
    last = np.array([max(users, default=place) for place, users in enumerate(graph.successors)])
    change = np.zeros((2, count))
    for k, weight in enumerate((send_s, decide_s)):
        change[k, :] += weight * (last > np.arange(count))
        np.subtract.at(change[k], last, weight * (last > np.arange(count)))
    link_s, decided_s = np.cumsum(change, axis=1)[:, :-1]
    end_s = np.array(model.end_before)[:-1] + decided_s
    return _cuts(model, np.arange(1, count), end_s, link_s, np.array(model.cloud_from)[1:])


def _cuts(
    model: CostModel, held: NDArray[np.int64], end_s: Floats, link_s: Floats, cloud_s: Floats
) -> Cuts:
    """With device-only behind them, and without those that the problem does not allow. Where it
    allows none, device-only is left, of which the cost model says what it breaks."""
    problem = model.problem
    every = Cuts(
        np.append(held, len(model.graph)),
        np.append(end_s, model.end_before[-1]),
        np.append(link_s, 0.0),
        np.append(cloud_s, 0.0),
        np.append(np.full(len(held), model.half_rtt_s + model.return_s), 0.0),
    )
    raw_needed = 0 if problem.raw_input_may_cross else max(model.graph.successors[0])
    allowed = every.held > raw_needed
    if problem.t_max_s is not None:
        total_s = every.end_s + every.link_s + every.cloud_s
        allowed &= total_s * (1 - TOLERANCE) <= problem.t_max_s
    allowed[-1] |= not allowed.any()
    return Cuts(*(getattr(every, column.name)[allowed] for column in fields(every)))


def least(value: Floats, then: Floats) -> int:
    """The candidate of least value; of equal ones (to nine digits) that of least `then`, then the
    one that holds most.

    >>> least(np.array([2.0, 1.0, 1.0]), np.array([0.0, 3.0, 3.0]))
    2
    """
    values, thens = (np.array([rounded(x) for x in each]) for each in (value, then))
    return int(np.lexsort((-np.arange(len(value)), thens, values))[0])
