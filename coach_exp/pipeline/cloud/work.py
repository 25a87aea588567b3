"""What the cloud does with the tensors of a task, behind a protocol: compute, or emulate that for
the time that a profile says.

In: a plan as the end registered it, then the payloads of each task, in the plan's order. Out: when
the work on each ended, and the label once all have come. `ProfileWork` computes nothing: payloads
of the real sizes travel, and what the task's answer will be travels in them. All seconds are of
`time.monotonic`. The work is done in the one compute thread of the cloud, which it blocks.
"""

import struct
from math import inf
from time import monotonic, sleep
from typing import Final, NamedTuple, Protocol

from coach_exp.network.wire_messages import WirePlan
from coach_exp.types.errors import CodecError

INSTRUCTION: Final = struct.Struct(">IH")  # label, place of the plan's head that answers
NO_EXIT: Final = 0xFFFF
MAX_LABELS: Final = 2**31  # as an ANSWER has


class Step(NamedTuple):
    """The work on one tensor ended at `end_s`. `label` is None while tensors of the task are
    missing; `exit` is the layer whose head gave it, None: the model's end did."""

    end_s: float
    label: int | None = None
    exit: str | None = None


class TaskWork(Protocol):
    """The cloud's part of one task."""

    def take(self, part: int, payload: bytes, from_s: float) -> Step:
        """Work on tensor `part` and return the step. `from_s` is when that may begin: when the
        tensor had come and the work before was over, however late this is called. Raises CoachError
        for a payload that cannot be used."""


class CloudWork(Protocol):
    """What a cloud can do for the plans that it accepts."""

    def accept(self, plan: WirePlan) -> None:
        """Judge a plan. Raises CoachError with the reason where its tasks cannot be computed."""

    def start(self, plan: WirePlan) -> TaskWork:
        """Begin a task of an accepted plan and return it; several may be in progress."""


def instruction(size_bytes: int, label: int, exit_index: int | None = None) -> bytes:
    """Returns a payload of `size_bytes` that tells `ProfileWork` the task's answer: its label, and
    the place among the plan's heads of the one that gives it (None: none does). Raises CodecError
    where the size has no room for that.

    >>> instruction(8, label=3, exit_index=1).hex()
    '0000000300010000'
    """
    if size_bytes < INSTRUCTION.size:
        raise CodecError(
            f"a payload of {size_bytes} bytes cannot tell the cloud what to answer; with "
            f"compute=profile a tensor takes {INSTRUCTION.size} at least: raise "
            "quantizer.header_bytes, or use compute=live"
        )
    place = NO_EXIT if exit_index is None else exit_index
    return INSTRUCTION.pack(label, place).ljust(size_bytes, b"\0")


class ProfileWork:
    """Emulates the work on each tensor for its `work_s`; accepts every plan."""

    def accept(self, plan: WirePlan) -> None:
        """A plan says itself how long its tasks take."""

    def start(self, plan: WirePlan) -> "ProfileTask":
        """Begin a task and return it."""
        return ProfileTask(plan)


class ProfileTask:
    """One task that is not computed. Its first payload holds the answer; where a head gives it, the
    work ends after that head's `at_s` seconds.

    Time is virtual: a tensor takes the cloud from `from_s` on for exactly its seconds, and a
    thread that wakes late does not delay what comes next.
    """

    def __init__(self, plan: WirePlan) -> None:
        self._plan = plan
        self._label = 0
        self._exit: str | None = None
        self._left_s = inf  # until the head that answers

    def take(self, part: int, payload: bytes, from_s: float) -> Step:
        """Wait for as long as the tensor takes the cloud, and return the step. Raises CodecError
        for a first payload that is no instruction."""
        if part == 0:
            self._read(payload)
        work_s = min(self._plan.crossing[part].work_s, self._left_s)
        self._left_s -= work_s
        end_s = from_s + work_s
        _wait_until(end_s)
        if part < len(self._plan.crossing) - 1:
            return Step(end_s)
        return Step(end_s, self._label, self._exit)

    def _read(self, payload: bytes) -> None:
        if len(payload) < INSTRUCTION.size:
            raise CodecError(
                f"the payload has {len(payload)} bytes and cannot tell what to answer; this cloud "
                "computes nothing (compute=profile): use the same on the end"
            )
        self._label, place = INSTRUCTION.unpack_from(payload)
        if self._label >= MAX_LABELS:
            raise CodecError(
                f"the payload tells label {self._label}; one is less than {MAX_LABELS}: does the "
                "end compute (compute=live) and this cloud not?"
            )
        if place == NO_EXIT:
            return
        if place >= len(self._plan.heads):
            raise CodecError(
                f"the payload tells that head {place} answers; its plan has {len(self._plan.heads)}"
            )
        head = self._plan.heads[place]
        self._exit, self._left_s = head.layer, head.at_s


def _wait_until(end_s: float) -> None:
    while (left_s := end_s - monotonic()) > 0:
        sleep(left_s)
