"""One connection: a session on a socket. Nothing else reads from the network or writes to it.

In: bytes from the kernel, with the time at which they came. Out: the session's events, in order,
and one last call when the connection is gone, whatever ended it. Runs in an asyncio loop, whose
thread alone may call it. Seconds are of `time.monotonic`, which two processes of one machine share.
"""

import asyncio
import socket
from ssl import SSLContext
from time import monotonic
from typing import Protocol, cast

from coach_exp.network.wire_messages import Ping
from coach_exp.network.wire_session import Closed, Event, Opened, Send, Session
from coach_exp.types.errors import LinkError

HANDSHAKE_BYTES = 4096  # read at once before the handshake is over
READ_BYTES = 256 * 1024  # and after
NOTHING = memoryview(b"")
LINGER_S = 1.0  # for the last words to leave, before the connection is cut


class Owner(Protocol):
    """Whoever is told what a peer says."""

    def heard(self, peer: "Peer", event: Event, now_s: float) -> None:
        """Take an event of the session other than Send, Closed and Ping; its bytes came at
        `now_s`."""

    def gone(self, peer: "Peer", reason: str) -> None:
        """Take note that the connection is over; called once, and nothing after it."""


class Peer(asyncio.BufferedProtocol):
    """The other side of one connection. `send_buffer_bytes`: what the kernel may hold of what was
    written, as far as it obeys; None: its own choice."""

    def __init__(
        self, session: Session, owner: Owner, send_buffer_bytes: int | None = None
    ) -> None:
        self.session = session
        self.address = "?"
        self.heard_s = monotonic()  # when bytes last came
        self._owner = owner
        self._send_buffer_bytes = send_buffer_bytes
        self._transport: asyncio.Transport | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._reason: str | None = None
        self._buffer = memoryview(bytearray(HANDSHAKE_BYTES))

    # --- What this side says --------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send bytes that the session has made; those of a connection that is over are dropped."""
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    async def drained(self) -> None:
        """Wait until the kernel has taken all that was written, or the connection is over."""
        await self._may_write.wait()

    @property
    def unsent_bytes(self) -> int:
        """Bytes that were written and that the kernel has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def pause(self) -> None:
        """Read no more for now: the peer's bytes wait in the kernel, and then on its side."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self, refusal: str | None = None) -> None:
        """Say BYE, or REFUSED with a reason, and close once it has left."""
        if self.session.closed is None:
            word = self.session.bye() if refusal is None else self.session.refuse(refusal)
            self.write(word)
            self._reason = self._reason or self.session.closed
        self._close()

    def abort(self, reason: str) -> None:
        """Cut the connection without a word."""
        self._reason = self._reason or reason
        if self._transport is not None:
            self._transport.abort()

    # --- What the loop calls --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Prepare a connection that stands; nothing was said yet."""
        self._transport = cast(asyncio.Transport, transport)
        # Paused while anything waits. Not 0: under TLS asyncio would pause at nothing as well, and
        # go on with the next write alone.
        self._transport.set_write_buffer_limits(high=1)
        self.address = _shown(transport.get_extra_info("peername"))
        plain: socket.socket = transport.get_extra_info("socket")
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._send_buffer_bytes is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._send_buffer_bytes)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Returns where the next bytes go: always the same place, since new memory for each read
        costs more than reading."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Read the bytes that came, before more come."""
        self.heard_s = monotonic()
        if self._reason is None:
            self._take(self._buffer[:nbytes])

    def eof_received(self) -> None:
        """Take note that the peer will send no more; the transport closes then."""
        if self._reason is None:
            self._take(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner that the connection is over."""
        self._may_write.set()
        self._buffer = NOTHING  # timers hold this peer for a while
        if self._reason is None:
            lost = "the connection was lost" if exc is None else f"the connection was lost: {exc}"
            self._reason = self.session.closed or lost
        self._owner.gone(self, self._reason)

    def pause_writing(self) -> None:
        """Take note that the kernel takes no more for now."""
        self._may_write.clear()

    def resume_writing(self) -> None:
        """Take note that the kernel has taken all."""
        self._may_write.set()

    def _take(self, data: bytes | memoryview) -> None:
        for event in self.session.receive(data):
            if self._reason is not None:  # the owner has closed meanwhile
                return
            match event:
                case Send():
                    self.write(event.data)
                case Closed():
                    self._reason = event.reason
                    self._close()
                case Ping():
                    if self.session.closed is None:
                        self.write(self.session.pong(event, self.heard_s, monotonic()))
                case _:
                    if isinstance(event, Opened):
                        self._buffer = memoryview(bytearray(READ_BYTES))
                    self._owner.heard(self, event, self.heard_s)

    def _close(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()  # a paused transport would not see the peer hang up
            self._transport.close()
            asyncio.get_running_loop().call_later(LINGER_S, self._transport.abort)


async def connect(
    host: str,
    port: int,
    peer: Peer,
    *,
    timeout_s: float,
    tls: SSLContext | None = None,
    server_name: str | None = None,
) -> None:
    """Join `peer` to a listening socket; the session has still to say its first word.

    With TLS the certificate must be that of `server_name` (None: of `host`). Raises LinkError with
    the address and the reason.
    """
    loop = asyncio.get_running_loop()
    name = (server_name or host) if tls is not None else None
    try:
        async with asyncio.timeout(timeout_s):
            await loop.create_connection(lambda: peer, host, port, ssl=tls, server_hostname=name)
    except TimeoutError:
        raise LinkError(f"{host}:{port} does not answer within {timeout_s:g} s") from None
    except OSError as error:  # ssl's errors are of this kind as well
        raise LinkError(f"{host}:{port} cannot be reached: {error}") from None


def _shown(address: object) -> str:
    return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else str(address or "?")
