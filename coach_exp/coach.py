"""COACH behind the Method protocol: the offline component (plan and bit-widths) and the online
component (early exit, adaptive widths) of the paper's Section III.
"""

from dataclasses import dataclass, field, replace

from coach_exp.online.method import Online
from coach_exp.online.replan import Replan
from coach_exp.planner.planning import ObjectiveName, Planner
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

    planner: Planner = field(default_factory=Planner)
    online: Online | None = None
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
        planner = replace(self.planner, objective=self.objective or self.planner.objective)
        online = self._online
        if not online.decides or problem.calibration is None:
            return self._plans(problem, planner)
        waiting = replace(planner, release="after_decision")
        return online.calibrated(problem, self._plans(problem, waiting))

    def _plans(self, problem: Problem, planner: Planner) -> PlanSet:
        return self.replan.plans(problem, lambda given: PlanSet((planner.plan(given),)))

    def controller(self, plans: PlanSet) -> Controller:
        """Follows the rate if it may, and decides at the cut."""
        return self._online.controller(self.replan.controller(plans))

    @property
    def _online(self) -> Online:
        if self.online is None:
            return Online(exits=False, adjust=False)
        return replace(self.online, rule=self.rule or self.online.rule)
