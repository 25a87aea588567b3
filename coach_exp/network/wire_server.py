"""The cloud's side of a connection: an end let in or not, its plans, its tasks, their answers.

In: the end's bytes, what the cloud answers. Out: bytes to write, events; a WireError where the end
breaks a rule.
"""

from typing import Final

from coach_exp.network.wire import DEFAULT_LIMITS, Limits, encode
from coach_exp.network.wire_auth import Prover
from coach_exp.network.wire_messages import (
    MAX_NAME_CHARS,
    Answer,
    Cancel,
    Challenge,
    Hello,
    Message,
    PlanOk,
    PlanRefused,
    Proof,
    Tensor,
    Welcome,
    WirePlan,
    shown,
)
from coach_exp.network.wire_session import FROM_BOTH, LAST_WORDS, Event, Opened, Send, Session
from coach_exp.types.errors import WireError

FROM_END: Final = FROM_BOTH | {WirePlan, Tensor, Cancel}


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
        super().__init__(Hello, limits)
        self._fingerprint = fingerprint
        self._cloud = shown(cloud, MAX_NAME_CHARS)
        self._nonce = nonce
        self._prover = prover
        self._hello: Hello | None = None

    def accept_plan(self, number: int) -> bytes:
        """Let tasks name a plan that was offered, and return the word for the end."""
        self._must_be_open()
        self._plans.judge(number, accepted=True)
        return encode(PlanOk(number))

    def refuse_plan(self, number: int, reason: str) -> bytes:
        """Refuse a plan that was offered, whose number may be offered again, and return the word
        for the end."""
        self._must_be_open()
        self._plans.judge(number, accepted=False)
        return encode(PlanRefused(number, shown(reason)))

    def waits(self, task: int) -> bool:
        """Returns whether a task that has come whole is to be computed: it is neither cancelled nor
        answered."""
        return self._closed is None and self._tasks.waiting(task) is not None

    def answer(self, answer: Answer) -> bytes:
        """Returns the bytes of an answer; b"" for a task that no longer waits, since it was
        cancelled meanwhile."""
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
        self._decoder.accepts = LAST_WORDS | {Proof}
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
        self._plans.offer(plan)
        if len(self._plans) > self._limits.plans:
            self._plans.judge(plan.plan, accepted=False)
            reason = f"a connection registers at most {self._limits.plans} plans"
            return Send(encode(PlanRefused(plan.plan, reason)))
        return plan
