"""Answers of a model measured at one resolution, bytes of the same model timed at another.

In: outcomes and the layer graph whose times are simulated. Out: outcomes with the same labels and
features, and payloads of the sizes that the timed graph would send. Layers correspond by name.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coach_exp.types.graph import LayerGraph
from coach_exp.types.outcomes import Codec, Crossing, Outcomes, Prediction


@dataclass(frozen=True)
class RescaledOutcomes:
    """`measured` answers; `timed` and `codec` say what crosses the link."""

    measured: Outcomes
    timed: LayerGraph
    codec: Codec

    @property
    def classes(self) -> int:
        """Number of class scores."""
        return self.measured.classes

    @property
    def samples(self) -> int:
        """Number of samples that can be asked about."""
        return self.measured.samples

    def true_label(self, sample: int) -> int:
        """Ground truth of a sample."""
        return self.measured.true_label(sample)

    def video(self, sample: int) -> int:
        """The video or track that a sample belongs to."""
        return self.measured.video(sample)

    def uncut(self, sample: int) -> int:
        """Label that the whole float model predicts."""
        return self.measured.uncut(sample)

    def feature(self, sample: int, layers: Sequence[str]) -> NDArray[np.float32]:
        """Task feature at the measured resolution: [channels]."""
        return self.measured.feature(sample, layers)

    def predict(self, sample: int, crossing: tuple[Crossing, ...]) -> Prediction:
        """The measured label with the timed bytes."""
        layers = (self.timed[tensor.layer] for tensor in crossing)
        sizes = (
            self.codec.expected_bytes(layer.elements, tensor.bits, layer.rows)
            for layer, tensor in zip(layers, crossing, strict=True)
        )
        return Prediction(self.measured.predict(sample, crossing).label, tuple(sizes))
