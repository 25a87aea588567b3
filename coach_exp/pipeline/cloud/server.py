"""The cloud: many ends on one listening socket, their tasks worked on in turn.

In: settings, what computes, and where to say what happens. Out: answers to the ends, and words.
The event loop reads, writes and keeps order; one thread computes (`cloud_compute`). A client that
breaks a rule, sends what cannot be used, sends nothing, or does not read is closed with a reason
that both sides print; the others do not notice.
"""

import asyncio
import signal
from collections.abc import Callable, Collection
from contextlib import suppress
from time import monotonic
from typing import Final

from coach_exp.network.peer import Peer
from coach_exp.network.wire_auth import Prover, fresh_nonce
from coach_exp.network.wire_messages import Answer, Cancel, Tensor, WirePlan
from coach_exp.network.wire_server import ServerSession
from coach_exp.network.wire_session import Event, Opened
from coach_exp.pipeline.cloud.compute import (
    CloudTask,
    ComputeThread,
    Failed,
    Judged,
    Offer,
    Part,
    Result,
)
from coach_exp.pipeline.cloud.settings import CloudSettings
from coach_exp.pipeline.cloud.work import CloudWork
from coach_exp.types.errors import LinkError

Say = Callable[[str], None]

STATUS_S: Final = 10.0
DRAIN_S: Final = 5.0  # for the tasks at hand, once the cloud is to stop
MAX_HANDSHAKES: Final = 128  # connections whose handshake is not over
ITEM_BYTES: Final = 1024  # what an item that waits takes besides its payload, about
MAX_LOOK_S: Final = 1.0  # between two looks at what is overdue


class CloudServer:
    """A cloud in the running event loop: `start`, then `stop`."""

    def __init__(self, settings: CloudSettings, work: CloudWork, say: Say) -> None:
        self.settings = settings
        self.port = settings.port
        self._say = say
        self._prover = Prover(settings.token)
        self._loop = asyncio.get_running_loop()
        self._compute = ComputeThread[_Client](work, self._tell_loop)
        self._connected: dict[Peer, _Client] = {}  # in the order in which they came
        self._stopping = False
        self._answered = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Listen. Raises ConfigError for TLS files and LinkError for an address that cannot be
        used."""
        settings, tls = self.settings, self.settings.tls()
        try:
            self._server = await self._loop.create_server(
                lambda: _Client(self).peer,
                settings.host,
                settings.port,
                ssl=tls,
                ssl_handshake_timeout=settings.handshake_s if tls else None,
            )
        except OSError as error:
            raise LinkError(
                f"the cloud cannot listen on {settings.host}:{settings.port}: {error}; "
                "transport.host must be an address of this machine and transport.port a free one: "
                "take another, or stop what listens there"
            ) from None
        self.port = self._server.sockets[0].getsockname()[1]
        self._compute.start()
        self._tasks = [self._loop.create_task(each) for each in (self._watch(), self._report())]
        trust = "asks for the token" if settings.token else "asks for no token"
        self._say(
            f"listening on {settings.host}:{self.port}: {settings.name}, model "
            f"{settings.fingerprint}, {trust}, {'TLS' if tls else 'no TLS'}"
        )

    async def stop(self) -> None:
        """Take no further clients and tasks; answer those at hand, for `DRAIN_S` at most."""
        self._stopping = True
        self._server.close()
        at_hand = sum(len(client.tasks) for client in self._clients())
        self._say(f"stopping: {at_hand} tasks are at hand")
        for client in self._clients():
            client.leave_if_done()
        until_s = self._loop.time() + DRAIN_S
        while self._connected and self._loop.time() < until_s:
            await asyncio.sleep(0.02)
        for client in self._clients():
            client.peer.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.sleep(0)  # for the last words
        ended = self._compute.stop(timeout_s=1.0)
        for client in self._clients():
            client.peer.abort("the cloud stops")
        await asyncio.sleep(0)  # for the loop to let them go
        self._say("stopped" if ended else "stopped in the middle of a task")

    # --- What clients ask for -------------------------------------------------------------------

    def connected(self, client: "_Client") -> None:
        """Take in a connection that stands; where too many handshakes are under way, the oldest
        makes room."""
        self._connected[client.peer] = client
        handshaking = [other for other in self._clients() if not other.opened]
        if len(handshaking) > MAX_HANDSHAKES:
            handshaking[0].close(f"{MAX_HANDSHAKES} newer connections wait for their handshake")

    def opened(self, client: "_Client") -> None:
        """Let a client in whose handshake is over, unless there is no room."""
        clients = sum(other.opened for other in self._clients())
        max_clients = self.settings.max_clients
        if clients > max_clients:
            client.close(f"the cloud has {max_clients} clients already; raise its max_clients")
        elif self._stopping:
            client.close("the cloud is stopping")
        else:
            self._say(f"{client.who} came; {clients} of at most {max_clients} clients")

    def queue(self, client: "_Client", item: Offer | Part, payload_bytes: int = 0) -> None:
        """Have something computed; a client with too much of it is read no further for now."""
        self._compute.queue.put(client, item, payload_bytes + ITEM_BYTES)
        if not client.paused and self._waiting_bytes(client) > self.settings.queue_bytes:
            client.paused = True
            client.peer.pause()

    @property
    def stopping(self) -> bool:
        """Whether no further tasks are taken."""
        return self._stopping

    def forget(self, client: "_Client") -> None:
        """Compute no more for a client."""
        for task in client.tasks.values():
            task.cancelled = True
        client.tasks.clear()
        self._compute.queue.forget(client)

    def gone(self, client: "_Client", reason: str) -> None:
        """Forget a client whose connection is over."""
        self._connected.pop(client.peer, None)
        self.forget(client)
        if client.opened:
            self._say(f"{client.who} left: {reason}; {client.answered} tasks were answered")
        else:
            self._say(f"{client.who} was not let in: {reason}")

    # --- What the compute thread has done -------------------------------------------------------

    def _tell_loop(self, client: "_Client", result: Result) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._done, client, result)

    def _done(self, client: "_Client", result: Result) -> None:
        if client.paused and self._waiting_bytes(client) <= self.settings.queue_bytes // 2:
            client.paused = False
            client.peer.resume()
        if client.peer.session.closed is not None:
            return
        match result:
            case Judged():
                refused = f" refused: {result.refusal}" if result.refusal else " accepted"
                self._say(f"{client.who}: plan {result.plan.plan} ({_cut(result.plan)}){refused}")
                client.judged(result)
            case Answer():
                self._answered += client.answer(result)
            case Failed():
                if result.bug is not None:
                    self._say(result.bug)
                client.close(result.reason)
        if client.peer.unsent_bytes > self.settings.unsent_bytes:
            client.close("the end does not read its answers")

    # --- What time brings -----------------------------------------------------------------------

    async def _watch(self) -> None:
        """Close what is overdue. Time in which this process did not run counts for nothing: what
        came meanwhile has not been read yet."""
        settings = self.settings
        min_s = min(settings.handshake_s, settings.idle_s, settings.frame_s)
        pause_s = min(min_s / 4, MAX_LOOK_S)
        before_s = monotonic()
        while True:
            await asyncio.sleep(pause_s)
            now_s = monotonic()
            passed_s, before_s = min(now_s - before_s, 2 * pause_s), now_s
            for client in self._clients():
                client.look(passed_s)

    async def _report(self) -> None:
        while True:
            answered, busy_s = self._answered, self._compute.busy_s
            await asyncio.sleep(STATUS_S)
            if self._answered > answered:
                rate = (self._answered - answered) / STATUS_S
                share = (self._compute.busy_s - busy_s) / STATUS_S
                clients = sum(client.opened for client in self._clients())
                self._say(
                    f"{self._answered} tasks answered, {rate:.1f} a second in the last "
                    f"{STATUS_S:.0f} s; {clients} clients; {share:.0%} of the time at work"
                )

    def _clients(self) -> "list[_Client]":
        return list(self._connected.values())

    def new_session(self) -> ServerSession:
        """Returns the session of a new connection."""
        settings = self.settings
        return ServerSession(
            settings.fingerprint, settings.name, fresh_nonce(), self._prover, settings.limits
        )

    def _waiting_bytes(self, client: "_Client") -> int:
        return self._compute.queue.waiting_bytes(client)


class _ServerPeer(Peer):
    """Tells its client that the connection stands."""

    client: "_Client"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.client.connected()


class _Client:
    """One connection, its plans, and its tasks that wait for an answer."""

    def __init__(self, server: CloudServer) -> None:
        self.peer = _ServerPeer(server.new_session(), self)
        self.peer.client = self
        self.opened = False
        self.paused = False
        self.answered = 0
        self.plans: dict[int, WirePlan] = {}
        self.tasks: dict[int, CloudTask] = {}
        self._server = server
        self._name = ""
        self._handshake_s = self._silent_s = self._within_frame_s = 0.0
        self._heard_s = 0.0
        self._frame: int | None = None

    @property
    def who(self) -> str:
        """The client's name and address, for people."""
        return f"{self._name} ({self.peer.address})" if self._name else self.peer.address

    def connected(self) -> None:
        """Tell the server that the connection stands; nothing was said yet."""
        self._server.connected(self)

    def heard(self, peer: Peer, event: Event, now_s: float) -> None:
        """Of `network.peer.Owner`: take what the end says."""
        match event:
            case Opened():
                self.opened, self._name = True, event.peer
                self._server.opened(self)
            case WirePlan():
                self._server.queue(self, Offer(event))
            case Tensor():
                self._take(event, now_s)
            case Cancel():
                task = self.tasks.pop(event.task, None)
                if task is not None:
                    task.cancelled = True
                self.leave_if_done()

    def gone(self, peer: Peer, reason: str) -> None:
        """Of `network.peer.Owner`: the connection is over."""
        self._server.gone(self, reason)

    def judged(self, judged: Judged) -> None:
        """Tell the end what became of its plan."""
        session, plan = self.peer.session, judged.plan
        assert isinstance(session, ServerSession)
        if judged.refusal is None:
            self.plans[plan.plan] = plan
            self.peer.write(session.accept_plan(plan.plan))
        else:
            self.peer.write(session.refuse_plan(plan.plan, judged.refusal))

    def answer(self, answer: Answer) -> bool:
        """Answer a task, unless it was cancelled meanwhile. Returns whether it was answered."""
        session = self.peer.session
        assert isinstance(session, ServerSession)
        self.tasks.pop(answer.task, None)
        data = session.answer(answer)
        self.peer.write(data)
        self.answered += bool(data)
        self.leave_if_done()
        return bool(data)

    def leave_if_done(self) -> None:
        """Say BYE where the cloud is stopping and this end waits for nothing."""
        if self._server.stopping and not self.tasks:
            self.peer.close()

    def close(self, reason: str) -> None:
        """Say why, and close; nothing more is computed."""
        self._server.forget(self)
        self.peer.close(reason)

    def look(self, passed_s: float) -> None:
        """Close a connection on which something is overdue, `passed_s` after the last look."""
        if self.peer.session.closed is not None or self.paused:
            return
        settings, heard_s, frame = self._server.settings, self.peer.heard_s, self.peer.session.frame
        self._handshake_s += passed_s
        self._silent_s = self._silent_s + passed_s if heard_s == self._heard_s else 0.0
        same_frame = frame is not None and frame == self._frame
        self._within_frame_s = self._within_frame_s + passed_s if same_frame else 0.0
        self._heard_s, self._frame = heard_s, frame
        if not self.opened and self._handshake_s > settings.handshake_s:
            self.close(f"the handshake was not over within {settings.handshake_s:g} s")
        elif self._silent_s > settings.idle_s:
            self.close(f"nothing came for {settings.idle_s:g} s, not even a PING")
        elif self._within_frame_s > settings.frame_s:
            self.close(f"a frame did not come whole within {settings.frame_s:g} s")
        elif self.peer.unsent_bytes > settings.unsent_bytes:
            self.close("the end does not read what the cloud sends")

    def _take(self, tensor: Tensor, now_s: float) -> None:
        task = self.tasks.get(tensor.task)
        if task is None:
            if self._server.stopping or tensor.part > 0:
                return  # never answered, so the end finishes it
            task = self.tasks[tensor.task] = CloudTask(tensor.task, self.plans[tensor.plan])
        part = Part(task, tensor.part, tensor.payload, now_s)
        self._server.queue(self, part, len(tensor.payload))


def serve(
    settings: CloudSettings,
    work: CloudWork,
    say: Say,
    *,
    listening: Callable[[int, Callable[[], None]], None] = lambda port, stop: None,
    signals: Collection[signal.Signals] = (signal.SIGINT, signal.SIGTERM),
) -> None:
    """Run a cloud until one of `signals` comes, and stop in order. `listening` is called in the
    event loop with the port and a function that stops as a signal does. Call in the main thread.
    Raises what `CloudServer.start` raises."""

    async def run() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in signals:
            loop.add_signal_handler(number, stop.set)
        server = CloudServer(settings, work, say)
        await server.start()
        listening(server.port, stop.set)
        await stop.wait()
        await server.stop()

    asyncio.run(run())


def _cut(plan: WirePlan) -> str:
    return " + ".join(f"{tensor.layer} at {tensor.bits} bits" for tensor in plan.crossing[:4])
