"""One task's tensors as the bytes that cross the link, and back: the same on both sides.

In: a crossing tensor, or the frame where the raw input crosses. Out: a payload of exactly the size
that `outcomes` counts, and from it exactly the tensor that `outcomes` feeds to its tail.

A tensor goes through the codec. So does the input, normalised, except at 8 bits: then the frame
crosses as it is, or as a JPEG file, behind a header as long as the codec's:

    byte 0        magic number: 0xA3 the frame, 0xA4 a JPEG file
    1..           zeros up to the codec's header
    then          height × width × 3 bytes, or the file
"""

from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from coach_exp.learning.jpeg import Jpeg
from coach_exp.learning.models import preprocess, resize
from coach_exp.types.errors import CodecError
from coach_exp.types.graph import LayerGraph
from coach_exp.types.outcomes import Codec

if TYPE_CHECKING:
    from torch import Tensor

FRAME: Final = 0xA3
FILE: Final = 0xA4
PIXEL_BITS: Final = 8  # the width at which the input crosses as a picture


class Payloads:
    """Payloads of the model with this `graph`, whose pictures have `side` × `side` pixels; with
    `jpeg` they cross as files."""

    def __init__(self, codec: Codec, graph: LayerGraph, jpeg: Jpeg | None, side: int) -> None:
        self._codec = codec
        self._graph = graph
        self._jpeg = jpeg
        self._side = side

    def encode(self, layer: str, task: NDArray[Any], bits: int) -> bytes:
        """The payload of one task's tensor [*shape] float32; of the input, its frame [height,
        width, 3] uint8. Raises CodecError as the codec does, GraphError for an unknown layer."""
        if self._graph[layer] is not self._graph.input:
            return self._codec.encode(task, bits)
        if task.dtype != np.uint8:
            raise CodecError(f"the input crosses as its uint8 frame, not as {task.dtype}")
        if bits != PIXEL_BITS:
            return self._codec.encode(preprocess(task[None], self._side)[0].numpy(), bits)
        if self._jpeg is not None:
            (file,) = self._jpeg.encode(task[None])
            return self._header(FILE, self._codec.header_bytes) + file
        (frame,) = resize(task[None], self._side)
        return self._header(FRAME, self._frame_header_bytes) + frame.tobytes()

    def decode(self, layer: str, payload: bytes) -> "Tensor":
        """What the cloud makes of a payload: [1, *shape] float32. Raises CodecError for one that is
        damaged or of another tensor, before it takes memory for what the payload only claims."""
        import torch

        known = self._graph[layer]
        if known is self._graph.input and payload[:1] in (bytes([FRAME]), bytes([FILE])):
            return self._picture(payload)
        shape = self._codec.shape(payload)
        if shape != known.shape:
            raise CodecError(
                f"the payload of {layer!r} describes shape {list(shape)}, not {list(known.shape)}; "
                "do both sides have the same model and resolution?"
            )
        return torch.from_numpy(self._codec.decode(payload))[None]

    def _picture(self, payload: bytes) -> "Tensor":
        is_file = payload[0] == FILE
        if is_file != (self._jpeg is not None):
            kinds = ("a frame", "a JPEG file")
            raise CodecError(
                f"the payload of the input is {kinds[is_file]} and this side takes "
                f"{kinds[not is_file]}; set the same input.encoding on both sides"
            )
        header_bytes = self._codec.header_bytes if is_file else self._frame_header_bytes
        if any(payload[1:header_bytes]):
            raise CodecError("the padding of the header holds other bytes than 0")
        read = self._file if is_file else self._frame
        return preprocess(read(payload[header_bytes:]), self._side)

    def _frame(self, pixels: bytes) -> NDArray[np.uint8]:
        shape = (1, self._side, self._side, 3)
        if len(pixels) != np.prod(shape):
            raise CodecError(
                f"the payload of the input has {len(pixels)} pixel bytes; a frame of {self._side} "
                f"× {self._side} takes {np.prod(shape)}"
            )
        return np.frombuffer(pixels, np.uint8).reshape(shape)

    def _file(self, file: bytes) -> NDArray[np.uint8]:
        from PIL import Image

        assert self._jpeg is not None
        side = self._jpeg.side
        picture = _readable(lambda: Image.open(BytesIO(file), formats=("JPEG",)))
        if picture.size != (side, side):  # known from its header; nothing was decoded yet
            raise CodecError(
                f"the payload's JPEG file has {picture.size[0]} × {picture.size[1]} pixels; this "
                f"side takes {side} × {side}"
            )
        return _readable(lambda: self._jpeg.decode([file]))  # type: ignore[union-attr]

    @property
    def _frame_header_bytes(self) -> int:
        known = self._graph.input
        expected = self._codec.expected_bytes(known.elements, PIXEL_BITS, known.rows)
        return expected - known.elements

    @staticmethod
    def _header(magic: int, size_bytes: int) -> bytes:
        if size_bytes < 1:
            raise CodecError(
                f"quantizer.header_bytes is {size_bytes}, good for planning only; a real payload "
                "tells by a byte at least what it is"
            )
        return bytes([magic]).ljust(size_bytes, b"\0")


def _readable(read: Callable[[], Any]) -> Any:
    """What Pillow makes of a peer's file, whose damages have many names."""
    try:
        return read()
    except MemoryError:
        raise
    except Exception as error:
        raise CodecError(f"the payload's JPEG file cannot be read: {error}") from None
