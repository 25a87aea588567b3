"""From a problem to a plan: the planner that configs name and methods call.

In: a problem. Out: the best plan by one objective, with its number of evaluations and, where one is
known, a lower bound on the objective of every plan.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import NonNegativeFloat, PositiveInt

from coach_exp.planner.cost_model import CostModel
from coach_exp.planner.divide_conquer import Moves, Search, divide_conquer
from coach_exp.planner.exhaustive import exhaustive
from coach_exp.planner.objective import Bottleneck, Latency, Objective, Paper, Weighted
from coach_exp.types.errors import InfeasibleError
from coach_exp.types.method import Problem
from coach_exp.types.plan import Plan, PlanSet, Release

ObjectiveName = Literal["paper", "bottleneck", "latency", "sum", "weighted"]
SearchName = Literal["divide_conquer", "exhaustive"]


@dataclass(frozen=True, slots=True)
class Planner:
    """How to plan. `weights` (end, link, cloud) belong to `objective = weighted`; `moves` says how
    many flows divide and conquer moves at once; `limit` bounds the exhaustive search. Constraint
    (4) is part of COACH's problem; a planner that is not `overlap_limited` does not know it."""

    search: SearchName = "divide_conquer"
    objective: ObjectiveName = "paper"
    release: Release = "per_tensor"
    moves: Moves = "two"
    limit: PositiveInt = 2_000_000
    weights: tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat] = (1.0, 1.0, 1.0)
    overlap_limited: bool = True

    def plan(self, problem: Problem) -> Plan:
        """The best plan with settled bit-widths. Raises InfeasibleError when no cut satisfies the
        constraints.
        """
        return settled(problem, lambda: PlanSet((self._plan(problem),))).plans[0]

    def _plan(self, problem: Problem) -> Plan:
        model = self.cost_model(problem)
        search = self.searched(model)
        try:
            plan = model.plan(model.end_set(search.best))
        except InfeasibleError as error:
            raise InfeasibleError(
                f"no cut of the {len(problem.graph)} layers is feasible; the closest: {error}"
            ) from None
        exact = plan.objective.value if self.search == "exhaustive" else None
        return replace(plan, evaluations=search.evaluations, lower_bound=exact)

    def searched(self, model: CostModel) -> Search:
        """This planner's search, over any costs."""
        if self.search == "exhaustive":
            return exhaustive(model, self.limit)
        return divide_conquer(model, self.moves)

    def plan_for(self, problem: Problem, end_layers: Iterable[str]) -> Plan:
        """The plan of a given end set, with settled bit-widths. Raises CutError when the set is not
        closed, InfeasibleError when it breaks a constraint."""
        held = problem.graph.end_set(end_layers)

        def made() -> PlanSet:
            return PlanSet((replace(self.cost_model(problem).plan(held), evaluations=1),))

        return replace(settled(problem, made).plans[0], evaluations=1)

    def cost_model(self, problem: Problem) -> CostModel:
        """The costs of a problem under this planner's objective and release."""
        return CostModel(problem, self.goal, self.release, overlap_limited=self.overlap_limited)

    @property
    def goal(self) -> Objective:
        """The objective itself."""
        objectives: dict[str, Objective] = {
            "paper": Paper(),
            "bottleneck": Bottleneck(),
            "latency": Latency(),
            "sum": Weighted(name="sum"),
            "weighted": Weighted(*self.weights),
        }
        return objectives[self.objective]


def settled(problem: Problem, make: Callable[[], PlanSet]) -> PlanSet:
    """The plans that `make` chooses, with settled bit-widths and the evaluations of every round.

    Widths that are not known count as the least possible, so the first plans are a bound; each
    round makes those known that the plans use, and widths only grow, so this ends.
    """
    evaluations = 0
    while True:
        plans = make()
        evaluations += plans.plans[0].evaluations
        # A list first: every plan is to be settled, not only those up to the first change.
        if not any([problem.bits.settle([c.layer for c in p.crossing]) for p in plans.plans]):
            first = replace(plans.plans[0], evaluations=evaluations)
            return replace(plans, plans=(first, *plans.plans[1:]))
