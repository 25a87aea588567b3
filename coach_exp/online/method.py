"""The online part as a component that any method can be given.

In: a method's plans. Out: the same plans with centres and thresholds, and a controller that decides
at the cut.
"""

from dataclasses import dataclass

from coach_exp.online.budgets import Limits
from coach_exp.online.calibration import calibrated
from coach_exp.online.scheduler import OnlineController
from coach_exp.types.method import Controller, Problem
from coach_exp.types.online import Budget, Rule, Update
from coach_exp.types.plan import PlanSet


@dataclass(frozen=True, slots=True)
class Online:
    """Settings of the online part. `exits` and `adjust` switch its two halves; with both off
    nothing is decided online. `limit_points` is ε in percentage points, `delta` the probability
    with which `budget = guarantee` may break it, `count_cap` bounds m_j of Eq. 7, and `max_bits`
    lets tasks be sent with more bits than the plan's where the link has time for them."""

    exits: bool = True
    adjust: bool = True
    rule: Rule = "eq11"
    update: Update = "exits"
    count_cap: int | None = None
    budget: Budget = "paper"
    limit_points: float = 0.5
    delta: float = 0.1
    max_bits: int | None = None

    @property
    def decides(self) -> bool:
        """Whether anything is decided at the cut."""
        return self.exits or self.adjust or self.max_bits is not None

    @property
    def limits(self) -> Limits:
        """What calibration may spend."""
        return Limits(self.budget, self.limit_points / 100, self.delta, self.exits, self.adjust)

    def calibrated(self, problem: Problem, plans: PlanSet) -> PlanSet:
        """Every plan with centres and thresholds of its own; equal cuts share them."""
        if not self.decides:
            return plans
        limits, most = self.limits, self.max_bits
        return plans.each(lambda plan: calibrated(problem, plan, limits, most))

    def controller(self, inner: Controller) -> Controller:
        """The wrapped controller; the same one where nothing is decided online."""
        if not self.decides:
            return inner
        return OnlineController(inner, self.rule, self.update, self.count_cap)
