"""Pictures of runs: Gantt charts of the pipeline (the form of the paper's Figs. 2 and 4) and
throughput over time above the link's bandwidth (the form of Fig. 5).

In: `Records`, a bandwidth trace. Out: PNG files. matplotlib is imported when the first is drawn.
"""

from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from coach_exp.network.trace import Trace
from coach_exp.results.metrics import RESOURCES, throughput_over_time
from coach_exp.types.task import Records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442")
_LINES = (*COLOURS[:6], "#000000")  # yellow is too pale for a line
_DASHES = ("-", "--", "-.", ":")
_LIGHT = {"#E69F00", "#56B4E9", "#F0E442"}
IDLE, GREY = "#E4E4E4", "#6A6A6A"
_LANE = 0.72  # height of a lane


def gantt(records: Records, path: Path, tasks: int = 20, title: str = "") -> None:
    """Draw three lanes until the first `tasks` tasks are answered; tasks that started meanwhile are
    cut off there. Grey is idle: its share, of what is drawn, stands beside each lane.
    """
    answered = np.flatnonzero(~records.dropped.astype(bool))
    order = answered[np.argsort(records.end_start_s[answered], kind="stable")]
    begin_s = float(records.end_start_s[order[0]])
    until_s = float(records.finish_s[order[:tasks]].max())
    shown = order[records.end_start_s[order] < until_s]
    unit, scale = ("ms", 1e3) if until_s - begin_s < 10 else ("s", 1.0)
    figure = new_figure(10, 2.9)
    axes = figure.add_subplot()
    exits = _lanes(axes, records, shown, begin_s, until_s, scale)
    axes.set_xlim(0, scale * (until_s - begin_s))
    axes.set_xlabel(f"time ({unit})")
    note = f"until the first {min(tasks, len(order))} tasks are answered"
    note += "; ▼ marks an early exit" if exits else ""
    axes.set_title(f"{title}, {note}" if title else note.capitalize(), loc="left", fontsize=11)
    save_figure(figure, path)


def gantt_charts(runs: Mapping[str, Records], unit: str = "s", caption: str = "") -> "Figure":
    """Whole runs below one another on one time axis of seconds called `unit`, each under its
    title. An idle share is that of its own run's duration, which is where the grey ends.
    """
    figure = new_figure(10, 1.75 * len(runs) + 0.9)
    charts = figure.subplots(len(runs), sharex=True, squeeze=False)[:, 0]
    for axes, (title, records) in zip(charts, runs.items(), strict=True):
        shown = np.flatnonzero(~records.dropped.astype(bool))
        _lanes(axes, records, shown, 0.0, float(records.finish_s[shown].max()), 1.0)
        axes.set_title(title, loc="left", fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
    last = charts[-1]
    last.set_xlim(0, max(float(np.nanmax(records.finish_s)) for records in runs.values()))
    last.set_xlabel(f"time ({unit})")
    if caption:
        wrapped = "\n".join(fill(line, 140) for line in caption.splitlines())
        figure.supxlabel(wrapped, x=0.01, ha="left", fontsize=9, color=GREY)
    return figure


def _lanes(
    axes: "Axes",
    records: Records,
    rows: NDArray[np.int64],
    begin_s: float,
    until_s: float,
    scale: float,
) -> int:
    """End, link and cloud from `begin_s` to `until_s` for some rows of the records, idle shares
    beside the lanes, early exits above them; returns how many exits are marked.
    """
    width = scale * (until_s - begin_s)
    for lane, resource in enumerate(RESOURCES):
        axes.barh(lane, width, height=_LANE, color=IDLE, zorder=1)
        from_s, to_s, busy_s = (
            records.columns[f"{resource}_{what}_s"][rows] for what in ("start", "end", "busy")
        )
        start, end = (np.minimum(scale * (t - begin_s), width) for t in (from_s, to_s))
        held = np.divide(busy_s, to_s - from_s, out=np.zeros(len(rows)), where=to_s > from_s)
        for k in np.flatnonzero(end > start):
            _task_bar(axes, lane, start[k], end[k], int(records.task[rows[k]]), width)
        idle = f"{100 * (1 - ((end - start) * held).sum() / width):.0f} % idle"
        axes.text(1.008, lane, idle, va="center", transform=axes.get_yaxis_transform())
    finish = scale * (records.finish_s[rows] - begin_s)
    early = finish[(records.decision[rows] == "exit") & (finish <= width)]
    axes.scatter(early, np.full(len(early), -0.47), s=26, marker="v", c="black", zorder=4)
    axes.set(yticks=range(3), yticklabels=RESOURCES, ylim=(2.5, -0.65))
    return len(early)


def _task_bar(axes: "Axes", lane: int, start: float, end: float, task: int, width: float) -> None:
    """One task on one lane, with its number where that fits into the bar."""
    colour = COLOURS[task % len(COLOURS)]
    length = end - start
    edge = 0.8 if length > 0.01 * width else 0.0  # a white edge would hide a narrow bar
    axes.barh(
        lane, length, left=start, height=_LANE, color=colour, edgecolor="white", lw=edge, zorder=2
    )
    if length > 0.009 * width * (len(str(task)) + 0.6):
        ink = "black" if colour in _LIGHT else "white"
        axes.text(
            start + length / 2, lane, str(task), ha="center", va="center", color=ink, fontsize=9
        )


def throughput_plot(
    runs: Mapping[str, Records], trace: Trace | None, path: Path, bin_s: float | None = None
) -> None:
    """Draw answers per second of each method over the shaded bandwidth (right axis). A dot marks
    where a run ends; the bins are a fortieth of the longest run unless given.
    """
    until_s = max(float(np.nanmax(records.finish_s)) for records in runs.values())
    bin_s = bin_s or until_s / 40
    figure = new_figure(10, 4.4)
    axes = figure.add_subplot()
    if trace is not None:
        shade_bandwidth(axes, trace, until_s)
    for order, (name, records) in enumerate(runs.items()):
        steps = throughput_over_time(records, bin_s)
        colour = _LINES[order % len(_LINES)]
        axes.stairs(
            steps.values,
            steps.edges_s,
            baseline=None,
            label=name,
            color=colour,
            ls=_DASHES[order % len(_DASHES)],
            lw=2.2,
        )
        axes.plot(steps.edges_s[-1], steps.values[-1], "o", color=colour, ms=6, clip_on=False)
    axes.set(xlabel="time (s)", ylabel="throughput (it/s)", xlim=(0, until_s))
    axes.set_ylim(0, 1.06 * axes.get_ylim()[1])
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=min(5, len(runs)), frameon=False)
    save_figure(figure, path)


def shade_bandwidth(axes: "Axes", trace: Trace, until_s: float) -> "Axes":
    """The trace as a grey step area behind the lines; returns the axes it is drawn on."""
    right = axes.twinx()
    starts_s, rates_bps = trace.steps(until_s)
    edges_s = np.append(starts_s, until_s)
    right.stairs(rates_bps / 1e6, edges_s, fill=True, color=IDLE)
    right.set_ylabel("bandwidth (Mbps)", color=GREY)
    right.tick_params(axis="y", colors=GREY)
    right.set_ylim(0, 1.1 * float(rates_bps.max()) / 1e6)
    levels = np.unique(rates_bps) / 1e6
    if len(levels) <= 6:
        right.set_yticks(levels)
    right.spines[["top", "left"]].set_visible(False)
    axes.set_zorder(right.get_zorder() + 1)  # the lines above the area
    axes.patch.set_visible(False)
    return right


def new_figure(width: float, height: float) -> "Figure":
    """A figure that needs no display, in inches; unlike pyplot's it is forgotten once saved."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=150)


def save_figure(figure: "Figure", path: Path) -> None:
    for axes in figure.axes:
        axes.spines[["top"]].set_visible(False)
    figure.axes[0].spines[["right"]].set_visible(False)
    figure.savefig(path)
