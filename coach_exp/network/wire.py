"""Frames: the bytes of one message, and messages from bytes in pieces of any size. No socket, no
thread, no clock.

    magic 4 | version 1 | kind 1 | header length 4 | payload length 4 | header | payload | CRC32 4

Integers are big-endian; the header is one msgpack map of the message's fields; the CRC is of all
bytes before it. Lengths are judged before anything of the frame is kept.
"""

import struct
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

import msgpack
from isal import isal_zlib
from pydantic import TypeAdapter, ValidationError

from coach_exp.network.wire_messages import (
    KINDS,
    MAX_LAYERS,
    MESSAGES,
    Hello,
    Kind,
    Message,
    Tensor,
    WirePlan,
    mistake,
)
from coach_exp.types.errors import WireError

MAGIC: Final = b"COAC"
FRAME_VERSION: Final = 1  # the layout of frames
PROTOCOL_VERSION: Final = 1  # the messages and their order
PREFIX: Final = struct.Struct(">4sBBII")
CRC: Final = struct.Struct(">I")
SMALL_HEADER_BYTES: Final = 4096  # the largest header of every kind but PLAN
NOTHING: Final = memoryview(b"")
EVERY_KIND: Final = frozenset(MESSAGES.values())

_READERS: Final = {message: TypeAdapter(message).validate_python for message in EVERY_KIND}
_KEYS: Final = {
    message: tuple(f.name for f in fields(message) if f.name != "payload") for message in EVERY_KIND
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What this side takes from a peer at most. `header_bytes` is for PLAN, every other header is
    small; `plans` counts those that a session may register, `open_tasks` the tasks that may wait
    for their answers."""

    header_bytes: int = 256 * 1024
    payload_bytes: int = 32 * 1024 * 1024
    plans: int = 256
    open_tasks: int = 1024

    def header(self, message: type[Message]) -> int:
        """Returns the bytes of the largest header of a kind."""
        return self.header_bytes if message is WirePlan else SMALL_HEADER_BYTES

    def payload(self, message: type[Message]) -> int:
        """Returns the bytes of the largest payload of a kind: TENSOR alone has one."""
        return self.payload_bytes if message is Tensor else 0


DEFAULT_LIMITS: Final = Limits()


def encode(message: Message, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Returns the frame of a message. Raises WireError for one that a peer of the same limits
    refuses."""
    kind = type(message)
    header = msgpack.packb({key: getattr(message, key) for key in _KEYS[kind]}, default=asdict)
    payload = message.payload if isinstance(message, Tensor) else b""
    _judge_sizes(kind, len(header), len(payload), limits)
    prefix = PREFIX.pack(MAGIC, FRAME_VERSION, KINDS[kind], len(header), len(payload))
    crc = isal_zlib.crc32(payload, isal_zlib.crc32(header, isal_zlib.crc32(prefix)))
    return b"".join((prefix, header, payload, CRC.pack(crc)))


@dataclass(frozen=True, slots=True)
class _Prefix:
    message: type[Message]
    header_bytes: int
    payload_bytes: int

    @property
    def frame_bytes(self) -> int:
        return PREFIX.size + self.header_bytes + self.payload_bytes + CRC.size


class FrameDecoder:
    """Bytes in, messages out. `accepts` lists the kinds that may come now; one of another kind is
    refused by its prefix, before its body is kept.

    >>> from coach_exp.network.wire_messages import PlanOk
    >>> decoder = FrameDecoder()
    >>> decoder.feed(encode(PlanOk(3))[:10]); decoder.next_message()
    >>> decoder.feed(encode(PlanOk(3))[10:]); decoder.next_message()
    PlanOk(plan=3)
    """

    def __init__(
        self,
        limits: Limits = DEFAULT_LIMITS,
        accepts: Collection[type[Message]] = EVERY_KIND,
    ) -> None:
        self.accepts = accepts
        self._limits = limits
        self._begun = bytearray()  # the beginning of a frame whose rest comes in later pieces
        self._fed = NOTHING  # what came last and is not read yet: behind `_begun`
        self._prefix: _Prefix | None = None
        self._ended = False
        self._broken: str | None = None
        self._whole = 0  # messages so far

    @property
    def frame(self) -> int | None:
        """The number of the frame of which a part has come; None between two frames."""
        return self._whole if self._begun else None

    def feed(self, data: bytes | memoryview) -> None:
        """Take what has arrived; b"" means that the peer hung up. Raises WireError once something
        was wrong."""
        self._refuse_if_broken()
        self._ended = self._ended or not data
        self._begun += self._fed
        self._fed = memoryview(data)

    def next_message(self) -> Message | None:
        """Returns the next message; None where more bytes are needed. Raises WireError with the
        rule that the bytes break, and for whatever is asked afterwards."""
        self._refuse_if_broken()
        try:
            return self._next_message()
        except WireError as broken:
            self._broken = str(broken)
            self._begun, self._fed = bytearray(), NOTHING
            raise

    def _refuse_if_broken(self) -> None:
        if self._broken is not None:
            raise WireError(f"the connection is to be closed, nothing more is read: {self._broken}")

    def _next_message(self) -> Message | None:
        if self._prefix is None:
            self._prefix = self._read_prefix()
        prefix = self._prefix
        if prefix is None or not self._has(prefix.frame_bytes):
            if self._ended and self._begun:
                raise WireError(f"the peer hung up within a frame, after {len(self._begun)} bytes")
            return None
        self._prefix = None
        self._whole += 1
        if not self._begun:  # read where it lies, without a copy
            frame = self._fed[: prefix.frame_bytes]
            self._fed = self._fed[prefix.frame_bytes :] or NOTHING
            return _read_frame(frame, prefix)
        with memoryview(self._begun) as begun:
            message = _read_frame(begun[: prefix.frame_bytes], prefix)
        del self._begun[: prefix.frame_bytes]
        return message

    def _has(self, size: int) -> bool:
        """Returns whether so many bytes have come, and lie in one piece: in `_begun`, or in `_fed`
        where that is empty."""
        if not self._begun and len(self._fed) >= size:
            return True
        missing = max(0, size - len(self._begun))
        self._begun += self._fed[:missing]
        self._fed = self._fed[missing:] or NOTHING  # which lets go of bytes that are read
        return len(self._begun) >= size

    def _read_prefix(self) -> _Prefix | None:
        self._has(PREFIX.size)
        start = bytes((self._begun or self._fed)[: PREFIX.size])
        if start[: len(MAGIC)] != MAGIC[: len(start)]:
            raise WireError(f"a frame begins with {MAGIC!r}; the peer does not speak this protocol")
        if len(start) < PREFIX.size:
            return None
        _, version, number, header_bytes, payload_bytes = PREFIX.unpack(start)
        if version != FRAME_VERSION:
            raise WireError(
                f"the peer's frames are of version {version}, those of this side of version "
                f"{FRAME_VERSION}; install the same release on both sides"
            )
        if number not in MESSAGES:
            raise WireError(f"there is no kind {number} of message; kinds are 1 to {len(MESSAGES)}")
        message = MESSAGES[Kind(number)]
        if message not in self.accepts:
            allowed = ", ".join(sorted(KINDS[other].name for other in self.accepts))
            raise WireError(f"{Kind(number).name} is out of order: only {allowed} may come now")
        _judge_sizes(message, header_bytes, payload_bytes, self._limits)
        return _Prefix(message, header_bytes, payload_bytes)


def _judge_sizes(
    message: type[Message], header_bytes: int, payload_bytes: int, limits: Limits
) -> None:
    for what, size, max_bytes in (
        ("header", header_bytes, limits.header(message)),
        ("payload", payload_bytes, limits.payload(message)),
    ):
        if size > max_bytes:
            raise WireError(
                f"the {what} of a {KINDS[message].name} has at most {max_bytes} bytes, not {size}"
            )


def _read_frame(frame: memoryview, prefix: _Prefix) -> Message:
    body = len(frame) - CRC.size
    if isal_zlib.crc32(frame[:body]) != CRC.unpack(frame[body:])[0]:
        raise WireError(f"the CRC of a {KINDS[prefix.message].name} does not fit its bytes")
    end = PREFIX.size + prefix.header_bytes
    values = _read_header(frame[PREFIX.size : end], prefix.message)
    if prefix.message is Tensor:
        values["payload"] = bytes(frame[end:body])
    try:
        return _READERS[prefix.message](values)
    except ValidationError as found:
        raise WireError(f"a {KINDS[prefix.message].name} is wrong: {mistake(found)}") from None


def _read_header(header: memoryview, message: type[Message]) -> dict[str, Any]:
    name = KINDS[message].name
    try:
        values = msgpack.unpackb(
            header,
            use_list=False,
            object_pairs_hook=_without_duplicates,
            # An array is allocated by the length it claims, so only PLAN, which needs them, may.
            max_array_len=MAX_LAYERS if message is WirePlan else 0,
            max_map_len=16,
            max_ext_len=0,
        )
    except (ValueError, msgpack.UnpackException) as cause:
        raise WireError(f"the header of a {name} is no msgpack that is taken: {cause}") from None
    if not isinstance(values, dict):
        raise WireError(f"the header of a {name} is a map of its fields")
    if message is Hello and values.get("protocol", PROTOCOL_VERSION) != PROTOCOL_VERSION:
        # Before anything else: another version may have other fields.
        raise WireError(
            f"the peer speaks version {_number(values['protocol'])} of the protocol, this side "
            f"version {PROTOCOL_VERSION}; install the same release on both sides"
        )
    if "payload" in values:
        raise WireError(f"the header of a {name} has no field 'payload'")
    return values


def _without_duplicates(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key stands twice in a map")
    return values


def _number(value: object) -> str:
    return str(value) if type(value) is int else "?"
