"""COACH behind the Method protocol: the offline component (plan and bit-widths) and the online
component (early exit, adaptive widths) of the paper's Section III.
"""

from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from coach_exp.online.method import Online, OnlinePart
from coach_exp.online.replan import Replan
from coach_exp.planner.planning import ObjectiveName, Planner, Planning
from coach_exp.types.errors import ConfigError
from coach_exp.types.method import Controller, Problem
from coach_exp.types.online import Rule
from coach_exp.types.plan import PlanSet


@dataclass(frozen=True, slots=True)
class Coach:
    """Plans for the link's initial rate and, where `replan` says so, for others; then calibrates
    the online part of every plan. A variant's `objective` takes the place of the planner's, its
    `rule` that of the online part.

    With an online part, sending waits for the decision, whose cost is part of T_e. Without one
    (None), or where the model has no answers, or nothing is to be decided, what is left is the
    offline component.
    """

    planner: Planning = field(default_factory=Planner)
    online: OnlinePart | None = None
    replan: Replan = field(default_factory=Replan)
    name: str = "coach"
    objective: ObjectiveName | None = None
    rule: Rule | None = None

    def view(self, problem: Problem) -> Problem:
        """As it is."""
        return problem

    def plan(self, problem: Problem) -> PlanSet:
        """The planner's best cut at each rate. Raises InfeasibleError when no cut satisfies the
        constraints, DataError when calibration and stream share a video."""
        planner = _changed(self.planner, "objective", self.objective)
        online = self._online
        if not online.decides or problem.calibration is None:
            return self._plans(problem, planner)
        waiting = _changed(planner, "release", "after_decision")
        return online.calibrated(problem, self._plans(problem, waiting))

    def _plans(self, problem: Problem, planner: Planning) -> PlanSet:
        return self.replan.plans(problem, lambda given: PlanSet((planner.plan(given),)))

    def controller(self, plans: PlanSet) -> Controller:
        """Follows the rate if it may, and decides at the cut."""
        return self._online.controller(self.replan.controller(plans))

    @property
    def _online(self) -> OnlinePart:
        if self.online is None:
            return Online(exits=False, adjust=False)
        online: OnlinePart = _changed(self.online, "rule", self.rule)
        return online


def _changed(part: Any, setting: str, value: str | None) -> Any:
    """Returns a part of the method with another setting; None leaves it as it is. Raises
    ConfigError for a part of a user's own that does not have the setting."""
    if value is None:
        return part
    if not is_dataclass(part) or setting not in {each.name for each in fields(part)}:
        raise ConfigError(
            f"{type(part).__name__} is to have {setting} = {value}, but is no dataclass with a "
            f"field {setting!r}; add it, or use another method"
        )
    return replace(part, **{setting: value})  # type: ignore[type-var]
