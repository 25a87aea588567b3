"""The picture of a plan at work: one task alone (paper, Fig. 4), and a full pipeline.

In: a problem, a plan, records of a simulated steady state. Out: a figure. The schedules drawn are
the planner's.
"""

from dataclasses import dataclass
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

from coach_exp.planner.schedule import TaskSchedule, stream_schedules, task_schedule
from coach_exp.plots.figures import (
    COLOURS,
    GREY,
    IDLE,
    INK,
    LANE,
    OTHER,
    RESOURCE_SHADES,
    WHITE,
    new_figure,
    time_unit,
)
from coach_exp.results.lanes import clipped, steady_state
from coach_exp.results.metrics import RESOURCES
from coach_exp.types.method import Problem
from coach_exp.types.plan import Plan
from coach_exp.types.task import Records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TASKS = COLOURS[:6]
_MAX_TENSORS = 8  # named below a schedule
_END, _LINK, _CLOUD = range(3)  # lanes


def schedule_picture(
    problem: Problem, plan: Plan, records: Records, title: str = "", tasks: int = 6
) -> "Figure":
    """Draw one task alone above `tasks` tasks of a simulated stream, from its middle on."""
    figure = new_figure(11, 5.8 + 0.1 * min(len(plan.crossing), _MAX_TENSORS))
    above, below = figure.subplots(2, 1)
    _one_task(above, task_schedule(problem, plan), plan, title)
    _steady(below, problem, records, tasks)
    return figure


# --- One task -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Bar:
    """A piece of work as it is drawn, in units of the axis."""

    lane: int
    start: float
    length: float
    text: str
    colour: str


def _one_task(axes: "Axes", schedule: TaskSchedule, plan: Plan, title: str) -> None:
    """Layers of the end by name; transfers, and what each lets the cloud do, by a letter."""
    unit, scale = time_unit(plan.latency_s)
    width = scale * plan.latency_s
    rows = (schedule.end, schedule.link, schedule.released)
    for lane, (resource, spans) in enumerate(zip(RESOURCES, rows, strict=True)):
        axes.barh(lane, width, height=LANE, color=IDLE, zorder=1)
        for k, span in enumerate(spans):
            text = span.name if lane == _END else _letter(k)
            start, length = scale * span.begin_s, scale * span.seconds
            bar = _Bar(lane, start, length, text, RESOURCE_SHADES[resource][k % 2])
            _draw_bar(axes, bar, width)
    _overlaps(axes, schedule, plan, scale)
    _axes(axes, width, unit)
    axes.set_xlabel(f"time ({unit})\n{_tensors(plan)}".rstrip(), linespacing=1.3)
    name = f"{title}, " if title else ""
    axes.set_title(f"{name}one task alone: {width:.3g} {unit}", loc="left", fontsize=10)


def _letter(k: int) -> str:
    return ascii_uppercase[k] if k < len(ascii_uppercase) else str(k + 1)


def _tensors(plan: Plan) -> str:
    """What the letters stand for, two in a line."""
    parts = [
        f"{_letter(k)}: {tensor.layer}, {tensor.bits} bit, {size / 1024:.2f} KiB"
        for k, (tensor, size) in enumerate(zip(plan.crossing, plan.payload_bytes, strict=True))
    ]
    if len(parts) > _MAX_TENSORS:
        parts = [*parts[:_MAX_TENSORS], f"and {len(parts) - _MAX_TENSORS} more"]
    lines = ["      ".join(parts[k : k + 2]) for k in range(0, len(parts), 2)]
    return "\n".join(["sent by the link, and what it lets the cloud do:", *lines] if lines else [])


def _draw_bar(axes: "Axes", bar: _Bar, width: float) -> None:
    if bar.length <= 0:
        return
    rim: dict[str, Any] = {"edgecolor": WHITE, "lw": 0.8}
    if bar.length <= 0.012 * width:
        rim = {"lw": 0.0}
    place: dict[str, Any] = {"left": bar.start, "height": LANE, "zorder": 2}
    axes.barh(bar.lane, bar.length, color=bar.colour, **place, **rim)
    per_letter = 0.0075 * width  # at this size, over the whole width
    middle = bar.start + bar.length / 2
    centred: dict[str, Any] = {"ha": "center", "va": "center", "zorder": 4}
    if int(bar.length / per_letter) >= len(bar.text):
        text = axes.text(middle, bar.lane, bar.text, fontsize=8, **centred)
        text.set_bbox({"fc": bar.colour, "ec": "none", "pad": 1})  # readable on hatching
    elif bar.lane == _END and bar.length > 0.02 * width:
        name = bar.text if len(bar.text) <= 9 else f"{bar.text[:3]}…{bar.text[-5:]}"
        axes.text(middle, bar.lane, name, rotation=90, fontsize=6.5, **centred)
    elif bar.lane != _END and bar.length > 0.004 * width:
        _beside(axes, bar, width)


def _beside(axes: "Axes", bar: _Bar, width: float) -> None:
    """The text next to a bar that is too narrow for it, on the side with more room."""
    stop, gap = bar.start + bar.length, 0.006 * width
    left = bar.start > width - bar.start - bar.length
    x, side = (bar.start - gap, "right") if left else (stop + gap, "left")
    axes.text(x, bar.lane, bar.text, ha=side, va="center", fontsize=8, zorder=3, color=GREY)


def _overlaps(axes: "Axes", schedule: TaskSchedule, plan: Plan, scale: float) -> None:
    """Hatch what runs while an earlier stage of the same task still runs."""
    hatched = [(_LINK, span, plan.stage_s.end_s) for span in schedule.link]
    hatched += [(_CLOUD, span, schedule.link_end_s) for span in schedule.released]
    style: dict[str, Any] = {"fc": "none", "ec": INK, "hatch": "////", "lw": 0, "alpha": 0.45}
    for lane, span, until_s in hatched:
        stop_s = min(span.end_s, until_s)
        if stop_s > span.begin_s:
            length, left = scale * (stop_s - span.begin_s), scale * span.begin_s
            axes.barh(lane, length, left=left, height=LANE, zorder=3, **style)
    if plan.overlap_s.link_s > 0 or plan.overlap_s.cloud_s > 0:
        note = "hatched: overlaps an earlier stage of the task"
        axes.text(1, 1.02, note, ha="right", va="bottom", fontsize=8, transform=axes.transAxes)


def _axes(axes: "Axes", width: float, unit: str) -> None:
    axes.set(yticks=range(3), yticklabels=RESOURCES, ylim=(2.5, -0.5), xlim=(0, width))
    axes.set_xlabel(f"time ({unit})")
    axes.spines[["top", "right"]].set_visible(False)


# --- A full pipeline ------------------------------------------------------------------------------


def _steady(axes: "Axes", problem: Problem, records: Records, tasks: int) -> None:
    """`tasks` tasks of the stream's middle, the others grey; idle shares of what is drawn."""
    schedules = stream_schedules(problem, records)
    steady = steady_state(records, schedules, tasks)
    unit, scale = time_unit(steady.window.seconds)
    width = scale * steady.window.seconds
    axes.barh(range(3), width, height=LANE, color=IDLE, zorder=1)
    for task, schedule in enumerate(schedules):
        shown = task in steady.tasks
        colour = _TASKS[(task - steady.tasks[0]) % len(_TASKS)] if shown else OTHER
        rows = (schedule.end, schedule.link, schedule.released)
        for lane, span in ((lane, span) for lane, spans in enumerate(rows) for span in spans):
            begin_s, end_s = clipped(span, steady.window)
            text = str(task) if shown else ""
            bar = _Bar(lane, scale * begin_s, scale * (end_s - begin_s), text, colour)
            _draw_task(axes, bar, width)
    for lane, idle in enumerate(steady.idle_ratios):
        note: dict[str, Any] = {"va": "center", "fontsize": 9}
        share = f"{100 * idle:.0f} % idle"
        axes.text(1.006, lane, share, transform=axes.get_yaxis_transform(), **note)
    _axes(axes, width, unit)
    rate = f"{steady.rate_its:.1f} it/s; " if steady.rate_its > 0 else ""
    axes.set_title(
        f"steady state, simulated, {problem.workload.kind}: {rate}dark grey is other tasks, "
        "pale is idle",
        loc="left",
        fontsize=10,
    )


def _draw_task(axes: "Axes", bar: _Bar, width: float) -> None:
    if bar.length <= 0:
        return
    rim: dict[str, Any] = {"ec": WHITE, "lw": 0.8} if bar.length > 0.01 * width else {}
    place: dict[str, Any] = {"left": bar.start, "height": LANE, "zorder": 2}
    axes.barh(bar.lane, bar.length, color=bar.colour, **place, **rim)
    if bar.text and bar.length > 0.018 * width:
        centred: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9, "zorder": 4}
        axes.text(bar.start + bar.length / 2, bar.lane, bar.text, **centred)
