"""The cloud's one compute thread: plans to judge and tensors to work on, of every client in turn.

In: what clients sent, queued by client. Out: a result for each item, told from the thread. Nothing
that a client sends ends the thread: what cannot be used is that client's failure.
"""

import traceback
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from math import inf
from threading import Thread
from time import monotonic
from typing import Generic, TypeAlias, TypeVar

from coach_exp.network.wire_messages import Answer, WirePlan
from coach_exp.pipeline.cloud.fair_queue import FairQueue
from coach_exp.pipeline.cloud.work import CloudWork, TaskWork
from coach_exp.types.errors import CoachError

Owner = TypeVar("Owner", bound=Hashable)

OWN_FAULT = "the cloud failed at this; what it printed says how"


@dataclass(slots=True, eq=False)
class CloudTask:
    """A task on its way; `cancelled` may be set at any time, and nothing more is computed then."""

    number: int
    plan: WirePlan
    cancelled: bool = False
    work: TaskWork | None = field(default=None, repr=False)
    start_s: float = inf
    busy_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Offer:
    """A plan to judge."""

    plan: WirePlan


@dataclass(frozen=True, slots=True)
class Part:
    """Tensor `part` of a task, whose last byte came at `came_s`."""

    task: CloudTask
    part: int
    payload: bytes = field(repr=False)
    came_s: float


@dataclass(frozen=True, slots=True)
class Judged:
    """A plan that the cloud takes, or not, for a reason."""

    plan: WirePlan
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """What came cannot be used; `bug` is the traceback where that is the cloud's own fault."""

    reason: str
    bug: str | None = None


Item: TypeAlias = Offer | Part
Result: TypeAlias = Judged | Answer | Failed | None  # None: more of the task has to come


class ComputeThread(Generic[Owner]):
    """Works on one item after the other. `tell` gets the result of each item, in the thread."""

    def __init__(self, work: CloudWork, tell: Callable[[Owner, Result], None]) -> None:
        self.queue = FairQueue[Owner, Item]()
        self.busy_s = 0.0  # seconds that tensors have taken the cloud so far
        self._work = work
        self._tell = tell
        self._free_s = -inf  # when the work before was over
        self._thread = Thread(target=self._run, name="cloud compute", daemon=True)

    def start(self) -> None:
        """Begin; call once."""
        self._thread.start()

    def stop(self, timeout_s: float) -> bool:
        """Take up nothing more. Returns whether the item at work was over within `timeout_s`."""
        self.queue.close()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (taken := self.queue.take()) is not None:
            owner, item = taken
            self._tell(owner, self.result(item))
            del taken, item  # a payload would wait here for the next one

    def result(self, item: Item) -> Result:
        """Work on one item, in the calling thread, and return the result."""
        try:
            return self._judge(item.plan) if isinstance(item, Offer) else self._compute(item)
        except CoachError as unusable:
            self._free_s = monotonic()
            return Failed(str(unusable))
        except Exception:
            self._free_s = monotonic()
            return Failed(OWN_FAULT, traceback.format_exc())

    def _judge(self, plan: WirePlan) -> Judged:
        try:
            self._work.accept(plan)
            return Judged(plan)
        except CoachError as refusal:
            return Judged(plan, str(refusal))
        finally:
            self._free_s = max(self._free_s, monotonic())

    def _compute(self, item: Part) -> Answer | None:
        task = item.task
        if task.cancelled:
            task.work = None
            return None
        if task.work is None:
            task.work = self._work.start(task.plan)
        from_s = max(item.came_s, self._free_s)
        step = task.work.take(item.part, item.payload, from_s)
        self._free_s = step.end_s
        task.start_s = min(task.start_s, from_s)
        task.busy_s += step.end_s - from_s
        self.busy_s += step.end_s - from_s
        if step.label is None:
            return None
        task.work = None
        return Answer(
            task.number, step.label, step.exit, item.came_s, task.start_s, step.end_s, task.busy_s
        )
