"""The end's part of a task, really computed (`compute=live`).

In: a model with its weights, the frames of the stream, exit heads. Out: crossing tensors as they
are ready, payloads, and what the controller asks of this very task: its feature, what its heads
say. Torch works in a thread of its own; the event loop waits for it.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coach_exp.learning.models import preprocess
from coach_exp.learning.video import VideoDataset
from coach_exp.live.live_model import LiveModel
from coach_exp.pipeline.end_work import CloudExit, Stop, stops
from coach_exp.pipeline.outcomes import ForwardedOutcomes
from coach_exp.profiling.capture import split
from coach_exp.profiling.program import Segment, Tail
from coach_exp.types.feature import task_feature
from coach_exp.types.outcomes import Crossing, ExitAnswer, Outcomes
from coach_exp.types.plan import Plan

T = TypeVar("T")


@dataclass(frozen=True)
class _Segments:
    """A plan as the end computes it: up to every stop, and, should the link fail, what is left."""

    plan: Plan
    segments: tuple[Segment, ...]
    tail: Tail


class LiveEnd:
    """Computes the end's side of cuts of a `live` model on the frames of `data`, one task at a
    time. `known` are the answers of the same samples that a controller may ask for besides.
    `began_s` is the run's beginning on this machine's clock."""

    emulated = False

    def __init__(
        self, live: LiveModel, data: VideoDataset, known: Outcomes, *, began_s: float
    ) -> None:
        self.live = live
        self.known = known
        self.began_s = began_s
        self._data = data
        threads = live.machine.threads
        count = torch.get_num_threads() if threads is None else threads
        self._thread = ThreadPoolExecutor(1, "end", torch.set_num_threads, (count,))
        self._prepared: dict[int, _Segments] = {}

    def begin(self, sample: int, plan: Plan, start_s: float) -> "LiveTask":
        """Start a task. Raises CutError, GraphError for a plan that is no cut of the model."""
        segments = self._prepared.get(id(plan)) or self._prepare(plan)
        return LiveTask(self, sample, self._data.frames[sample], segments)

    def _prepare(self, plan: Plan) -> _Segments:
        model = self.live.model
        _, tail = split(model, plan.end_layers)
        wanted = [stop.layer for stop in stops(plan)[:-1]] or [plan.end_layers[-1]]
        if not plan.crossing:
            wanted.append(model.graph.sink.name)
        segments = model.program.segments(plan.end_layers, tuple(dict.fromkeys(wanted)))
        prepared = self._prepared[id(plan)] = _Segments(plan, segments, tail)
        return prepared

    async def held_for(self, work: Callable[[], T]) -> T:
        """What `work` gives, once the end has been held for it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._timed, work)

    def _timed(self, work: Callable[[], T]) -> T:
        begun_s = monotonic()
        result = work()
        self.live.machine.hold(begun_s)
        return result

    def now_s(self) -> float:
        """Seconds since the run began."""
        return monotonic() - self.began_s


class LiveTask:
    """One task: its frame, and the tensors that the end holds of it."""

    def __init__(
        self, end: LiveEnd, sample: int, frame: NDArray[np.uint8], segments: _Segments
    ) -> None:
        self._end = end
        self._live = end.live
        self._frame = frame
        self._segments = segments
        self._stream: Iterator[tuple[str, Tensor]] | None = None
        self._tensors: dict[str, Tensor] = {}
        self.outcomes = TaskAnswers(end.known, sample)

    async def reach(self, stop: Stop) -> float:
        """Compute up to a stop."""
        await self._end.held_for(lambda: self._advance(stop))
        return self._end.now_s()

    def _advance(self, stop: Stop) -> None:
        live, plan = self._live, self._segments.plan
        if self._stream is None:
            x = preprocess(self._frame[None], live.model.input_shape[-1]).to(live.machine.device)
            self._stream = live.model.program.stream(self._segments.segments, x)
        last = stop.head is None and stop.tensor is None
        wanted = None if last else stop.layer  # the end: whatever is left
        while wanted not in self._tensors:
            try:
                layer, tensor = next(self._stream)
            except StopIteration:
                break
            self._tensors[layer] = tensor
        if stop.head is not None:
            labels, confidences = live.heads[stop.layer].answer(self._tensors[stop.layer])
            self.outcomes.exits[stop.layer] = ExitAnswer(int(labels), float(confidences))
        elif last and plan.online is not None:
            for sent in plan.crossing:
                self.outcomes.features[sent.layer] = self._feature(sent.layer)

    def _feature(self, layer: str) -> NDArray[np.float32]:
        axis = self._live.model.graph[layer].channel_axis
        return task_feature([self._array(layer)], [axis])

    def _array(self, layer: str) -> NDArray[np.float32]:
        array: NDArray[np.float32] = self._tensors[layer][0].cpu().numpy()
        return array

    async def pack(
        self, crossing: Sequence[Crossing], parts: Sequence[int], early: CloudExit | None
    ) -> list[bytes]:
        """Through the codec; a cloud that computes decides about its exits itself."""
        sent = [crossing[part] for part in parts]
        return await self._end.held_for(lambda: [self._encoded(tensor) for tensor in sent])

    def _encoded(self, tensor: Crossing) -> bytes:
        raw = tensor.layer == self._live.model.graph.input.name
        task: NDArray[Any] = self._frame if raw else self._array(tensor.layer)
        return self._live.payloads.encode(tensor.layer, task, tensor.bits)

    async def finish(self, from_s: float) -> tuple[float, int]:
        """From the tensors that the end still holds, as they were before the codec."""
        label = await self._end.held_for(self._rest)
        return self._end.now_s(), label

    def _rest(self) -> int:
        if not self._segments.plan.crossing:
            return int(self._tensors[self._live.model.graph.sink.name].argmax(dim=1))
        run = self._segments.tail.start()
        for layer in self._segments.tail.crossing:
            run.feed(layer, self._tensors[layer])
        return int(run.result.argmax(dim=1))


@dataclass(frozen=True, eq=False)
class TaskAnswers(ForwardedOutcomes):
    """What is known of task `sample` while it runs: its own feature and heads, as it computes them;
    all else as `measured` on the whole stream before."""

    sample: int
    features: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    exits: dict[str, ExitAnswer] = field(default_factory=dict)

    def feature(self, sample: int, layers: Sequence[str]) -> NDArray[np.float32]:
        """Of this task, where it was computed."""
        if sample == self.sample and all(layer in self.features for layer in layers):
            return np.concatenate([self.features[layer] for layer in layers])
        return self.measured.feature(sample, layers)

    def at_exit(self, sample: int, layer: str, crossing: tuple[Crossing, ...] = ()) -> ExitAnswer:
        """Of this task, where its head was asked."""
        if sample == self.sample and not crossing and layer in self.exits:
            return self.exits[layer]
        return self.measured.at_exit(sample, layer, crossing)
