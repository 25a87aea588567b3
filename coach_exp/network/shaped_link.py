"""The end's way to the cloud: emulated from a trace, by virtual finish time, or a real network.

In: messages, one after the other, and when each was ready. Out: how long each held the link. An
emulated message leaves when a transfer of its payload over the trace is over, begun when it was
ready or when the one before had left, whichever is later; that is reckoned, not measured, so being
late once makes no later message late. All of it is written at once, half an RTT later: nothing of
it arrives early, and nothing at all of one that was abandoned.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from copy import copy
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import Protocol

from coach_exp.network.precise import sleep_until
from coach_exp.network.trace import Trace, TraceCursor

Send = Callable[[], None]  # writes the message; called when it leaves, if it does
Drained = Callable[[], Awaitable[None]]  # until the kernel has taken all that was written


@dataclass(frozen=True, slots=True)
class Hold:
    """When a message had the link: from `begin_s` until its last bit had left at `end_s`. None: it
    was abandoned at its `latest_s`, and never had the link if `begin_s` is not before that."""

    begin_s: float
    end_s: float | None


class VirtualLink:
    """The schedule of a one-way FIFO link that follows a trace exactly, as the simulator's does. No
    clock: seconds since the run began.

    >>> from coach_exp.network.trace import steps
    >>> link = VirtualLink(steps([8e6, 4e6], step_s=1))
    >>> link.hold(0.5, 1_000_000)  # half at each rate
    Hold(begin_s=0.5, end_s=2.0)
    >>> link.hold(1.0, 500_000), link.hold(1.0, 500_000, latest_s=3.5)
    (Hold(begin_s=2.0, end_s=3.0), Hold(begin_s=3.0, end_s=None))
    >>> link.free_s
    3.5
    """

    def __init__(self, trace: Trace) -> None:
        self.free_s = 0.0  # when the next message may begin
        self._cursor = TraceCursor(trace)
        self._before = (0.0, copy(self._cursor))  # what the last hold found
        self._begin_s = 0.0

    def hold(self, ready_s: float, payload_bytes: int, latest_s: float = inf) -> Hold:
        """Returns when the next message has the link. One whose last bit would leave after
        `latest_s` is abandoned there. Raises LinkError for one that never leaves and has no
        `latest_s`."""
        begin_s = max(ready_s, self.free_s)
        self._before, self._begin_s = (self.free_s, copy(self._cursor)), begin_s
        end_s = inf
        if begin_s <= latest_s:
            end_s = self._cursor.finish(begin_s, payload_bytes, latest_s)
        if end_s > latest_s:
            if begin_s < latest_s:
                self.free_s = latest_s
            else:
                _, self._cursor = self._before
            return Hold(begin_s, None)
        self.free_s = end_s
        return Hold(begin_s, end_s)

    def release(self, now_s: float) -> None:
        """Take the last message off the link, which is free from now on, if it is not already."""
        if now_s < self.free_s:
            before_s, self._cursor = self._before
            self.free_s = now_s if now_s > self._begin_s else before_s


class Link(Protocol):
    """A one-way link, first come, first served, used by one caller at a time. Seconds since the run
    began."""

    @property
    def free_s(self) -> float:
        """When the last message left the link, or was abandoned on it."""

    async def carry(
        self, send: Send, payload_bytes: int, ready_s: float, latest_s: float = inf
    ) -> Hold:
        """Send a message that was ready at `ready_s`, and wait until its last bit has left or it is
        abandoned, at `latest_s`. Returns when it had the link. If this is cancelled, the link is
        free at once."""

    async def flushed(self) -> None:
        """Wait until all that was carried is on its way to the peer's kernel."""


class ShapedLink:
    """A link that follows `trace` from `start_s` (of `time.monotonic()`) on, on a connection that
    is much faster. Only `payload_bytes` take time on it, as they alone do in the records."""

    def __init__(self, trace: Trace, half_rtt_s: float, start_s: float) -> None:
        self._virtual = VirtualLink(trace)
        self._half_rtt_s = half_rtt_s
        self._start_s = start_s
        self._under_way: deque[Send] = deque()
        self._arrived = asyncio.Event()
        self._arrived.set()

    @property
    def free_s(self) -> float:
        """When the last message left the link, or was abandoned on it."""
        return self._virtual.free_s

    async def carry(
        self, send: Send, payload_bytes: int, ready_s: float, latest_s: float = inf
    ) -> Hold:
        """Send a message as `Link` says. Raises LinkError for one that never leaves."""
        hold = self._virtual.hold(ready_s, payload_bytes, latest_s)
        until_s = latest_s if hold.end_s is None else hold.end_s
        try:
            await sleep_until(self._start_s + until_s)
        except asyncio.CancelledError:
            self._virtual.release(monotonic() - self._start_s)
            raise
        if hold.end_s is not None:
            self._deliver(send, self._start_s + hold.end_s + self._half_rtt_s)
        return hold

    async def flushed(self) -> None:
        """Wait until all that was carried is written."""
        await self._arrived.wait()

    def _deliver(self, send: Send, when_s: float) -> None:
        self._under_way.append(send)
        self._arrived.clear()
        asyncio.get_running_loop().call_at(when_s, self._write_next)

    def _write_next(self) -> None:
        # The first under way, whichever timer this is: timers of one instant have no order.
        self._under_way.popleft()()
        if not self._under_way:
            self._arrived.set()


class PlainLink:
    """A real network. A message holds the link until the kernel has taken all of it, as measured;
    what the kernel holds is the less hidden, the smaller the peer's send buffer.

    What is written cannot be taken back: a message abandoned on the link arrives all the same, and
    the next one begins when it is through.
    """

    def __init__(self, drained: Drained, start_s: float) -> None:
        self._drained = drained
        self.free_s = 0.0
        self._start_s = start_s

    async def carry(
        self, send: Send, payload_bytes: int, ready_s: float, latest_s: float = inf
    ) -> Hold:
        """Send a message as `Link` says, but for the bytes of an abandoned one."""
        begin_s: float | None = None
        try:
            async with asyncio.timeout_at(self._start_s + latest_s if latest_s < inf else None):
                await self._drained()
                begin_s = self._now_s()
                if begin_s < latest_s:
                    send()
                    await self._drained()
                    return Hold(begin_s, self._now_s())
        except TimeoutError:
            pass
        finally:
            self.free_s = self._now_s()
        return Hold(latest_s if begin_s is None else begin_s, None)

    async def flushed(self) -> None:
        """Wait until the kernel has taken all that was carried."""
        await self._drained()

    def _now_s(self) -> float:
        return monotonic() - self._start_s
