"""Why this plan: where its bubbles are, what came second and why that lost, what no plan can beat.

In: a plan, what stands beside it (`planner.alternatives`), the workload. Out: plain sentences with
numbers, and the few lines that a table compares plans by. Nothing here is searched or timed.
"""

from collections.abc import Mapping

from coach_exp.planner.alternatives import Alternatives
from coach_exp.types.plan import Plan, PlanSet
from coach_exp.types.workload import Workload

STAGES = (("end", "T_e"), ("link", "T_t"), ("cloud", "T_c"))
WIDE = 5  # crossing tensors named in a sentence before the rest are counted
TIE = 1e-9  # relative; the planner takes a difference below it for rounding


def explain(
    method: str, plans: PlanSet, others: Alternatives, workload: Workload, planning_s: float
) -> list[str]:
    """The sentences below the tables, about the plan that most tasks run."""
    plan = main_plan(plans)
    sentences = [_place(plan), *_bubbles(plan, workload), why_not(method, plan, others)]
    if others.refused is not None:
        sentences.append(
            f"Not allowed: {others.refused.cut_name} would cost {_ms(others.refused.value_s)}, but "
            f"breaks {others.refused.broken}."
        )
    return [*sentences, *_bounds(plan, plans.bounds), _effort(plans, planning_s)]


def main_plan(plans: PlanSet) -> Plan:
    """The plan with the largest share of the tasks."""
    return max(zip(plans.weights, plans.plans, strict=True), key=lambda pair: pair[0])[1]


def short_cut(plan: Plan) -> str:
    """The crossing tensors' names, the later of many counted only."""
    names = [tensor.layer for tensor in plan.crossing]
    more = f" and {len(names) - WIDE} more" if len(names) > WIDE else ""
    return "+".join(names[:WIDE]) + more or "device-only"


def _place(plan: Plan) -> str:
    if not plan.crossing:
        return f"The cut: none; all {len(plan.end_layers)} layers run on the end."
    tensors = [
        f"{tensor.layer} ({tensor.bits} bit, {size / 1024:.2f} KiB)"
        for tensor, size in zip(plan.crossing, plan.payload_bytes, strict=True)
    ]
    more = f" and {len(tensors) - WIDE} more" if len(tensors) > WIDE else ""
    return (
        f"The cut: {len(plan.end_layers)} of the layers run on the end; over the link "
        f"{'go' if len(tensors) > 1 else 'goes'} {', '.join(tensors[:WIDE])}{more}."
    )


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3f} ms"


# --- Bubbles --------------------------------------------------------------------------------------


def steady_period(plan: Plan, workload: Workload) -> tuple[float, str]:
    """Seconds between two answers in the long run, and what sets them: the largest stage, the
    places in flight (a place is held for a latency), or the rate at which tasks come.
    """
    sizes = {name: getattr(plan.stage_s, f"{name}_s") for name, _ in STAGES}
    largest = max(sizes, key=lambda name: sizes[name])
    limits = [(sizes[largest], f"the {largest} is the bottleneck")]
    places = workload.places
    limits.append((plan.latency_s / places, f"only {places} task{'s' * (places > 1)} in flight"))
    if workload.kind in ("periodic", "poisson") and workload.rate_hz:
        limits.append((1 / workload.rate_hz, f"tasks come at {workload.rate_hz:g} a second"))
    return max(limits, key=lambda limit: limit[0])


def _bubbles(plan: Plan, workload: Workload) -> list[str]:
    period_s, cause = steady_period(plan, workload)
    parts = []
    for name, symbol in STAGES:
        busy_s = getattr(plan.stage_s, f"{name}_s")
        idle_s = period_s - busy_s
        if busy_s == 0:
            parts.append(f"the {name} is not used")
        elif idle_s <= TIE * period_s:
            parts.append(f"the {name} is never idle ({symbol} = {_ms(busy_s)})")
        else:
            share = 100 * idle_s / period_s
            parts.append(
                f"the {name} idles {_ms(idle_s)} ({share:.0f} %) as {symbol} = {_ms(busy_s)} only"
            )
    rate = 1 / period_s if period_s > 0 else float("inf")
    sentences = [
        f"Bubbles in the steady state: {cause}, one answer every {_ms(period_s)} "
        f"({rate:.1f} it/s); per task {', '.join(parts)}."
    ]
    if plan.overlap_s.link_s > 0 or plan.overlap_s.cloud_s > 0:
        sentences.append(
            f"Within one task the link sends for {_ms(plan.overlap_s.link_s)} while the end still "
            f"computes, and the cloud computes for {_ms(plan.overlap_s.cloud_s)} while the link "
            "still sends."
        )
    return sentences


# --- The runner-up --------------------------------------------------------------------------------


def why_not(method: str, plan: Plan, others: Alternatives) -> str:
    """Why the runner-up lost, in one sentence."""
    second = others.runner_up
    if second is None:
        return "Runner-up: none; every other cut breaks a constraint."
    ours, theirs = plan.objective.value, second.objective.value
    count = len(second.end_layers)
    begins = f"Runner-up: {short_cut(second)} ({count} layer{'s' * (count > 1)} on the end)"
    if second.objective.name != plan.objective.name:
        return (
            f"{begins} is the best other cut by the planner's {second.objective.name} objective; "
            f"{method} chose by {plan.objective.name}, so their values say nothing of each other."
        )
    margin = theirs - ours
    if abs(margin) <= TIE * abs(ours):
        return (
            f"{begins} has the same {plan.objective.name} objective, {_ms(ours)}, and lost the "
            "tie: "
            f"its T_e + T_t + T_c is {_ms(second.stage_s.total_s)} against "
            f"{_ms(plan.stage_s.total_s)}."
        )
    share = f", {100 * abs(margin) / ours:.1f} %" if ours > 0 else ""
    difference = f"{_ms(abs(margin))}{share}"
    if margin < 0:
        return (
            f"{begins} would cost {_ms(theirs)} against {_ms(ours)} ({difference} less): "
            f"{method} did not find it by the {plan.objective.name} objective, or does not look "
            "for it."
        )
    return (
        f"{begins} costs {_ms(theirs)} against {_ms(ours)} ({difference} more), "
        f"because {_reason(plan, second, others.weights)}."
    )


def _reason(plan: Plan, second: Plan, weights: tuple[float, float, float]) -> str:
    """The term of the objective in which the second lost most."""
    if plan.objective.name == "bottleneck":
        (loser, lost_s), (winner, won_s) = (_largest(each) for each in (second, plan))
        return (
            f"its largest stage is {loser} = {_ms(lost_s)}, the plan's is {winner} = {_ms(won_s)}"
        )
    ours, theirs = (_terms(each, weights) for each in (plan, second))
    gains = {name: theirs[name] - ours[name] for name in ours}
    worst = max(gains, key=lambda name: gains[name])
    rest_s = sum(gains.values()) - gains[worst]
    said = f"{worst} is {_ms(theirs[worst])} against {_ms(ours[worst])}"
    if abs(rest_s) <= TIE * plan.objective.value:
        return said
    return f"{said}; its other terms are {_ms(abs(rest_s))} {'higher' if rest_s > 0 else 'lower'}"


def _largest(plan: Plan) -> tuple[str, float]:
    sizes = {symbol: getattr(plan.stage_s, f"{name}_s") for name, symbol in STAGES}
    symbol = max(sizes, key=lambda name: sizes[name])
    return symbol, sizes[symbol]


def _terms(plan: Plan, weights: tuple[float, float, float]) -> dict[str, float]:
    """The objective as a sum, in seconds."""
    stage, idle = plan.stage_s, plan.objective.bubbles
    times = (stage.end_s, stage.link_s, stage.cloud_s)
    symbols = [symbol for _, symbol in STAGES]
    if plan.objective.name == "paper":
        named = {"B_c": idle.compute_s, "B_t": idle.link_s}
        return {**named, "max{T_e, T_t, T_c}": stage.period_s}
    if plan.objective.name == "weighted":
        return {
            f"{weight:g}·{symbol}": weight * time
            for weight, symbol, time in zip(weights, symbols, times, strict=True)
        }
    waiting_s = plan.latency_s - stage.total_s  # delays less overlaps
    return {**dict(zip(symbols, times, strict=True)), "waiting less overlap": waiting_s}


# --- Bounds and effort ----------------------------------------------------------------------------


def _bounds(plan: Plan, bounds: Mapping[str, float]) -> list[str]:
    known = {
        "period": (plan.stage_s.period_s, bounds.get("min_period_s"), "plan or mixture of plans"),
        "T_e + T_t + T_c": (plan.stage_s.total_s, bounds.get("min_total_s"), "plan"),
    }
    parts = []
    for name, (value_s, bound_s, whose) in known.items():
        if bound_s is not None:
            gap = f", gap {100 * (value_s / bound_s - 1):.1f} %" if bound_s > 0 else ""
            parts.append(f"no {whose} has a {name} below {_ms(bound_s)} (here {_ms(value_s)}{gap})")
    return [f"Bounds at these bit-widths: {'; '.join(parts)}."] if parts else []


def _effort(plans: PlanSet, planning_s: float) -> str:
    sets = (plans, *plans.prepared)
    evaluations = sum(plan.evaluations for each in sets for plan in each.plans)
    bound = main_plan(plans).lower_bound
    value = main_plan(plans).objective.value
    if bound is None:
        proof = "no lower bound of this objective is known; planner=exhaustive gives one"
    elif value <= bound * (1 + TIE):
        proof = "which is the lower bound: the plan is optimal"
    else:
        proof = f"at most {_ms(value - bound)} above the best ({_ms(bound)} is a lower bound)"
    return (
        f"Planned in {_ms(planning_s)}, {evaluations:,} cuts evaluated; objective {_ms(value)}, "
        f"{proof}."
    )
