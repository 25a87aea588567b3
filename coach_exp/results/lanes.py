"""What a Gantt chart shows: when end, link and cloud were held within a window of time, and for
which share of it each was idle.

In: `Records`, or the schedules of the tasks of a stream. Out: begin and end of every bar in seconds
from the window's begin, and idle shares.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coach_exp.planner.schedule import Span, TaskSchedule
from coach_exp.results.metrics import RESOURCES
from coach_exp.types.task import Records


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time, in seconds."""

    from_s: float
    to_s: float

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.to_s - self.from_s


@dataclass(frozen=True, eq=False, slots=True)
class Lane:
    """One resource: each task's bar, in seconds from the window's begin and cut off at its end
    [n]; the share of the window in which nothing held it.
    """

    begin_s: NDArray[np.float64]
    end_s: NDArray[np.float64]
    idle_ratio: float


def answered_rows(records: Records) -> NDArray[np.int64]:
    """Rows of the tasks that were answered, in the order in which the end began them."""
    answered = np.flatnonzero(~records.dropped.astype(bool))
    return answered[np.argsort(records.end_start_s[answered], kind="stable")]


def first_answers(records: Records, tasks: int) -> tuple[Window, NDArray[np.int64]]:
    """From the first task's begin until the first `tasks` tasks are answered, and the rows of all
    that began meanwhile.
    """
    order = answered_rows(records)
    begun_s = records.end_start_s[order]
    until_s = float(records.finish_s[order[:tasks]].max())
    return Window(float(begun_s[0]), until_s), order[begun_s < until_s]


def lanes(records: Records, rows: NDArray[np.int64], window: Window) -> list[Lane]:
    """End, link and cloud for some rows of the records."""
    found = []
    for resource in RESOURCES:
        from_s, to_s, busy_s = (
            records.columns[f"{resource}_{what}_s"][rows] for what in ("start", "end", "busy")
        )
        begin_s, end_s = (np.minimum(t - window.from_s, window.seconds) for t in (from_s, to_s))
        held = np.divide(busy_s, to_s - from_s, out=np.zeros(len(rows)), where=to_s > from_s)
        idle = 1 - ((end_s - begin_s) * held).sum() / window.seconds
        found.append(Lane(begin_s, end_s, float(idle)))
    return found


@dataclass(frozen=True, slots=True)
class SteadyState:
    """The middle of a stream: the tasks that are looked at, from the first one's begin to the last
    one's answer, the rate of their answers (0: they were answered at once) and idle shares.
    """

    tasks: range
    window: Window
    rate_its: float
    idle_ratios: tuple[float, ...]


def steady_state(records: Records, schedules: Sequence[TaskSchedule], tasks: int) -> SteadyState:
    """`tasks` tasks around the middle of a stream whose tasks ran by these schedules."""
    first = max(0, len(records) // 2 - tasks // 2)
    chosen = range(first, min(first + tasks, len(records)))
    finish_s = records.finish_s
    window = Window(float(records.end_start_s[chosen[0]]), float(finish_s[chosen[-1]]))
    spent_s = float(finish_s[chosen[-1]] - finish_s[chosen[0]])
    rate_its = (len(chosen) - 1) / spent_s if spent_s > 0 else 0.0
    idle = []
    for spans in zip(*[(each.end, each.link, each.released) for each in schedules], strict=True):
        pieces = (clipped(span, window) for task in spans for span in task)
        idle.append(1 - sum(end_s - begin_s for begin_s, end_s in pieces) / window.seconds)
    return SteadyState(chosen, window, rate_its, tuple(idle))


def clipped(span: Span, window: Window) -> tuple[float, float]:
    """Begin and end of what lies within the window, in seconds from its begin.

    >>> clipped(Span("", 1.0, 5.0), Window(2.0, 4.0))
    (0.0, 2.0)
    """
    begin_s, end_s = (
        min(max(instant_s - window.from_s, 0.0), window.seconds)
        for instant_s in (span.begin_s, span.end_s)
    )
    return begin_s, end_s
