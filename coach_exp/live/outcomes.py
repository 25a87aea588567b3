"""The answers of the real model through the real codec, computed once.

In: the model's own answers, a codec. Out: labels, features and payload sizes, as the `Outcomes`
protocol asks for them. The first question about a cut is answered for the whole split in batches,
and the answers are kept on disk: by hash of weights, data, resolution and codec, then by cut and
bits. A later run neither computes them nor imports torch.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coach_exp.live.exit_answers import AtExits, ExitAnswers
from coach_exp.live.model_answers import ModelAnswers, ModelOnData
from coach_exp.live.model_runs import ModelRuns
from coach_exp.live.sending import Sending
from coach_exp.types.errors import CutError, GraphError
from coach_exp.types.outcomes import Codec, Crossing, ExitAnswer, Prediction, TensorSize
from coach_exp.types.progress import Progress, silent


def torch_outcomes(
    subject: ModelOnData,
    codec: Codec,
    cache_dir: Path,
    *,
    batch_size: int = 64,
    held_bytes: int = 2**29,
    progress: Progress = silent,
) -> "TorchOutcomes":
    """The answers of `subject` through `codec`, kept under `cache_dir`; those of the model itself
    lie with them. `batch_size` samples are computed at a time; the tensors of the last cut stay in
    memory while they take at most `held_bytes`.

    Raises ConfigError for a codec whose repr does not tell its settings.
    """
    runs = ModelRuns(
        subject.weights,
        subject.data,
        batch_size=batch_size,
        held_bytes=held_bytes,
        progress=progress,
    )
    model = ModelAnswers(subject, runs, subject.array_cache(cache_dir, codec))
    return _Family(model, cache_dir).member(codec, ())


class _Family:
    """The answers of one model through every codec and with every set of exit heads that is asked
    for, each made once. What depends on neither is computed once for all of them."""

    def __init__(self, model: ModelAnswers, cache_dir: Path) -> None:
        self.model = model
        self._cache_dir = cache_dir
        self._members: dict[tuple[str, tuple[str, ...]], TorchOutcomes] = {}
        self._exits: dict[tuple[str, ...], ExitAnswers | None] = {(): None}

    def member(self, codec: Codec, exit_layers: tuple[str, ...]) -> "TorchOutcomes":
        """The answers through this codec, with heads behind these layers. Raises ConfigError for
        heads that there is nothing to train from."""
        key = repr(codec), exit_layers
        if key not in self._members:
            array_cache = self.model.subject.array_cache(self._cache_dir, codec)
            sending = Sending(self.model, codec, array_cache)
            self._members[key] = TorchOutcomes(self, sending, self._exits_behind(exit_layers))
        return self._members[key]

    def _exits_behind(self, layers: tuple[str, ...]) -> ExitAnswers | None:
        if layers not in self._exits:
            self._exits[layers] = ExitAnswers(self.model, layers, self._cache_dir)
        return self._exits[layers]


class TorchOutcomes:
    """Answers for the samples of the model's data, by their place in it; `torch_outcomes` makes
    them. `sending` is what comes of tensors through the codec, `exits` the model's early-exit
    heads, if it has any."""

    def __init__(self, family: _Family, sending: Sending, exits: ExitAnswers | None) -> None:
        self._family = family
        self._model = family.model
        self._data = family.model.subject.data
        self._sending = sending
        self._exits = exits
        self._predictions: dict[tuple[Crossing, ...], list[Prediction]] = {}
        self._at_exits: dict[tuple[Crossing, ...], AtExits] = {}

    def through(self, codec: Codec) -> "TorchOutcomes":
        """The answers of the same model through another codec, the same object whenever it is asked
        for."""
        return self._family.member(codec, self.exit_layers)

    def with_exits(self, layers: Sequence[str]) -> "TorchOutcomes":
        """The same answers, and those of early-exit heads behind `layers`, which are trained when
        one is first asked.

        Raises ConfigError where there is nothing to train them from.
        """
        return self._family.member(self._sending.codec, tuple(dict.fromkeys(layers)))

    # --- What the model answers -----------------------------------------------------------------

    @property
    def classes(self) -> int:
        """Number of class scores."""
        return self._model.subject.weights.num_classes

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
        return int(self._model.uncut[sample])

    def flips(self, samples: int) -> int:
        """How many of the first `samples` uncut labels differ when computed one at a time."""
        return self._model.flips(samples)

    def tensor_size(self, layer: str) -> TensorSize:
        """Size of the output of `layer` at the resolution of these answers, or of the picture that
        an input crosses as. Raises GraphError for an unknown layer."""
        return self._model.tensor_size(layer)

    def feature(self, sample: int, layers: Sequence[str]) -> NDArray[np.float32]:
        """Task feature F: means over all but the channel axis, concatenated: [channels].

        Raises GraphError for an unknown layer.
        """
        return self._model.feature(sample, layers)

    # --- What comes through the codec -----------------------------------------------------------

    def predict(self, sample: int, crossing: tuple[Crossing, ...]) -> Prediction:
        """Label after sending the crossing tensors, with the bytes of each; none: as `uncut`.

        Raises CutError when `crossing` is not all that crosses a cut, CodecError as the codec does.
        """
        if crossing not in self._predictions:
            labels, sizes = self._answers(crossing)
            self._predictions[crossing] = list(
                map(Prediction, labels.tolist(), map(tuple, sizes.tolist()))
            )
        return self._predictions[crossing][sample]

    def _answers(
        self, crossing: tuple[Crossing, ...]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Labels [samples] and payload bytes [samples, crossing tensors]; where the raw input is
        all that crosses, or nothing, without a pass of the tail."""
        model, sending = self._model, self._sending
        if not crossing:
            return model.uncut, np.empty((self.samples, 0), np.int64)
        if sending.loses_nothing(crossing):
            return model.uncut, np.full((self.samples, 1), sending.raw_bytes(crossing[0].bits))
        if len(crossing) == 1 and sending.is_file(crossing[0]):
            sizes = model.files["bytes"] + sending.codec.header_bytes
            return model.files["labels"], sizes[:, None]
        answers = sending.answers(crossing)
        return answers["labels"], answers["payload_bytes"]

    def sent_bytes(self, crossing: tuple[Crossing, ...]) -> NDArray[np.int64]:
        """Bytes of each tensor of every sample, in one pass of the model: [samples, tensors]."""
        return self._sending.payload_bytes(crossing)

    # --- What early-exit heads say --------------------------------------------------------------

    @property
    def exit_layers(self) -> tuple[str, ...]:
        """The layers that have heads."""
        return () if self._exits is None else self._exits.layers

    def at_exit(self, sample: int, layer: str, crossing: tuple[Crossing, ...] = ()) -> ExitAnswer:
        """What the head behind `layer` says; with `crossing` on the cloud, of what the cloud makes
        of the received tensors.

        Raises GraphError for a layer without a head or that the model lacks, CutError for one that
        is on the end when `crossing` is sent, and otherwise as `predict`.
        """
        if self._exits is None or layer not in self._exits.layers:
            raise GraphError(
                f"there is no exit head behind {layer!r}; with_exits gave heads to "
                f"{list(self.exit_layers)}"
            )
        if crossing not in self._at_exits:
            self._at_exits[crossing] = self._exits.answers(self._sending, crossing)
        known = self._at_exits[crossing]
        if layer not in known:
            raise CutError(
                f"the exit head behind {layer!r} is on the end when "
                f"{[tensor.layer for tensor in crossing]} cross; on the cloud are those behind "
                f"{list(known)}; ask for it without `crossing`"
            )
        return known[layer][sample]
