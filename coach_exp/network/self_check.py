"""Whether this machine carries messages at the rate that it is asked to emulate, before a run.

In: a trace, the bytes of a message. Out: the rate asked for, and the rate at which real messages
came over loopback, between two sessions of the wire protocol.
"""

import asyncio
from dataclasses import dataclass
from functools import partial
from time import monotonic

from coach_exp.network.peer import LINGER_S, Peer, connect
from coach_exp.network.shaped_link import ShapedLink
from coach_exp.network.trace import Trace, constant
from coach_exp.network.wire_auth import Prover, fresh_nonce
from coach_exp.network.wire_client import ClientSession
from coach_exp.network.wire_messages import (
    Answer,
    CrossingTensor,
    PlanOk,
    Tensor,
    WirePlan,
)
from coach_exp.network.wire_server import ServerSession
from coach_exp.network.wire_session import Event, Opened
from coach_exp.types.errors import LinkError

CHECK_S = 0.5
MIN_BYTES, MAX_BYTES = 2_000, 1_000_000
MIN_MESSAGES, MAX_MESSAGES = 4, 5_000

_HOST = "127.0.0.1"
_NAME = "self-check"
_PLAN = WirePlan(0, (_NAME,), (CrossingTensor(_NAME, 8, 0.0),))


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """The rate asked of the link and the one achieved, of `messages` of `payload_bytes` each."""

    asked_bps: float
    achieved_bps: float
    messages: int
    payload_bytes: int

    @property
    def error(self) -> float:
        """How far the achieved rate is off, as a part of the one asked for.

        >>> SelfCheck(asked_bps=8e6, achieved_bps=7e6, messages=4, payload_bytes=2000).error
        -0.125
        """
        return self.achieved_bps / self.asked_bps - 1


async def self_check(trace: Trace, payload_bytes: int) -> SelfCheck:
    """Send through the link for about half a second at the trace's initial rate, and return both
    rates. Messages are of the size given where at least a few of them fit. Raises LinkError where
    loopback fails."""
    size, messages = sample(trace.initial_bps, payload_bytes)
    came_s = await arrivals(constant(trace.initial_bps), size, messages)
    return SelfCheck(trace.initial_bps, 8 * size * messages / came_s[-1], messages, size)


def sample(rate_bps: float, payload_bytes: int) -> tuple[int, int]:
    """Returns the bytes of a message, and how many of them the link carries in the time of a check.

    >>> sample(8e6, 100_000), sample(1e6, 100_000), sample(100e6, 1)
    ((100000, 5), (15625, 4), (2000, 3125))
    """
    carried_bytes = CHECK_S * rate_bps / 8
    wanted = min(max(payload_bytes, MIN_BYTES), MAX_BYTES, carried_bytes / MIN_MESSAGES)
    size = max(1, int(wanted))
    return size, min(max(MIN_MESSAGES, round(carried_bytes / size)), MAX_MESSAGES)


async def arrivals(trace: Trace, payload_bytes: int, messages: int) -> list[float]:
    """Returns when each of some messages, all of them ready at once, had come whole over a link
    that follows `trace`: seconds since the link began."""
    loop, pair = asyncio.get_running_loop(), _Pair(messages)
    server = await loop.create_server(pair.far, _HOST, 0)
    async with server:
        session = ClientSession(_NAME, _NAME, fresh_nonce(), Prover(None))
        near = Peer(session, pair)
        await connect(_HOST, server.sockets[0].getsockname()[1], near, timeout_s=10.0)
        try:
            near.write(session.hello())
            await pair.word(Opened)
            near.write(session.register(_PLAN))
            await pair.word(PlanOk)
            start_s = monotonic()
            link, payload = ShapedLink(trace, 0.0, start_s), bytes(payload_bytes)
            for task in range(messages):
                frame = session.tensor(Tensor(task, _PLAN.plan, _NAME, 0, 1, payload))
                await link.carry(partial(near.write, frame), payload_bytes, 0.0)
            await pair.word(Tensor)
        finally:
            near.close()
            await pair.both_gone()
    return [came_s - start_s for came_s in pair.came_s]


class _Pair:
    """Both sides of the connection: what they say, and when tensors came, which it answers."""

    def __init__(self, messages: int) -> None:
        self.came_s: list[float] = []
        self._messages = messages
        self._words: asyncio.Queue[Event | LinkError] = asyncio.Queue()
        self._gone = asyncio.Semaphore(0)

    def far(self) -> Peer:
        """Returns the cloud's side of a connection."""
        return Peer(ServerSession(_NAME, _NAME, fresh_nonce(), Prover(None)), self)

    async def word(self, kind: type[Event]) -> None:
        """Wait until this is said. Raises LinkError if the connection is lost."""
        while not isinstance(word := await self._words.get(), kind):
            if isinstance(word, LinkError):
                raise word

    async def both_gone(self) -> None:
        """Wait until the connection is closed on both sides."""
        async with asyncio.timeout(2 * LINGER_S):
            for _ in range(2):
                await self._gone.acquire()

    def heard(self, peer: Peer, event: Event, now_s: float) -> None:
        """Of `network.peer.Owner`, for either side."""
        session = peer.session
        if isinstance(session, ServerSession):
            if isinstance(event, WirePlan):
                peer.write(session.accept_plan(event.plan))
            if not isinstance(event, Tensor):
                return
            self.came_s.append(now_s)
            peer.write(session.answer(Answer(event.task, 0, None, now_s, now_s, now_s, 0.0)))
            if len(self.came_s) < self._messages:
                return
        self._words.put_nowait(event)

    def gone(self, peer: Peer, reason: str) -> None:
        """Of `network.peer.Owner`, for either side."""
        self._gone.release()
        self._words.put_nowait(LinkError(f"the link cannot be checked over loopback: {reason}"))
