"""Changing the plan when the link changes: plans prepared for several rates, and the choice among
them while tasks flow.

In: a way to plan for one rate. Out: a set of plans of which the first is for the link's initial
rate, and a controller that follows the estimated rate. Every plan has its own centres and
thresholds, which take the model's answers to find, so they are prepared before the first task.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import log

from pydantic import NonNegativeFloat, PositiveFloat

from coach_exp.types.errors import InfeasibleError
from coach_exp.types.method import Controller, Decision, FixedPlans, Observation, Problem, Transfer
from coach_exp.types.plan import DecisionPoint, Plan, PlanSet

PROBE_EVERY = 20  # tasks of a plan that sends nothing


@dataclass(frozen=True, slots=True)
class Replan:
    """Plans for the rates `mbps`; at most every `period_s` the plan made for the rate nearest to
    the estimate takes over, if the estimate has moved by more than the share `change` since the
    last choice. No rates: the first plan is kept."""

    mbps: tuple[PositiveFloat, ...] = ()
    period_s: PositiveFloat = 1.0
    change: NonNegativeFloat = 0.1

    def plans(self, problem: Problem, plan: Callable[[Problem], PlanSet]) -> PlanSet:
        """The plans for the initial rate, which all tasks are expected to run, and the others.

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
        return replace(first, prepared=tuple(others))

    def controller(
        self, plans: PlanSet, dispatch: Callable[[PlanSet], Controller] = FixedPlans
    ) -> Controller:
        """Runs the plans as `dispatch` does, those that fit the estimated rate."""
        return FollowRate(plans, self, dispatch) if plans.prepared else dispatch(plans)


class FollowRate:
    """The controller that runs the plans made for the rate nearest to the estimate, each set by a
    controller of its own.

    Plans that send nothing let the end learn nothing of the link. While such plans run, one task in
    `PROBE_EVERY`, and at most one a period, is sent by the plan of the fewest bytes; none while the
    last such task is not answered, or they would fill a slow link.
    """

    def __init__(
        self, plans: PlanSet, replan: Replan, dispatch: Callable[[PlanSet], Controller] = FixedPlans
    ) -> None:
        self._settings = replan
        self._sets = [(each.link_bps, dispatch(each)) for each in (plans, *plans.prepared)]
        self._rate_bps, self._now = self._sets[0]
        self._next_s = replan.period_s
        every = [plan for each in (plans, *plans.prepared) for plan in each.plans]
        sending = [plan for plan in every if plan.crossing]
        self._probe = min(sending, key=lambda plan: sum(plan.payload_bytes), default=None)
        self._silent = 0  # tasks since one was sent
        self._probing: int | None = None  # the task that was sent to learn of the link

    def choose(self, task: int, observation: Observation) -> Plan:
        """A present plan, reconsidered once a period."""
        due = observation.now_s >= self._next_s
        if due:
            self._next_s = observation.now_s + self._settings.period_s
            self._reconsider(observation.bandwidth_bps)
        plan = self._now.choose(task, observation)
        self._silent = 0 if plan.crossing else self._silent + 1
        if not due or self._silent < PROBE_EVERY or self._probe is None:
            return plan
        if self._probing is not None:
            return plan
        self._silent, self._probing = 0, task
        return self._probe

    def _reconsider(self, rate_bps: float) -> None:
        if abs(log(rate_bps / self._rate_bps)) > log(1 + self._settings.change):
            self._rate_bps = rate_bps
            _, self._now = min(self._sets, key=lambda each: abs(log(each[0] / rate_bps)))

    def at_head(
        self, task: int, plan: Plan, head: DecisionPoint, observation: Observation
    ) -> Decision:
        """As the present plans' controller does."""
        return self._now.at_head(task, plan, head, observation)

    def at_cut(self, task: int, plan: Plan, observation: Observation) -> Decision:
        """As the present plans' controller does."""
        return self._now.at_cut(task, plan, observation)

    def gave_up(self, task: int, plan: Plan, observation: Observation) -> Decision:
        """As the present plans' controller does."""
        return self._now.gave_up(task, plan, observation)

    def sent(self, transfer: Transfer) -> None:
        """Told on."""
        self._now.sent(transfer)

    def answered(self, task: int, label: int, now_s: float) -> None:
        """Told on; another task may now be sent to learn of the link."""
        if task == self._probing:
            self._probing = None
        self._now.answered(task, label, now_s)
