"""The online part as a component that any method can be given.

In: a method's plans. Out: the same plans with centres and thresholds, and a controller that decides
at the cut.
"""

from dataclasses import dataclass
from typing import Annotated, Protocol

from pydantic import Field, PositiveFloat, PositiveInt

from coach_exp.online.budgets import Limits
from coach_exp.online.calibration import calibrated
from coach_exp.online.scheduler import OnlineController
from coach_exp.types.errors import ConfigError
from coach_exp.types.method import Controller, Problem
from coach_exp.types.online import Budget, Rule, Update
from coach_exp.types.outcomes import Width
from coach_exp.types.plan import PlanSet


class OnlinePart(Protocol):
    """What decides at the cut, whatever the method."""

    @property
    def decides(self) -> bool:
        """Whether anything is decided at the cut: if so, sending waits for it."""

    def calibrated(self, problem: Problem, plans: PlanSet) -> PlanSet:
        """The plans with what is needed to decide; asked where the model has answers."""

    def controller(self, inner: Controller) -> Controller:
        """The controller of the plans, with decisions at the cut."""


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
    count_cap: PositiveInt | None = None
    budget: Budget = "paper"
    limit_points: Annotated[float, Field(gt=0, lt=100)] = 0.5
    delta: Annotated[PositiveFloat, Field(lt=1)] = 0.1
    max_bits: Width | None = None

    def __post_init__(self) -> None:
        if self.budget == "guarantee" and self.update != "none":
            raise ConfigError(
                "budget = guarantee: it holds for the centres that were calibrated, not for "
                "centres that move; add cache.update=none, or use paper or joint"
            )

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
