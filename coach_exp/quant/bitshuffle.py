"""SPINN's payload: codes of an affine grid, bit-shuffled and compressed with LZ4 (Laskaridis et al.
2020, whose communication optimiser quantises to 8 bits).

In: a float32 tensor and a bit-width. Out: a header and what its codes compress to, and back. Grid,
codes and header are those of UAQ, with one grid for the tensor; what follows loses nothing.

    byte 0        magic number
    1..           the header of UAQ, up to `header_bytes`
    then          the bit planes of the codes as one LZ4 block without its size, or as they are
                  where LZ4 gains nothing: data as long as the planes is not compressed
"""

from dataclasses import dataclass

import lz4.block
from pydantic import NonNegativeInt

from coach_exp.quant import affine
from coach_exp.quant.affine import HEADER_BYTES, Floats, Head, UniformAffine
from coach_exp.quant.bitpack import pack, unpack
from coach_exp.quant.bitplanes import from_planes, planes_bytes, to_planes
from coach_exp.types.errors import CodecError

MAGIC = 0xA2
MAX_BLOCK_BYTES = 0x7E000000  # bytes that LZ4 takes at once
MAX_GAIN = 255  # bytes that LZ4 makes of one, at most


@dataclass(frozen=True)
class BitshuffleLz4:
    """A codec whose payloads are as long as the tensor's content makes them.

    1 to 8 bits are compressed; 16 and 32 bits go as floats, as with UAQ. The error bound is that of
    `UniformAffine`, and zeros stay zeros. `header_bytes` is what every tensor costs besides its
    elements: 24 are needed, more are sent as zeros, fewer can be planned with but not encoded.
    """

    header_bytes: NonNegativeInt = HEADER_BYTES

    def __post_init__(self) -> None:
        UniformAffine(self.header_bytes)  # refuses a negative size

    def expected_bytes(self, elements: int, bits: int, rows: int = 1) -> int:
        """Size of the payload where LZ4 gains nothing, which no payload exceeds. `rows` is ignored:
        the tensor has one grid.

        >>> BitshuffleLz4().expected_bytes(200_704, 8)
        200728
        """
        packed = self._affine.expected_bytes(elements, bits)  # refuses other widths
        return packed if bits > 8 else self.header_bytes + planes_bytes(elements, bits)

    def encode(self, tensor: Floats, bits: int) -> bytes:
        """Quantise, shuffle, compress: [*shape] float32 of at most four axes -> payload.

        Raises CodecError as `UniformAffine.encode`.
        """
        plain = self._affine.encode(tensor, bits)
        head, data = bytes([MAGIC]) + plain[1 : self.header_bytes], plain[self.header_bytes :]
        if bits > 8:
            return head + data
        return head + _compressed(to_planes(unpack(data, tensor.size, bits), bits))

    def decode(self, payload: bytes) -> Floats:
        """The inverse: payload -> [*shape] float32, every element finite.

        Raises CodecError for a payload that is cut, joined or malformed. Only the header says how
        long the planes are, and before memory is taken for them, they must be within what the
        payload's length can hold.
        """
        self._affine.check_header()
        head = _head(payload)
        data = payload[self.header_bytes :]
        if head.bits <= 8:
            planes = _decompressed(data, planes_bytes(head.elements, head.bits))
            data = pack(from_planes(planes, head.elements, head.bits), head.bits)
        return self._affine.decode(bytes([affine.MAGIC]) + payload[1 : self.header_bytes] + data)

    def shape(self, payload: bytes) -> tuple[int, ...]:
        """The shape that a payload claims for its tensor. Raises CodecError for what describes
        none."""
        return _head(payload).shape

    @property
    def _affine(self) -> UniformAffine:
        return UniformAffine(self.header_bytes)


def _head(payload: bytes) -> Head:
    if payload[:1] != bytes([MAGIC]):
        found = f"{payload[0]:#04x}" if payload else "nothing"
        raise CodecError(
            f"the payload begins with {found}, not {MAGIC:#04x}; bitshuffle_lz4 did not encode it"
        )
    head = Head.parse(bytes([affine.MAGIC]) + payload[1:HEADER_BYTES])
    if head.own_grids:
        raise CodecError("the payload has a grid for each row; bitshuffle_lz4 has one for them all")
    return head


def _compressed(planes: bytes) -> bytes:
    """The shorter of both; where they are of one length, the planes as they are."""
    if len(planes) > MAX_BLOCK_BYTES:
        return planes
    squeezed: bytes = lz4.block.compress(planes, store_size=False)
    return min(planes, squeezed, key=len)


def _decompressed(data: bytes, size: int) -> bytes:
    """The inverse of `_compressed`: planes of exactly `size` bytes."""
    if len(data) == size:
        return data
    if len(data) > size or size > min(MAX_GAIN * len(data), MAX_BLOCK_BYTES):
        raise CodecError(
            f"{len(data)} bytes cannot hold the {size} bytes that the payload's shape and width "
            "take: it was cut, joined, or sent with another header_bytes"
        )
    try:
        planes: bytes = lz4.block.decompress(data, uncompressed_size=size)
    except lz4.block.LZ4BlockError as error:
        raise CodecError(
            f"the payload's {len(data)} bytes of data are no LZ4 block of {size} bytes: it was "
            "cut, joined, or sent with another header_bytes"
        ) from error
    if len(planes) != size:
        raise CodecError(
            f"the payload's LZ4 block holds {len(planes)} bytes; its shape and width take {size}"
        )
    return planes
