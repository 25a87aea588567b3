"""What needs the model's answers asks through these protocols; the torch implementation is in
`live`.

Planner, simulator and online part see numbers, never tensors of a framework.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Width = Literal[1, 2, 3, 4, 5, 6, 7, 8, 16, 32]  # bits of an element


@dataclass(frozen=True, slots=True)
class Crossing:
    """One crossing tensor and the bit-width it is sent with."""

    layer: str
    bits: int


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer of the cut, quantised model for one sample, and the bytes of each tensor."""

    label: int
    payload_bytes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TensorSize:
    """What a codec must know of a tensor to expect its payload's size; see `Codec`."""

    elements: int
    rows: int = 1


class ExitAnswer(NamedTuple):
    """What an early-exit head says of one sample; `confidence` is its largest softmax after
    temperature scaling."""

    label: int
    confidence: float


class Codec(Protocol):
    """Turns one crossing tensor into bytes and back."""

    @property
    def header_bytes(self) -> int:
        """Bytes sent with every tensor besides its elements."""

    def expected_bytes(self, elements: int, bits: int, rows: int = 1) -> int:
        """Size of the whole payload of a tensor with `rows` entries along its first axis, for
        planning; entropy-coded ones differ and are measured.
        """

    def encode(self, tensor: NDArray[np.float32], bits: int) -> bytes:
        """Quantise and pack: [*shape] float32 -> payload."""

    def decode(self, payload: bytes) -> NDArray[np.float32]:
        """Unpack and dequantise: payload -> [*shape] float32."""

    def shape(self, payload: bytes) -> tuple[int, ...]:
        """The shape that a payload claims for its tensor, before anything is unpacked."""


class BitTable(Protocol):
    """Q(v): the bit-width each layer's output is sent with (Eq. 1)."""

    def bits(self, layer: str) -> int:
        """Bit-width for `layer`; the least one possible while it is not known."""

    def fresh(self) -> "BitTable":
        """A table with the same answers and no widths yet, so that no method sees another's."""

    def settle(self, crossing: Sequence[str]) -> bool:
        """Find the widths that a cut with these crossing tensors needs; True if any changed."""


class Outcomes(Protocol):
    """Answers of the real model on the samples of one stream, through the real codec. Lazy and
    kept on disk.
    """

    def through(self, codec: Codec) -> "Outcomes":
        """The same model and samples through another codec: other bytes and labels of what
        crosses, the same uncut labels and features."""

    def tensor_size(self, layer: str) -> TensorSize:
        """Size of the output of `layer` whose payloads these answers count. It differs from the
        timed graph's where another resolution is timed."""

    @property
    def classes(self) -> int:
        """Number of class scores."""

    @property
    def samples(self) -> int:
        """Number of samples that can be asked about."""

    def true_label(self, sample: int) -> int:
        """Ground truth of a sample."""

    def video(self, sample: int) -> int:
        """The video or track that a sample belongs to; an image may be one of its own. Numbers are
        unique over all splits of a data set."""

    def uncut(self, sample: int) -> int:
        """Label that the whole float model predicts."""

    def feature(self, sample: int, layers: Sequence[str]) -> NDArray[np.float32]:
        """Task feature F: channel means of the crossing tensors, concatenated: [channels]."""

    def predict(self, sample: int, crossing: tuple[Crossing, ...]) -> Prediction:
        """Label after quantising the crossing tensors; no crossing tensors: the end answers."""

    def sent_bytes(self, crossing: tuple[Crossing, ...]) -> NDArray[np.int64]:
        """Bytes of each tensor of every sample, whether or not they are all that crosses a cut:
        [samples, tensors]."""

    def with_exits(self, layers: Sequence[str]) -> "Outcomes":
        """The same model with early-exit heads behind these layers; they are trained when one is
        first asked."""

    def at_exit(self, sample: int, layer: str, crossing: tuple[Crossing, ...] = ()) -> ExitAnswer:
        """What the head behind `layer` says. With `crossing`, what was sent before: the head is on
        the cloud, behind the cut; without, on the end."""
