"""What a config names of a model that has learned: data, weights, and the model's answers.

In: a config with weights that mean something. Out: each part once, when it is first asked for; the
classifier is trained then, if it must be and never was.
"""

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from coach_exp.pipeline.outcomes import RescaledOutcomes
from coach_exp.setup.config import Config
from coach_exp.setup.transport import Live
from coach_exp.types.component import built
from coach_exp.types.errors import ConfigError
from coach_exp.types.graph import LayerGraph
from coach_exp.types.method import Calibration
from coach_exp.types.outcomes import Outcomes
from coach_exp.types.progress import Progress

if TYPE_CHECKING:
    from coach_exp.learning.footage import DataSet
    from coach_exp.learning.jpeg import Jpeg
    from coach_exp.learning.models import ModelSpec
    from coach_exp.learning.video import Splits
    from coach_exp.learning.weights import Weights
    from coach_exp.live.exit_training import ExitTraining
    from coach_exp.live.outcomes import TorchOutcomes

Split = Literal["centres", "calib", "stream"]


class Learned:
    """The learned parts of a config. `spec` is the model at the resolution that is timed."""

    def __init__(self, config: Config, cache: Path, progress: Progress) -> None:
        self.config = config
        self._cache = cache
        self._progress = progress

    @cached_property
    def spec(self) -> "ModelSpec":
        """What to build as the model."""
        from coach_exp.learning.models import ModelSpec

        return ModelSpec.of(self.config.model)

    @cached_property
    def data(self) -> "DataSet":
        """The settings of the data set."""
        from coach_exp.learning.footage import DataSet

        settings: DataSet = built(self.config.data, "data", DataSet)
        return settings

    @cached_property
    def splits(self) -> "Splits":
        """The four splits, made now if they never were."""
        from coach_exp.learning.datasets import load_splits

        return load_splits(self.data, self._cache, self._progress)

    @cached_property
    def weights(self) -> "Weights":
        """The classifier at the data's resolution, trained now if it must be and never was."""
        from coach_exp.learning.weights import resolve_weights

        spec = replace(self.spec, input_size=self.data.size)
        return resolve_weights(
            self.config.weights, spec, self.splits.train, self.config.training, self._cache
        )

    @property
    def subject(self) -> str:
        """Model and data in a few words, for captions."""
        name = self.spec.target.rpartition(".")[2]
        data = type(self.data).__module__.rpartition(".")[2]
        return f"{name} on {data} at {self.data.size} pixels"

    @property
    def jpeg(self) -> "Jpeg | None":
        """How the raw input crosses, where it does as a file."""
        from coach_exp.learning.jpeg import Jpeg

        given = self.config.input
        return Jpeg(given.jpeg_quality, self.spec.input_size) if given.encoding == "jpeg" else None

    @property
    def input_file_bytes(self) -> int | None:
        """What a JPEG input takes on average on the calibration split, its header left out; None
        where it is no file."""
        if self.jpeg is None:
            return None
        return round(self.jpeg.mean_bytes(self.splits.calib, self._cache))

    # --- Answers ----------------------------------------------------------------------------------

    def answers(self, split: Split) -> "TorchOutcomes":
        """The model's answers on a split at the data's resolution."""
        from coach_exp.live.model_answers import ModelOnData
        from coach_exp.live.outcomes import torch_outcomes

        subject = ModelOnData(
            self.weights, getattr(self.splits, split), self.jpeg, self._exit_training
        )
        codec = self.config.quantizer
        return torch_outcomes(subject, codec, self._cache, progress=self._progress)

    def reference(self) -> "TorchOutcomes":
        """The answers on the stream split, one sample at a time; kept apart from the others."""
        from coach_exp.live.model_answers import ModelOnData
        from coach_exp.live.outcomes import torch_outcomes

        subject = ModelOnData(self.weights, self.splits.stream, self.jpeg)
        cache, codec = self._cache / "one_by_one", self.config.quantizer
        return torch_outcomes(subject, codec, cache, batch_size=1, progress=self._progress)

    @cached_property
    def calib(self) -> "TorchOutcomes":
        """The answers on the calibration split, which all methods of a run share."""
        return self.answers("calib")

    def calibration(self) -> Calibration:
        """What an online part may learn from; the model is trained if it must be, but nothing is
        asked of it yet."""
        return Calibration(self.answers("centres"), self.calib)

    def outcomes(self, timed: LayerGraph) -> Outcomes:
        """The answers on the stream split, with the bytes of the graph that is timed."""
        answers = self.answers("stream")
        if self.spec.input_size == self.data.size:
            return answers
        return RescaledOutcomes(answers, timed, self.config.quantizer)

    def samples(self, tasks: int) -> NDArray[np.int64]:
        """The stream: the sample of every task, [tasks]."""
        from coach_exp.learning.streams import stream_samples

        config = self.config
        return stream_samples(self.splits.stream, config.stream, tasks, seed=config.seed)

    # --- For compute=live -------------------------------------------------------------------------

    def live(self) -> Live:
        """What both sides compute with."""
        self.refuse_other_size()
        return Live(self.weights, self.splits.stream, self.jpeg, self._exit_training, self._cache)

    def refuse_other_size(self) -> None:
        """Raises ConfigError where the model that is timed does not take the data's pictures."""
        if self.spec.input_size != self.data.size:
            raise ConfigError(
                f"compute=live: the model takes pictures of model.input_size="
                f"{self.spec.input_size} pixels and those of data.size={self.data.size} are "
                "to be classified; give both the same size, or use compute=profile"
            )

    @property
    def _exit_training(self) -> "ExitTraining":
        from coach_exp.live.exit_training import ExitTraining

        return ExitTraining(self.splits.train, self.splits.calib, self.config.exit_training)
