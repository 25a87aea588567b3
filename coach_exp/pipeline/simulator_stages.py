"""Link and cloud of the simulator: two FIFO resources that take one tensor after the other.

In: when a task started, its tensors, and when they may be sent. Out: when the link and the cloud
are free again; the transfers, for whoever is told of them; and the stages' columns of the task log.
"""

from collections import deque
from collections.abc import Sequence
from math import inf

from coach_exp.network.trace import Trace, TraceCursor
from coach_exp.pipeline.task_log import TaskLog
from coach_exp.types.method import Link, Transfer
from coach_exp.types.plan import Plan

# Of a tensor: ready_s, bytes, seconds of the cloud's work. Plain, since the inner loop unpacks it.
Leg = tuple[float, int, float]


def legs_of(plan: Plan, sizes_bytes: Sequence[int]) -> tuple[Leg, ...]:
    """Returns the legs of a task that runs `plan` and sends tensors of these sizes."""
    return tuple(zip(plan.ready_s, sizes_bytes, plan.cloud_work_s, strict=True))


class LinkAndCloud:
    """The two resources. Tasks must come in the order in which they started."""

    def __init__(self, trace: Trace, link: Link, log: TaskLog) -> None:
        self.in_transit: deque[Transfer] = deque()  # of which nobody has been told
        self.cloud_free_s = 0.0
        self._link_free_s = 0.0
        self._cursor = TraceCursor(trace)
        self._half_rtt_s = link.rtt_s / 2
        self._log = log

    def offload(self, task: int, start_s: float, released_s: float, legs: tuple[Leg, ...]) -> None:
        """Send all tensors of a task and work on them, tensor by tensor, none before `released_s`
        and each `ready_s` seconds after `start_s` at the earliest."""
        link_free, cloud_free = self._link_free_s, self.cloud_free_s
        link_busy, cloud_busy, link_start, cloud_start = 0.0, 0.0, -1.0, -1.0
        half_rtt_s, finish, in_transit = self._half_rtt_s, self._cursor.finish, self.in_transit
        for ready_s, size, work in legs:
            begin = start_s + ready_s
            if begin < released_s:
                begin = released_s
            if begin < link_free:
                begin = link_free
            link_free = finish(begin, size)
            link_busy += link_free - begin
            in_transit.append(Transfer(task, size, begin, link_free))
            if cloud_free < link_free + half_rtt_s:
                cloud_free = link_free + half_rtt_s
            if link_start < 0:
                link_start, cloud_start = begin, cloud_free
            cloud_free += work
            cloud_busy += work
        self._link_free_s, self.cloud_free_s = link_free, cloud_free
        log = self._log
        log.link_start_s[task] = link_start
        log.link_end_s[task] = link_free
        log.link_busy_s[task] = link_busy
        log.cloud_start_s[task] = cloud_start
        log.cloud_end_s[task] = cloud_free
        log.cloud_busy_s[task] = cloud_busy

    def send_until(
        self, latest_s: float, task: int, start_s: float, released_s: float, legs: tuple[Leg, ...]
    ) -> list[float]:
        """Send the tensors of a task as `offload` does, up to `latest_s`. Returns when each of
        those that are through by then has left the end; fewer times than tensors: the task gives
        up.

        The transfer that would outlast `latest_s` is abandoned there, and one that could begin only
        then never has the link.
        """
        link_start, link_busy = latest_s, 0.0
        left_s: list[float] = []
        for ready_s, size, _ in legs:
            begin = max(start_s + ready_s, released_s, self._link_free_s)
            end = self._cursor.finish(begin, size, latest_s) if begin <= latest_s else inf
            if end > latest_s:
                if begin < latest_s:
                    link_start = link_start if left_s else begin
                    link_busy += latest_s - begin
                    self._link_free_s = latest_s
                break
            link_start = link_start if left_s else begin
            link_busy += end - begin
            self._link_free_s = end
            self.in_transit.append(Transfer(task, size, begin, end))
            left_s.append(end)
        used = link_busy > 0 or bool(left_s)
        log = self._log
        log.link_start_s[task] = link_start
        log.link_end_s[task] = self._link_free_s if used else latest_s
        log.link_busy_s[task] = link_busy
        return left_s

    def work(self, task: int, left_s: Sequence[float], legs: tuple[Leg, ...]) -> None:
        """Work on the first tensors of a task, of which each left the end at its time in `left_s`;
        at least one did."""
        cloud_start, cloud_busy = -1.0, 0.0
        for left, (_, _, work) in zip(left_s, legs, strict=False):
            self.cloud_free_s = max(self.cloud_free_s, left + self._half_rtt_s)
            cloud_start = self.cloud_free_s if cloud_start < 0 else cloud_start
            self.cloud_free_s += work
            cloud_busy += work
        log = self._log
        log.cloud_start_s[task] = cloud_start
        log.cloud_end_s[task] = self.cloud_free_s
        log.cloud_busy_s[task] = cloud_busy
