"""From a config to the objects it names: graph, profiles, link, data and the model's answers.

In: a validated config. Out: a World that every method of a run shares, so that none has a private
path.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from coach_exp.network.estimator import Estimator
from coach_exp.network.sources import Recorded
from coach_exp.network.trace import Trace
from coach_exp.pipeline.outcomes import RescaledOutcomes
from coach_exp.pipeline.parts import Sides
from coach_exp.profiling.dag_file import GraphSource
from coach_exp.setup.config import Config
from coach_exp.setup.site import RunSite
from coach_exp.setup.sockets import Live, Sockets
from coach_exp.setup.transport import Runner
from coach_exp.tracking.provenance import code
from coach_exp.types.component import TARGET, built, imported
from coach_exp.types.errors import ConfigError
from coach_exp.types.graph import LayerGraph
from coach_exp.types.method import Calibration, Link, Problem
from coach_exp.types.outcomes import BitTable, Codec, Outcomes
from coach_exp.types.profile import DeviceProfile
from coach_exp.types.progress import Progress

if TYPE_CHECKING:
    from coach_exp.learning.footage import DataSet
    from coach_exp.learning.jpeg import Jpeg
    from coach_exp.learning.models import ModelSpec
    from coach_exp.learning.video import Splits
    from coach_exp.learning.weights import Weights
    from coach_exp.live.exit_training import ExitTraining
    from coach_exp.live.outcomes import TorchOutcomes
    from coach_exp.profiling.capture import CapturedModel

CLASSES_WITHOUT_DATA = 1000  # of a model that is only timed: ImageNet's, as published latencies are


@dataclass(frozen=True)
class World:
    """What all methods of a run share; `samples` is the stream, None when only times count."""

    config: Config
    problem: Problem
    trace: Trace
    samples: NDArray[np.int64] | None
    identity: dict[str, str | None]
    runner: Runner

    def estimator(self) -> Estimator:
        """A fresh bandwidth estimator; the link's initial rate stands until the first transfer."""
        facts = {"initial_bps": self.problem.link.bandwidth_bps, "trace": self.trace}
        estimator: Estimator = self.config.estimator(Estimator, **facts)
        return estimator

    @property
    def true_trace(self) -> Trace | None:
        """The link's true rate over time, where it is known."""
        transport = self.config.transport
        return self.trace if transport.shaped or transport.kind == "simulated" else None

    @property
    def measures_accuracy(self) -> bool:
        """Whether the real model answers."""
        return self.problem.outcomes is not None


class Builder:
    """Builds what a config names, each part once and when it is first asked for."""

    def __init__(self, config: Config, progress: Progress) -> None:
        self.config = config
        self.cache = config.output.root.absolute() / "cache"
        self._progress = progress

    @property
    def from_file(self) -> bool:
        """Whether the layer graph comes with its times instead of from a model."""
        model = self.config.model
        if "input_size" in model or TARGET not in model:  # a model, with or without a mistake
            return False
        return hasattr(imported(str(model[TARGET]), f"model.{TARGET}"), "read")

    @property
    def trained(self) -> bool:
        """Whether the model has weights that mean something."""
        return self.config.weights != "none" and not self.from_file

    @property
    def subject(self) -> str:
        """Model and data in a few words, for captions."""
        name = self._spec.target.rpartition(".")[2]
        data = type(self._settings).__module__.rpartition(".")[2]
        return f"{name} on {data} at {self._settings.size} pixels"

    def world(self) -> World:
        """Everything a run needs; data and weights only where accuracy is to be measured."""
        trace, runner = self.trace(), self.runner()
        runner.reach()
        problem = self.problem(trace)  # before any training: a mistake in it must show at once
        outcomes = self._outcomes() if self.trained else None
        samples = self._samples(problem.workload.tasks) if self.trained else None
        problem = replace(problem, outcomes=outcomes, calibration=self.calibration())
        return World(self.config, problem, trace, samples, self._identity(), runner)

    def runner(self) -> Runner:
        """Runs workloads where the transport leads. Raises ConfigError where nothing can be
        computed live."""
        config = self.config
        if config.compute == "live" and config.transport.kind != "simulated":
            self._refuse_dead()
        return config.transport.runner(config, self._live)

    def sockets(self) -> Sockets:
        """Runs over real TCP. Raises ConfigError for a transport that has none."""
        runner = self.runner()
        if not isinstance(runner, Sockets):
            raise ConfigError(
                "transport: this job speaks the wire protocol; use transport=loopback, remote or "
                "simulated"
            )
        return runner

    def _refuse_dead(self) -> None:
        if not self.trained:
            raise ConfigError(
                "compute=live: without trained weights there is nothing to compute; use a torch "
                "model with weights other than none, or compute=profile"
            )
        if self._spec.input_size != self._settings.size:
            raise ConfigError(
                f"compute=live: the model takes pictures of model.input_size="
                f"{self._spec.input_size} pixels and those of data.size={self._settings.size} are "
                "to be classified; give both the same size, or use compute=profile"
            )

    def _live(self) -> Live:
        self._refuse_dead()
        return Live(self.weights, self._splits.stream, self._jpeg, self._exit_training, self.cache)

    def problem(self, trace: Trace) -> Problem:
        """The offline problem, for the link's initial rate."""
        config = self.config
        graph, end, cloud = self._graph_and_profiles
        limit_ms = config.t_max_ms
        return Problem(
            graph=graph,
            end=end.slowed(config.device.slowdown),
            cloud=cloud.slowed(config.cloud.slowdown),
            link=Link(trace.initial_bps, config.rtt_ms / 1e3, config.result_return),
            codec=self.codec,
            bits=self.bits(graph.input.name),
            workload=config.workload.workload(self._stream_samples),
            raw_input_may_cross=config.input.encoding != "forbidden",
            t_max_s=None if limit_ms is None else limit_ms / 1e3,
            measured_bytes=self._input_file_bytes(graph.input.name),
        )

    def _input_file_bytes(self, input_layer: str) -> dict[str, int]:
        """What a JPEG input takes on average on the calibration split, by layer; empty where the
        codec knows the input's size. Raises ConfigError where there are no pictures to measure."""
        if self.config.input.encoding == "jpeg" and not self.trained:
            raise ConfigError(
                "input.encoding = jpeg: the size of a file is measured on the calibration split's "
                "pictures, and without trained weights there are none; use input.encoding=uint8 or "
                "float32, or a torch model with weights other than none"
            )
        if self._jpeg is None:
            return {}
        mean_bytes = self._jpeg.mean_bytes(self._splits.calib, self.cache)
        return {input_layer: self.codec.header_bytes + round(mean_bytes)}

    def trace(self) -> Trace:
        """The link's true rate over time."""
        return self.config.bandwidth.trace()

    @property
    def codec(self) -> Codec:
        """The quantiser of crossing tensors."""
        return self.config.quantizer

    def bits(self, input_layer: str) -> BitTable:
        """Widths of crossing tensors; searched only where the model has answers."""
        answers = (lambda: self._calib) if self.trained else None
        return self.config.precision.table(answers, input_layer, self.config.input.bits)

    @property
    def _stream_samples(self) -> int | None:
        """How many samples the stream split has, asked only where the workload needs to know."""
        if self.config.workload.tasks is not None or not self.trained:
            return None
        return len(self._splits.stream)

    @cached_property
    def captured(self) -> "CapturedModel":
        """The model at the resolution that is timed. Its weights do not matter for times, and where
        nothing is measured it has none: on torch's meta device a capture computes nothing."""
        import torch

        from coach_exp.profiling.capture import capture

        sides = (self.config.device, self.config.cloud)
        computed = any(getattr(side, "computes", False) for side in sides)
        with torch.device("cpu" if computed else "meta"):
            model = self._spec.build(self._classes)
        return capture(model, self._spec.input_shape)

    @cached_property
    def _classes(self) -> int:
        return self._splits.train.classes if self.trained else CLASSES_WITHOUT_DATA

    @property
    def graph(self) -> LayerGraph:
        """The layer graph at the resolution that is timed."""
        return self._graph_and_profiles[0]

    @cached_property
    def _graph_and_profiles(self) -> tuple[LayerGraph, DeviceProfile, DeviceProfile]:
        if self.from_file:
            source: GraphSource = built(self.config.model, "model", GraphSource)
            return source.read()
        return self.captured.graph, self.profile("device"), self.profile("cloud")

    def profile(self, side: str) -> DeviceProfile:
        """The profile of `device` or `cloud`, before any slowdown."""
        device = self.config.device if side == "device" else self.config.cloud
        with _threads(self.runner().threads):
            return device.profile(RunSite(self.captured, self.codec, self.cache, self._progress))

    # --- Data and answers -------------------------------------------------------------------------

    @property
    def _jpeg(self) -> "Jpeg | None":
        """How the raw input crosses, where it does as a file."""
        from coach_exp.learning.jpeg import Jpeg

        given = self.config.input
        return Jpeg(given.jpeg_quality, self._spec.input_size) if given.encoding == "jpeg" else None

    @cached_property
    def _settings(self) -> "DataSet":
        from coach_exp.learning.footage import DataSet

        settings: DataSet = built(self.config.data, "data", DataSet)
        return settings

    @cached_property
    def _splits(self) -> "Splits":
        from coach_exp.learning.datasets import load_splits

        return load_splits(self._settings, self.cache, self._progress)

    @cached_property
    def _spec(self) -> "ModelSpec":
        from coach_exp.learning.models import ModelSpec

        return ModelSpec.of(self.config.model)

    @cached_property
    def weights(self) -> "Weights":
        """The classifier at the data's resolution, trained now if it must be and never was."""
        from coach_exp.learning.weights import resolve_weights

        spec = replace(self._spec, input_size=self._settings.size)
        return resolve_weights(
            self.config.weights, spec, self._splits.train, self.config.training, self.cache
        )

    def calibration(self) -> Calibration | None:
        """What an online part may learn from; the model is trained if it must be, but nothing is
        asked of it yet."""
        return Calibration(self.answers("centres"), self._calib) if self.trained else None

    def answers(self, split: Literal["centres", "calib", "stream"]) -> "TorchOutcomes":
        """The model's answers on a split at the data's resolution."""
        from coach_exp.live.model_answers import ModelOnData
        from coach_exp.live.outcomes import torch_outcomes

        data = getattr(self._splits, split)
        subject = ModelOnData(self.weights, data, self._jpeg, self._exit_training)
        return torch_outcomes(subject, self.codec, self.cache, progress=self._progress)

    def reference(self) -> "TorchOutcomes":
        """The answers on the stream split, one sample at a time; kept apart from the others."""
        from coach_exp.live.model_answers import ModelOnData
        from coach_exp.live.outcomes import torch_outcomes

        subject = ModelOnData(self.weights, self._splits.stream, self._jpeg)
        cache = self.cache / "one_by_one"
        return torch_outcomes(subject, self.codec, cache, batch_size=1, progress=self._progress)

    def sides(self, problem: Problem) -> Sides:
        """What works on both sides of a socket."""
        return self.sockets().sides(problem)

    @property
    def _exit_training(self) -> "ExitTraining":
        from coach_exp.live.exit_training import ExitTraining

        return ExitTraining(self._splits.train, self._splits.calib, self.config.exit_training)

    @cached_property
    def _calib(self) -> "TorchOutcomes":
        return self.answers("calib")

    def _outcomes(self) -> Outcomes:
        """Answers with the bytes of the graph that is timed."""
        answers, timed = self.answers("stream"), self.graph
        if self._spec.input_size == self._settings.size:
            return answers
        return RescaledOutcomes(answers, timed, self.codec)

    def _samples(self, tasks: int) -> NDArray[np.int64]:
        from coach_exp.learning.streams import stream_samples

        config = self.config
        return stream_samples(self._splits.stream, config.stream, tasks, seed=config.seed)

    def _identity(self) -> dict[str, str | None]:
        """What besides the config decides the numbers: code, weights, data, and a trace's file."""
        identity = {"code": code().commit}
        if isinstance(self.config.bandwidth, Recorded):
            identity["trace"] = sha256(self.config.bandwidth.path.read_bytes()).hexdigest()
        if self.trained:
            identity["weights"] = self.weights.fingerprint
            identity["data"] = self._splits.stream.fingerprint
        return identity


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """With so many of torch's threads; None: with as many as it takes."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(before if count is None else count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
