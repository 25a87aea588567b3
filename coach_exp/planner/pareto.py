"""The Pareto front of latency and period: what a plan pays in one for the other (paper, Section
III-B).

In: a planner's settings and a problem. Out: the plans that no other plan beats in both the latency
of one task (the one-task schedule) and the period of a full pipeline (the largest stage). Below
`limit` cuts every cut is evaluated and the front is exact; above, it is the front of all cuts that
divide and conquer meets on its way to the least latency and to the least period.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal, NamedTuple

from coach_exp.planner.candidate import Candidate, CutCost
from coach_exp.planner.certificate import mixture_bound
from coach_exp.planner.cost_model import CostModel
from coach_exp.planner.divide_conquer import divide_conquer
from coach_exp.planner.exhaustive import inner_cuts
from coach_exp.planner.planning import Planner
from coach_exp.types.errors import InfeasibleError
from coach_exp.types.method import Problem
from coach_exp.types.plan import Plan

MAX_KEPT = 1 << 16  # cuts remembered before the dominated ones are forgotten


class Point(NamedTuple):
    """A cut by what it costs; compared in this order. The cut is a block and its interior layers on
    the end, see `candidate.Candidate`."""

    latency_s: float
    period_s: float
    total_s: float
    block: int
    interior: tuple[int, ...]


@dataclass(frozen=True)
class Front:
    """`plans` by rising latency and falling period; `boundaries`: (latency, period) in seconds of
    every feasible cut at a boundary of the top chain, device-only included. `exact`: every cut was
    evaluated. `min_period_s`: no plan and no mixture of plans has a smaller period."""

    plans: tuple[Plan, ...]
    boundaries: tuple[tuple[float, float], ...]
    evaluations: int
    exact: bool
    min_period_s: float

    @property
    def source(self) -> str:
        """Which cuts the front is of, in words."""
        if self.exact:
            return f"exact: all {self.evaluations:,} cuts were evaluated"
        return (
            f"not certified: of the {self.evaluations:,} cuts that divide and conquer evaluated, "
            "all boundaries among them, for there are more cuts than planner.limit"
        )

    def as_json(self) -> dict[str, Any]:
        """The whole `pareto.json`; each plan as in `plan.json`, with its cut and period."""
        return {
            "exact": self.exact,
            "source": self.source,
            "evaluations": self.evaluations,
            "min_period_s": self.min_period_s,
            "front": [
                {"cut": plan.cut_name, "period_s": plan.stage_s.period_s, **plan.as_json(1.0)}
                for plan in self.plans
            ],
            "boundaries": [
                {"latency_s": latency_s, "period_s": period_s}
                for latency_s, period_s in self.boundaries
            ],
        }


def non_dominated(points: Sequence[Point]) -> list[Point]:
    """The points that no other point beats or equals in both latency and period: O(n log n). Of
    equal ones the first in order stays.

    >>> non_dominated([Point(3, 1, 0, 0, ()), Point(1, 2, 0, 1, ()), Point(2, 2, 0, 2, ())])
    [Point(latency_s=1, period_s=2, total_s=0, block=1, interior=()), \
Point(latency_s=3, period_s=1, total_s=0, block=0, interior=())]
    """
    front: list[Point] = []
    for point in sorted(points):
        if not front or point.period_s < front[-1].period_s:
            front.append(point)
    return front


def pareto_front(planner: Planner, problem: Problem) -> Front:
    """The front at settled widths. Widths that are not known count as the least possible; each
    round settles those of the front, until the front needs no other. Raises InfeasibleError."""
    evaluations = 0
    while True:
        model = _Listing(problem, planner)
        exact = _all_cuts(model, planner)
        evaluations += model.evaluations
        points = non_dominated(model.points)
        if not points:
            raise InfeasibleError(
                f"none of the {model.evaluations} cuts evaluated is feasible; relax t_max_ms or "
                "input.encoding, or change device, cloud or bandwidth"
            )
        plans = tuple(replace(model.plan(model.held(point)), evaluations=1) for point in points)
        # A list first: every plan is to be settled, not only those up to the first change.
        if not any([problem.bits.settle([c.layer for c in plan.crossing]) for plan in plans]):
            break
    bound_s = mixture_bound(planner.cost_model(problem)).period_s
    return Front(plans, tuple(model.boundaries), evaluations, exact, bound_s)


def nine_digits(seconds: float) -> float:
    """Nine digits: what differs behind them is rounding, not preference."""
    return float(f"{seconds:.8e}")


def _all_cuts(model: "_Listing", planner: Planner) -> bool:
    """Show the model every cut, or the best known ones; True if every cut."""
    if _number_of_cuts(model, planner.limit) > planner.limit:
        goals: tuple[Literal["latency", "bottleneck"], ...] = ("latency", "bottleneck")
        for objective in goals:
            model.objective = replace(planner, objective=objective).goal
            model.evaluations += divide_conquer(model, planner.moves).evaluations
        return False
    model.device_only()
    for block in range(model.blocks):
        model.boundary(block)
        for cut in inner_cuts(model, block):
            cut.candidate(cut.schedule())
    model.evaluations = _number_of_cuts(model, planner.limit)
    return True


def _number_of_cuts(model: CostModel, limit: int) -> int:
    """How many cuts there are; counted no further than one above the limit."""
    count = model.blocks + 1
    for _ in chain.from_iterable(inner_cuts(model, k) for k in range(model.blocks)):
        count += 1
        if count > limit:
            break
    return count


class _Listing(CostModel):
    """Costs that remember every feasible cut they were asked about."""

    def __init__(self, problem: Problem, planner: Planner) -> None:
        super().__init__(problem, replace(planner, objective="bottleneck").goal, planner.release)
        self.points: list[Point] = []
        self.boundaries: dict[tuple[float, float], None] = {}
        self.evaluations = 0

    def rank(self, cost: CutCost) -> Candidate:
        """As ever; a feasible cut is kept."""
        found = super().rank(cost)
        if found.violation_s == 0:
            latency_s, period_s = nine_digits(cost.latency_s), nine_digits(cost.stage.period_s)
            self._keep(Point(latency_s, period_s, found.rank[2], cost.block, cost.interior))
        return found

    def _keep(self, point: Point) -> None:
        self.points.append(point)
        if not point.interior:
            self.boundaries[point.latency_s, point.period_s] = None
        if len(self.points) > MAX_KEPT:
            self.points = non_dominated(self.points)

    def held(self, point: Point) -> frozenset[int]:
        """The end layers of a point, by position."""
        return frozenset(range(self.chain[point.block] + 1)) | frozenset(point.interior)
