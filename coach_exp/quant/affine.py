"""UAQ: uniform affine quantisation of a tensor into bytes that describe themselves (paper, Section
III-B, after Krishnamoorthi 2018).

In: a float32 tensor and a bit-width. Out: a header and the packed codes, and back. Code c stands
for (c − zero)·scale. The grid is fitted to the tensor itself, its range stretched to include 0, and
one code stands for 0 exactly. 16 and 32 bits send float16 and float32 instead of codes.

    byte 0        magic number, which also tells the version
    1             bits
    2             number of axes, plus 128 where each row of the first has its own grid
    3..18         four sizes, unsigned 32-bit, 0 where there is no axis
    19..          float32 scale of each of g grids, then the zero point of each, one byte
    19+5g..       zeros up to `header_bytes` + 5·(g − 1)
    then          the codes as `bitpack` lays them out, or the floats; all little-endian
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt

from coach_exp.quant.bitpack import pack, packed_bytes, unpack
from coach_exp.types.errors import CodecError, ConfigError

FIXED = struct.Struct("<BBB4I")
GRID_BYTES = 5
HEADER_BYTES = FIXED.size + GRID_BYTES
MAGIC = 0xA1
OWN_GRIDS = 0x80
MAX_ELEMENTS = 2**31 - 1
MAX_MAGNITUDE = (
    2.0**125
)  # |x| on a grid: no point of it then leaves float32, and 1 / scale is normal
MIN_SCALE = 2.0**-126  # float32's smallest normal number, whose reciprocal is finite
TILE = 7 * 2**12  # elements at once: float32 below 128 KiB, which malloc would map anew each time
Floats = NDArray[np.float32]
FLOATS: dict[int, np.dtype[Any]] = {16: np.dtype("<f2"), 32: np.dtype("<f4")}


@dataclass(frozen=True)
class UniformAffine:
    """The codec of UAQ: 1 to 8 bits on an affine grid, 16 and 32 bits as floats.

    `per_channel` fits a grid to each row of the first axis, 5 bytes a row, instead of one to the
    tensor: to each channel of [C, ...], to each token of [tokens, C]. `header_bytes` is what every
    tensor costs besides its elements (and its further grids): 24 are needed, more are sent as zeros
    to weigh a fatter framing, and fewer can be planned with but not encoded.

    Error of every element x, at 1 to 8 bits: |x − decode(encode(x))| ≤ scale·(½ + 2^(bits − 20)),
    where the second term is float32 rounding. Zeros stay zeros, larger elements never get smaller
    codes, and encoding what was decoded gives the same codes and zero points, with scales that
    differ by one unit in the last place at most.
    """

    header_bytes: NonNegativeInt = HEADER_BYTES
    per_channel: bool = False

    def __post_init__(self) -> None:
        if self.header_bytes < 0:
            raise ConfigError(
                f"quantizer.header_bytes is {self.header_bytes}; a size is never negative "
                f"(the header takes {HEADER_BYTES})"
            )

    def expected_bytes(self, elements: int, bits: int, rows: int = 1) -> int:
        """Size of the payload of a tensor, exactly. `rows`, the size of its first axis, matters
        with `per_channel` alone.

        >>> UniformAffine().expected_bytes(200_704, 4)
        100376
        """
        _check_bits(bits)
        grids = max(rows, 1) if self.per_channel else 1
        return self._data_at(grids if bits <= 8 else 1) + packed_bytes(elements, bits)

    def encode(self, tensor: NDArray[np.float32], bits: int) -> bytes:
        """Quantise and pack: [*shape] float32 of at most four axes -> payload.

        Raises CodecError for NaN and Inf, for another type, for a tensor too large, for magnitudes
        that the width cannot carry (beyond 65504 at 16 bits: nothing is clamped), and for a width
        other than 1 to 8, 16 and 32.
        """
        _check_bits(bits)
        self.check_header()
        head = Head.of(tensor, bits, self.per_channel)
        rows = np.ascontiguousarray(tensor).reshape(head.grids, -1)
        with np.errstate(invalid="ignore"):  # NaN is looked for below, and named
            low, high = rows.min(axis=1, initial=0), rows.max(axis=1, initial=0)
        _check_range(rows, low, high, bits)
        if bits in FLOATS:
            return self._joined(head, _Grids.unused(), rows.astype(FLOATS[bits]).tobytes())
        grids, offset = _fit(low, high, bits)
        return self._joined(head, grids, *_codes(rows, grids, offset, bits))

    def decode(self, payload: bytes) -> NDArray[np.float32]:
        """Unpack and dequantise: payload -> [*shape] float32, every element finite.

        Raises CodecError for a payload that is cut, joined or malformed; nothing is allocated
        before the sizes in the header agree with the payload's length.
        """
        self.check_header()
        head = Head.parse(payload)
        data_at = self._data_at(head.grids)
        if len(payload) != data_at + packed_bytes(head.elements, head.bits):
            raise CodecError(
                f"the payload has {len(payload)} bytes; shape {list(head.shape)} at {head.bits} "
                f"bits and a header of {self.header_bytes} take exactly "
                f"{data_at + packed_bytes(head.elements, head.bits)}: it was cut, joined, or sent "
                "with another header_bytes"
            )
        if any(payload[FIXED.size + GRID_BYTES * head.grids : data_at]):
            raise CodecError("the padding of the header holds other bytes than 0")
        grids = _Grids.parse(payload, head)
        if head.bits in FLOATS:
            return _floats(payload, data_at, head)
        return _points(payload[data_at:], head, grids).reshape(head.shape)

    def shape(self, payload: bytes) -> tuple[int, ...]:
        """The shape that a payload claims for its tensor. Raises CodecError for what describes
        none."""
        return Head.parse(payload).shape

    def _data_at(self, grids: int) -> int:
        return self.header_bytes + GRID_BYTES * (grids - 1)

    def check_header(self) -> None:
        """Raises CodecError where `header_bytes` has no room for the header of a real payload."""
        if self.header_bytes < HEADER_BYTES:
            raise CodecError(
                f"quantizer.header_bytes is {self.header_bytes}, good for planning only; a real "
                f"payload needs at least {HEADER_BYTES}"
            )

    def _joined(self, head: "Head", grids: "_Grids", *data: bytes) -> bytes:
        header = head.to_bytes() + grids.to_bytes()
        return b"".join((header.ljust(self._data_at(head.grids), b"\0"), *data))


@dataclass(frozen=True, slots=True)
class Head:
    """What a payload says of its tensor."""

    bits: int
    shape: tuple[int, ...]
    own_grids: bool  # one for each row

    @property
    def elements(self) -> int:
        """How many numbers the tensor has."""
        return prod(self.shape)

    @property
    def grids(self) -> int:
        """How many grids the header holds."""
        return self.shape[0] or 1 if self.own_grids else 1

    @staticmethod
    def of(tensor: NDArray[Any], bits: int, per_channel: bool) -> "Head":
        """Of a tensor that is to be sent. Raises CodecError for one that cannot be."""
        if tensor.dtype != np.float32:
            raise CodecError(
                f"the tensor is {tensor.dtype}; the codec takes float32: use .astype(np.float32)"
            )
        if tensor.ndim > 4:
            raise CodecError(
                f"the tensor's shape {list(tensor.shape)} has {tensor.ndim} axes; a payload "
                "describes at most 4: reshape it"
            )
        _check_elements(tensor.shape)
        return Head(bits, tensor.shape, per_channel and tensor.ndim > 0 and bits <= 8)

    @staticmethod
    def parse(payload: bytes) -> "Head":
        """From a payload's first bytes; the sizes are checked against nothing else yet. Raises
        CodecError for what describes no tensor."""
        if len(payload) < HEADER_BYTES:
            raise CodecError(
                f"the payload has {len(payload)} bytes; its header alone takes {HEADER_BYTES}"
            )
        magic, bits, axes, *sizes = FIXED.unpack_from(payload)
        own_grids, axes = bool(axes & OWN_GRIDS), axes & ~OWN_GRIDS
        if magic != MAGIC:
            raise CodecError(
                f"the payload begins with {magic:#04x}, not {MAGIC:#04x}; uaq did not encode it"
            )
        _check_bits(bits)
        if axes > 4 or any(sizes[axes:]) or (own_grids and (axes == 0 or bits > 8)):
            raise CodecError(
                f"the payload describes {axes} axes of sizes {sizes}; no tensor is like that"
            )
        _check_elements(sizes[:axes])
        return Head(bits, tuple(sizes[:axes]), own_grids)

    def to_bytes(self) -> bytes:
        """The first bytes of the payload: the inverse of `parse`."""
        sizes = (*self.shape, 0, 0, 0, 0)[:4]
        return FIXED.pack(MAGIC, self.bits, len(self.shape) | OWN_GRIDS * self.own_grids, *sizes)


@dataclass(frozen=True, slots=True)
class _Grids:
    """The grid points (c − zero)·scale of each row: [g] and [g]."""

    scale: NDArray[np.float32]
    zero: NDArray[np.uint8]

    @staticmethod
    def unused() -> "_Grids":
        """What the header of floats holds."""
        return _Grids(np.ones(1, np.float32), np.zeros(1, np.uint8))

    @staticmethod
    def parse(payload: bytes, head: Head) -> "_Grids":
        count = head.grids
        scale = np.frombuffer(payload, "<f4", count, FIXED.size).astype(np.float32)
        zero = np.frombuffer(payload, np.uint8, count, FIXED.size + 4 * count)
        top = 2**head.bits - 1 if head.bits <= 8 else 0
        reach = np.maximum(zero, top - zero.astype(np.int64))
        if not (
            np.isfinite(scale).all()
            and (scale >= MIN_SCALE).all()
            and (zero <= top).all()
            and (scale * reach.astype(np.float64) <= np.finfo(np.float32).max).all()
        ):
            raise CodecError(
                f"the payload's grid (scale {scale[:4]}, zero point {zero[:4]}) has no {head.bits}-"
                "bit points in float32; a scale is positive and finite, a zero point is a code"
            )
        return _Grids(scale, zero)

    def to_bytes(self) -> bytes:
        return self.scale.astype("<f4").tobytes() + self.zero.tobytes()


def _fit(
    low: NDArray[np.float32], high: NDArray[np.float32], bits: int
) -> tuple[_Grids, NDArray[np.float32]]:
    """The grid of each range, and the offset with which code = floor(x / scale + offset): [g] each.

    The offset is zero + ½, except where a range ends within rounding of the middle between two
    codes: there it moves by as much as rounding errs, so that the ends of the range always get the
    codes 0 and 2^bits − 1. No code then needs clamping, and quantising twice changes no code.
    """
    top, err = 2**bits - 1, 2.0 ** (bits - 21)
    span = high.astype(np.float64) - low
    scale = np.maximum(span / top, MIN_SCALE).astype(np.float32)
    real_zero = -low / scale.astype(np.float64)
    zero = np.floor(real_zero + 0.5)
    offset = real_zero + np.clip(zero + 0.5 - real_zero, err, 1 - err)
    return _Grids(scale, zero.astype(np.uint8)), offset.astype(np.float32)


def _codes(
    rows: NDArray[np.float32], grids: _Grids, offset: NDArray[np.float32], bits: int
) -> Iterator[bytes]:
    """Quantise and pack, tile by tile: [g, n] float32 -> bytes."""
    per_step, offset = 1 / grids.scale[:, None], offset[:, None]
    for row, column in _tiles(*rows.shape):
        steps = rows[row, column] * per_step[row]
        steps += offset[row]
        yield pack(steps.astype(np.uint8).ravel(), bits)


def _points(packed: bytes, head: Head, grids: _Grids) -> NDArray[np.float32]:
    """The inverse of `_codes`: bytes -> [g, n] float32."""
    rows = np.empty((head.grids, head.elements // head.grids), np.float32)
    scale, zero, at = grids.scale[:, None], grids.zero[:, None], 0
    for row, column in _tiles(*rows.shape):
        tile = rows[row, column]
        end = at + packed_bytes(tile.size, head.bits)
        tile[...] = unpack(packed[at:end], tile.size, head.bits).reshape(tile.shape)
        tile -= zero[row]
        tile *= scale[row]
        at = end
    return rows


def _tiles(grids: int, columns: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of pieces of [grids, columns] that stay in a core's cache.

    Each is one run of memory and, but for the last, whole octets of codes, so that the packed
    pieces join without a gap.
    """
    if grids == 1:
        for at in range(0, columns, TILE):
            yield slice(1), slice(at, at + TILE)
    else:
        height = 8 * max(1, TILE // (8 * max(columns, 1)))
        for at in range(0, grids, height):
            yield slice(at, at + height), slice(columns)


def _floats(payload: bytes, data_at: int, head: Head) -> NDArray[np.float32]:
    sent: NDArray[Any] = np.frombuffer(payload, FLOATS[head.bits], head.elements, data_at)
    if not np.isfinite(sent).all():
        raise CodecError("the payload holds NaN or Inf; every element sent is finite")
    tensor: NDArray[np.float32] = sent.astype(np.float32)
    return tensor.reshape(head.shape)


def _check_bits(bits: int) -> None:
    if not (1 <= bits <= 8 or bits in FLOATS):
        raise CodecError(f"a tensor cannot be sent with {bits} bits; take 1 to 8, 16 or 32")


def _check_elements(shape: tuple[int, ...] | list[int]) -> None:
    if prod(max(size, 1) for size in shape) > MAX_ELEMENTS:
        raise CodecError(
            f"shape {list(shape)} is too large; a tensor has at most {MAX_ELEMENTS} elements"
        )


def _check_range(
    rows: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32], bits: int
) -> None:
    largest = max(-float(low.min()), float(high.max()))
    for name, found in (("NaN", np.isnan), ("Inf", np.isinf)):
        if found(low).any() or found(high).any():
            raise CodecError(
                f"{int(found(rows).sum())} of the tensor's {rows.size} elements are {name}; only "
                "finite values can be sent: check the model's weights and its input"
            )
    limit = {16: 65504.0, 32: float("inf")}.get(bits, MAX_MAGNITUDE)
    if largest > limit:
        raise CodecError(
            f"the tensor reaches ±{largest:.6g}, but {bits} bits carry at most ±{limit:.6g}; "
            "send it with 32 bits or normalise it"
        )
