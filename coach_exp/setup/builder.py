"""From a config to the objects it names: graph, profiles, link, and a World that a run shares.

In: a validated config. Out: each part once, when it is first asked for; what a model has learned is
in `learned`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING

from coach_exp.network.sources import Recorded
from coach_exp.network.trace import Trace
from coach_exp.pipeline.parts import Sides
from coach_exp.profiling.dag_file import GraphSource
from coach_exp.setup.config import Config
from coach_exp.setup.learned import Learned, Split
from coach_exp.setup.site import RunSite
from coach_exp.setup.sockets import Sockets
from coach_exp.setup.transport import Live, Runner, Sites
from coach_exp.setup.world import World
from coach_exp.tracking.provenance import code
from coach_exp.types.component import TARGET, built, imported
from coach_exp.types.errors import ConfigError
from coach_exp.types.graph import LayerGraph
from coach_exp.types.method import Calibration, Link, Problem
from coach_exp.types.outcomes import BitTable, Codec
from coach_exp.types.profile import DeviceProfile
from coach_exp.types.progress import Progress

if TYPE_CHECKING:
    from coach_exp.live.outcomes import TorchOutcomes
    from coach_exp.profiling.capture import CapturedModel

CLASSES_WITHOUT_DATA = 1000  # of a model that is only timed: ImageNet's, as published latencies are


class Builder:
    """Builds what a config names. It is one of `pipeline.parts.Parts`."""

    def __init__(self, config: Config, progress: Progress) -> None:
        self.config = config
        self.cache = config.output.root.absolute() / "cache"
        self.learned = Learned(config, self.cache, progress)
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
        return self.learned.subject

    def world(self) -> World:
        """Everything a run needs; data and weights only where accuracy is to be measured."""
        trace, runner = self.trace(), self.runner()
        runner.reach()
        problem = self.problem(trace)  # before any training: a mistake in it must show at once
        samples = None
        if self.trained:
            samples = self.learned.samples(problem.workload.tasks)
            outcomes = self.learned.outcomes(self.graph)
            problem = replace(problem, outcomes=outcomes, calibration=self.calibration())
        return World(self.config, problem, trace, samples, self._identity(), runner)

    # --- The link and what leads over it ----------------------------------------------------------

    def trace(self) -> Trace:
        """The link's true rate over time."""
        return self.config.bandwidth.trace()

    def runner(self) -> Runner:
        """Runs workloads where the transport leads. Raises ConfigError where nothing can be
        computed live."""
        config = self.config
        if config.compute == "live" and config.transport.kind != "simulated":
            self._refuse_dead()
        serves = config.job_name == "serve"
        return config.transport.runner(
            Sites(config.device, config.cloud, config.compute, self._live, serves)
        )

    def sockets(self) -> Sockets:
        """Runs over real TCP. Raises ConfigError for a transport that has none."""
        runner = self.runner()
        if not isinstance(runner, Sockets):
            raise ConfigError(
                "transport: this job speaks the wire protocol; use transport=loopback, remote or "
                "simulated"
            )
        return runner

    def sides(self, problem: Problem) -> Sides:
        """What works on both sides of a socket."""
        return self.sockets().sides(problem)

    def _live(self) -> Live:
        self._refuse_dead()
        return self.learned.live()

    def _refuse_dead(self) -> None:
        if not self.trained:
            raise ConfigError(
                "compute=live: without trained weights there is nothing to compute; use a torch "
                "model with weights other than none, or compute=profile"
            )
        self.learned.refuse_other_size()

    # --- The problem ------------------------------------------------------------------------------

    def problem(self, trace: Trace) -> Problem:
        """The offline problem, for the link's initial rate, without the model's answers."""
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

    @property
    def codec(self) -> Codec:
        """The quantiser of crossing tensors."""
        return self.config.quantizer

    def bits(self, input_layer: str) -> BitTable:
        """Widths of crossing tensors; searched only where the model has answers."""
        answers = (lambda: self.learned.calib) if self.trained else None
        return self.config.precision.table(answers, input_layer, self.config.input.bits)

    @property
    def _stream_samples(self) -> int | None:
        """How many samples the stream split has, asked only where the workload needs to know."""
        if self.config.workload.tasks is not None or not self.trained:
            return None
        return len(self.learned.splits.stream)

    def _input_file_bytes(self, input_layer: str) -> dict[str, int]:
        """What a JPEG input takes on average, by layer; empty where the codec knows its size.
        Raises ConfigError where there are no pictures to measure."""
        if self.config.input.encoding != "jpeg":
            return {}
        if not self.trained:
            raise ConfigError(
                "input.encoding = jpeg: the size of a file is measured on the calibration split's "
                "pictures, and without trained weights there are none; use input.encoding=uint8 or "
                "float32, or a torch model with weights other than none"
            )
        size = self.learned.input_file_bytes
        assert size is not None, "the input is a JPEG file"
        return {input_layer: self.codec.header_bytes + size}

    # --- The model that is timed ------------------------------------------------------------------

    @cached_property
    def captured(self) -> "CapturedModel":
        """The model at the resolution that is timed. Its weights do not matter for times, and where
        nothing is measured it has none: on torch's meta device a capture computes nothing."""
        import torch

        from coach_exp.profiling.capture import capture

        sides = (self.config.device, self.config.cloud)
        computed = any(getattr(side, "computes", False) for side in sides)
        classes = self.learned.splits.train.classes if self.trained else CLASSES_WITHOUT_DATA
        spec = self.learned.spec
        with torch.device("cpu" if computed else "meta"):
            model = spec.build(classes)
        return capture(model, spec.input_shape)

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

    # --- What the model has learned ---------------------------------------------------------------

    def answers(self, split: Split) -> "TorchOutcomes":
        """The model's answers on a split at the data's resolution."""
        return self.learned.answers(split)

    def reference(self) -> "TorchOutcomes":
        """The answers on the stream split, one sample at a time."""
        return self.learned.reference()

    def calibration(self) -> Calibration | None:
        """What an online part may learn from; None where no model is trained."""
        return self.learned.calibration() if self.trained else None

    def _identity(self) -> dict[str, str | None]:
        """What besides the config decides the numbers: code, weights, data, and a trace's file."""
        identity = {"code": code().commit}
        if isinstance(self.config.bandwidth, Recorded):
            identity["trace"] = sha256(self.config.bandwidth.path.read_bytes()).hexdigest()
        if self.trained:
            identity["weights"] = self.learned.weights.fingerprint
            identity["data"] = self.learned.splits.stream.fingerprint
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
