"""Crossing tensors of a whole split on their way through a codec.

In: the model's tensors, a codec. Out: what the cloud makes of each, and the bytes it took: for each
sample encode, bytes, decode. The raw input crosses as it is at the widths of RAW_BITS, or as a file
at PIXEL_BITS.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from coach_exp.learning.array_cache import ArrayCache, Arrays, digest
from coach_exp.live.model_answers import ModelAnswers
from coach_exp.live.payloads import PIXEL_BITS
from coach_exp.types.outcomes import Codec, Crossing

if TYPE_CHECKING:
    from torch import Tensor

    from coach_exp.profiling.program import TailRun

RAW_BITS: Final = (PIXEL_BITS, 32)  # the input as its uint8 image, or as normalised floats: no loss


class Sending:
    """Tensors of `model` through `codec`. What came of them is kept in `array_cache`."""

    def __init__(self, model: ModelAnswers, codec: Codec, array_cache: ArrayCache) -> None:
        self.model = model
        self.codec = codec
        self.array_cache = array_cache

    def is_raw(self, tensor: Crossing) -> bool:
        """Whether a tensor is the input and crosses without the codec."""
        return tensor.bits in RAW_BITS and tensor.layer == self.model.input_layer

    def is_file(self, tensor: Crossing) -> bool:
        """Whether a tensor is an input that crosses as a file."""
        has_files = self.model.subject.jpeg is not None
        return has_files and tensor.bits == PIXEL_BITS and self.is_raw(tensor)

    def loses_nothing(self, crossing: tuple[Crossing, ...]) -> bool:
        """Whether the raw input is all that crosses, and as it is."""
        return len(crossing) == 1 and self.is_raw(crossing[0]) and not self.is_file(crossing[0])

    def key(self, crossing: tuple[Crossing, ...], *besides: object) -> str:
        """Tells one way of sending these tensors from another, and from what else is asked."""
        ways = (self.model.subject.jpeg,) if any(map(self.is_file, crossing)) else ()
        return digest(*besides, crossing, *ways)

    def raw_bytes(self, bits: int) -> int:
        """Bytes of the raw input where it crosses as it is, header included."""
        raw = self.model.tensor_size(self.model.input_layer)
        return self.codec.expected_bytes(raw.elements, bits, raw.rows)

    def answers(self, crossing: tuple[Crossing, ...]) -> Arrays:
        """`labels` behind the cut [samples] and `payload_bytes` [samples, crossing tensors]. Raises
        CutError when `crossing` is not all that crosses a cut, CodecError as the codec does."""
        name = f"predict-{self.key(crossing)}"
        return self.array_cache.get(name, lambda: self._compute_answers(crossing))

    def _compute_answers(self, crossing: tuple[Crossing, ...]) -> Arrays:
        labels, sizes = [], []
        for run, sent in self.tail_runs(crossing):
            labels.append(run.result.argmax(dim=1).numpy())
            sizes.append(sent)
        return {"labels": np.concatenate(labels), "payload_bytes": np.concatenate(sizes)}

    def payload_bytes(self, crossing: tuple[Crossing, ...]) -> NDArray[np.int64]:
        """Bytes of tensors that need not make a cut: [samples, tensors]."""
        name = f"bytes-{self.key(crossing)}"
        return self.array_cache.get(name, lambda: self._compute_bytes(crossing))["payload_bytes"]

    def _compute_bytes(self, crossing: tuple[Crossing, ...]) -> Arrays:
        sizes, first = [], 0
        for tensors in self.model.runs.tensors(tuple(tensor.layer for tensor in crossing)):
            sent = [self.received(t, tensors[t.layer], first)[1] for t in crossing]
            first += len(sent[0])
            sizes.append(np.array(sent).T)
        return {"payload_bytes": np.concatenate(sizes)}

    def tail_runs(
        self, crossing: tuple[Crossing, ...], kept: Sequence[str] = ()
    ) -> Iterator[tuple["TailRun", NDArray[np.int64]]]:
        """Finished passes of the tail, fed with what comes out of the codec, and payload bytes
        [batch, crossing tensors]; batch by batch. Raises as `answers`."""
        layers, first = tuple(tensor.layer for tensor in crossing), 0
        tail = self.model.runs.tail(layers, kept)
        for tensors in self.model.runs.tensors(layers):
            run, sent = tail.start(), []
            for tensor in crossing:
                received, payload_bytes = self.received(tensor, tensors[tensor.layer], first)
                sent.append(payload_bytes)
                run.feed(tensor.layer, received)
            first += len(sent[0])
            yield run, np.array(sent).T

    def received(
        self, tensor: Crossing, batch: NDArray[np.float32], first: int
    ) -> tuple["Tensor", list[int]]:
        """What the cloud makes of one tensor of a batch that begins with sample `first`, and the
        bytes of each: [batch, *shape]."""
        import torch

        if self.is_file(tensor):
            x, file_bytes = self.model.through_files(first, first + len(batch))
            return x, [self.codec.header_bytes + size for size in file_bytes]
        if self.is_raw(tensor):
            return torch.from_numpy(batch), [self.raw_bytes(tensor.bits)] * len(batch)
        payloads = [self.codec.encode(one, tensor.bits) for one in batch]
        received = np.stack([self.codec.decode(payload) for payload in payloads])
        return torch.from_numpy(received), [len(payload) for payload in payloads]
