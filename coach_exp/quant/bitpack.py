"""Codes of 1 to 8 bits packed without gaps (the payload of UAQ; paper, Section III-B).

In: codes, one per byte. Out: a bit string in which code k occupies bits [k·b, (k+1)·b), the least
significant bit first, and back. Eight codes of b bits are exactly b bytes, so both ways work on
64-bit lanes that hold eight codes each, and every width takes the same few passes over memory.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from coach_exp.types.errors import CodecError

Lanes = NDArray[np.uint64]


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that `count` codes of `bits` bits take, rounded up once, at the end.

    >>> packed_bytes(200_704, 4), packed_bytes(3, 3)
    (100352, 2)
    """
    return (count * bits + 7) // 8


def pack(codes: NDArray[np.uint8], bits: int) -> bytes:
    """Codes of `bits` bits, 1 to 8, without gaps: [n] uint8 -> ceil(n·bits/8) bytes.

    Bits left over in the last byte are 0. Raises CodecError for another width, for what is not a
    flat array of bytes, and for a code that does not fit.

    >>> pack(np.array([1, 2, 3], np.uint8), 4).hex()
    '2103'
    """
    _check_width(bits)
    if codes.dtype != np.uint8 or codes.ndim != 1:
        raise CodecError(f"codes are {codes.dtype} {list(codes.shape)}; they must be uint8 [n]")
    largest = int(codes.max(initial=0))
    if largest >> bits:
        raise CodecError(f"code {largest} does not fit {bits} bits; the largest is {2**bits - 1}")
    if bits == 8:
        return codes.tobytes()
    lanes = np.zeros(packed_bytes(len(codes), 1), "<u8")
    lanes.view(np.uint8)[: len(codes)] = codes
    _close_gaps(lanes, bits)
    return _low_bytes(lanes, bits)[: packed_bytes(len(codes), bits)].tobytes()


def unpack(payload: bytes, count: int, bits: int) -> NDArray[np.uint8]:
    """The `count` codes that `pack` made into `payload`: bytes -> [count] uint8.

    Raises CodecError for another width, a payload of another length, and left-over bits that are
    not 0.

    >>> unpack(bytes.fromhex("2103"), 3, 4)
    array([1, 2, 3], dtype=uint8)
    """
    _check_width(bits)
    if count < 0 or len(payload) != packed_bytes(count, bits):
        raise CodecError(
            f"{len(payload)} bytes cannot hold {count} codes of {bits} bits, which take exactly "
            f"{packed_bytes(max(count, 0), bits)}"
        )
    left_over = 8 * len(payload) - count * bits
    if left_over and payload[-1] >> (8 - left_over):
        raise CodecError(f"the last {left_over} bits of the payload hold no code; they must be 0")
    if bits == 8:
        return np.frombuffer(payload, np.uint8).copy()
    lanes = _lanes_of(payload, packed_bytes(count, 1), bits)
    _open_gaps(lanes, bits)
    return lanes.view(np.uint8)[:count]


def _check_width(bits: int) -> None:
    if not 1 <= bits <= 8:
        raise CodecError(f"codes of {bits} bits cannot be packed; the width must be 1 to 8")


def _close_gaps(lanes: Lanes, bits: int) -> None:
    """Eight codes, one per byte, become 8·bits adjacent bits: 2, then 4, then 8 codes together."""
    for spread, _, gap in _joints(bits):
        upper = lanes & spread
        lanes ^= upper
        upper >>= gap
        lanes |= upper


def _open_gaps(lanes: Lanes, bits: int) -> None:
    """The inverse of `_close_gaps`."""
    for _, adjacent, gap in reversed(_joints(bits)):
        upper = lanes & adjacent
        lanes ^= upper
        upper <<= gap
        lanes |= upper


@cache
def _joints(bits: int) -> tuple[tuple[np.uint64, np.uint64, np.uint64], ...]:
    """Where fields of 8, 16 and 32 bits join in pairs: the upper fields' codes before, those after,
    and the gap closed.
    """
    return tuple(
        (
            _mask(field // 8 * bits, at=field, every=2 * field),
            _mask(field // 8 * bits, at=field // 8 * bits, every=2 * field),
            np.uint64(field - field // 8 * bits),
        )
        for field in (8, 16, 32)
    )


@cache
def _mask(width: int, at: int, every: int) -> np.uint64:
    """A lane with `width` ones from bit `at`, again `every` so many bits."""
    return np.uint64(sum(((1 << width) - 1) << start for start in range(at, 64, every)))


def _low_bytes(lanes: Lanes, width: int) -> NDArray[np.uint8]:
    """The low `width` bytes of each lane, adjacent: [m] uint64 -> [m·width] uint8. Uses up `lanes`.

    A narrowing cast writes 1, 2 or 4 bytes of every lane at once; copying rows of `width` bytes
    would take numpy several times as long.
    """
    count, at = len(lanes), 0
    packed = np.empty(count * width, np.uint8)
    for size in (4, 2, 1) if count else ():
        if width & size:
            column = np.ndarray((count,), f"<u{size}", packed, offset=at, strides=(width,))
            column[...] = lanes
            at += size
            if at < width:
                lanes >>= np.uint64(8 * size)
    return packed


def _lanes_of(payload: bytes, count: int, width: int) -> Lanes:
    """`width` bytes of `payload` to each of `count` lanes, the rest 0; the last may lack some.

    Reads eight bytes every `width` bytes, which overlap, and clears what belongs to the next lane.
    """
    padded = np.zeros(count * width + 8, np.uint8)
    padded[: len(payload)] = np.frombuffer(payload, np.uint8)
    lanes: Lanes = np.ndarray((count,), "<u8", padded, strides=(width,)).copy()
    lanes &= _mask(8 * width, at=0, every=64)
    return lanes
