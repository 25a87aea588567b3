"""A model run over all samples of a split, batch by batch; nothing is kept on disk.

In: weights, samples. Out: normalised images, the outputs of layers, the tail of a cut. The model is
loaded and captured, and torch imported, when something is first computed.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from coach_exp.learning.models import preprocess
from coach_exp.learning.video import VideoDataset
from coach_exp.learning.weights import Weights
from coach_exp.types.errors import CutError
from coach_exp.types.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor

    from coach_exp.profiling.capture import CapturedModel
    from coach_exp.profiling.program import Tail

Tensors = dict[str, NDArray[np.float32]]


class ModelRuns:
    """Runs of the model with these weights over `data`, `batch_size` samples at a time. The tensors
    of the last cut are held in memory while they take at most `held_bytes`, so that a search over
    bit-widths runs the head once."""

    def __init__(
        self,
        weights: Weights,
        data: VideoDataset,
        *,
        batch_size: int,
        held_bytes: int,
        progress: Progress,
    ) -> None:
        self.samples = len(data)
        self._weights = weights
        self._data = data
        self._batch_size = batch_size
        self._max_held_bytes = held_bytes
        self._progress = progress
        self._held_cut: tuple[str, ...] = ()
        self._held: list[Tensors] = []

    @cached_property
    def model(self) -> "CapturedModel":
        """The model with its weights, captured. Raises ConfigError where they cannot be had."""
        from coach_exp.profiling.capture import capture

        return capture(self._weights.load(), self._weights.model.input_shape)

    def spans(self, what: str) -> Iterator[tuple[int, int]]:
        """First and last sample, exclusive, of every batch; the progress `what` advances as each is
        done."""
        for first in range(0, self.samples, self._batch_size):
            last = min(first + self._batch_size, self.samples)
            yield first, last
            self._progress(what, last, self.samples)

    def frames(self, first: int, last: int) -> NDArray[np.uint8]:
        """Frames of some samples as the data set has them: [samples, height, width, 3]."""
        return self._data.frames[first:last]

    def images(self, frames: NDArray[np.uint8]) -> "Tensor":
        """What the model takes for these frames: [n, height, width, 3] -> [n, 3, side, side]."""
        return preprocess(frames, self._weights.model.input_size)

    def batches(self, what: str) -> Iterator["Tensor"]:
        """Normalised images of all samples: [batch, 3, side, side]."""
        for first, last in self.spans(what):
            yield self.images(self.frames(first, last))

    def tensors(self, layers: tuple[str, ...]) -> Iterator[Tensors]:
        """Outputs of `layers` for all samples, batch by batch: {layer: [batch, *shape]}. Raises
        GraphError for an unknown layer."""
        if self._held_cut == layers:
            yield from self._held
            return
        self._held_cut, self._held = (), []
        held, held_bytes = list[Tensors](), 0
        for x in self.batches(" + ".join(layers)):
            tensors = {layer: t.numpy() for layer, t in self.model.stream(x, layers)}
            held_bytes += sum(tensor.nbytes for tensor in tensors.values())
            held = [*held, tensors] if held_bytes <= self._max_held_bytes else []
            yield tensors
        if held:
            self._held_cut, self._held = layers, held

    def tail(self, layers: Sequence[str], kept: Sequence[str] = ()) -> "Tail":
        """The cloud's side of the smallest cut that `layers` cross, which keeps the outputs of
        `kept`. Raises CutError where they are not all that crosses it."""
        from coach_exp.profiling.capture import smallest_end, split

        _, tail = split(self.model, smallest_end(self.model.graph, layers), kept)
        if sorted(tail.crossing) != sorted(layers):
            raise CutError(
                f"{list(layers)} are not all that crosses a cut: with them and their ancestors on "
                f"the end, {list(tail.crossing)} cross"
            )
        return tail
