"""COACH: the offline component (plan and bit-widths) behind the Method protocol (paper, Section
III).
"""

from dataclasses import dataclass

from coach_exp.planner.planning import Planner
from coach_exp.types.method import Controller, FixedPlans, Problem
from coach_exp.types.plan import PlanSet


@dataclass(frozen=True, slots=True)
class Coach:
    """Plans once for the link's initial rate and keeps the plan."""

    planner: Planner
    name: str = "coach"

    def plan(self, problem: Problem) -> PlanSet:
        """The planner's best cut. Raises InfeasibleError when no cut satisfies the constraints."""
        return PlanSet((self.planner.plan(problem),))

    def controller(self, plans: PlanSet) -> Controller:
        """Decides nothing online: every task runs the plan."""
        return FixedPlans(plans)
