"""The answers of the real model through the real codec, computed once.

In: weights, the samples of a split, a codec, how the raw input crosses. Out: labels, features and
payload sizes, as the `Outcomes` protocol asks for them. The first question about a cut is answered
for the whole split in batches: head, then for each sample encode, bytes, decode, then tail. The
answers are kept on disk, so a later run neither computes them nor imports torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from coach_exp.learning.array_cache import ArrayCache, Arrays, digest
from coach_exp.learning.jpeg import Jpeg
from coach_exp.learning.models import preprocess
from coach_exp.learning.video import VideoDataset
from coach_exp.learning.weights import Weights
from coach_exp.live.exit_training import ExitTraining
from coach_exp.live.payloads import PIXEL_BITS
from coach_exp.profiling import channels
from coach_exp.types.errors import ConfigError, CutError, GraphError
from coach_exp.types.feature import task_feature, usual_axis
from coach_exp.types.outcomes import Codec, Crossing, ExitAnswer, Prediction, TensorSize
from coach_exp.types.progress import Progress, silent

if TYPE_CHECKING:
    from torch import Tensor

    from coach_exp.live.exit_heads import ExitHeads
    from coach_exp.profiling.capture import CapturedModel
    from coach_exp.profiling.program import Tail, TailRun

Tensors = dict[str, NDArray[np.float32]]

RAW_BITS = (8, 32)  # the input crosses as the uint8 image, or as normalised floats: no loss


class TorchOutcomes:
    """Answers for the samples of `data`, by their place in it.

    Memoised under `cache_dir` by hash of weights, data, resolution and codec, then by cut and bits.
    The crossing tensors of the last cut are held, while they fit in `held_bytes`, so that a search
    over bit-widths runs the head once. `exit_training` is what early-exit heads would be trained
    from.

    With `jpeg` the raw input crosses as such a file, at 8 bits; its sizes are those of the files,
    at their own resolution, and the header.
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
        exit_training: ExitTraining | None = None,
    ) -> None:
        self._weights = weights
        self._data = data
        self._codec = codec
        self._jpeg = jpeg
        self._batch_size = batch_size
        self._progress = progress
        self._arrays = ArrayCache(cache_dir / "outcomes" / self._key())
        self._max_held = held_bytes
        self._held_cut: tuple[str, ...] = ()
        self._held: list[Tensors] = []
        self._predictions: dict[tuple[Crossing, ...], list[Prediction]] = {}
        self._features: dict[tuple[str, ...], NDArray[np.float32]] = {}
        self._cache_dir = cache_dir
        self._exit_training = exit_training
        self._exit_layers: tuple[str, ...] = ()
        self._exits: dict[tuple[Crossing, ...], Mapping[str, list[ExitAnswer]]] = {}
        self._plain = self  # answers what depends on neither codec nor heads
        self._views: dict[tuple[str, tuple[str, ...]], TorchOutcomes] = {(repr(codec), ()): self}

    def through(self, codec: Codec) -> "TorchOutcomes":
        """The answers through another codec, the same object whenever it is asked for. Uncut
        labels, features and crossing tensors are computed once for all codecs."""
        return self._view(codec, self._exit_layers)

    def _view(self, codec: Codec, exit_layers: tuple[str, ...]) -> "TorchOutcomes":
        """The same model and samples through this codec and with heads behind these layers."""
        views, key = self._plain._views, (repr(codec), exit_layers)
        if key not in views:
            view = copy(self)
            view.__dict__.pop("_heads", None)
            view._codec, view._exit_layers = codec, exit_layers
            view._arrays = ArrayCache(self._cache_dir / "outcomes" / view._key())
            view._predictions, view._exits = {}, {}
            view._held_cut, view._held = (), []  # `_plain` holds tensors for all
            views[key] = view
        return views[key]

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

    def sent_bytes(self, crossing: tuple[Crossing, ...]) -> NDArray[np.int64]:
        """Bytes of each tensor of every sample, in one pass of the model: [samples, tensors]."""
        name = f"bytes-{digest(*self._sent(crossing))}"
        return self._arrays.get(name, lambda: self._sizes_of(crossing))["payload_bytes"]

    def with_exits(self, layers: Sequence[str]) -> "TorchOutcomes":
        """The same answers, and those of early-exit heads behind `layers`, which are trained when
        one is first asked and kept under `cache_dir`.

        Raises ConfigError where there is nothing to train them from.
        """
        if self._exit_training is None:
            raise ConfigError(
                "these answers came without data to train exit heads from; give TorchOutcomes an "
                "exit_training"
            )
        return self._view(self._codec, tuple(dict.fromkeys(layers)))

    @property
    def exit_layers(self) -> tuple[str, ...]:
        """The layers that have heads."""
        return self._exit_layers

    def at_exit(self, sample: int, layer: str, crossing: tuple[Crossing, ...] = ()) -> ExitAnswer:
        """What the head behind `layer` says; with `crossing` on the cloud, of what the cloud makes
        of the received tensors.

        Raises GraphError for a layer without a head or that the model lacks, CutError for one that
        is on the end when `crossing` is sent, and otherwise as `predict`.
        """
        if layer not in self._exit_layers:
            raise GraphError(
                f"there is no exit head behind {layer!r}; with_exits gave heads to "
                f"{list(self._exit_layers)}"
            )
        if crossing not in self._exits:
            self._exits[crossing] = self._all_exits(crossing)
        if layer not in self._exits[crossing]:
            raise CutError(
                f"the exit head behind {layer!r} is on the end when "
                f"{[tensor.layer for tensor in crossing]} cross; on the cloud are those behind "
                f"{list(self._exits[crossing])}; ask for it without `crossing`"
            )
        return self._exits[crossing][layer][sample]

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
        return self._arrays.get("uncut", self._compute_uncut)["labels"]

    def _feature(self, layer: str, cut: tuple[str, ...]) -> NDArray[np.float32]:
        """One layer's features [n, channels]; a pass for one of a cut's layers serves them all."""
        saved = self._arrays.load(self._feature_name(layer))
        if saved is None:
            features = self._compute_features(cut)
            for name, feature in features.items():
                self._arrays.save(self._feature_name(name), {"feature": feature})
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
        known = self._arrays.get(f"axes-{rules}", self._compute_axes)
        return dict(zip(known["layers"].tolist(), map(tuple, known["axes"].tolist()), strict=True))

    @cached_property
    def _sizes(self) -> dict[str, TensorSize]:
        """Size of each layer's output for one task, the input first; of the picture where the input
        crosses as a file. Kept, so that known answers need no model."""
        if self._plain is not self:
            return self._plain._sizes
        known = self._arrays.get("sizes", self._compute_sizes)
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
        name = f"predict-{digest(*self._sent(crossing))}"
        answers = self._arrays.get(name, lambda: self._compute(crossing))
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

    def _sent(self, crossing: tuple[Crossing, ...]) -> tuple[object, ...]:
        """What tells one way of sending these tensors from another."""
        return (crossing, self._jpeg) if self._is_file(crossing) else (crossing,)

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
        return self._arrays.get(f"files-{digest(self._jpeg)}", self._compute_files)

    def _all_exits(self, crossing: tuple[Crossing, ...]) -> dict[str, list[ExitAnswer]]:
        """Answers of the heads that `crossing` leaves to a side, by layer."""
        assert self._exit_training is not None, "with_exits has seen to it"
        key = self._exit_training.key(self._weights, self._exit_layers)
        memo = self._arrays if crossing else self._plain._arrays  # on the end no codec matters
        name = f"exits-{digest(key, *self._sent(crossing))}"
        known = memo.get(name, lambda: self._ask_heads(crossing))
        columns = zip(known["labels"].T.tolist(), known["confidences"].T.tolist(), strict=True)
        answers = (list(map(ExitAnswer, *column)) for column in columns)
        return dict(zip(known["layers"].tolist(), answers, strict=True))

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
        labels, sizes = [], []
        for run, sent in self._tail_runs(crossing):
            labels.append(run.result.argmax(dim=1).numpy())
            sizes.append(sent)
        return {"labels": np.concatenate(labels), "payload_bytes": np.concatenate(sizes)}

    def _loses_nothing(self, crossing: tuple[Crossing, ...]) -> bool:
        """Whether the raw input is all that crosses, and as it is."""
        return len(crossing) == 1 and self._is_raw(crossing[0]) and not self._is_file(crossing)

    def _tail_runs(
        self, crossing: tuple[Crossing, ...], kept: Sequence[str] = ()
    ) -> Iterator[tuple["TailRun", NDArray[np.int64]]]:
        """Finished passes of the tail, fed with what comes out of the codec, and payload bytes
        [batch, crossing tensors]; batch by batch."""
        tail, first = self._tail([tensor.layer for tensor in crossing], kept), 0
        for tensors in self._crossing_tensors(tuple(tensor.layer for tensor in crossing)):
            run, sent = tail.start(), []
            for tensor in crossing:
                received, payload_bytes = self._transmitted(tensor, tensors[tensor.layer], first)
                sent.append(payload_bytes)
                run.feed(tensor.layer, received)
            first += len(sent[0])
            yield run, np.array(sent).T

    def _sizes_of(self, crossing: tuple[Crossing, ...]) -> Arrays:
        sizes, first = [], 0
        for tensors in self._crossing_tensors(tuple(tensor.layer for tensor in crossing)):
            sent = [self._transmitted(t, tensors[t.layer], first)[1] for t in crossing]
            first += len(sent[0])
            sizes.append(np.array(sent).T)
        return {"payload_bytes": np.concatenate(sizes)}

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

    @cached_property
    def _heads(self) -> "ExitHeads":
        assert self._exit_training is not None, "with_exits has seen to it"
        return self._exit_training.heads(
            self._weights, self._model, self._exit_layers, self._cache_dir
        )

    def _ask_heads(self, crossing: tuple[Crossing, ...]) -> Arrays:
        """Labels and confidences [n, heads] of the heads on one side: all of them on the end, or
        those behind the cut."""
        layers = self._heads.layers
        if crossing:
            from coach_exp.profiling.capture import smallest_end

            end = smallest_end(self._model.graph, [tensor.layer for tensor in crossing])
            layers = tuple(layer for layer in layers if layer not in end)
        labels = [np.empty((0, len(layers)), np.int64)]
        confidences = [np.empty((0, len(layers)), np.float32)]
        for outputs in self._outputs(layers, crossing) if layers else ():
            label, confidence = self._heads.answers(outputs)
            labels.append(label.numpy())
            confidences.append(confidence.numpy())
        return {
            "layers": np.array(layers, str),
            "labels": np.concatenate(labels),
            "confidences": np.concatenate(confidences),
        }

    def _outputs(
        self, layers: tuple[str, ...], crossing: tuple[Crossing, ...]
    ) -> Iterator[dict[str, "Tensor"]]:
        """Outputs of `layers` for all samples, batch by batch, as the end has them or, behind a
        cut, the cloud: {layer: [batch, *shape]}."""
        if not crossing or self._loses_nothing(crossing):
            for x in self._batches("exit heads"):
                yield self._model.features(x, layers)
        else:
            for run, _ in self._tail_runs(crossing, layers):
                yield {layer: run.kept(layer) for layer in layers}

    def _tail(self, layers: list[str], kept: Sequence[str] = ()) -> "Tail":
        from coach_exp.profiling.capture import smallest_end, split

        _, tail = split(self._model, smallest_end(self._model.graph, layers), kept)
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
            held = [*held, tensors] if held_bytes <= self._max_held else []
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
