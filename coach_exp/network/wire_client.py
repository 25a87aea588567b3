"""The end's side of a connection: its first word, the cloud's proof, plans, tasks and answers.

In: what the end wants to say, the cloud's bytes. Out: bytes to write, events; a WireError where
this side or the cloud would break a rule.
"""

from typing import Final

from coach_exp.network import wire_messages as messages
from coach_exp.network.wire import DEFAULT_LIMITS, PROTOCOL_VERSION, Limits, encode
from coach_exp.network.wire_auth import Prover
from coach_exp.network.wire_session import FROM_BOTH, LAST_WORDS, Event, Opened, Send, Session
from coach_exp.types.errors import WireError

MAX_CANCELLED: Final = 4096  # whose answers may still be on their way

FROM_CLOUD: Final = FROM_BOTH | {messages.PlanOk, messages.PlanRefused, messages.Answer}


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
        super().__init__(messages.Challenge, limits)
        self._hello = messages.Hello(
            PROTOCOL_VERSION, fingerprint, messages.shown(client, messages.MAX_NAME_CHARS), nonce
        )
        self._prover = prover
        self._cloud_nonce = b""
        self._cancelled: dict[int, messages.WirePlan] = {}

    @property
    def unanswered(self) -> tuple[int, ...]:
        """Tasks of which something was sent, and that were neither answered nor cancelled: what the
        end finishes itself if the session closes."""
        return self._tasks.open

    def hello(self) -> bytes:
        """Returns the first bytes of the connection."""
        self._must_not_be_closed()
        return encode(self._hello)

    def register(self, plan: messages.WirePlan) -> bytes:
        """Returns the offer of a plan; its number may be used once PLAN_OK has come."""
        self._must_be_open()
        data = encode(plan, self._limits)
        self._plans.offer(plan)
        return data

    def tensor(self, tensor: messages.Tensor) -> bytes:
        """Returns the bytes of the next tensor of a task: tensors come in the plan's order, tasks
        in that of their numbers. Raises WireError where the cloud would refuse it."""
        self._must_be_open()
        data = encode(tensor, self._limits)
        self._tasks.take(tensor, self._plans)
        return data

    def cancel(self, task: int) -> bytes:
        """Returns the word that a task is given up; b"" for one of which nothing was sent, or that
        is answered."""
        self._must_be_open()
        plan = self._tasks.drop(task)
        if plan is None:
            return b""
        self._cancelled[task] = plan
        if len(self._cancelled) > MAX_CANCELLED:
            del self._cancelled[next(iter(self._cancelled))]
        return encode(messages.Cancel(task))

    def _on_own(self, message: messages.Message) -> list[Event]:
        match message:
            case messages.Challenge():
                return [self._prove(message)]
            case messages.Welcome():
                return [self._judge(message)]
            case messages.PlanOk() | messages.PlanRefused():
                if not self._plans.is_offered(message.plan):
                    raise WireError(f"the cloud judges plan {message.plan}, which was not offered")
                self._plans.judge(message.plan, accepted=isinstance(message, messages.PlanOk))
                return [message]
            case messages.Answer():
                return self._take(message)
        raise AssertionError(message)  # the decoder accepts no other kind

    def _prove(self, challenge: messages.Challenge) -> Send:
        if challenge.token and self._prover.token is None:
            raise WireError("the cloud asks for a token and this end has none; give it the cloud's")
        if self._prover.token is not None and not challenge.token:
            raise WireError(
                "this end has a token and the cloud asks for none, so that it need not be the one "
                "meant; give the cloud the token, or this end none"
            )
        self._cloud_nonce = challenge.nonce
        self._decoder.accepts = LAST_WORDS | {messages.Welcome}
        hello = self._hello
        proof = self._prover.proof("end", hello.nonce, challenge.nonce, hello.fingerprint)
        return Send(encode(messages.Proof(proof)))

    def _judge(self, welcome: messages.Welcome) -> Opened:
        hello = self._hello
        if not self._prover.holds(
            welcome.proof, "cloud", hello.nonce, self._cloud_nonce, hello.fingerprint
        ):
            raise WireError("the cloud does not prove that it has this end's token")
        self._open = True
        self._decoder.accepts = FROM_CLOUD
        return Opened(welcome.cloud)

    def _take(self, answer: messages.Answer) -> list[Event]:
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
