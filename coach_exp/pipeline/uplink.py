"""The end's connection to the cloud: opened, watched, and opened again when it is lost.

In: where the cloud is, the plans that tasks may name. Out: frames sent, answers and losses told to
the owner. A connection that was lost is not resumed: the next one begins with HELLO, plans
included; what was on its way is the owner's to finish.
"""

import asyncio
import random
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Final, Protocol

from coach_exp.network.clock import ClockOffset
from coach_exp.network.peer import Peer, connect
from coach_exp.network.wire_auth import Prover, fresh_nonce
from coach_exp.network.wire_client import ClientSession
from coach_exp.network.wire_messages import Answer, PlanOk, PlanRefused, Pong, Tensor, wire_plan
from coach_exp.network.wire_session import Event, Opened
from coach_exp.types.errors import CoachError, ConfigError, LinkError, WireError
from coach_exp.types.plan import Plan

FIRST_PINGS: Final = 8  # before the first task, so that the offset of the clocks is known
FIRST_PAUSE_S: Final = 0.1  # before the first attempt to connect again; doubles up to the maximum
MAX_PAUSE_S: Final = 5.0
PINGS_PER_STALL: Final = 5

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the authority that signed the other side's certificate, and this side's own
    certificate and key, if the other side asks for one."""

    authority: Path
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True)
class CloudAddress:
    """Where the cloud is and how to speak with it. `stall_s`: silence after which a connection is
    given up; `server_name`: the name in its certificate, None for `host`."""

    host: str
    port: int
    fingerprint: str
    client: str = "end"
    token: str | None = field(default=None, repr=False)
    tls: TlsFiles | None = None
    server_name: str | None = None
    connect_s: float = 5.0
    stall_s: float = 5.0
    send_buffer_bytes: int | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def tls_context(self) -> ssl.SSLContext | None:
        """Returns a context for TLS 1.3 that trusts the authority alone, None where there is no
        TLS. Raises ConfigError for unusable files."""
        if self.tls is None:
            return None
        try:
            context = ssl.create_default_context(cafile=str(self.tls.authority))
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            if self.tls.certificate is not None:
                context.load_cert_chain(self.tls.certificate, self.tls.key)
        except OSError as error:  # ssl's errors are of this kind as well
            own = self.tls.certificate and f", transport.tls_certificate={self.tls.certificate}"
            raise ConfigError(
                f"transport.tls_authority={self.tls.authority}{own or ''} cannot be used: {error}; "
                "each file is to be there, in PEM, and transport.tls_key that of the certificate, "
                "without a password"
            ) from None
        return context


class UplinkOwner(Protocol):
    """Whoever runs the tasks and is told of answers and losses."""

    def answered(self, answer: Answer, now_s: float) -> None:
        """An answer has come, at this time of `time.monotonic`."""

    def lost(self, reason: str) -> None:
        """The connection is gone; nothing can be sent while `ready` is false."""


class _Nobody:
    """An owner without tasks."""

    def answered(self, answer: Answer, now_s: float) -> None:
        """Of UplinkOwner."""

    def lost(self, reason: str) -> None:
        """Of UplinkOwner."""


async def handshake(address: CloudAddress, plans: Sequence[Plan] = ()) -> None:
    """Connect, prove, have the plans judged, and say good-bye, so that what would keep tasks from
    being sent shows before anything long is begun. Raises what `Uplink.open` raises."""
    uplink = Uplink(address, plans, _Nobody(), lambda words: None)
    await uplink.open()
    await uplink.close()


class Uplink:
    """One end's connection to its cloud, which lives in an asyncio loop. `plans` are all that tasks
    may name."""

    def __init__(
        self, address: CloudAddress, plans: Sequence[Plan], owner: UplinkOwner, say: Say
    ) -> None:
        self.clock = ClockOffset()
        self._address = address
        self._tls = address.tls_context()
        self._wire_plans = {
            id(plan): wire_plan(number, plan)
            for number, plan in enumerate(plan for plan in plans if plan.crossing)
        }
        self._owner = owner
        self._say = say
        self._peer: Peer | None = None
        self._session: ClientSession | None = None
        self._ready = False
        self._awaited: asyncio.Future[None] | None = None
        self._down = asyncio.Event()
        self._end = ""  # why it is down
        self._unjudged = 0
        self._jitter = random.Random()

    @property
    def ready(self) -> bool:
        """Whether tasks can be sent now: the cloud's BYE comes before the connection is gone."""
        return self._ready and self._session is not None and self._session.closed is None

    # --- Opening --------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect, prove, register the plans, compare the clocks.

        Raises LinkError where nobody answers, WireError with the reason where the cloud refuses.
        """
        address = self._address
        session = ClientSession(
            address.fingerprint, address.client, fresh_nonce(), Prover(address.token)
        )
        peer = Peer(session, self, address.send_buffer_bytes)
        # Before it stands: one that is cut at once is gone before `connect` returns.
        self._peer, self._session = peer, session
        self._end = ""
        self._down.clear()
        try:
            await connect(
                address.host,
                address.port,
                peer,
                timeout_s=address.connect_s,
                tls=self._tls,
                server_name=address.server_name,
            )
        except BaseException:
            self._peer = None
            raise
        try:
            async with asyncio.timeout(address.connect_s):
                await self._shake_hands(peer, session)
        except TimeoutError:
            peer.abort("the handshake took too long")
            raise LinkError(
                f"{address} took the connection and says nothing within {address.connect_s:g} s"
            ) from None
        self._ready = True

    async def _shake_hands(self, peer: Peer, session: ClientSession) -> None:
        peer.write(session.hello())
        await self._event()
        self._unjudged = len(self._wire_plans)
        for plan in self._wire_plans.values():
            peer.write(session.register(plan))
        if self._unjudged:
            await self._event()
        for _ in range(FIRST_PINGS):
            peer.write(session.ping(monotonic()))
            await self._event()

    async def _event(self) -> None:
        """Wait until the cloud has said what was asked for. Raises what ended the connection."""
        if self._down.is_set():
            raise WireError(f"{self._address}: {self._end}")
        self._awaited = asyncio.get_running_loop().create_future()
        try:
            await self._awaited
        finally:
            self._awaited = None

    def _happened(self, error: CoachError | None = None) -> None:
        if self._awaited is not None and not self._awaited.done():
            if error is None:
                self._awaited.set_result(None)
            else:
                self._awaited.set_exception(error)

    # --- Watching -------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Ping, notice silence and connect again, until cancelled."""
        while True:
            if self._ready:
                await self._watch()
            await self._reconnect()

    async def _watch(self) -> None:
        """Wait until the connection is gone, and cut it when the cloud is silent. While the kernel
        takes more of what was written that is no silence: a ping waits behind a long tensor."""
        peer, session = self._peer, self._session
        assert peer is not None
        assert session is not None
        unsent_bytes, moved_s = 0, monotonic()
        while not self._down.is_set():
            if not peer.unsent_bytes and session.may_ping:
                peer.write(session.ping(monotonic()))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._down.wait(), self._address.stall_s / PINGS_PER_STALL)
            if peer.unsent_bytes != unsent_bytes:
                unsent_bytes, moved_s = peer.unsent_bytes, monotonic()
            silent_s = monotonic() - max(peer.heard_s, moved_s)
            if silent_s > self._address.stall_s:
                peer.abort(f"the cloud has been silent for {silent_s:.1f} s")
                await self._down.wait()

    async def _reconnect(self) -> None:
        """Try to connect until it works; each pause is twice the last one, less a random part."""
        pause_s, said = FIRST_PAUSE_S, ""
        while not self._ready:
            await asyncio.sleep(pause_s * self._jitter.uniform(0.5, 1.0))
            pause_s = min(2 * pause_s, MAX_PAUSE_S)
            try:
                await self.open()
            except CoachError as error:
                if str(error) != said:
                    said = str(error)
                    self._say(f"{said}; trying again")
        self._say(f"connected to {self._address} again")

    async def close(self) -> None:
        """Say BYE and wait for the connection to end."""
        self._ready = False
        if self._peer is not None and not self._down.is_set():
            self._peer.close()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._down.wait(), 2.0)

    # --- Saying ---------------------------------------------------------------------------------

    def send(self, task: int, plan: Plan, part: int, payload: bytes) -> None:
        """Send the next tensor of a task. Raises WireError where the order is broken."""
        assert self._peer is not None
        assert self._session is not None
        wire = self._wire_plans[id(plan)]
        layer, parts = wire.crossing[part].layer, len(wire.crossing)
        self._peer.write(self._session.tensor(Tensor(task, wire.plan, layer, part, parts, payload)))

    def cancel(self, task: int) -> None:
        """Tell the cloud that a task is not waited for."""
        if self.ready and self._peer is not None and self._session is not None:
            self._peer.write(self._session.cancel(task))

    async def drained(self) -> None:
        """Wait until the kernel has taken all that was sent."""
        if self._peer is not None:
            await self._peer.drained()

    # --- What the peer says ---------------------------------------------------------------------

    def heard(self, peer: Peer, event: Event, now_s: float) -> None:
        """Of `network.peer.Owner`."""
        if peer is not self._peer:
            return
        match event:
            case Answer():
                self._owner.answered(event, now_s)
            case Pong():
                self.clock.add(event.ping_s, event.received_s, event.sent_s, now_s)
                self._happened()
            case Opened():
                self._say(f"connected to {event.peer!r} at {self._address}")
                self._happened()
            case PlanOk():
                self._unjudged -= 1
                if not self._unjudged:
                    self._happened()
            case PlanRefused():
                self._happened(WireError(f"{self._address} refuses a plan: {event.reason}"))
                peer.close()

    def gone(self, peer: Peer, reason: str) -> None:
        """Of `network.peer.Owner`."""
        if peer is not self._peer:
            return
        was_ready, self._ready = self._ready, False
        self._down.set()
        self._end = reason
        self._happened(WireError(f"{self._address}: {reason}"))
        if was_ready:
            self._owner.lost(reason)
