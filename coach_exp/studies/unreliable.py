"""A network that fails when it is told to: a relay between ends and a cloud, on this machine.

In: the cloud's port. Out: a port that ends connect to, and the ways in which it fails: it cuts what
stands and refuses what is new, stalls, or lets bytes through one at a time. It runs in a thread of
its own; the failures may be asked for from any thread.
"""

import asyncio
import socket
import struct
from contextlib import suppress
from threading import Event, Thread
from types import TracebackType
from typing import Final

CHUNK_BYTES: Final = 65536
AT_ONCE: Final = 32  # packets of one byte, before others have their turn
ABORT: Final = struct.pack("ii", 1, 0)  # SO_LINGER: the other side gets a reset


class UnreliableLink:
    """A relay to 127.0.0.1:`cloud_port`; a context manager."""

    def __init__(self, cloud_port: int) -> None:
        self.port = 0
        self.connections = 0  # that were let through so far
        self._cloud_port = cloud_port
        self._cut = False
        self._bytewise = False
        self._running = Event()
        self._thread = Thread(target=lambda: asyncio.run(self._relay()), name="link", daemon=True)

    def __enter__(self) -> "UnreliableLink":
        self._thread.start()
        self._running.wait()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    # --- Failures -------------------------------------------------------------------------------

    def cut(self) -> None:
        """Reset every connection, and each new one at once, until `restore`."""
        self._cut = True
        self._loop.call_soon_threadsafe(self._reset_all)

    def stall(self) -> None:
        """Keep the connections and let nothing through, until `restore`."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def trickle(self) -> None:
        """Let bytes through in packets of one, until `restore`."""
        self._bytewise = True

    def restore(self) -> None:
        """Work as a link should. What was cut stays cut."""
        self._cut = self._bytewise = False
        self._loop.call_soon_threadsafe(self._flows.set)

    # --- The relay ------------------------------------------------------------------------------

    async def _relay(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._flows, self._over = asyncio.Event(), asyncio.Event()
        self._flows.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._joined: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._running.set()
        await self._over.wait()
        server.close()
        self._reset_all()
        for task in self._joined:
            task.cancel()
        await asyncio.gather(*self._joined, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._joined.add(task)
        self._writers.add(writer)
        try:
            if not self._cut:
                await self._join(reader, writer)
        except asyncio.CancelledError:
            pass  # the relay ends; a task that says so would be complained about
        finally:
            _reset(writer)
            self._writers.discard(writer)
            self._joined.discard(task)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection("127.0.0.1", self._cloud_port)
        except OSError:
            return
        self.connections += 1
        self._writers.add(there[1])
        ways = [
            asyncio.create_task(self._pump(reader, there[1])),
            asyncio.create_task(self._pump(there[0], writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._writers.discard(there[1])
            _close(there[1])
            _close(writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One way, until it ends."""
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._flows.wait()
                left = memoryview(data)
                while left:
                    left = self._write(writer, left)
                    await writer.drain()
                    await asyncio.sleep(0)

    def _write(self, writer: asyncio.StreamWriter, data: memoryview) -> memoryview:
        """All of it, or some packets of a byte each; what is left."""
        if not self._bytewise:
            writer.write(data)
            return data[:0]
        for k in range(min(AT_ONCE, len(data))):
            writer.write(data[k : k + 1])
        return data[AT_ONCE:]

    def _reset_all(self) -> None:
        for writer in self._writers:
            _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a reset, as a network that drops its state does."""
    if writer.is_closing():
        return
    plain: socket.socket = writer.get_extra_info("socket")
    with suppress(OSError):
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
    writer.transport.abort()


def _close(writer: asyncio.StreamWriter) -> None:
    if not writer.is_closing():
        writer.close()
