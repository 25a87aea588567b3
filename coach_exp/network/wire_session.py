"""One connection as each side sees it: what may be said now, and what was said.

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
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, TypeAlias

from coach_exp.network.wire import DEFAULT_LIMITS, PROTOCOL_VERSION, FrameDecoder, Limits, encode
from coach_exp.network.wire_auth import Prover
from coach_exp.network.wire_messages import (
    LONGEST_NAME,
    Answer,
    Bye,
    Cancel,
    Challenge,
    Hello,
    Message,
    Ping,
    PlanOk,
    PlanRefused,
    Pong,
    Proof,
    Refused,
    Tensor,
    Welcome,
    WirePlan,
    shown,
)
from coach_exp.types.errors import WireError

MAX_PINGS: Final = 16  # that may wait for their answers
MAX_CANCELLED: Final = 4096  # whose answers may still be on their way

ALWAYS: Final = frozenset({Refused, Bye})
FROM_END: Final = ALWAYS | {WirePlan, Tensor, Cancel, Ping, Pong}
FROM_CLOUD: Final = ALWAYS | {PlanOk, PlanRefused, Answer, Ping, Pong}


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


Event: TypeAlias = (
    Send
    | Opened
    | Closed
    | WirePlan
    | PlanOk
    | PlanRefused
    | Tensor
    | Answer
    | Cancel
    | Ping
    | Pong
)


class Session:
    """What both sides have in common: the way from bytes to events, clocks, and the end."""

    def __init__(self, first: Collection[type[Message]], limits: Limits) -> None:
        self._limits = limits
        self._decoder = FrameDecoder(limits, first)
        self._open = False
        self._closed: str | None = None
        self._left = False
        self._pings: deque[float] = deque()

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
        """The peer's bytes -> what follows from them, in order; b"": it hung up. What comes after
        this side's own last word is not read. Raises WireError for bytes after a Closed."""
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
        """Ask the peer for its clock. Raises WireError where it has not answered many times."""
        self._must_be_open()
        if len(self._pings) == MAX_PINGS:
            raise WireError(f"the peer has not answered the last {MAX_PINGS} pings")
        self._pings.append(now_s)
        return encode(Ping(now_s))

    def pong(self, ping: Ping, received_s: float, now_s: float) -> bytes:
        """Answer a ping that came at `received_s`, now."""
        self._must_be_open()
        return encode(Pong(ping.sent_s, received_s, now_s))

    def bye(self) -> bytes:
        """The last word of a side that has nothing against the other."""
        self._must_not_be_closed()
        self._closed, self._left = "this side said BYE", True
        return encode(Bye())

    def refuse(self, reason: str) -> bytes:
        """The last word of a side that will not go on, with its reason."""
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
        """Events of a message that only one side can be sent."""
        raise NotImplementedError

    def _must_not_be_closed(self) -> None:
        if self._closed is not None:
            raise WireError(f"the session is over: {self._closed}")

    def _must_be_open(self) -> None:
        self._must_not_be_closed()
        if not self._open:
            raise WireError("nothing is said before WELCOME but the handshake")


class ClientSession(Session):
    """The end's side: `hello` first, then what `receive` says."""

    def __init__(
        self,
        fingerprint: str,
        client: str,
        nonce: bytes,
        prover: Prover,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        super().__init__(ALWAYS | {Challenge}, limits)
        self._hello = Hello(PROTOCOL_VERSION, fingerprint, shown(client, LONGEST_NAME), nonce)
        self._prover = prover
        self._cloud_nonce = b""
        self._offered: dict[int, WirePlan] = {}
        self._plans: dict[int, WirePlan] = {}
        self._tasks = _Tasks(limits.open_tasks)
        self._cancelled: dict[int, WirePlan] = {}

    @property
    def unanswered(self) -> tuple[int, ...]:
        """Tasks of which something was sent, and that were neither answered nor cancelled: what the
        end finishes itself if the session closes."""
        return self._tasks.open

    def hello(self) -> bytes:
        """The first bytes of the connection."""
        self._must_not_be_closed()
        return encode(self._hello)

    def register(self, plan: WirePlan) -> bytes:
        """Offer a plan to the cloud; its number may be used once PLAN_OK has come."""
        self._must_be_open()
        if plan.plan in self._offered or plan.plan in self._plans:
            raise WireError(f"plan {plan.plan} was offered before; each plan has its own number")
        data = encode(plan, self._limits)
        self._offered[plan.plan] = plan
        return data

    def tensor(self, tensor: Tensor) -> bytes:
        """Send the next tensor of a task: those of a task in the plan's order, tasks in that of
        their numbers. Raises WireError where the cloud would refuse it."""
        self._must_be_open()
        data = encode(tensor, self._limits)
        self._tasks.take(tensor, self._plans)
        return data

    def cancel(self, task: int) -> bytes:
        """Give up a task; b"" for one of which nothing was sent, or that is answered."""
        self._must_be_open()
        plan = self._tasks.drop(task)
        if plan is None:
            return b""
        self._cancelled[task] = plan
        if len(self._cancelled) > MAX_CANCELLED:
            del self._cancelled[next(iter(self._cancelled))]
        return encode(Cancel(task))

    def _on_own(self, message: Message) -> list[Event]:
        match message:
            case Challenge():
                return [self._prove(message)]
            case Welcome():
                return [self._judge(message)]
            case PlanOk() | PlanRefused():
                plan = self._offered.pop(message.plan, None)
                if plan is None:
                    raise WireError(f"the cloud judges plan {message.plan}, which was not offered")
                if isinstance(message, PlanOk):
                    self._plans[message.plan] = plan
                return [message]
            case Answer():
                return self._take(message)
        raise AssertionError(message)  # the decoder accepts no other kind

    def _prove(self, challenge: Challenge) -> Send:
        if challenge.token and self._prover.token is None:
            raise WireError("the cloud asks for a token and this end has none; give it the cloud's")
        if self._prover.token is not None and not challenge.token:
            raise WireError(
                "this end has a token and the cloud asks for none, so that it need not be the one "
                "meant; give the cloud the token, or this end none"
            )
        self._cloud_nonce = challenge.nonce
        self._decoder.accepts = ALWAYS | {Welcome}
        hello = self._hello
        proof = self._prover.proof("end", hello.nonce, challenge.nonce, hello.fingerprint)
        return Send(encode(Proof(proof)))

    def _judge(self, welcome: Welcome) -> Opened:
        hello = self._hello
        if not self._prover.holds(
            welcome.proof, "cloud", hello.nonce, self._cloud_nonce, hello.fingerprint
        ):
            raise WireError("the cloud does not prove that it has this end's token")
        self._open = True
        self._decoder.accepts = FROM_CLOUD
        return Opened(welcome.cloud)

    def _take(self, answer: Answer) -> list[Event]:
        late = self._cancelled.get(answer.task)
        plan = late or self._tasks.waiting(answer.task)
        if plan is None:
            raise WireError(
                f"task {answer.task} is answered, which does not wait for an answer: it was never "
                "sent whole, or is answered already"
            )
        if answer.exit is not None and answer.exit not in {head.layer for head in plan.heads}:
            raise WireError(f"task {answer.task} left at {answer.exit!r}, no exit of its plan")
        if late:
            del self._cancelled[answer.task]
            return []
        self._tasks.drop(answer.task)
        return [answer]


class ServerSession(Session):
    """The cloud's side of one connection: it waits for HELLO."""

    def __init__(
        self,
        fingerprint: str,
        cloud: str,
        nonce: bytes,
        prover: Prover,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        super().__init__(ALWAYS | {Hello}, limits)
        self._fingerprint = fingerprint
        self._cloud = shown(cloud, LONGEST_NAME)
        self._nonce = nonce
        self._prover = prover
        self._hello: Hello | None = None
        self._offered: dict[int, WirePlan] = {}
        self._plans: dict[int, WirePlan] = {}
        self._tasks = _Tasks(limits.open_tasks)

    def accept_plan(self, number: int) -> bytes:
        """Let tasks name a plan that was offered."""
        self._must_be_open()
        self._plans[number] = self._offered.pop(number)
        return encode(PlanOk(number))

    def refuse_plan(self, number: int, reason: str) -> bytes:
        """Refuse a plan that was offered; its number may be offered again."""
        self._must_be_open()
        del self._offered[number]
        return encode(PlanRefused(number, shown(reason)))

    def waits(self, task: int) -> bool:
        """Whether a task that has come whole is to be computed: neither cancelled nor answered."""
        return self._closed is None and self._tasks.waiting(task) is not None

    def answer(self, answer: Answer) -> bytes:
        """Answer a task; b"" for one that no longer waits, since it was cancelled meanwhile."""
        self._must_be_open()
        if self._tasks.waiting(answer.task) is None:
            return b""
        self._tasks.drop(answer.task)
        return encode(answer)

    def _on_own(self, message: Message) -> list[Event]:
        match message:
            case Hello():
                return [self._challenge(message)]
            case Proof():
                return self._judge(message)
            case WirePlan():
                return [self._offer(message)]
            case Tensor():
                self._tasks.take(message, self._plans)
                return [message]
            case Cancel():
                if message.task > self._tasks.last:
                    raise WireError(f"task {message.task} is cancelled, which was never begun")
                # One that does not wait was answered while the CANCEL was on its way.
                return [message] if self._tasks.drop(message.task) else []
        raise AssertionError(message)  # the decoder accepts no other kind

    def _challenge(self, hello: Hello) -> Send:
        self._hello = hello
        self._decoder.accepts = ALWAYS | {Proof}
        return Send(encode(Challenge(self._nonce, self._prover.token is not None)))

    def _judge(self, proof: Proof) -> list[Event]:
        hello = self._hello
        assert hello is not None
        nonces = (hello.nonce, self._nonce)
        if not self._prover.holds(proof.proof, "end", *nonces, hello.fingerprint):
            raise WireError(f"{hello.client} does not prove that it has the cloud's token")
        # Only now: a peer without the token learns nothing of the model.
        if hello.fingerprint != self._fingerprint:
            raise WireError(
                f"the end's model is {hello.fingerprint}, the cloud's {self._fingerprint}; both "
                "sides need the same model and weights"
            )
        self._open = True
        self._decoder.accepts = FROM_END
        welcome = Welcome(self._cloud, self._prover.proof("cloud", *nonces, hello.fingerprint))
        return [Send(encode(welcome)), Opened(hello.client)]

    def _offer(self, plan: WirePlan) -> Event:
        if plan.plan in self._offered or plan.plan in self._plans:
            raise WireError(f"plan {plan.plan} was offered before; each plan has its own number")
        if len(self._offered) + len(self._plans) >= self._limits.plans:
            reason = f"a connection registers at most {self._limits.plans} plans"
            return Send(encode(PlanRefused(plan.plan, reason)))
        self._offered[plan.plan] = plan
        return plan


class _Tasks:
    """The tasks of one session that are being sent or wait for their answer.

    Tasks begin in the order of their numbers, so that one number tells a new task from a replayed
    one however many there were.
    """

    def __init__(self, most: int) -> None:
        self.last = -1
        self._most = most
        self._sent: dict[int, tuple[int, WirePlan]] = {}  # task -> tensors so far, plan

    @property
    def open(self) -> tuple[int, ...]:
        return tuple(self._sent)

    def waiting(self, task: int) -> WirePlan | None:
        """The plan of a task that has come whole and is not answered; None for any other."""
        sent, plan = self._sent.get(task, (0, None))
        return plan if plan is not None and sent == len(plan.crossing) else None

    def drop(self, task: int) -> WirePlan | None:
        """Forget a task: its plan; None where it is not open."""
        _, plan = self._sent.pop(task, (0, None))
        return plan

    def take(self, tensor: Tensor, plans: dict[int, WirePlan]) -> None:
        """Count the next tensor of a task. Raises WireError for one that breaks the order."""
        task, part = tensor.task, tensor.part
        plan = plans.get(tensor.plan)
        if plan is None:
            raise WireError(f"task {task} names plan {tensor.plan}, which is not registered")
        due = self._due(task, plan)
        if part < due:
            raise WireError(f"tensor {part} of task {task} comes twice")
        parts = len(plan.crossing)
        if (part, tensor.parts) != (due, parts) or tensor.layer != plan.crossing[due].layer:
            raise WireError(
                f"tensor {part} of {tensor.parts} of task {task}, {shown(tensor.layer, 80)!r}, is "
                f"not the next one of its plan, which has {parts}: {due} have come"
            )
        self.last = max(self.last, task)
        self._sent[task] = (part + 1, plan)

    def _due(self, task: int, plan: WirePlan) -> int:
        if task in self._sent:
            due, begun_with = self._sent[task]
            if begun_with is not plan:
                raise WireError(f"task {task} changes its plan on the way")
            return due
        if task <= self.last:
            raise WireError(
                f"task {task} was begun before, or skipped: tasks begin in the order of their "
                "numbers, each once"
            )
        if len(self._sent) >= self._most:
            raise WireError(f"at most {self._most} tasks wait for their answers")
        return 0
