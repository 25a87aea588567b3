"""The answers of a model seen otherwise: with the bytes of another resolution, or chosen samples.

`ForwardedOutcomes`: as measured, for whoever changes a part of them. `RescaledOutcomes`: labels and
features as measured, payloads of the sizes that the timed graph would send; layers correspond by
name, and a payload keeps its share of the size that its codec expects. `SelectedOutcomes`: chosen
samples of several splits as one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from coach_exp.quant.sizes import rescaled_bytes
from coach_exp.types.graph import LayerGraph
from coach_exp.types.outcomes import Codec, Crossing, ExitAnswer, Outcomes, Prediction, TensorSize


@dataclass(frozen=True)
class ForwardedOutcomes:
    """The `measured` answers as they are; a subclass gives some of them otherwise."""

    measured: Outcomes

    @property
    def classes(self) -> int:
        """Number of class scores."""
        return self.measured.classes

    @property
    def samples(self) -> int:
        """Number of samples that can be asked about."""
        return self.measured.samples

    def true_label(self, sample: int) -> int:
        """Returns the ground truth of a sample."""
        return self.measured.true_label(sample)

    def video(self, sample: int) -> int:
        """Returns the number of the video or track that a sample belongs to."""
        return self.measured.video(sample)

    def uncut(self, sample: int) -> int:
        """Returns the label that the whole float model predicts."""
        return self.measured.uncut(sample)

    def feature(self, sample: int, layers: Sequence[str]) -> NDArray[np.float32]:
        """Returns the task feature: [channels]."""
        return self.measured.feature(sample, layers)

    def through(self, codec: Codec) -> Outcomes:
        """The same model and samples through another codec."""
        return self.measured.through(codec)

    def tensor_size(self, layer: str) -> TensorSize:
        """Size of the output of `layer`."""
        return self.measured.tensor_size(layer)

    def predict(self, sample: int, crossing: tuple[Crossing, ...]) -> Prediction:
        """Label and bytes."""
        return self.measured.predict(sample, crossing)

    def sent_bytes(self, crossing: tuple[Crossing, ...]) -> NDArray[np.int64]:
        """Bytes of each tensor of every sample: [samples, tensors]."""
        return self.measured.sent_bytes(crossing)

    def with_exits(self, layers: Sequence[str]) -> Outcomes:
        """With early-exit heads behind these layers."""
        return self.measured.with_exits(layers)

    def at_exit(self, sample: int, layer: str, crossing: tuple[Crossing, ...] = ()) -> ExitAnswer:
        """What a head says."""
        return self.measured.at_exit(sample, layer, crossing)


@dataclass(frozen=True)
class RescaledOutcomes(ForwardedOutcomes):
    """`measured` answers, which went through `codec`; `timed` says what crosses the link. Labels,
    features and what heads say are those of the measured resolution."""

    timed: LayerGraph
    codec: Codec

    def through(self, codec: Codec) -> "RescaledOutcomes":
        """Returns the same answers and graph through another codec."""
        return RescaledOutcomes(self.measured.through(codec), self.timed, codec)

    def with_exits(self, layers: Sequence[str]) -> "RescaledOutcomes":
        """With early-exit heads behind these layers."""
        return replace(self, measured=self.measured.with_exits(layers))

    def tensor_size(self, layer: str) -> TensorSize:
        """Returns the size of a layer's output at the timed resolution."""
        timed = self.timed[layer]
        return TensorSize(timed.elements, timed.rows)

    def predict(self, sample: int, crossing: tuple[Crossing, ...]) -> Prediction:
        """Returns the measured label with the timed bytes."""
        found = self.measured.predict(sample, crossing)
        sizes = (
            self._timed_bytes(size, tensor)
            for size, tensor in zip(found.payload_bytes, crossing, strict=True)
        )
        return Prediction(found.label, tuple(sizes))

    def sent_bytes(self, crossing: tuple[Crossing, ...]) -> NDArray[np.int64]:
        """Returns the payload bytes at the timed resolution: [samples, tensors]."""
        measured = self.measured.sent_bytes(crossing)
        columns = (
            [self._timed_bytes(size, tensor) for size in column]
            for column, tensor in zip(measured.T.tolist(), crossing, strict=True)
        )
        return np.array(list(columns), dtype=np.int64).T

    def _timed_bytes(self, measured_bytes: int, tensor: Crossing) -> int:
        size, timed = self.measured.tensor_size(tensor.layer), self.timed[tensor.layer]
        return rescaled_bytes(measured_bytes, tensor.bits, self.codec, size, timed)


@dataclass(frozen=True, eq=False)
class SelectedOutcomes:
    """Chosen samples of several splits as one, numbered anew: sample i is sample `sample[i]` of
    `sources[source[i]]`. Splits can be drawn again without asking the model again."""

    sources: tuple[Outcomes, ...]
    source: NDArray[np.int64]
    sample: NDArray[np.int64]

    @staticmethod
    def all_of(*sources: Outcomes) -> "SelectedOutcomes":
        """Returns every sample of some splits, one split after the other."""
        counts = [each.samples for each in sources]
        source = np.repeat(np.arange(len(sources)), counts)
        return SelectedOutcomes(sources, source, np.concatenate([np.arange(n) for n in counts]))

    def of(self, chosen: NDArray[np.int64]) -> "SelectedOutcomes":
        """Returns some of these samples, in the order of `chosen`."""
        return SelectedOutcomes(self.sources, self.source[chosen], self.sample[chosen])

    @property
    def classes(self) -> int:
        """Number of class scores."""
        return self.sources[0].classes

    @property
    def samples(self) -> int:
        """Number of samples that can be asked about."""
        return len(self.sample)

    def true_label(self, sample: int) -> int:
        """Returns the ground truth of a sample."""
        return self._source(sample).true_label(int(self.sample[sample]))

    def video(self, sample: int) -> int:
        """Returns the number of the video or track that a sample belongs to."""
        return self._source(sample).video(int(self.sample[sample]))

    def uncut(self, sample: int) -> int:
        """Returns the label that the whole float model predicts."""
        return self._source(sample).uncut(int(self.sample[sample]))

    def feature(self, sample: int, layers: Sequence[str]) -> NDArray[np.float32]:
        """Returns the task feature: [channels]."""
        return self._source(sample).feature(int(self.sample[sample]), layers)

    def through(self, codec: Codec) -> "SelectedOutcomes":
        """Returns the same samples through another codec."""
        sources = tuple(source.through(codec) for source in self.sources)
        return SelectedOutcomes(sources, self.source, self.sample)

    def tensor_size(self, layer: str) -> TensorSize:
        """Returns the size of a layer's output, which is the same in every split."""
        return self.sources[0].tensor_size(layer)

    def predict(self, sample: int, crossing: tuple[Crossing, ...]) -> Prediction:
        """Returns label and payload bytes."""
        return self._source(sample).predict(int(self.sample[sample]), crossing)

    def sent_bytes(self, crossing: tuple[Crossing, ...]) -> NDArray[np.int64]:
        """Returns the payload bytes of the chosen samples: [samples, tensors]."""
        every = [source.sent_bytes(crossing) for source in self.sources]
        pairs = zip(self.source.tolist(), self.sample.tolist(), strict=True)
        return np.array([every[source][sample] for source, sample in pairs])

    def with_exits(self, layers: Sequence[str]) -> "SelectedOutcomes":
        """Returns the same answers with early-exit heads behind these layers."""
        return replace(self, sources=tuple(each.with_exits(layers) for each in self.sources))

    def at_exit(self, sample: int, layer: str, crossing: tuple[Crossing, ...] = ()) -> ExitAnswer:
        """Returns what a head says."""
        return self._source(sample).at_exit(int(self.sample[sample]), layer, crossing)

    def _source(self, sample: int) -> Outcomes:
        return self.sources[int(self.source[sample])]
