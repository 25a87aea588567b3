"""Exact oracles: the best of all cuts with the fewest bits that keep the accuracy budget.

What they decide, and when: for the link's rate, the cut of least latency of one task
(`oracle_latency`, by the one-task schedule) or of least longest stage (`oracle_bottleneck`), by
looking at every cut; for other rates as well, where `replan` names them. Widths are those of the
shared table Q(v): neither objective ever grows when a tensor is sent with fewer bits, so of each
tensor the fewest that keep the budget are best. Tensors that no promising cut uses count as having
the least width, which only makes other cuts look better than they are, so the cut that is found is
best among all. Where several tensors cross, they are raised together, widest first, until the cut
keeps the budget: there the optimum is that of the table, for other widths may keep it too.

What they cannot do: mix plans, exit early, follow content. They bound single plans, not methods
that decide by task. A model of more cuts than `limit` is refused.
"""

from dataclasses import dataclass, field
from typing import Literal

from pydantic import PositiveInt

from baselines.harness import check_fields
from coach_exp.online.replan import Replan
from coach_exp.planner.planning import Planner
from coach_exp.types.method import Controller, Problem
from coach_exp.types.plan import PlanSet

Objective = Literal["latency", "bottleneck"]


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """The exact optimum by one objective."""

    name: str = "oracle"
    objective: Objective = "latency"
    limit: PositiveInt = 2_000_000
    replan: Replan = field(default_factory=Replan)

    def __post_init__(self) -> None:
        check_fields(self)

    def view(self, problem: Problem) -> Problem:
        """As it is."""
        return problem

    def plan(self, problem: Problem) -> PlanSet:
        """The best of all cuts at each rate. Raises InfeasibleError above `limit` cuts, or when
        none is allowed."""
        planner = Planner("exhaustive", self.objective, limit=self.limit, overlap_limited=False)
        return self.replan.plans(problem, lambda given: PlanSet((planner.plan(given),)))

    def controller(self, plans: PlanSet) -> Controller:
        """Follows the rate if it may; decides nothing else."""
        return self.replan.controller(plans)
