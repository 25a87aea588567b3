"""What a method keeps of its throughput when the link changes (the paper's Section IV-C, Fig. 5).

In: the records of a run through the steps of a trace, and of one run for each of its rates, by the
plan made for that rate on a link that keeps it. Out: for each step the dynamic throughput beside
the static one, and what was sent.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coach_exp.results.metrics import Summary, summarise
from coach_exp.results.report import number, percent, points
from coach_exp.types.task import Records

SHOWN = (  # of each step's summary, in the JSON
    "transmission_kib_per_task",
    "bits_mean",
    "exit_ratio",
    "accuracy",
    "accuracy_drop_points",
    "bandwidth_bias_percent",
    "bandwidth_lag_s",
)
HEADS = (
    "method",
    "Mbps",
    "answers",
    "dynamic\nit/s",
    "static\nit/s",
    "reduction\n%",
    "KiB/\ntask",
    "bits",
    "exits\n%",
    "drop, points\n[95 %]",
    "estimate's\nbias, %",
)


@dataclass(frozen=True, slots=True)
class Window:
    """One step of a trace: the rate that holds from one time to the next."""

    from_s: float
    to_s: float
    rate_bps: float

    @property
    def mbps(self) -> float:
        """The rate in the unit of configs."""
        return self.rate_bps / 1e6


@dataclass(frozen=True)
class AdaptedStep:
    """A method in one step. `dynamic_its` counts all answers given within the window, the first of
    which were begun at the rate before; `static_its` is the rate at which the static run gave the
    same answers, in the order of the stream. `summary` is over the tasks answered in the window.
    """

    window: Window
    answers: int
    dynamic_its: float
    static_its: float
    summary: Summary

    @property
    def reduction_percent(self) -> float:
        """By how much the dynamic throughput is below the static one."""
        return 100 * (1 - self.dynamic_its / self.static_its)

    def as_json(self) -> dict[str, Any]:
        """The entry of `dynamic.json`; what was not measured is absent."""
        shown = {name: asdict(self.summary[name]) for name in SHOWN if name in self.summary}
        return {
            "from_s": self.window.from_s,
            "to_s": self.window.to_s,
            "mbps": self.window.mbps,
            "answers": self.answers,
            "dynamic_its": self.dynamic_its,
            "static_its": self.static_its,
            "reduction_percent": self.reduction_percent,
            "metrics": shown,
        }


def windows(rates_bps: Sequence[float], step_s: float) -> tuple[Window, ...]:
    """The steps of a trace, the last of which is taken to last as long as the others.

    >>> windows([2e7, 1e7], step_s=3)[1]
    Window(from_s=3, to_s=6, rate_bps=10000000.0)
    """
    return tuple(Window(k * step_s, (k + 1) * step_s, rate) for k, rate in enumerate(rates_bps))


def adapted(
    dynamic: Records, static: Mapping[float, Records], steps: Sequence[Window]
) -> Iterator[AdaptedStep]:
    """Each step of a run. `static` holds the runs of the same stream by rate in bit/s.

    What a task takes depends on what it shows, so a step is compared with the static run's time for
    the same stretch of the stream: the n-th to m-th answer, where the dynamic run gave its n-th to
    m-th within the step. Every step must hold an answer, and no task may be dropped.
    """
    edges_s = [steps[0].from_s, *(step.to_s for step in steps)]
    given = np.searchsorted(_answer_times(dynamic), edges_s)  # a window's end is not within it
    for step, (before, after) in zip(steps, pairwise(given.tolist()), strict=True):
        within = (dynamic.finish_s >= step.from_s) & (dynamic.finish_s < step.to_s)
        answered_s = np.concatenate([[0.0], _answer_times(static[step.rate_bps])])
        yield AdaptedStep(
            window=step,
            answers=after - before,
            dynamic_its=(after - before) / (step.to_s - step.from_s),
            static_its=float((after - before) / (answered_s[after] - answered_s[before])),
            summary=summarise(_rows(dynamic, within)),
        )


def _answer_times(records: Records) -> NDArray[np.float64]:
    times: NDArray[np.float64] = np.sort(records.finish_s)
    return times


def _rows(records: Records, kept: NDArray[np.bool_]) -> Records:
    columns = {name: column[kept] for name, column in records.columns.items()}
    return Records(columns, records.plans)


def step_rows(method: str, step: AdaptedStep) -> list[str]:
    """One line of the table, under HEADS."""
    summary = step.summary
    return [
        method,
        f"{step.window.mbps:g}",
        str(step.answers),
        f"{step.dynamic_its:.1f}",
        f"{step.static_its:.1f}",
        f"{step.reduction_percent:z.1f}",
        number(summary.get("transmission_kib_per_task")),
        number(summary.get("bits_mean")),
        percent(summary.get("exit_ratio")),
        points(summary.get("accuracy_drop_points")),
        number(summary.get("bandwidth_bias_percent")),
    ]
