"""The model's answers as arrays, for tests that need no model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from coach_exp.types.outcomes import Codec, Crossing, ExitAnswer, Prediction, TensorSize


@dataclass(frozen=True, eq=False)
class Answers:
    """`sent[bits]` are the labels when the widest crossing tensor has that width; others answer as
    `uncut`, which is always right unless given. `heads[layer]` is what the exit head behind a layer
    says of each sample, whatever crossed before."""

    features: NDArray[np.float32]
    label: NDArray[np.int64]
    videos: NDArray[np.int64]
    classes: int
    sent: Mapping[int, NDArray[np.int64]] = field(default_factory=dict)
    wrong_uncut: frozenset[int] = frozenset()
    payload_bytes: int = 1000
    heads: Mapping[str, Sequence[ExitAnswer]] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        return len(self.label)

    def true_label(self, sample: int) -> int:
        return int(self.label[sample])

    def video(self, sample: int) -> int:
        return int(self.videos[sample])

    def uncut(self, sample: int) -> int:
        return -1 if sample in self.wrong_uncut else self.true_label(sample)

    def feature(self, sample: int, layers: Sequence[str]) -> NDArray[np.float32]:
        return self.features[sample]

    def through(self, codec: Codec) -> "Answers":
        """Labels and sizes are given, whatever the codec."""
        return self

    def tensor_size(self, layer: str) -> TensorSize:
        return TensorSize(self.payload_bytes)

    def predict(self, sample: int, crossing: tuple[Crossing, ...]) -> Prediction:
        bits = max((tensor.bits for tensor in crossing), default=0)
        label = self.sent[bits][sample] if bits in self.sent else self.uncut(sample)
        return Prediction(int(label), tuple(self.payload_bytes for _ in crossing))

    def sent_bytes(self, crossing: tuple[Crossing, ...]) -> NDArray[np.int64]:
        return np.full((self.samples, len(crossing)), self.payload_bytes)

    def with_exits(self, layers: Sequence[str]) -> "Answers":
        return replace(self, heads={layer: self.heads[layer] for layer in layers})

    def at_exit(self, sample: int, layer: str, crossing: tuple[Crossing, ...] = ()) -> ExitAnswer:
        return self.heads[layer][sample]


@dataclass(frozen=True, eq=False)
class NeedingBits:
    """Ten samples, all answered rightly when every crossing tensor has at least the bits that its
    layer needs, all wrongly otherwise."""

    needs: Mapping[str, int]
    samples: int = 10
    classes: int = 2

    def true_label(self, sample: int) -> int:
        return 0

    def video(self, sample: int) -> int:
        return sample

    def uncut(self, sample: int) -> int:
        return 0

    def feature(self, sample: int, layers: Sequence[str]) -> NDArray[np.float32]:
        return np.ones(1, np.float32)

    def predict(self, sample: int, crossing: tuple[Crossing, ...]) -> Prediction:
        enough = all(tensor.bits >= self.needs[tensor.layer] for tensor in crossing)
        return Prediction(0 if enough else 1, tuple(0 for _ in crossing))
