"""Codes as bit planes: bit k of every code together (bit shuffle, after Masui et al. 2015).

In: codes of 1 to 8 bits, one per byte. Out: plane after plane, the least significant bit first, in
which bit k of code j is bit j mod 8 of byte j div 8; and back. The high planes of activations are
nearly all zeros, in long runs that a byte-wise compressor finds; shuffling whole bytes would change
nothing, since a code is one byte. Eight codes are a 64-bit lane, transposed as an 8 × 8 matrix.
"""

import numpy as np
from numpy.typing import NDArray

from coach_exp.quant.bitpack import Lanes, packed_bytes
from coach_exp.types.errors import CodecError

_SWAPS = (  # bits that trade places with those so far above: single ones, then 2 × 2, then 4 × 4
    (7, 0x00AA00AA00AA00AA),
    (14, 0x0000CCCC0000CCCC),
    (28, 0x00000000F0F0F0F0),
)


def planes_bytes(count: int, bits: int) -> int:
    """Bytes of the planes of `count` codes: each plane is rounded up.

    >>> planes_bytes(200_704, 8), planes_bytes(3, 3)
    (200704, 3)
    """
    return bits * packed_bytes(count, 1)


def to_planes(codes: NDArray[np.uint8], bits: int) -> bytes:
    """Codes of `bits` bits, [n] uint8 -> planes. Bits left over in a plane's last byte are 0.

    >>> to_planes(np.array([1, 2, 3], np.uint8), 2).hex(" ")
    '05 06'
    """
    lanes = np.zeros(packed_bytes(len(codes), 1), "<u8")
    lanes.view(np.uint8)[: len(codes)] = codes
    _transpose(lanes)
    return lanes.view(np.uint8).reshape(-1, 8)[:, :bits].T.tobytes()


def from_planes(planes: bytes, count: int, bits: int) -> NDArray[np.uint8]:
    """The `count` codes that `to_planes` made into `planes`: bytes -> [count] uint8.

    Raises CodecError for planes of another length, and for left-over bits that are not 0.

    >>> from_planes(bytes.fromhex("05 06"), 3, 2)
    array([1, 2, 3], dtype=uint8)
    """
    if len(planes) != planes_bytes(count, bits):
        raise CodecError(
            f"{len(planes)} bytes are not {bits} planes of {count} codes, which take exactly "
            f"{planes_bytes(count, bits)}"
        )
    rows = np.frombuffer(planes, np.uint8).reshape(bits, -1)
    if count % 8 and (rows[:, -1] >> (count % 8)).any():
        raise CodecError(f"the last {8 - count % 8} bits of a plane hold no code; they must be 0")
    lanes = np.zeros(packed_bytes(count, 1), "<u8")
    lanes.view(np.uint8).reshape(-1, 8)[:, :bits] = rows.T
    _transpose(lanes)
    return lanes.view(np.uint8)[:count]


def _transpose(lanes: Lanes) -> None:
    """Bit j of byte i becomes bit i of byte j, in every lane; its own inverse."""
    for distance, mask in _SWAPS:
        differ = lanes >> np.uint64(distance)
        differ ^= lanes
        differ &= np.uint64(mask)
        lanes ^= differ
        differ <<= np.uint64(distance)
        lanes ^= differ
