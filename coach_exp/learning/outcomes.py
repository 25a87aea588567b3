"""The answers of the real model through the real codec, computed once.

In: weights, the samples of a split, a codec, how the raw input crosses. Out: labels, features and
payload sizes, as the `Outcomes` protocol asks for them. The first question about a cut is answered
for the whole split in batches: head, then for each sample encode, bytes, decode, then tail. The
answers are kept on disk, so a later run neither computes them nor imports torch.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from coach_exp.learning.jpeg import Jpeg
from coach_exp.learning.memo import ArrayMemo, Arrays, digest
from coach_exp.learning.models import preprocess
from coach_exp.learning.video import VideoDataset
from coach_exp.learning.weights import Weights
from coach_exp.profiling import channels
from coach_exp.types.errors import ConfigError, CutError
from coach_exp.types.feature import task_feature, usual_axis
from coach_exp.types.outcomes import Codec, Crossing, Prediction, TensorSize
from coach_exp.types.progress import Progress, silent

if TYPE_CHECKING:
    from torch import Tensor

    from coach_exp.profiling.capture import CapturedModel
    from coach_exp.profiling.program import Tail

Tensors = dict[str, NDArray[np.float32]]

RAW_BITS = (8, 32)  # the input crosses as the uint8 image, or as normalised floats: no loss
PIXEL_BITS = 8  # the width at which an input that crosses as a file does


class TorchOutcomes:
    """Answers for the samples of `data`, by their place in it.

    Memoised under `cache_dir` by hash of weights, data, resolution and codec, then by cut and bits.
    The crossing tensors of the last cut are held, while they fit in `held_bytes`, so that a search
    over bit-widths runs the head once.

    With `jpeg` the raw input crosses as such a file, at 8 bits; its sizes are those of the files,
    at their own resolution, and the header. `plain` is of the same model, samples and `jpeg`, and
    answers what does not depend on the codec.
    """

    def __init__(
        self,
        weights: Weights,
        data: VideoDataset,
        codec: Codec,
        cache_dir: Path,
        *,
        jpeg: Jpeg | None = None,
        batch_size: int = 64,
        held_bytes: int = 2**29,
        progress: Progress = silent,
        plain: "TorchOutcomes | None" = None,
    ) -> None:
        self._weights = weights
        self._data = data
        self._codec = codec
        self._cache_dir = cache_dir
        self._jpeg = jpeg
        self._batch_size = batch_size
        self._progress = progress
        self._memo = ArrayMemo(cache_dir / "outcomes" / self._key())
        self._most_held = held_bytes
        self._held_cut: tuple[str, ...] = ()
        self._held: list[Tensors] = []
        self._predictions: dict[tuple[Crossing, ...], list[Prediction]] = {}
        self._features: dict[tuple[str, ...], NDArray[np.float32]] = {}
        self._plain = self if plain is None else plain
        self._views: dict[str, TorchOutcomes] = {repr(codec): self}

    def through(self, codec: Codec) -> "TorchOutcomes":
        """The answers through another codec, the same object whenever it is asked for. Uncut
        labels, features and crossing tensors are computed once for all codecs."""
        views, name = self._plain._views, repr(codec)
        if name not in views:
            views[name] = TorchOutcomes(
                self._weights,
                self._data,
                codec,
                self._cache_dir,
                jpeg=self._jpeg,
                batch_size=self._batch_size,
                progress=self._progress,
                plain=self._plain,
            )
        return views[name]

    def tensor_size(self, layer: str) -> TensorSize:
        """Size of the output of `layer` at the resolution of these answers, or of the picture that
        an input crosses as. Raises GraphError for an unknown layer."""
        if layer not in self._sizes:
            self._model.graph.position(layer)  # raises, naming the layers there are
        return self._sizes[layer]

    @property
    def classes(self) -> int:
        """Number of class scores."""
        return self._weights.num_classes

    @property
    def samples(self) -> int:
        """Number of samples that can be asked about."""
        return len(self._data)

    def true_label(self, sample: int) -> int:
        """Ground truth of a sample."""
        return int(self._data.label[sample])

    def video(self, sample: int) -> int:
        """The video or track that a sample belongs to."""
        return int(self._data.video[sample])

    def uncut(self, sample: int) -> int:
        """Label that the whole float model predicts."""
        return int(self._uncut[sample])

    def feature(self, sample: int, layers: Sequence[str]) -> NDArray[np.float32]:
        """Task feature F: means over all but the channel axis, concatenated: [channels].

        Raises GraphError for an unknown layer.
        """
        if self._plain is not self:
            return self._plain.feature(sample, layers)
        cut = tuple(layers)
        if cut not in self._features:
            parts = [self._feature(layer, cut) for layer in cut]
            self._features[cut] = np.concatenate(parts, axis=1)
            self._features[cut].flags.writeable = False
        return self._features[cut][sample]

    def predict(self, sample: int, crossing: tuple[Crossing, ...]) -> Prediction:
        """Label after sending the crossing tensors, with the bytes of each; none: as `uncut`.

        Raises CutError when `crossing` is not all that crosses a cut, CodecError as the codec does.
        """
        if crossing not in self._predictions:
            self._predictions[crossing] = self._all_predictions(crossing)
        return self._predictions[crossing][sample]

    def flips(self, samples: int) -> int:
        """How many of the first `samples` uncut labels differ when computed one at a time."""
        return sum(
            int(self._model.run(self._images(i, i + 1)).argmax()) != self.uncut(i)
            for i in range(min(samples, self.samples))
        )

    # --- What is kept ---------------------------------------------------------------------------

    def _key(self) -> str:
        codec = self._codec
        if type(codec).__repr__ is object.__repr__:
            raise ConfigError(
                f"codec {type(codec).__name__} has no repr that tells its settings, by which its "
                "answers are kept; make it a dataclass"
            )
        return digest(
            self._weights.fingerprint,
            self._data.fingerprint,
            self._weights.model.input_size,
            type(codec).__module__,
            codec,
        )

    @cached_property
    def _uncut(self) -> NDArray[np.int64]:
        if self._plain is not self:
            return self._plain._uncut
        return self._memo.get("uncut", self._compute_uncut)["labels"]

    def _feature(self, layer: str, cut: tuple[str, ...]) -> NDArray[np.float32]:
        """One layer's features [n, channels]; a pass for one of a cut's layers serves them all."""
        saved = self._memo.load(self._feature_name(layer))
        if saved is None:
            features = self._compute_features(cut)
            for name, feature in features.items():
                self._memo.save(self._feature_name(name), {"feature": feature})
            return features[layer]
        return saved["feature"]

    def _feature_name(self, layer: str) -> str:
        """Tells the channel axis as well, where it is not the one that the shape suggests."""
        if layer not in self._axes:
            self._model.graph.position(layer)  # raises, naming the layers there are
        axis, axes = self._axes[layer]
        return f"feature-{digest(layer) if axis == usual_axis(axes) else digest(layer, axis)}"

    @cached_property
    def _axes(self) -> dict[str, tuple[int, int]]:
        """Channel axis and number of axes of each layer's output for one task.

        Kept, so that known features need no model, for as long as the rules are the same.
        """
        rules = digest(Path(channels.__file__).read_bytes())
        known = self._memo.get(f"axes-{rules}", self._compute_axes)
        return dict(zip(known["layers"].tolist(), map(tuple, known["axes"].tolist()), strict=True))

    @cached_property
    def _sizes(self) -> dict[str, TensorSize]:
        """Size of each layer's output for one task, the input first; of the picture where the input
        crosses as a file. Kept, so that known answers need no model."""
        if self._plain is not self:
            return self._plain._sizes
        known = self._memo.get("sizes", self._compute_sizes)
        sizes = map(TensorSize, known["elements"].tolist(), known["rows"].tolist())
        named = dict(zip(known["layers"].tolist(), sizes, strict=True))
        if self._jpeg is not None:
            named[next(iter(named))] = TensorSize(3 * self._jpeg.side**2, rows=3)
        return named

    def _all_predictions(self, crossing: tuple[Crossing, ...]) -> list[Prediction]:
        if not crossing:
            return [Prediction(label, ()) for label in self._uncut.tolist()]
        if len(crossing) == 1 and self._is_raw(crossing[0]):
            return self._of_the_input(crossing[0].bits)
        name = digest(crossing, self._jpeg) if self._is_file(crossing) else digest(crossing)
        answers = self._memo.get(f"predict-{name}", lambda: self._compute(crossing))
        sizes = map(tuple, answers["payload_bytes"].tolist())
        return list(map(Prediction, answers["labels"].tolist(), sizes))

    def _is_raw(self, tensor: Crossing) -> bool:
        """Whether a tensor is the input and crosses without the codec."""
        return tensor.bits in RAW_BITS and tensor.layer == next(iter(self._sizes))

    def _is_file(self, crossing: tuple[Crossing, ...]) -> bool:
        """Whether one of the tensors is an input that crosses as a file."""
        return self._jpeg is not None and any(
            tensor.bits == PIXEL_BITS and self._is_raw(tensor) for tensor in crossing
        )

    def _of_the_input(self, bits: int) -> list[Prediction]:
        """Answers where the raw input is all that crosses."""
        if self._jpeg is not None and bits == PIXEL_BITS:
            sizes = self._files["bytes"] + self._codec.header_bytes
            labels = self._files["labels"]
        else:
            raw = next(iter(self._sizes.values()))
            size = self._codec.expected_bytes(raw.elements, bits, raw.rows)
            labels, sizes = self._uncut, np.full(self.samples, size)
        return [
            Prediction(label, (size,))
            for label, size in zip(labels.tolist(), sizes.tolist(), strict=True)
        ]

    @cached_property
    def _files(self) -> Arrays:
        """The uncut model's labels of what comes out of the files, and their sizes."""
        if self._plain is not self:
            return self._plain._files
        return self._memo.get(f"files-{digest(self._jpeg)}", self._compute_files)

    # --- What is computed -----------------------------------------------------------------------

    @cached_property
    def _model(self) -> "CapturedModel":
        if self._plain is not self:
            return self._plain._model
        from coach_exp.profiling.capture import capture

        return capture(self._weights.load(), self._weights.model.input_shape)

    def _compute_uncut(self) -> Arrays:
        labels = [self._model.run(x).argmax(dim=1).numpy() for x in self._batches("uncut model")]
        return {"labels": np.concatenate(labels)}

    def _compute_axes(self) -> Arrays:
        layers = self._model.graph.layers
        return {
            "layers": np.array([layer.name for layer in layers]),
            "axes": np.array([(layer.channel_axis, len(layer.shape)) for layer in layers]),
        }

    def _compute_sizes(self) -> Arrays:
        layers = self._model.graph.layers
        return {
            "layers": np.array([layer.name for layer in layers]),
            "elements": np.array([layer.elements for layer in layers]),
            "rows": np.array([layer.rows for layer in layers]),
        }

    def _compute_files(self) -> Arrays:
        labels, sizes = [], list[int]()
        for first in range(0, self.samples, self._batch_size):
            last = min(first + self._batch_size, self.samples)
            x, file_bytes = self._through_files(first, last)
            labels.append(self._model.run(x).argmax(dim=1).numpy())
            sizes += file_bytes
            self._progress("input as JPEG", last, self.samples)
        return {"labels": np.concatenate(labels), "bytes": np.array(sizes)}

    def _compute_features(self, layers: tuple[str, ...]) -> Tensors:
        axes = {layer: [self._model.graph[layer].channel_axis] for layer in layers}
        features: dict[str, list[NDArray[np.float32]]] = {layer: [] for layer in layers}
        for tensors in self._crossing_tensors(layers):
            for layer, batch in tensors.items():
                features[layer] += [task_feature([one], axes[layer]) for one in batch]
        return {layer: np.stack(each) for layer, each in features.items()}

    def _compute(self, crossing: tuple[Crossing, ...]) -> Arrays:
        """Labels [n] and payload bytes [n, crossing tensors]."""
        tail = self._tail([tensor.layer for tensor in crossing])
        labels, sizes, first = [], [], 0
        for tensors in self._crossing_tensors(tuple(tensor.layer for tensor in crossing)):
            run, sent = tail.start(), []
            for tensor in crossing:
                received, payload_bytes = self._transmitted(tensor, tensors[tensor.layer], first)
                sent.append(payload_bytes)
                run.feed(tensor.layer, received)
            labels.append(run.result.argmax(dim=1).numpy())
            sizes.append(np.array(sent).T)
            first += len(labels[-1])
        return {"labels": np.concatenate(labels), "payload_bytes": np.concatenate(sizes)}

    def _transmitted(
        self, tensor: Crossing, batch: NDArray[np.float32], first: int
    ) -> tuple["Tensor", list[int]]:
        """What the cloud makes of one tensor of a batch that begins with sample `first`, and the
        bytes of each: [batch, *shape]."""
        import torch

        if self._is_file((tensor,)):
            x, file_bytes = self._through_files(first, first + len(batch))
            return x, [self._codec.header_bytes + size for size in file_bytes]
        if self._is_raw(tensor):
            raw = self._sizes[tensor.layer]
            size = self._codec.expected_bytes(raw.elements, tensor.bits, raw.rows)
            return torch.from_numpy(batch), [size] * len(batch)
        payloads = [self._codec.encode(one, tensor.bits) for one in batch]
        received = np.stack([self._codec.decode(payload) for payload in payloads])
        return torch.from_numpy(received), [len(payload) for payload in payloads]

    def _through_files(self, first: int, last: int) -> tuple["Tensor", list[int]]:
        """Normalised images of some samples as they come out of their files, and the files' sizes:
        [samples, 3, side, side]."""
        assert self._jpeg is not None
        files = self._jpeg.encode(self._data.frames[first:last])
        images = preprocess(self._jpeg.decode(files), self._weights.model.input_size)
        return images, [len(file) for file in files]

    def _tail(self, layers: list[str]) -> "Tail":
        from coach_exp.profiling.capture import smallest_end, split

        _, tail = split(self._model, smallest_end(self._model.graph, layers))
        if sorted(tail.crossing) != sorted(layers):
            raise CutError(
                f"{layers} are not all that crosses a cut: with them and their ancestors on the "
                f"end, {list(tail.crossing)} cross"
            )
        return tail

    def _crossing_tensors(self, layers: tuple[str, ...]) -> Iterator[Tensors]:
        """Outputs of `layers` for all samples, batch by batch: {layer: [batch, *shape]}."""
        if self._plain is not self:
            yield from self._plain._crossing_tensors(layers)
            return
        if self._held_cut == layers:
            yield from self._held
            return
        self._held_cut, self._held = (), []
        held, held_bytes = list[Tensors](), 0
        for x in self._batches(" + ".join(layers)):
            tensors = {layer: t.numpy() for layer, t in self._model.stream(x, layers)}
            held_bytes += sum(tensor.nbytes for tensor in tensors.values())
            held = [*held, tensors] if held_bytes <= self._most_held else []
            yield tensors
        if held:
            self._held_cut, self._held = layers, held

    def _batches(self, what: str) -> Iterator["Tensor"]:
        """Normalised images of all samples: [batch, 3, side, side]."""
        for first in range(0, self.samples, self._batch_size):
            last = min(first + self._batch_size, self.samples)
            yield self._images(first, last)
            self._progress(what, last, self.samples)

    def _images(self, first: int, last: int) -> "Tensor":
        return preprocess(self._data.frames[first:last], self._weights.model.input_size)
