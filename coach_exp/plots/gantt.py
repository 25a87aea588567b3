"""Gantt charts of runs: three lanes, end, link and cloud (the form of the paper's Figs. 2 and 4).

In: `Records`. Out: figures. Grey is idle.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from coach_exp.plots.figures import (
    BLACK,
    COLOURS,
    IDLE,
    LANE,
    LIGHT,
    WHITE,
    finished,
    new_figure,
    time_unit,
    write_caption,
)
from coach_exp.results.lanes import Window, answered_rows, first_answers, lanes
from coach_exp.results.metrics import RESOURCES
from coach_exp.types.task import Records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def gantt(records: Records, tasks: int = 20, title: str = "") -> "Figure":
    """Draw three lanes until the first `tasks` tasks are answered; tasks that started meanwhile are
    cut off there. The idle share of what is drawn stands beside each lane.
    """
    window, shown = first_answers(records, tasks)
    unit, scale = time_unit(window.seconds)
    figure = new_figure(10, 2.9)
    axes = figure.add_subplot()
    exits = _draw_lanes(axes, records, shown, window, scale)
    axes.set_xlim(0, scale * window.seconds)
    axes.set_xlabel(f"time ({unit})")
    note = f"until the first {min(tasks, len(answered_rows(records)))} tasks are answered"
    note += "; ▼ marks an early exit" if exits else ""
    axes.set_title(f"{title}, {note}" if title else note.capitalize(), loc="left", fontsize=11)
    return finished(figure)


def gantt_charts(runs: Mapping[str, Records], unit: str = "s", caption: str = "") -> "Figure":
    """Draw whole runs below one another on one time axis of seconds called `unit`, each under its
    title. An idle share is that of its own run's duration, which is where the grey ends.
    """
    figure = new_figure(10, 1.75 * len(runs) + 0.9)
    charts = figure.subplots(len(runs), sharex=True, squeeze=False)[:, 0]
    for axes, (title, records) in zip(charts, runs.items(), strict=True):
        shown = np.flatnonzero(~records.dropped.astype(bool))
        window = Window(0.0, float(records.finish_s[shown].max()))
        _draw_lanes(axes, records, shown, window, 1.0)
        axes.set_title(title, loc="left", fontsize=11)
        axes.spines[["right"]].set_visible(False)
    last = charts[-1]
    last.set_xlim(0, max(float(np.nanmax(records.finish_s)) for records in runs.values()))
    last.set_xlabel(f"time ({unit})")
    if caption:
        write_caption(figure, caption)
    return finished(figure)


def _draw_lanes(
    axes: "Axes", records: Records, rows: NDArray[np.int64], window: Window, scale: float
) -> int:
    """End, link and cloud within the window for some rows of the records, idle shares beside the
    lanes, early exits above them; returns how many exits are marked.
    """
    width = scale * window.seconds
    for place, lane in enumerate(lanes(records, rows, window)):
        axes.barh(place, width, height=LANE, color=IDLE, zorder=1)
        start, end = scale * lane.begin_s, scale * lane.end_s
        for k in np.flatnonzero(end > start):
            _task_bar(axes, place, (start[k], end[k]), int(records.task[rows[k]]), width)
        idle = f"{100 * lane.idle_ratio:.0f} % idle"
        axes.text(1.008, place, idle, va="center", transform=axes.get_yaxis_transform())
    finish = scale * (records.finish_s[rows] - window.from_s)
    early = finish[(records.decision[rows] == "exit") & (finish <= width)]
    axes.scatter(early, np.full(len(early), -0.47), s=26, marker="v", c=BLACK, zorder=4)
    axes.set(yticks=range(3), yticklabels=RESOURCES, ylim=(2.5, -0.65))
    return len(early)


def _task_bar(axes: "Axes", lane: int, span: tuple[float, float], task: int, width: float) -> None:
    """One task on one lane, with its number where that fits into the bar."""
    colour = COLOURS[task % len(COLOURS)]
    start, end = span
    length = end - start
    edge = 0.8 if length > 0.01 * width else 0.0  # a white edge would hide a narrow bar
    axes.barh(
        lane, length, left=start, height=LANE, color=colour, edgecolor=WHITE, lw=edge, zorder=2
    )
    if length > 0.009 * width * (len(str(task)) + 0.6):
        ink = BLACK if colour in LIGHT else WHITE
        axes.text(
            start + length / 2, lane, str(task), ha="center", va="center", color=ink, fontsize=9
        )
