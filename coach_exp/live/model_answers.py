"""What the model itself answers on the samples of a split, whatever codec its tensors go through.

In: weights, samples, how the raw input crosses. Out: labels of the whole model, features, sizes of
tensors. The first question is answered for the whole split. The answers are kept on disk, so a
later run neither computes them nor imports torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from coach_exp.learning.array_cache import ArrayCache, Arrays, digest
from coach_exp.learning.jpeg import Jpeg
from coach_exp.learning.video import VideoDataset
from coach_exp.learning.weights import Weights
from coach_exp.live.exit_training import ExitTraining
from coach_exp.live.model_runs import ModelRuns, Tensors
from coach_exp.profiling import channels
from coach_exp.types.errors import ConfigError
from coach_exp.types.feature import task_feature, usual_axis
from coach_exp.types.outcomes import Codec, TensorSize

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class ModelOnData:
    """All that decides answers besides the codec: a model with its weights and the samples.

    With `jpeg` the raw input crosses as such a file, at 8 bits. `exit_training` is what early-exit
    heads would be trained from.
    """

    weights: Weights
    data: VideoDataset
    jpeg: Jpeg | None = None
    exit_training: ExitTraining | None = None

    def array_cache(self, cache_dir: Path, codec: Codec) -> ArrayCache:
        """The folder under `cache_dir` where answers through `codec` are kept. Raises ConfigError
        for a codec whose repr does not tell its settings."""
        if type(codec).__repr__ is object.__repr__:
            raise ConfigError(
                f"codec {type(codec).__name__} has no repr that tells its settings, by which its "
                "answers are kept; make it a dataclass"
            )
        key = digest(
            self.weights.fingerprint,
            self.data.fingerprint,
            self.weights.model.input_size,
            type(codec).__module__,
            codec,
        )
        return ArrayCache(cache_dir / "outcomes" / key)


class ModelAnswers:
    """Answers of the `subject`, by the place of a sample in it; kept in `array_cache`."""

    def __init__(self, subject: ModelOnData, runs: ModelRuns, array_cache: ArrayCache) -> None:
        self.subject = subject
        self.runs = runs
        self.array_cache = array_cache
        self._features: dict[tuple[str, ...], NDArray[np.float32]] = {}

    @cached_property
    def uncut(self) -> NDArray[np.int64]:
        """Labels that the whole float model predicts: [samples]."""
        return self.array_cache.get("uncut", self._compute_uncut)["labels"]

    def _compute_uncut(self) -> Arrays:
        runs = self.runs
        labels = [runs.model.run(x).argmax(dim=1).numpy() for x in runs.batches("uncut model")]
        return {"labels": np.concatenate(labels)}

    def flips(self, samples: int) -> int:
        """How many of the first `samples` uncut labels differ when computed one at a time."""
        runs = self.runs
        return sum(
            int(runs.model.run(runs.images(runs.frames(i, i + 1))).argmax()) != int(self.uncut[i])
            for i in range(min(samples, runs.samples))
        )

    # --- Sizes ----------------------------------------------------------------------------------

    def tensor_size(self, layer: str) -> TensorSize:
        """Size of the output of `layer` for one task, or of the picture that an input crosses as.
        Raises GraphError for an unknown layer."""
        if layer not in self._sizes:
            self.runs.model.graph.position(layer)  # raises, naming the layers there are
        return self._sizes[layer]

    @property
    def input_layer(self) -> str:
        """Name of the layer that is the raw input."""
        return next(iter(self._sizes))

    @cached_property
    def _sizes(self) -> dict[str, TensorSize]:
        """Size of each layer's output, the input first. Kept, so that known answers need no
        model."""
        known = self.array_cache.get("sizes", self._compute_sizes)
        sizes = map(TensorSize, known["elements"].tolist(), known["rows"].tolist())
        named = dict(zip(known["layers"].tolist(), sizes, strict=True))
        if self.subject.jpeg is not None:
            named[next(iter(named))] = TensorSize(3 * self.subject.jpeg.side**2, rows=3)
        return named

    def _compute_sizes(self) -> Arrays:
        layers = self.runs.model.graph.layers
        return {
            "layers": np.array([layer.name for layer in layers]),
            "elements": np.array([layer.elements for layer in layers]),
            "rows": np.array([layer.rows for layer in layers]),
        }

    # --- Features -------------------------------------------------------------------------------

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

    def _feature(self, layer: str, cut: tuple[str, ...]) -> NDArray[np.float32]:
        """One layer's features [n, channels]; a pass for one of a cut's layers serves them all."""
        saved = self.array_cache.load(self._feature_name(layer))
        if saved is None:
            features = self._compute_features(cut)
            for name, feature in features.items():
                self.array_cache.save(self._feature_name(name), {"feature": feature})
            return features[layer]
        return saved["feature"]

    def _feature_name(self, layer: str) -> str:
        """Tells the channel axis as well, where it is not the one that the shape suggests."""
        if layer not in self._axes:
            self.runs.model.graph.position(layer)  # raises, naming the layers there are
        axis, axes = self._axes[layer]
        return f"feature-{digest(layer) if axis == usual_axis(axes) else digest(layer, axis)}"

    @cached_property
    def _axes(self) -> dict[str, tuple[int, int]]:
        """Channel axis and number of axes of each layer's output for one task.

        Kept, so that known features need no model, for as long as the rules are the same.
        """
        rules = digest(Path(channels.__file__).read_bytes())
        known = self.array_cache.get(f"axes-{rules}", self._compute_axes)
        return dict(zip(known["layers"].tolist(), map(tuple, known["axes"].tolist()), strict=True))

    def _compute_axes(self) -> Arrays:
        layers = self.runs.model.graph.layers
        return {
            "layers": np.array([layer.name for layer in layers]),
            "axes": np.array([(layer.channel_axis, len(layer.shape)) for layer in layers]),
        }

    def _compute_features(self, layers: tuple[str, ...]) -> Tensors:
        graph = self.runs.model.graph
        axes = {layer: [graph[layer].channel_axis] for layer in layers}
        features: dict[str, list[NDArray[np.float32]]] = {layer: [] for layer in layers}
        for tensors in self.runs.tensors(layers):
            for layer, batch in tensors.items():
                features[layer] += [task_feature([one], axes[layer]) for one in batch]
        return {layer: np.stack(each) for layer, each in features.items()}

    # --- The raw input as files -----------------------------------------------------------------

    @cached_property
    def files(self) -> Arrays:
        """`labels` of the whole model for what comes out of the files that the input crosses as,
        and their sizes in `bytes`: [samples] each."""
        return self.array_cache.get(f"files-{digest(self.subject.jpeg)}", self._compute_files)

    def _compute_files(self) -> Arrays:
        labels, sizes = [], list[int]()
        for first, last in self.runs.spans("input as JPEG"):
            x, file_bytes = self.through_files(first, last)
            labels.append(self.runs.model.run(x).argmax(dim=1).numpy())
            sizes += file_bytes
        return {"labels": np.concatenate(labels), "bytes": np.array(sizes)}

    def through_files(self, first: int, last: int) -> tuple["Tensor", list[int]]:
        """Normalised images of some samples as they come out of their files, and the files' sizes
        in bytes: [samples, 3, side, side]."""
        assert self.subject.jpeg is not None
        files = self.subject.jpeg.encode(self.runs.frames(first, last))
        return self.runs.images(self.subject.jpeg.decode(files)), [len(file) for file in files]
