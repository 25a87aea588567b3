"""The executor's way to the cloud and back.

In: the crossing tensors of tasks as the end releases them, the cloud's answers. Out: tensors, one
after the other over the link; what each did there and on the cloud, in the task log; answers.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import inf

from coach_exp.network.shaped_link import Hold, Link
from coach_exp.network.wire_messages import Answer
from coach_exp.pipeline.end_work import CloudExit
from coach_exp.pipeline.executor_recovery import Recovery
from coach_exp.pipeline.executor_tasks import OpenTasks, RunningTask
from coach_exp.pipeline.payload import crossing_as
from coach_exp.pipeline.task_log import EXIT, SEND
from coach_exp.pipeline.uplink import Uplink
from coach_exp.types.method import Decision, Transfer
from coach_exp.types.task import NOT_SIMULATED


@dataclass(frozen=True)
class Parcel:
    """A crossing tensor that waits for the link."""

    task: RunningTask
    part: int
    payload: bytes
    bits: int
    ready_s: float
    latest_s: float


class LinkSide:
    """What happens to tasks between the end part and the answer. `shaped`: `link` follows a trace
    on a connection that is faster; else it is the connection itself, and transfers are measured."""

    def __init__(
        self, tasks: OpenTasks, recovery: Recovery, uplink: Uplink, link: Link, shaped: bool
    ) -> None:
        self._tasks = tasks
        self._recovery = recovery
        self._uplink = uplink
        self._link = link
        self._shaped = shaped
        self._parcels: asyncio.Queue[Parcel] = asyncio.Queue()
        self._measured_s = 0.0  # when the last measured transfer was over

    # --- To the cloud ---------------------------------------------------------------------------

    async def release(
        self, task: RunningTask, decision: Decision | None, parts: Sequence[int], at_s: float
    ) -> float:
        """Hand crossing tensors, ready at `at_s`, to the link, at the widths of the decision at the
        cut if there is one. Returns when they were packed."""
        plan, tasks = task.route.plan, self._tasks
        crossing = crossing_as(plan, decision)
        if tasks.emulated and not task.released:
            task.early = self._cloud_exit(task, at_s)
        payloads = await task.work.pack(crossing, parts, task.early)
        if not tasks.emulated:
            at_s = tasks.now_s()
        if not self._uplink.ready:
            self._recovery.give_up(task)
        if task.gave_up:
            return at_s
        task.released, latest_s = True, inf
        if plan.timeout_s < inf:
            start_s = tasks.log.end_start_s[task.number]
            released_s = at_s if task.route.waits else start_s + plan.ready_s[0]
            latest_s = max(start_s + plan.stage_s.end_s, released_s + plan.timeout_s)
            self._recovery.watch_link(task, latest_s)
        for part, payload in zip(parts, payloads, strict=True):
            parcel = Parcel(task, part, payload, crossing[part].bits, at_s, latest_s)
            self._parcels.put_nowait(parcel)
        return at_s

    def _cloud_exit(self, task: RunningTask, at_s: float) -> CloudExit | None:
        """Returns which head of a cloud that computes nothing answers; None where none does."""
        tasks, route = self._tasks, task.route
        if route.cloud_heads:
            tasks.look_at(task, at_s)
        for place, head in enumerate(route.cloud_heads):
            found = tasks.controller.at_head(task.number, route.plan, head, tasks.observation)
            if found.action == "exit":
                return CloudExit(place, found.label)
        return None

    async def carry_all(self) -> None:
        """Carry parcel after parcel, until cancelled."""
        while True:
            parcel = await self._parcels.get()
            task = parcel.task
            if task.gave_up:
                continue
            carrying = self._link.carry(
                partial(self._write, parcel), len(parcel.payload), parcel.ready_s, parcel.latest_s
            )
            task.carried = asyncio.create_task(carrying)
            try:
                hold = await task.carried
            except asyncio.CancelledError:
                current = asyncio.current_task()
                if current is not None and current.cancelling():
                    raise
                continue  # not this loop ends: the parcel's task gave up
            finally:
                task.carried = None
            self._carried(parcel, hold)

    def _write(self, parcel: Parcel) -> None:
        """Let the tensor leave, if anyone waits for it and there is a connection."""
        task = parcel.task
        if not task.gave_up and self._uplink.ready:
            self._uplink.send(task.number, task.route.plan, parcel.part, parcel.payload)

    def _carried(self, parcel: Parcel, hold: Hold) -> None:
        """Note what a parcel did on the link, and wait for what has to come next."""
        task, payload_bytes = parcel.task, len(parcel.payload)
        if not task.answered:  # or its record is written
            self._note(parcel, hold)
        if hold.end_s is None:
            self._recovery.give_up(task)
            return
        task.left += 1
        if self._shaped:
            self._tasks.sent(Transfer(task.number, payload_bytes, hold.begin_s, hold.end_s))
        if task.sent_whole:
            self._recovery.watch_cloud(task, hold.end_s)

    def _note(self, parcel: Parcel, hold: Hold) -> None:
        log, number = self._tasks.log, parcel.task.number
        end_s = parcel.latest_s if hold.end_s is None else hold.end_s
        if hold.end_s is not None or hold.begin_s < end_s:
            if not log.link_busy_s[number]:
                log.link_start_s[number] = hold.begin_s
            log.link_end_s[number] = end_s
            log.link_busy_s[number] += end_s - hold.begin_s
        if hold.end_s is not None:
            log.bits[number] = max(log.bits[number], parcel.bits)
            log.payload_bytes[number] += len(parcel.payload)

    # --- And back -------------------------------------------------------------------------------

    def answered(self, answer: Answer, now_s: float) -> None:
        """Take an answer of the cloud that came at `now_s` of `time.monotonic`. Its way back takes
        half an RTT, if that counts and the link is shaped."""
        link = self._tasks.problem.link
        back_s = link.rtt_s / 2 if self._shaped and link.result_return else 0.0
        if back_s:
            asyncio.get_running_loop().call_at(now_s + back_s, self._take, answer, now_s + back_s)
        else:
            self._take(answer, now_s)

    def _take(self, answer: Answer, now_s: float) -> None:
        tasks, log, number = self._tasks, self._tasks.log, answer.task
        task = tasks.open.get(number)
        if task is None or task.gave_up:
            return
        here_s = tasks.began_s + self._uplink.clock.offset_s  # the run's beginning, there
        log.cloud_start_s[number] = answer.start_s - here_s
        log.cloud_end_s[number] = answer.end_s - here_s
        log.cloud_busy_s[number] = answer.busy_s
        if not self._shaped:
            self._measure(number, answer.received_s - here_s)
        finish_s = now_s - tasks.began_s
        if not tasks.problem.link.result_return:
            finish_s = min(finish_s, log.cloud_end_s[number])
        timed = tasks.emulated and tasks.problem.outcomes is None
        label = NOT_SIMULATED if timed else answer.label
        tasks.answer(task, finish_s, SEND if answer.exit is None else EXIT, label)

    def _measure(self, number: int, received_s: float) -> None:
        """Note when a real link carried a task. Its transfer is over half an RTT before its last
        byte arrives; that the kernel had taken it says less."""
        log = self._tasks.log
        end_s = max(received_s - self._uplink.clock.rtt_s / 2, log.link_start_s[number])
        begin_s = min(max(log.link_start_s[number], self._measured_s), end_s)
        self._measured_s = log.link_end_s[number] = end_s
        log.link_start_s[number], log.link_busy_s[number] = begin_s, end_s - begin_s
        self._tasks.sent(Transfer(number, log.payload_bytes[number], begin_s, end_s))
