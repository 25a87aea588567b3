"""COACH behind the Method protocol: the offline component (plan and bit-widths) and the online
component (early exit, adaptive widths) of the paper's Section III.
"""

from dataclasses import dataclass, field, replace

from coach_exp.online.method import Online
from coach_exp.online.replan import Replan
from coach_exp.planner.planning import Planner
from coach_exp.types.method import Controller, Problem
from coach_exp.types.plan import PlanSet

NOTHING_ONLINE = Online(exits=False, adjust=False)


@dataclass(frozen=True, slots=True)
class Coach:
    """Plans for the link's initial rate and, where `replan` says so, for others; then calibrates
    the online part of every plan.

    With an online part, sending waits for the decision, whose cost is part of T_e. Where the model
    has no answers, or nothing is to be decided, what is left is the offline component.
    """

    planner: Planner
    online: Online = NOTHING_ONLINE
    replan: Replan = field(default_factory=Replan)
    name: str = "coach"

    def view(self, problem: Problem) -> Problem:
        """As it is."""
        return problem

    def plan(self, problem: Problem) -> PlanSet:
        """The planner's best cut at each rate. Raises InfeasibleError when no cut satisfies the
        constraints, DataError when calibration and stream share a video."""
        if not self.online.decides or problem.calibration is None:
            return self._plans(problem, self.planner)
        waiting = replace(self.planner, release="after_decision")
        return self.online.calibrated(problem, self._plans(problem, waiting))

    def _plans(self, problem: Problem, planner: Planner) -> PlanSet:
        return self.replan.plans(problem, lambda given: PlanSet((planner.plan(given),)))

    def controller(self, plans: PlanSet) -> Controller:
        """Follows the rate if it may, and decides at the cut."""
        return self.online.controller(self.replan.controller(plans))
