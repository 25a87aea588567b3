"""Lower bounds that certify a plan.

`latency`, no overlap counted: the minimum cut with equal weights is the least T_e + T_t + T_c.
`bottleneck`: for weights that sum to 1 the weighted minimum cut bounds max{T_e, T_t, T_c} of every
cut from below; the best weights are found by cutting planes. At the optimum the bound is also the
least period that any mixture of cuts reaches in the long run, by linear programming duality.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coach_exp.planner.cost_model import CostModel
from coach_exp.planner.min_cut import MinCuts, WeightedCut, Weights, weighted_min_cut
from coach_exp.planner.planning import Planner
from coach_exp.types.method import Problem
from coach_exp.types.plan import PlanSet

MAX_CUTS = 200
GAP = 1e-9


@dataclass(frozen=True, slots=True)
class MixtureBound:
    """The greatest weighted bound on the period, and the mixture of cuts that attains it."""

    period_s: float
    weights: Weights
    cuts: tuple[WeightedCut, ...]
    shares: tuple[float, ...]


def min_total_s(model: CostModel) -> float:
    """The least T_e + T_t + T_c of all cuts: exact."""
    return weighted_min_cut(model, Weights()).value


def certified(planner: Planner, problem: Problem, plans: PlanSet) -> PlanSet:
    """The plans, those made for the problem's rate with a lower bound if their objective has one,
    and what no plan at these bit-widths can beat: `min_total_s`, and `min_period_s` of any
    mixture of plans."""
    model = planner.cost_model(problem)
    period_s, total_s = mixture_bound(model).period_s, min_total_s(model)
    bounded = tuple(
        replace(plan, lower_bound=period_s)
        if plan.lower_bound is None
        and plan.objective.name == "bottleneck"
        and plan.link_bps == problem.link.bandwidth_bps
        else plan
        for plan in plans.plans
    )
    bounds = {"min_period_s": period_s, "min_total_s": total_s}
    return replace(plans, plans=bounded, bounds=bounds)


def mixture_bound(model: CostModel) -> MixtureBound:
    """max over weights of the weighted minimum cut, by Kelley's cutting planes.

    Each round solves a small linear programme over the cuts found so far, then asks for the minimum
    cut at its weights; no better cut means that no mixture beats the programme's value.
    """
    minimum = MinCuts(model)
    weights = Weights(1 / 3, 1 / 3, 1 / 3)
    cuts = minimum.least([weights, Weights(1, 0, 0), Weights(0, 1, 0), Weights(0, 0, 1)])
    bound, shares = 0.0, np.zeros(0)
    for _ in range(MAX_CUTS):
        period_s, weights, shares = _programme(cuts)
        (found,) = minimum.least([weights])
        bound = max(bound, found.value)
        if bound >= period_s * (1 - GAP):
            break
        cuts.append(found)
    used = [(cut, float(s)) for cut, s in zip(cuts, shares, strict=False) if s > GAP]
    return MixtureBound(bound, weights, tuple(c for c, _ in used), tuple(s for _, s in used))


def _programme(cuts: list[WeightedCut]) -> tuple[float, Weights, NDArray[np.float64]]:
    """Least period of a mixture of the given cuts, its dual values (the weights), its shares."""
    from scipy.optimize import linprog

    stages = np.array([[c.stage.end_s, c.stage.link_s, c.stage.cloud_s] for c in cuts]).T
    scale = float(stages.max()) or 1.0
    count = len(cuts)
    answer: Any = linprog(
        c=[*[0.0] * count, 1.0],
        A_ub=np.hstack([stages / scale, -np.ones((3, 1))]),
        b_ub=np.zeros(3),
        A_eq=[[*[1.0] * count, 0.0]],
        b_eq=[1.0],
        method="highs",
    )
    dual = np.maximum(-answer.ineqlin.marginals, 0)
    dual /= dual.sum() or 1.0
    return float(answer.fun) * scale, Weights(*map(float, dual)), answer.x[:count]
