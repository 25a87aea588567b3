"""What the planner promises, as the flat metrics of `summary.json`.

In: a plan set and the time it took to make. Out: named numbers in the units of reports.
"""

from coach_exp.types.plan import Plan, PlanSet, StageTimes


def plan_metrics(plans: PlanSet, planning_s: float) -> dict[str, float]:
    """`plan_*` of the plans, averaged by weight; `bound_*_ms` that no plan can beat; and
    `planning_ms`."""
    metrics = {"planning_ms": 1e3 * planning_s}
    for name, seconds in plans.bounds.items():
        metrics[f"bound_{name.removesuffix('_s')}_ms"] = 1e3 * seconds
    for plan, weight in zip(plans.plans, plans.weights, strict=True):
        for name, value in _facts(plan).items():
            metrics[name] = metrics.get(name, 0.0) + weight * value
    return metrics


def _facts(plan: Plan) -> dict[str, float]:
    facts = {
        "plan_end_ms": 1e3 * plan.stage_s.end_s,
        "plan_link_ms": 1e3 * plan.stage_s.link_s,
        "plan_cloud_ms": 1e3 * plan.stage_s.cloud_s,
        "plan_latency_ms": 1e3 * plan.latency_s,
        "plan_objective_ms": 1e3 * plan.objective.value,
        "plan_bubble_compute_ms": 1e3 * plan.objective.bubbles.compute_s,
        "plan_bubble_link_ms": 1e3 * plan.objective.bubbles.link_s,
        "plan_payload_kib": sum(plan.payload_bytes) / 1024,
        "plan_efficiency_percent": 100 * efficiency(plan.stage_s),
        "plan_end_layers": len(plan.end_layers),
        "plan_evaluations": plan.evaluations,
    }
    if plan.decision_s > 0:
        facts["plan_decision_ms"] = 1e3 * plan.decision_s
    if plan.gap is not None:
        facts["plan_gap_percent"] = 100 * plan.gap
    return facts


def efficiency(stage_s: StageTimes) -> float:
    """ΣT / (3 · max T): the share of a full pipeline's period that end, link and cloud work.

    >>> efficiency(StageTimes(end_s=2, link_s=4, cloud_s=3))
    0.75
    """
    return stage_s.total_s / (3 * stage_s.period_s or 1.0)
