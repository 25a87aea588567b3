"""What the end and the cloud say to each other: one frozen value per kind of message.

Every value is checked when it is made, whether here or from a peer's bytes: exact types, ranges, no
unknown keys, text that can be printed as it is. pydantic's ValidationError, which is a ValueError,
says what is wrong. Seconds named `_s` are of the sender's own clock unless said otherwise.
"""

from enum import IntEnum
from typing import Annotated, TypeAlias, TypeVar, cast, dataclass_transform, get_args

from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from coach_exp.types.errors import WireError
from coach_exp.types.plan import Plan

NONCE_BYTES = 32
PROOF_BYTES = 32
MAX_LAYERS = 4096  # that a plan may name
MAX_CROSSING = 256  # tensors of one task
MAX_NAME_CHARS = 200
MAX_REASON_CHARS = 400
MAX_WORK_S = 60.0  # that a plan may ask of the cloud for one tensor

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def message(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass whose fields are checked whenever one is made."""
    config = ConfigDict(extra="forbid", allow_inf_nan=False)
    return cast(type[T], dataclass(frozen=True, slots=True, config=config)(cls))


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("should hold printable characters alone")
    return text


def _not_nan(value: float) -> float:
    if value != value:
        raise ValueError("should be a number")
    return value


def _width(bits: int) -> int:
    if not (1 <= bits <= 8 or bits in (16, 32)):
        raise ValueError("should be 1 to 8, 16 or 32")
    return bits


Name = Annotated[
    str, Field(strict=True, min_length=1, max_length=MAX_NAME_CHARS), AfterValidator(_printable)
]
Reason = Annotated[
    str, Field(strict=True, min_length=1, max_length=MAX_REASON_CHARS), AfterValidator(_printable)
]
Nonce = Annotated[bytes, Field(strict=True, min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
ProofBytes = Annotated[bytes, Field(strict=True, max_length=PROOF_BYTES)]
Count = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
TaskNumber = Annotated[int, Field(strict=True, ge=0, lt=2**53)]
Bits = Annotated[int, Field(strict=True), AfterValidator(_width)]
Clock = Annotated[float, Field(strict=True)]
Work = Annotated[float, Field(strict=True, ge=0, le=MAX_WORK_S)]
Threshold = Annotated[float, Field(strict=True, allow_inf_nan=True), AfterValidator(_not_nan)]


class Kind(IntEnum):
    """The number of a message's kind in its frame; `Message` has the kinds in the same order."""

    HELLO = 1
    CHALLENGE = 2
    PROOF = 3
    WELCOME = 4
    REFUSED = 5
    PLAN = 6
    PLAN_OK = 7
    PLAN_REFUSED = 8
    TENSOR = 9
    ANSWER = 10
    CANCEL = 11
    PING = 12
    PONG = 13
    BYE = 14


@message
class Hello:
    """End to cloud, first of all: the protocol and the model that the end has."""

    protocol: Count
    fingerprint: Name
    client: Name
    nonce: Nonce


@message
class Challenge:
    """Cloud to end: the cloud's nonce, and whether it asks for a token."""

    nonce: Nonce
    token: Annotated[bool, Field(strict=True)]


@message
class Proof:
    """End to cloud: that it has the token; empty where the cloud asks for none."""

    proof: ProofBytes


@message
class Welcome:
    """Cloud to end: that it has the token too; empty where there is none."""

    cloud: Name
    proof: ProofBytes


@message
class Refused:
    """Either side, its last word: why it closes the connection."""

    reason: Reason


@message
class CrossingTensor:
    """One tensor of a plan; its arrival lets the cloud work `work_s` seconds more."""

    layer: Name
    bits: Bits
    work_s: Work


@message
class CloudHead:
    """An exit head on the cloud, behind `layer`, when the cloud has computed `at_s` seconds of the
    task. A task of at least `threshold` is answered there; inf: none is."""

    layer: Name
    at_s: Work
    threshold: Threshold


@message
class WirePlan:
    """End to cloud: the cloud's part of a plan, under a number that its tasks name. `crossing` is
    in sending order, `end_layers` in the order of execution."""

    plan: Count
    end_layers: Annotated[tuple[Name, ...], Field(min_length=1, max_length=MAX_LAYERS)]
    crossing: Annotated[tuple[CrossingTensor, ...], Field(min_length=1, max_length=MAX_CROSSING)]
    heads: Annotated[tuple[CloudHead, ...], Field(max_length=MAX_CROSSING)] = ()

    def __post_init__(self) -> None:
        sent = [tensor.layer for tensor in self.crossing]
        if len(set(sent)) < len(sent) or len(set(self.end_layers)) < len(self.end_layers):
            raise ValueError("should name no layer twice")
        if not set(sent) <= set(self.end_layers):
            raise ValueError("should send outputs of its end layers alone")


@message
class PlanOk:
    """Cloud to end: tasks may name this plan from now on."""

    plan: Count


@message
class PlanRefused:
    """Cloud to end: no task may name this plan; the connection stays."""

    plan: Count
    reason: Reason


@message
class Tensor:
    """End to cloud: crossing tensor `part` (from 0) of the `parts` of a task's plan. `payload` is
    what the codec made of it and travels behind the header."""

    task: TaskNumber
    plan: Count
    layer: Name
    part: Annotated[int, Field(strict=True, ge=0, lt=MAX_CROSSING)]
    parts: Annotated[int, Field(strict=True, ge=1, le=MAX_CROSSING)]
    payload: Annotated[bytes, Field(strict=True)]

    def __post_init__(self) -> None:
        if self.part >= self.parts:
            raise ValueError("part should be less than parts")


@message
class Answer:
    """Cloud to end: the label of a task, and the layer whose exit head gave it (None: the model's
    end did).

    When the task's last byte had arrived, when the cloud's work on it began and ended, and the
    seconds it worked; the cloud's clock.
    """

    task: TaskNumber
    label: Count
    exit: Name | None
    received_s: Clock
    start_s: Clock
    end_s: Clock
    busy_s: Annotated[float, Field(strict=True, ge=0)]

    def __post_init__(self) -> None:
        if not max(self.received_s, self.start_s) <= self.end_s:
            raise ValueError("end_s should not be before received_s or start_s")


@message
class Cancel:
    """End to cloud: the task was given up, its answer is not waited for."""

    task: TaskNumber


@message
class Ping:
    """Either side: when it was sent."""

    sent_s: Clock


@message
class Pong:
    """The other side's reply: `ping_s` is the ping's own word; it came and the reply left at the
    other two on the replying side's clock. The offset of the clocks follows from the four."""

    ping_s: Clock
    received_s: Clock
    sent_s: Clock


@message
class Bye:
    """Either side, its last word: nothing is wrong."""


Handshake: TypeAlias = Hello | Challenge | Proof | Welcome
Traffic: TypeAlias = (  # after the handshake, until the last word
    WirePlan | PlanOk | PlanRefused | Tensor | Answer | Cancel | Ping | Pong
)
Message: TypeAlias = Handshake | Refused | Traffic | Bye

MESSAGES: dict[Kind, type[Message]] = dict(zip(Kind, get_args(Message), strict=True))
KINDS: dict[type[Message], Kind] = {cls: kind for kind, cls in MESSAGES.items()}


def wire_plan(number: int, plan: Plan) -> WirePlan:
    """Returns what the cloud must know of a plan. Raises WireError for one that the wire cannot
    carry."""
    try:
        return WirePlan(
            plan=number,
            end_layers=plan.end_layers,
            crossing=tuple(
                CrossingTensor(sent.layer, sent.bits, float(work_s))
                for sent, work_s in zip(plan.crossing, plan.cloud_work_s, strict=True)
            ),
            heads=tuple(
                CloudHead(head.layer, float(head.at_s), float(head.threshold))
                for head in plan.heads
                if head.side == "cloud"
            ),
        )
    except ValidationError as found:
        raise WireError(f"plan {plan.cut_name} cannot be sent: {mistake(found)}") from None


def mistake(found: ValidationError) -> str:
    """Returns the first mistake in words, without the value, which may be a peer's:
    `crossing.0.bits should be 1 to 8, 16 or 32`."""
    first = found.errors(include_input=False, include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    words = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{shown(place, 80)} {words}".strip()


def shown(text: str, max_chars: int = MAX_REASON_CHARS) -> str:
    """Returns a text that can be printed and sent: cut, with '?' for what cannot be printed.

    >>> shown("bell\\a and more", 9), shown("")
    ('bell? an…', '?')
    """
    clean = "".join(c if c.isprintable() else "?" for c in text[: max_chars + 1]) or "?"
    return clean if len(clean) <= max_chars else clean[: max_chars - 1] + "…"
