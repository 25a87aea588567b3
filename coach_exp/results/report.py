"""The table that compares methods, for the terminal and as Markdown.

In: one `Row` per method, made from its records alone. Out: a rich table, or Markdown with the same
cells. A dash stands for what was not measured.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from coach_exp.results.metrics import RESOURCES, Estimate, Summary, summarise
from coach_exp.results.tables import Table
from coach_exp.types.online import Certified
from coach_exp.types.plan import Plan, PlanSet
from coach_exp.types.task import Records

UNMEASURED = "–"
_GLUE = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True)
class Row:
    """One line: a method, its metrics, and where and how deep it cuts."""

    method: str
    summary: Summary
    cut: str

    @staticmethod
    def of(method: str, records: Records) -> "Row":
        """The line of a run."""
        return Row(method, summarise(records), cut(records))


def cut(records: Records) -> str:
    """The cuts by which tasks were answered, the most used first, each with the layers on the end:
    an exit ratio means nothing without the depth of its cut.
    """
    used = np.bincount(records.plan[~records.dropped.astype(bool)])
    counts: Counter[str] = Counter()
    for plan, count in zip(records.plans, used.tolist(), strict=False):
        counts[_cut(plan)] += count
    if len(+counts) == 1:
        return counts.most_common(1)[0][0]
    shares = [f"{100 * n / used.sum():.0f} % {name}" for name, n in (+counts).most_common(2)]
    return "; ".join(shares) + (f"; {len(+counts) - 2} more" if len(+counts) > 2 else "")


def _cut(plan: Plan) -> str:
    if not plan.crossing:
        return plan.cut_name
    count = len(plan.end_layers)
    return f"{plan.cut_name} ({count}{_GLUE}layer{'s' * (count > 1)})"


def remarks(plans: Mapping[str, PlanSet]) -> list[str]:
    """What the methods have to say about their plans for the link's initial rate."""
    return [f"{method}: {remark}" for method, made in plans.items() for remark in made.remarks]


def online_notes(plans: Mapping[str, Plan]) -> list[str]:
    """What each method's online part rests on, in a sentence; and what a guarantee can certify."""
    notes = []
    for method, plan in plans.items():
        table = plan.online
        if table is None:
            continue
        if plan.decision_s == 0:
            notes.append(
                f"{method}: the device's profile does not say what a decision takes; it counts as "
                "nothing"
            )
        bits = ", ".join(f"{rung.bits}" for rung in table.rungs)
        exits = f"S > {table.exit_threshold:.3g}" if table.exit_threshold < inf else "none"
        notes.append(
            f"{method}: exits: {exits}; bits: {bits}; on the {table.videos} calibration videos "
            f"{100 * table.exit_share:.1f} % exit, and all that is permitted loses "
            f"{table.loss_points:.2f} points (budget {table.budget})"
        )
        notes += [f"{method}: {_certificate(each)}" for each in table.certified]
        if table.budget == "guarantee":
            least = table.min_certified
            known = (
                f"the smallest limit that can be: {_certificate(least)}"
                if least
                else ("no limit can be certified with so few calibration videos")
            )
            notes.append(f"{method}: {known}")
    return notes


def _certificate(each: Certified) -> str:
    if each.exit_share + each.adjusted_share == 0:
        return f"no exit and no fewer bits can be certified to lose {each.limit_points:.2f} points"
    return (
        f"with {100 * each.exit_share:.1f} % exits and {100 * each.adjusted_share:.1f} % fewer "
        f"bits a loss of at most {each.limit_points:.2f} points is certified"
    )


# --- Cells ----------------------------------------------------------------------------------------


def number(estimate: Estimate | None, scale: float = 1.0) -> str:
    """Three significant digits, or as many as stand before the point."""
    if estimate is None:
        return UNMEASURED
    value = estimate.value * scale
    decimals = next((d for d, bound in ((2, 9.995), (1, 99.95)) if abs(value) < bound), 0)
    return f"{value:z.{decimals}f}"


def percent(estimate: Estimate | None, decimals: int = 1) -> str:
    """A share in per cent."""
    return UNMEASURED if estimate is None else f"{100 * estimate.value:z.{decimals}f}"


def points(estimate: Estimate | None) -> str:
    """A value with its interval, where there is one."""
    if estimate is None:
        return UNMEASURED
    if estimate.lo is None or estimate.hi is None:
        return f"{estimate.value:z.2f}"
    return f"{estimate.value:z.2f} [{estimate.lo:z.2f},{_GLUE}{estimate.hi:z.2f}]"


def _latency(summary: Summary) -> str:
    mean, p95 = (number(summary.get(f"latency_{which}_ms")) for which in ("mean", "p95"))
    return f"{mean} /{_GLUE}{p95}"


def _differences(summary: Summary) -> str:
    """Of end, link, cloud and queues, in ms."""
    names = [f"diff_{name}_ms" for name in (*RESOURCES, "queued")]
    if not any(name in summary for name in names):
        return UNMEASURED
    return "/".join(number(summary.get(name)) for name in names)


def _idle(summary: Summary) -> str:
    return "/".join(percent(summary.get(f"idle_ratio_{name}"), 0) for name in RESOURCES)


@dataclass(frozen=True, slots=True)
class Column:
    """The lines of a heading, the unit among them and short, for 80 columns; how to make a cell."""

    head: str
    cell: Callable[[Row], str]
    text: bool = False


def _metric(name: str) -> Callable[[Row], str]:
    return lambda row: number(row.summary.get(name))


COLUMNS: Mapping[str, Column] = {
    "method": Column("method", lambda row: row.method, text=True),
    "accuracy": Column("acc.\n%", lambda row: percent(row.summary.get("accuracy"))),
    "drop": Column(
        "drop\npoints\n[95 %]", lambda row: points(row.summary.get("accuracy_drop_points"))
    ),
    "latency": Column("latency\nmean/\np95, ms", lambda row: _latency(row.summary)),
    "service": Column("T_e+\nT_t+T_c\nms", _metric("stage_sum_mean_ms")),
    "makespan": Column("make-\nspan/N\nms", _metric("makespan_per_task_ms")),
    "rate": Column("rate\nit/s", _metric("throughput_its")),
    "sent": Column("sent\nKiB/\ntask", _metric("transmission_kib_per_task")),
    "exits": Column("exits\n%", lambda row: percent(row.summary.get("exit_ratio"))),
    "idle": Column("idle, %\nend/\nlink/\ncloud", lambda row: _idle(row.summary)),
    "width": Column("width\nbits", _metric("bits_mean")),
    "planning": Column("plan-\nning\nms", _metric("planning_ms")),
    "cut": Column("cut", lambda row: row.cut, text=True),
    "efficiency": Column("effi-\nciency\n%", _metric("plan_efficiency_percent")),
    # of runs over sockets, beside the simulator:
    "sim_rate": Column("sim.\nit/s", _metric("sim_throughput_its")),
    "net_rate": Column("sockets\nit/s", _metric("net_throughput_its")),
    "diff_rate": Column(
        "differ-\nence, %\n[95 %]", lambda row: points(row.summary.get("diff_throughput_percent"))
    ),
    "sim_latency": Column("sim.\nms", _metric("sim_latency_mean_ms")),
    "net_latency": Column("sockets\nms", _metric("net_latency_mean_ms")),
    "diff_latency": Column(
        "differ-\nence, ms\n[95 %]", lambda row: points(row.summary.get("diff_latency_ms"))
    ),
    "diff_typical": Column("median\nms", _metric("diff_latency_median_ms")),
    "diff_stages": Column("end/\nlink/\ncloud/\nqueues\nms", lambda row: _differences(row.summary)),
    "decided": Column(
        "decided\nalike\n%", lambda row: percent(row.summary.get("same_decision_ratio"), 2)
    ),
    "answered": Column(
        "an-\nswered\nalike\n%", lambda row: percent(row.summary.get("same_answer_ratio"), 2)
    ),
    "hold": Column("hold\n%", _metric("hold_percent")),
}
USUAL = ("method", "accuracy", "drop", "latency", "rate", "sent", "exits", "idle", "width", "cut")


def result_table(
    rows: Sequence[Row], title: str = "", caption: str = "", columns: Sequence[str] = USUAL
) -> Table:
    """The rows under the named columns."""
    shown = [COLUMNS[name] for name in columns]
    return Table(
        title=title,
        heads=[column.head for column in shown],
        rows=[[column.cell(row) for column in shown] for row in rows],
        words=[k for k, column in enumerate(shown) if column.text],
        narrow=True,
        caption=caption,
    )


# --- Plans ----------------------------------------------------------------------------------------


def plan_table(method: str, plans: PlanSet) -> Table:
    """One column per plan that tasks are expected to run: where it cuts, stage times, overlaps and
    bubbles, the objective. Plans prepared for other rates are counted in the title."""
    expected = list(zip(plans.plans, plans.weights, strict=True))
    others = sum(len(each.plans) for each in plans.prepared)
    more = f"; {others} more for other rates, in plan.json" if others else ""
    rows = [[name, *(cell(plan) for plan, _ in expected)] for name, cell in PLAN_LINES]
    if len(expected) > 1:
        rows.append(["share of tasks", *(f"{100 * weight:.0f} %" for _, weight in expected)])
    return Table(f"plan of {method}{more}", (), rows)


def comparison_table(plans: Mapping[str, Plan | None], title: str = "") -> Table:
    """One line per plan, to compare a plan with what stands beside it; None: it is not allowed."""
    times = ("objective", "T_e", "T_t", "T_c", "latency", "period")
    heads = ["plan", *(f"{name}\nms" for name in times), "sent\nKiB", "cut"]
    rows = [[name, *_costs(plan)] for name, plan in plans.items()]
    return Table(title, heads, rows, words=(0, len(heads) - 1))


def _costs(plan: Plan | None) -> list[str]:
    """Objective, stage times, latency and period in ms, KiB, and the cut."""
    if plan is None:
        return [*[UNMEASURED] * 7, "not allowed"]
    stage = plan.stage_s
    times = (plan.objective.value, stage.end_s, stage.link_s, stage.cloud_s, plan.latency_s)
    return [*(_ms(time) for time in (*times, stage.period_s)), _kib(plan), _cut(plan)]


def front_table(plans: Sequence[Plan]) -> Table:
    """The non-dominated plans, by rising latency."""
    heads = ["", "latency\nms", "period\nms", "rate\nit/s", "sent\nKiB", "cut"]
    rows = []
    for number, plan in enumerate(plans, 1):
        period_s = plan.stage_s.period_s
        rate = f"{1 / period_s:.1f}" if period_s > 0 else UNMEASURED
        times = _ms(plan.latency_s), _ms(period_s), rate
        rows.append([str(number), *times, _kib(plan), _cut(plan)])
    return Table("latency against period", heads, rows, words=(len(heads) - 1,))


def _kib(plan: Plan) -> str:
    return f"{sum(plan.payload_bytes) / 1024:.2f}"


def _ms(*seconds: float) -> str:
    return " + ".join(f"{1e3 * s:.3f}" for s in seconds)


def _certified(plan: Plan) -> str:
    if plan.lower_bound is None:
        return UNMEASURED
    gap = plan.gap or 0.0
    return f"{_ms(plan.lower_bound)} (gap {100 * gap:.2f} %)"


PLAN_LINES: tuple[tuple[str, Callable[[Plan], str]], ...] = (
    ("cut", _cut),
    ("crossing tensors", lambda p: ", ".join(f"{c.layer} at {c.bits} bit" for c in p.crossing)),
    ("payload, KiB", _kib),
    ("end T_e, ms", lambda p: _ms(p.stage_s.end_s)),
    ("of it the decision, ms", lambda p: _ms(p.decision_s)),
    ("link T_t, ms", lambda p: _ms(p.stage_s.link_s)),
    ("cloud T_c, ms", lambda p: _ms(p.stage_s.cloud_s)),
    ("overlaps T_t^p + T_c^p, ms", lambda p: _ms(p.overlap_s.link_s, p.overlap_s.cloud_s)),
    (
        "bubbles B_c + B_t, ms",
        lambda p: _ms(p.objective.bubbles.compute_s, p.objective.bubbles.link_s),
    ),
    ("latency of one task, ms", lambda p: _ms(p.latency_s)),
    ("objective, ms", lambda p: f"{_ms(p.objective.value)} ({p.objective.name})"),
    ("lower bound, ms", _certified),
    ("cuts evaluated", lambda p: str(p.evaluations)),
)
