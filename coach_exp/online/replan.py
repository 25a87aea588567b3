"""Changing the plan when the link changes: plans prepared for several rates, and the choice among
them while tasks flow.

In: a way to plan for one rate. Out: a set of plans of which the first is for the link's initial
rate, and a controller that follows the estimated rate. Every plan has its own centres and
thresholds, which take the model's answers to find, so they are prepared before the first task.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import log

from coach_exp.types.errors import InfeasibleError
from coach_exp.types.method import FixedPlans, Moment, Problem
from coach_exp.types.plan import Plan, PlanSet

PROBE_EVERY = 20  # tasks of a plan that sends nothing


@dataclass(frozen=True, slots=True)
class Replan:
    """Plans for the rates `mbps`; at most every `period_s` the plan made for the rate nearest to
    the estimate takes over, if the estimate has moved by more than the share `change` since the
    last choice. No rates: the first plan is kept."""

    mbps: tuple[float, ...] = ()
    period_s: float = 1.0
    change: float = 0.1

    def plans(self, problem: Problem, plan: Callable[[Problem], Plan]) -> PlanSet:
        """The plan for the initial rate, which all tasks are expected to run, and the others.

        Raises InfeasibleError when the first has no feasible cut; of the others, rates without one
        are left out.
        """
        first, others = plan(problem), []
        for rate in self.mbps:
            link = replace(problem.link, bandwidth_bps=1e6 * rate)
            try:
                others.append(plan(replace(problem, link=link)))
            except InfeasibleError:
                continue
        return PlanSet((first, *others), (1.0, *(0.0 for _ in others)))


class FollowRate(FixedPlans):
    """The controller that runs the plan made for the rate nearest to the estimate.

    A plan that sends nothing lets the end learn nothing of the link. While such a plan runs, one
    task in `PROBE_EVERY`, and at most one a period, is sent by the plan of the fewest bytes.
    """

    def __init__(self, plans: PlanSet, replan: Replan) -> None:
        super().__init__(plans)
        self._settings = replan
        self._plan = plans.plans[0]
        self._rate_bps = self._plan.link_bps
        self._next_s = replan.period_s
        sending = [plan for plan in plans.plans if plan.crossing]
        self._probe = min(sending, key=lambda plan: sum(plan.payload_bytes), default=None)
        self._silent = 0  # tasks since one was sent

    def choose(self, task: int, moment: Moment) -> Plan:
        """The present plan, reconsidered once a period."""
        self._silent = 0 if self._plan.crossing else self._silent + 1
        if moment.now_s < self._next_s:
            return self._plan
        self._next_s = moment.now_s + self._settings.period_s
        self._reconsider(moment.bandwidth_bps)
        if self._silent < PROBE_EVERY or self._probe is None:
            return self._plan
        self._silent = 0
        return self._probe

    def _reconsider(self, rate_bps: float) -> None:
        if abs(log(rate_bps / self._rate_bps)) > log(1 + self._settings.change):
            self._rate_bps = rate_bps
            self._plan = min(self._plans, key=lambda plan: abs(log(plan.link_bps / rate_bps)))
