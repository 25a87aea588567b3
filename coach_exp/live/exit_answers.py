"""What early-exit heads say of the samples of a split, on either side of a cut.

In: a model and the layers that have heads. Out: labels and confidences. The heads are trained when
one is first asked, once for all codecs; on the end no codec has a say in what they answer.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from coach_exp.learning.array_cache import Arrays
from coach_exp.live.model_answers import ModelAnswers
from coach_exp.live.sending import Sending
from coach_exp.types.errors import ConfigError
from coach_exp.types.outcomes import Crossing, ExitAnswer

if TYPE_CHECKING:
    from torch import Tensor

    from coach_exp.live.exit_heads import ExitHeads

AtExits = Mapping[str, list[ExitAnswer]]


class ExitAnswers:
    """Answers of heads behind `layers` of a model; trained heads are kept under `cache_dir`. Raises
    ConfigError where there is nothing to train them from."""

    def __init__(self, model: ModelAnswers, layers: tuple[str, ...], cache_dir: Path) -> None:
        if model.subject.exit_training is None:
            raise ConfigError(
                "these answers came without data to train exit heads from; give ModelOnData an "
                "exit_training"
            )
        self.layers = layers
        self._model = model
        self._training = model.subject.exit_training
        self._cache_dir = cache_dir

    def answers(self, sending: Sending, crossing: tuple[Crossing, ...]) -> AtExits:
        """Answers of the heads that `crossing` leaves to a side, by layer: of all on the end where
        nothing crosses, else of those behind the cut, to what the cloud receives. Raises GraphError
        for an unknown layer, CutError when `crossing` is not all that crosses a cut."""
        training_key = self._training.key(self._model.subject.weights, self.layers)
        array_cache = sending.array_cache if crossing else self._model.array_cache
        name = f"exits-{sending.key(crossing, training_key)}"
        known = array_cache.get(name, lambda: self._ask(sending, crossing))
        columns = zip(known["labels"].T.tolist(), known["confidences"].T.tolist(), strict=True)
        answers = (list(map(ExitAnswer, *column)) for column in columns)
        return dict(zip(known["layers"].tolist(), answers, strict=True))

    @cached_property
    def _heads(self) -> "ExitHeads":
        runs, weights = self._model.runs, self._model.subject.weights
        return self._training.heads(weights, runs.model, self.layers, self._cache_dir)

    def _ask(self, sending: Sending, crossing: tuple[Crossing, ...]) -> Arrays:
        """Labels and confidences [n, heads] of the heads on one side."""
        layers = self._heads.layers
        if crossing:
            from coach_exp.profiling.capture import smallest_end

            graph = self._model.runs.model.graph
            end = smallest_end(graph, [tensor.layer for tensor in crossing])
            layers = tuple(layer for layer in layers if layer not in end)
        labels = [np.empty((0, len(layers)), np.int64)]
        confidences = [np.empty((0, len(layers)), np.float32)]
        for outputs in self._outputs(layers, sending, crossing) if layers else ():
            label, confidence = self._heads.answers(outputs)
            labels.append(label.numpy())
            confidences.append(confidence.numpy())
        return {
            "layers": np.array(layers, str),
            "labels": np.concatenate(labels),
            "confidences": np.concatenate(confidences),
        }

    def _outputs(
        self, layers: Sequence[str], sending: Sending, crossing: tuple[Crossing, ...]
    ) -> Iterator[dict[str, "Tensor"]]:
        """Outputs of `layers` for all samples, batch by batch, as the end has them or, behind a
        cut, the cloud: {layer: [batch, *shape]}."""
        if not crossing or sending.loses_nothing(crossing):
            runs = self._model.runs
            for x in runs.batches("exit heads"):
                yield runs.model.features(x, tuple(layers))
        else:
            for run, _ in sending.tail_runs(crossing, layers):
                yield {layer: run.kept(layer) for layer in layers}
