"""What a run notes of its tasks, one column a fact, and the records that are made of it.

In: facts, each written to the task's place in the column of its name as soon as it is known; the
simulator and the executor write alike. Out: `Records`, with what the data says of the samples.
"""

from array import array
from collections.abc import Callable
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coach_exp.network.trace import Trace
from coach_exp.types.outcomes import Outcomes
from coach_exp.types.plan import Plan
from coach_exp.types.task import COLUMNS, NOT_SIMULATED, Records

DECISIONS = np.array(["local", "exit", "send", "dropped"])
LOCAL, EXIT, SEND, DROPPED = range(4)  # places in DECISIONS, as the column `decision` counts


class TaskLog:
    """The columns of one run, `[tasks]` each. `TaskRecord` says what they mean; `fallback_s` is the
    seconds that the end worked on a task after it had given up on the link.

    A column is an `array`: it takes single values faster than numpy does, and is read by numpy
    without a copy. What is never written stays nan, 0 for busy seconds, bytes and bits, and -1 for
    plan and label.
    """

    def __init__(self, tasks: int) -> None:
        unknown, zeros = array("d", [nan]) * tasks, array("d", [0.0]) * tasks
        none, numbers = array("q", [0]) * tasks, array("q", [NOT_SIMULATED]) * tasks
        self.plan = numbers[:]
        self.arrival_s = unknown[:]
        self.end_start_s = unknown[:]
        self.end_end_s = unknown[:]
        self.link_start_s = unknown[:]
        self.link_end_s = unknown[:]
        self.link_busy_s = zeros[:]
        self.cloud_start_s = unknown[:]
        self.cloud_end_s = unknown[:]
        self.cloud_busy_s = zeros[:]
        self.finish_s = unknown[:]
        self.decision = numbers[:]
        self.bits = none[:]
        self.payload_bytes = none[:]
        self.decided_s = unknown[:]
        self.estimated_bps = unknown[:]
        self.separability = unknown[:]
        self.predicted = numbers[:]
        self.fallback = none[:]
        self.fallback_s = zeros[:]

    def nothing_sent(self, task: int, at_s: float) -> None:
        """Note that a task used neither link nor cloud; `at_s` is when its end part was over."""
        self.link_start_s[task] = self.link_end_s[task] = at_s
        self.cloud_start_s[task] = self.cloud_end_s[task] = at_s

    def dropped(self, task: int, arrival_s: float, estimated_bps: float) -> None:
        """Note that a task found no place when it arrived, so that nothing was done for it."""
        self.arrival_s[task] = self.end_start_s[task] = self.end_end_s[task] = arrival_s
        self.nothing_sent(task, arrival_s)
        self.finish_s[task] = self.decided_s[task] = arrival_s
        self.estimated_bps[task] = estimated_bps
        self.decision[task] = DROPPED

    def records(
        self,
        plans: tuple[Plan, ...],
        samples: NDArray[np.int64],
        outcomes: Outcomes | None,
        trace: Trace | None,
    ) -> Records:
        """Returns one record for each task, in the order of the tasks.

        `samples[i]` is the sample of task i. Without `trace` the true rate of the link is nan.
        """
        columns: dict[str, NDArray[Any]] = {
            name: np.array(column) for name, column in vars(self).items()
        }
        decision, decided_s = columns["decision"], columns["decided_s"]
        columns["task"] = np.arange(len(samples))
        columns["sample"] = samples
        columns["end_busy_s"] = columns["end_end_s"] - columns["end_start_s"]
        columns["end_busy_s"] += columns["fallback_s"]
        columns["decision"] = DECISIONS[decision]
        columns["dropped"] = decision == DROPPED
        columns["fallback"] = columns["fallback"].astype(bool)
        columns["true_bps"] = np.full(len(samples), nan) if trace is None else trace.at(decided_s)
        columns["label"] = _asked(outcomes, samples, lambda of, sample: of.true_label(sample))
        columns["uncut"] = _asked(outcomes, samples, lambda of, sample: of.uncut(sample))
        columns["video"] = _asked(outcomes, samples, lambda of, sample: of.video(sample))
        return Records({name: columns[name] for name in COLUMNS}, plans)


def _asked(
    outcomes: Outcomes | None,
    samples: NDArray[np.int64],
    ask: Callable[[Outcomes, int], int],
) -> NDArray[np.int64]:
    """Returns what the data or the uncut model says of each task's sample: [tasks]. Every sample is
    asked about once."""
    if outcomes is None:
        return np.full(len(samples), NOT_SIMULATED)
    known, where = np.unique(samples, return_inverse=True)
    return np.array([ask(outcomes, int(sample)) for sample in known], dtype=np.int64)[where]
