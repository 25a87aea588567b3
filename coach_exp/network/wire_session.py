"""One connection as either side sees it: what may be said now, and what was said. What the end
alone says and hears is in `wire_client`, the cloud's part in `wire_server`.

In: the bytes of the peer, and what this side wants to say. Out: events in their order, and bytes
to write. No socket, no thread, no clock, no randomness; not safe for threads, so whoever owns a
session locks it.

    end                              cloud
    HELLO fingerprint, nonce ------>
             <------ CHALLENGE nonce, whether a token is asked for
    PROOF -------------------------> token judged, then the model
             <------ WELCOME proof   judged by the end
    PLAN -------------------------->
             <------ PLAN_OK or PLAN_REFUSED
    TENSOR 0 .. n-1 of a task ------> or CANCEL
             <------ ANSWER

PING, answered by PONG, and BYE go both ways. A side that finds a rule broken sends REFUSED with the
reason, and closes.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final, TypeAlias

from coach_exp.network.wire import FrameDecoder, Limits, encode
from coach_exp.network.wire_ledger import PlanLedger, TaskLedger
from coach_exp.network.wire_messages import (
    Bye,
    Message,
    Ping,
    Pong,
    Refused,
    Traffic,
    shown,
)
from coach_exp.types.errors import WireError

MAX_PINGS: Final = 16  # that may wait for their answers

LAST_WORDS: Final = frozenset({Refused, Bye})  # may come at any time
FROM_BOTH: Final = LAST_WORDS | {Ping, Pong}  # may come from either side after the handshake


@dataclass(frozen=True, slots=True)
class Send:
    """Write these bytes to the peer."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """The handshake is over; `peer` is the other side's name."""

    peer: str


@dataclass(frozen=True, slots=True)
class Closed:
    """Nothing more comes: close the connection once what is to be sent was sent. `reason` is for
    the log; `error` is None where the peer said BYE. This side's own last word is no event."""

    reason: str
    error: WireError | None = None


Event: TypeAlias = Send | Opened | Closed | Traffic


class Session:
    """What both sides have in common: the way from bytes to events, clocks, and the end."""

    def __init__(self, first: type[Message], limits: Limits) -> None:
        self._limits = limits
        self._decoder = FrameDecoder(limits, LAST_WORDS | {first})
        self._open = False
        self._closed: str | None = None
        self._left = False
        self._pings: deque[float] = deque()
        self._plans = PlanLedger()
        self._tasks = TaskLedger(limits.open_tasks)

    @property
    def closed(self) -> str | None:
        """Why nothing more can be said; None while it can."""
        return self._closed

    @property
    def frame(self) -> int | None:
        """The number of the peer's frame of which a part has come; None between two frames."""
        return self._decoder.frame

    @property
    def may_ping(self) -> bool:
        """Whether a ping can be sent; not while many wait for their answers."""
        return self._open and self._closed is None and len(self._pings) < MAX_PINGS

    def receive(self, data: bytes | memoryview) -> list[Event]:
        """Read the peer's bytes, b"" where it hung up, and return what follows from them, in order.
        What comes after this side's own last word is not read. Raises WireError for bytes after a
        Closed."""
        if self._left:
            return []
        self._must_not_be_closed()
        events: list[Event] = []
        try:
            self._decoder.feed(data)
            while self._closed is None and (message := self._decoder.next_message()) is not None:
                events += self._on(message)
            if self._closed is None and not data:
                raise WireError("the peer hung up without BYE")
        except WireError as broken:
            self._closed = str(broken)
            if data:
                events.append(Send(encode(Refused(shown(self._closed)))))
            # Not `broken` itself, whose traceback would keep the peer's bytes.
            events.append(Closed(self._closed, WireError(self._closed)))
        return events

    def ping(self, now_s: float) -> bytes:
        """Returns a question for the peer's clock. Raises WireError where many have no answer
        yet."""
        self._must_be_open()
        if len(self._pings) == MAX_PINGS:
            raise WireError(f"the peer has not answered the last {MAX_PINGS} pings")
        self._pings.append(now_s)
        return encode(Ping(now_s))

    def pong(self, ping: Ping, received_s: float, now_s: float) -> bytes:
        """Returns the answer to a ping that came at `received_s`, given now."""
        self._must_be_open()
        return encode(Pong(ping.sent_s, received_s, now_s))

    def bye(self) -> bytes:
        """Returns the last word of a side that has nothing against the other."""
        self._must_not_be_closed()
        self._closed, self._left = "this side said BYE", True
        return encode(Bye())

    def refuse(self, reason: str) -> bytes:
        """Returns the last word of a side that will not go on, with its reason."""
        self._must_not_be_closed()
        self._closed, self._left = f"this side refused: {reason}", True
        return encode(Refused(shown(reason)))

    def _on(self, message: Message) -> list[Event]:
        if isinstance(message, Bye):
            self._closed = "the peer said BYE"
            return [Closed(self._closed)]
        if isinstance(message, Refused):
            self._closed = f"the peer refuses: {message.reason}"
            return [Closed(self._closed, WireError(self._closed))]
        if isinstance(message, Ping):
            return [message]
        if isinstance(message, Pong):
            if not self._pings or self._pings.popleft() != message.ping_s:
                raise WireError("a PONG answers the oldest PING that has no answer; this one none")
            return [message]
        return self._on_own(message)

    def _on_own(self, message: Message) -> list[Event]:
        """Returns what follows from a message that only one side can be sent."""
        raise NotImplementedError

    def _must_not_be_closed(self) -> None:
        if self._closed is not None:
            raise WireError(f"the session is over: {self._closed}")

    def _must_be_open(self) -> None:
        self._must_not_be_closed()
        if not self._open:
            raise WireError("nothing is said before WELCOME but the handshake")
