"""What else could have been chosen: the runner-up of a plan, and the cut that a constraint refuses.

In: a planner, a problem, the plan that was chosen. Out: the best plan with another cut, and the cut
that would win if no constraint stood in its way. Both are found by the planner's own search over
changed costs, so they are as exact as that search is.
"""

from dataclasses import dataclass, replace
from math import inf
from typing import get_args

from coach_exp.planner.candidate import Candidate, CutCost
from coach_exp.planner.cost_model import CostModel
from coach_exp.planner.planning import ObjectiveName, Planner
from coach_exp.types.errors import InfeasibleError
from coach_exp.types.method import Problem
from coach_exp.types.plan import Plan


@dataclass(frozen=True, slots=True)
class Refused:
    """A cut of a better objective, in seconds, and the constraint that it breaks, in words."""

    cut_name: str
    value_s: float
    broken: str


@dataclass(frozen=True, slots=True)
class Alternatives:
    """What stands beside a plan, judged by its own objective; None: there is no such plan, or it
    breaks a constraint. `weights` are those of `objective = weighted`."""

    runner_up: Plan | None
    refused: Refused | None
    device_only: Plan | None
    cloud_only: Plan | None
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0)


def alternatives(planner: Planner, problem: Problem, plan: Plan) -> Alternatives:
    """All that the planner's settings can say beside `plan`, whatever method made it."""
    for name in get_args(ObjectiveName):
        if name == plan.objective.name:
            planner = replace(planner, objective=name)
    planner = replace(planner, release=plan.release)
    layers = [layer.name for layer in problem.graph.layers]
    return Alternatives(
        runner_up(planner, problem, plan),
        refused(planner, problem, plan),
        _allowed(planner, problem, layers),
        _allowed(planner, problem, layers[:1]),
        planner.weights,
    )


def runner_up(planner: Planner, problem: Problem, plan: Plan) -> Plan | None:
    """The best plan with other crossing tensors, at settled widths; None where no other is
    feasible. An end set is what its crossing tensors need, so another end set it is."""
    evaluations = 0
    while True:
        model = _Without(planner, problem, plan)
        search = planner.searched(model)
        evaluations += search.evaluations
        if search.best.violation_s > 0:
            return None
        found = model.plan(model.end_set(search.best))
        if not problem.bits.settle([tensor.layer for tensor in found.crossing]):
            return replace(found, evaluations=evaluations)


def refused(planner: Planner, problem: Problem, plan: Plan) -> Refused | None:
    """The cut that has a better objective than the plan and is not allowed; None where none is."""
    free = _Unconstrained(problem, planner.goal, planner.release)
    best = planner.searched(free).best
    end_set = free.end_set(best)
    model = planner.cost_model(problem)
    judged, _ = model.of(end_set)
    chosen, _ = model.of(problem.graph.end_set(plan.end_layers))
    if judged.violation_s == 0 or best.rank[1] >= chosen.rank[1]:
        return None
    names = [problem.graph.layers[i].name for i in problem.graph.crossing(end_set)]
    return Refused("+".join(names) or "device-only", best.value, judged.broken)


def _allowed(planner: Planner, problem: Problem, end_layers: list[str]) -> Plan | None:
    try:
        return planner.plan_for(problem, end_layers)
    except InfeasibleError:
        return None


class _Without(CostModel):
    """The costs of a problem in which the cut of one plan is forbidden."""

    def __init__(self, planner: Planner, problem: Problem, plan: Plan) -> None:
        super().__init__(problem, planner.goal, planner.release)
        self._taken: tuple[int, frozenset[int]] | None = None
        taken, _ = self.of(problem.graph.end_set(plan.end_layers))
        self._taken = (taken.block, frozenset(taken.interior))

    def rank(self, cost: CutCost) -> Candidate:
        """As ever, but the forbidden cut comes behind all others."""
        found = super().rank(cost)
        if self._taken != (cost.block, frozenset(cost.interior)):
            return found
        return replace(found, violation_s=inf, broken="forbidden", rank=(inf, inf, inf))


class _Unconstrained(CostModel):
    """The costs of a problem without constraints."""

    def violation(self, cost: CutCost) -> tuple[float, str]:
        """None."""
        return 0.0, ""
