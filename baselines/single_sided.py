"""Device-only and cloud-only: the two plans that cut nothing.

What they decide: nothing. Device-only runs every layer on the end and sends nothing. Cloud-only
sends the raw input in the encoding that all methods share and runs every layer on the cloud. At low
bandwidth the first, at high bandwidth the second is a strong method, and every other must beat
both.
"""

from dataclasses import dataclass, field

from coach_exp.planner.planning import Planner
from coach_exp.types.method import Controller, FixedPlans, Problem
from coach_exp.types.plan import PlanSet


@dataclass(frozen=True, slots=True)
class DeviceOnly:
    """Every layer on the end; `planner` only evaluates the plan."""

    planner: Planner = field(default_factory=Planner)
    name: str = "device_only"

    def view(self, problem: Problem) -> Problem:
        """As it is: nothing is sent."""
        return problem

    def plan(self, problem: Problem) -> PlanSet:
        """The plan that ends on the end. Raises InfeasibleError when it breaks t_max_ms."""
        everything = [layer.name for layer in problem.graph.layers]
        return PlanSet((self.planner.plan_for(problem, everything),))

    def controller(self, plans: PlanSet) -> Controller:
        """Decides nothing."""
        return FixedPlans(plans)


@dataclass(frozen=True, slots=True)
class CloudOnly:
    """Every layer but the raw input on the cloud; `planner` only evaluates the plan."""

    planner: Planner = field(default_factory=Planner)
    name: str = "cloud_only"

    def view(self, problem: Problem) -> Problem:
        """As it is: only the input is sent, whose encoding all methods share."""
        return problem

    def plan(self, problem: Problem) -> PlanSet:
        """The plan that sends the input. Raises InfeasibleError when the input may not be sent."""
        return PlanSet((self.planner.plan_for(problem, [problem.graph.input.name]),))

    def controller(self, plans: PlanSet) -> Controller:
        """Decides nothing."""
        return FixedPlans(plans)
