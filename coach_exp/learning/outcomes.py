"""The answers of the real model through the real codec, computed once.

In: weights, the samples of a split, a codec. Out: labels, features and payload sizes, as the
`Outcomes` protocol asks for them. The first question about a cut is answered for the whole split in
batches: head, then for each sample encode, bytes, decode, then tail. The answers are kept on disk,
so a later run neither computes them nor imports torch.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from coach_exp.learning.exit_training import ExitTraining
from coach_exp.learning.memo import ArrayMemo, Arrays, digest
from coach_exp.learning.models import preprocess
from coach_exp.learning.video import VideoDataset
from coach_exp.learning.weights import Weights
from coach_exp.profiling import channels
from coach_exp.types.errors import ConfigError, CutError, GraphError
from coach_exp.types.feature import task_feature, usual_axis
from coach_exp.types.outcomes import Codec, Crossing, ExitAnswer, Prediction
from coach_exp.types.progress import Progress, silent

if TYPE_CHECKING:
    from torch import Tensor

    from coach_exp.learning.exit_heads import ExitHeads
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
    """

    def __init__(
        self,
        weights: Weights,
        data: VideoDataset,
        codec: Codec,
        cache_dir: Path,
        *,
        batch_size: int = 64,
        held_bytes: int = 2**29,
        progress: Progress = silent,
        exit_training: ExitTraining | None = None,
    ) -> None:
        self._weights = weights
        self._data = data
        self._codec = codec
        self._batch_size = batch_size
        self._progress = progress
        self._memo = ArrayMemo(cache_dir / "outcomes" / self._key())
        self._most_held = held_bytes
        self._held_cut: tuple[str, ...] = ()
        self._held: list[Tensors] = []
        self._predictions: dict[tuple[Crossing, ...], list[Prediction]] = {}
        self._features: dict[tuple[str, ...], NDArray[np.float32]] = {}
        self._cache_dir = cache_dir
        self._exit_training = exit_training
        self._exit_layers: tuple[str, ...] = ()
        self._exits: dict[tuple[Crossing, ...], Mapping[str, list[ExitAnswer]]] = {}

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
        other = copy(self)
        other.__dict__.pop("_heads", None)
        other._exit_layers = tuple(dict.fromkeys(layers))
        other._exits = {}
        return other

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

    def _all_predictions(self, crossing: tuple[Crossing, ...]) -> list[Prediction]:
        if not crossing:
            return [Prediction(label, ()) for label in self._uncut.tolist()]
        answers = self._memo.get(f"predict-{digest(crossing)}", lambda: self._compute(crossing))
        sizes = map(tuple, answers["payload_bytes"].tolist())
        return list(map(Prediction, answers["labels"].tolist(), sizes))

    def _all_exits(self, crossing: tuple[Crossing, ...]) -> dict[str, list[ExitAnswer]]:
        """Answers of the heads that `crossing` leaves to a side, by layer."""
        assert self._exit_training is not None, "with_exits has seen to it"
        key = self._exit_training.key(self._weights, self._exit_layers)
        known = self._memo.get(f"exits-{digest(key, crossing)}", lambda: self._ask_heads(crossing))
        columns = zip(known["labels"].T.tolist(), known["confidences"].T.tolist(), strict=True)
        answers = (list(map(ExitAnswer, *column)) for column in columns)
        return dict(zip(known["layers"].tolist(), answers, strict=True))

    # --- What is computed -----------------------------------------------------------------------

    @cached_property
    def _model(self) -> "CapturedModel":
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

    def _compute_features(self, layers: tuple[str, ...]) -> Tensors:
        axes = {layer: [self._model.graph[layer].channel_axis] for layer in layers}
        features: dict[str, list[NDArray[np.float32]]] = {layer: [] for layer in layers}
        for tensors in self._crossing_tensors(layers):
            for layer, batch in tensors.items():
                features[layer] += [task_feature([one], axes[layer]) for one in batch]
        return {layer: np.stack(each) for layer, each in features.items()}

    def _compute(self, crossing: tuple[Crossing, ...]) -> Arrays:
        """Labels [n] and payload bytes [n, crossing tensors]."""
        if self._loses_nothing(crossing):
            elements, bits = self._model.graph.input.elements, crossing[0].bits
            size = self._codec.header_bytes + elements * bits // 8
            return {"labels": self._uncut, "payload_bytes": np.full((self.samples, 1), size)}
        labels, sizes = [], []
        for run, sent in self._tail_runs(crossing):
            labels.append(run.result.argmax(dim=1).numpy())
            sizes.append(sent)
        return {"labels": np.concatenate(labels), "payload_bytes": np.concatenate(sizes)}

    def _loses_nothing(self, crossing: tuple[Crossing, ...]) -> bool:
        """Whether the raw input crosses as it is."""
        first = crossing[0]
        return first.layer == self._model.graph.input.name and first.bits in RAW_BITS

    def _tail_runs(
        self, crossing: tuple[Crossing, ...], kept: Sequence[str] = ()
    ) -> Iterator[tuple["TailRun", NDArray[np.int64]]]:
        """Finished passes of the tail, fed with what comes out of the codec, and payload bytes
        [batch, crossing tensors]; batch by batch."""
        tail = self._tail([tensor.layer for tensor in crossing], kept)
        for tensors in self._crossing_tensors(tuple(tensor.layer for tensor in crossing)):
            run, sent = tail.start(), []
            for layer, bits in ((tensor.layer, tensor.bits) for tensor in crossing):
                payloads = [self._codec.encode(one, bits) for one in tensors[layer]]
                sent.append([len(payload) for payload in payloads])
                run.feed(layer, _received(self._codec, payloads))
            yield run, np.array(sent).T

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


def _received(codec: Codec, payloads: Iterable[bytes]) -> "Tensor":
    """What the cloud makes of a batch of payloads: [batch, *shape]."""
    import torch

    return torch.from_numpy(np.stack([codec.decode(payload) for payload in payloads]))
