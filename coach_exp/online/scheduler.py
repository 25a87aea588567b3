"""The decision at the cut: exit, or send at how many bits (Algorithm 1, lines 20-27; Eqs. 10, 11).

In: a task's feature, the centres and thresholds of its plan, the estimated bandwidth. Out: a
Decision. Any method's controller can be wrapped: which plan a task runs stays its own choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from coach_exp.online.semantic_cache import SemanticCache
from coach_exp.types.method import SEND, Controller, Decision, Observation, Transfer
from coach_exp.types.online import Rule, Rung, SemanticTable, Update
from coach_exp.types.plan import DecisionPoint, Plan


def permitted(rungs: Sequence[Rung], separability: float) -> Sequence[Rung]:
    """The rungs from Q_r on: the fewest bits whose threshold the separability exceeds."""
    for first, rung in enumerate(rungs):
        if separability > rung.threshold or rung.threshold == -inf:
            return rungs[first:]
    raise AssertionError("the plan's own width has no threshold")


def eq11(rungs: Sequence[Rung], rate_bps: float, busy_s: float) -> Rung:
    """Q_c = argmin |T'_t − max{T_e, T'_t, T_c}| over Q_c ≥ Q_r (Eq. 11), `busy_s` being
    max{T_e, T_c}; of equals the fewest bits.

    As printed: every width whose transfer outlasts the computation gives 0, so it can overshoot.

    >>> rungs = [Rung(2, (2,), 9_900), Rung(3, (3,), 12_400), Rung(4, (4,), 15_000)]
    >>> eq11(rungs, rate_bps=8e6, busy_s=0.010).bits  # 9.9 ms fall short of 10 by 0.1, 12.4 by none
    3
    """
    return min(rungs, key=lambda rung: max(0.0, busy_s - _link_s(rung, rate_bps)))


def fill(rungs: Sequence[Rung], rate_bps: float, busy_s: float) -> Rung:
    """The most bits whose transfer is no longer than the computation, or else Q_r.

    >>> rungs = [Rung(2, (2,), 9_900), Rung(3, (3,), 12_400)]
    >>> fill(rungs, rate_bps=8e6, busy_s=0.010).bits
    2
    """
    fitting = [rung for rung in rungs if _link_s(rung, rate_bps) <= busy_s]
    return fitting[-1] if fitting else rungs[0]


RULES = {"eq11": eq11, "fill": fill}


def _link_s(rung: Rung, rate_bps: float) -> float:
    """T'_t: seconds on the link at the estimated rate, which is above 0."""
    return 8 * rung.payload_bytes / rate_bps


@dataclass(frozen=True, slots=True)
class _Sent:
    """A task that was sent, whose answer may teach its plan's cache."""

    cache: SemanticCache
    feature: NDArray[np.floating]


class OnlineController:
    """Wraps the controller of any method; plans without a table are run as they are.

    Each table has a cache of its own, which starts at the calibrated centres and follows the stream
    as `update` says: `exits` (Algorithm 1), `results` (the cloud's answers as well), `none`.
    """

    def __init__(
        self, inner: Controller, rule: Rule, update: Update, count_cap: int | None
    ) -> None:
        self._inner = inner
        self._rule = RULES[rule]
        self._update = update
        self._cap = count_cap
        self._caches: dict[int, tuple[SemanticTable, SemanticCache]] = {}
        self._sent: dict[int, _Sent] = {}

    def choose(self, task: int, observation: Observation) -> Plan:
        """As the wrapped method does."""
        return self._inner.choose(task, observation)

    def at_head(
        self, task: int, plan: Plan, head: DecisionPoint, observation: Observation
    ) -> Decision:
        """As the wrapped method does."""
        return self._inner.at_head(task, plan, head, observation)

    def at_cut(self, task: int, plan: Plan, observation: Observation) -> Decision:
        """Exit when S > S_ext, otherwise send at Q_c."""
        table, outcomes = plan.online, observation.outcomes
        if table is None or outcomes is None:
            return SEND
        cache = self._cache(table)
        feature = outcomes.feature(observation.sample, [tensor.layer for tensor in plan.crossing])
        label, separability = cache.match(feature)
        if separability > table.exit_threshold:
            if self._update != "none":
                cache.learn(label, feature)
            return Decision("exit", label, None, separability)
        if self._update == "results":
            self._sent[task] = _Sent(cache, feature)
        busy_s = max(plan.stage_s.end_s, plan.stage_s.cloud_s)
        rung = self._rule(permitted(table.rungs, separability), observation.bandwidth_bps, busy_s)
        return Decision("send", bits=rung.widths, separability=separability)

    def gave_up(self, task: int, plan: Plan, observation: Observation) -> Decision:
        """As the wrapped method does; what it answers without the model teaches no cache."""
        decision = self._inner.gave_up(task, plan, observation)
        if decision.action == "exit":
            self._sent.pop(task, None)
        return decision

    def sent(self, transfer: Transfer) -> None:
        """Told on to the wrapped method."""
        self._inner.sent(transfer)

    def answered(self, task: int, label: int, now_s: float) -> None:
        """The answer of the cloud, or of the end in its place, moves a centre where `update =
        results`."""
        sent = self._sent.pop(task, None)
        if sent is not None and label >= 0:
            sent.cache.learn(label, sent.feature)
        self._inner.answered(task, label, now_s)

    def _cache(self, table: SemanticTable) -> SemanticCache:
        if id(table) not in self._caches:  # with the table, so that its id stays its own
            self._caches[id(table)] = (table, SemanticCache(table.centres, self._cap))
        return self._caches[id(table)][1]
