"""The end's part of a task, really computed (`compute=live`).

In: a model with its weights, the frames of the stream, exit heads. Out: crossing tensors as they
are ready, payloads, and what the controller asks of this very task: its feature, what its heads
say. Torch works in a thread of its own; the event loop waits for it.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coach_exp.learning.models import preprocess
from coach_exp.learning.video import VideoDataset
from coach_exp.live.exit_heads import ExitHead, ExitHeads
from coach_exp.live.payloads import Payloads
from coach_exp.pipeline.end_work import CloudExit, Stop, stops
from coach_exp.profiling.capture import CapturedModel, split
from coach_exp.profiling.program import Segment, Tail
from coach_exp.types.feature import task_feature
from coach_exp.types.outcomes import (
    Codec,
    Crossing,
    ExitAnswer,
    Outcomes,
    Prediction,
    TensorSize,
)
from coach_exp.types.plan import Plan

T = TypeVar("T")


@dataclass(frozen=True)
class _Side:
    """A plan as the end computes it: up to every stop, and, should the link fail, what is left."""

    plan: Plan
    segments: tuple[Segment, ...]
    tail: Tail


class LiveEnd:
    """Computes the end's side of cuts of `model` on the frames of `data`, one task at a time. What
    takes a while is held for `slowdown` times as long, which emulates a weaker device; `threads`
    are torch's. `known` are the answers of the same samples that a controller may ask for besides.
    `began_s` is the run's beginning on this machine's clock."""

    emulated = False

    def __init__(
        self,
        model: CapturedModel,
        payloads: Payloads,
        data: VideoDataset,
        known: Outcomes,
        heads: ExitHeads | None = None,
        *,
        began_s: float,
        slowdown: float = 1.0,
        torch_device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        self.model = model if torch_device == "cpu" else model.to(torch_device)
        self.payloads = payloads
        self.known = known
        self.began_s = began_s
        self.device = torch.device(torch_device)
        self.heads: dict[str, ExitHead] = {}
        if heads is not None:
            self.heads = dict(heads.to(self.device).by_layer())
        self._data = data
        self._slowdown = slowdown
        count = torch.get_num_threads() if threads is None else threads
        self._thread = ThreadPoolExecutor(1, "end", torch.set_num_threads, (count,))
        self._sides: dict[int, _Side] = {}

    def begin(self, sample: int, plan: Plan, start_s: float) -> "LiveTask":
        """Start a task. Raises CutError, GraphError for a plan that is no cut of the model."""
        side = self._sides.get(id(plan)) or self._prepared(plan)
        return LiveTask(self, sample, self._data.frames[sample], side)

    def _prepared(self, plan: Plan) -> _Side:
        _, tail = split(self.model, plan.end_layers)
        wanted = [stop.layer for stop in stops(plan)[:-1]] or [plan.end_layers[-1]]
        if not plan.crossing:
            wanted.append(self.model.graph.sink.name)
        segments = self.model.program.segments(plan.end_layers, tuple(dict.fromkeys(wanted)))
        side = self._sides[id(plan)] = _Side(plan, segments, tail)
        return side

    async def held_for(self, work: Callable[[], T]) -> T:
        """What `work` gives, once the end has been held for it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._timed, work)

    def _timed(self, work: Callable[[], T]) -> T:
        begun_s = monotonic()
        result = work()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        if self._slowdown > 1:
            sleep((self._slowdown - 1) * (monotonic() - begun_s))
        return result

    def now_s(self) -> float:
        """Seconds since the run began."""
        return monotonic() - self.began_s


class LiveTask:
    """One task: its frame, and the tensors that the end holds of it."""

    def __init__(self, end: LiveEnd, sample: int, frame: NDArray[np.uint8], side: _Side) -> None:
        self._end = end
        self._frame = frame
        self._side = side
        self._stream: Iterator[tuple[str, Tensor]] | None = None
        self._tensors: dict[str, Tensor] = {}
        self.outcomes = TaskAnswers(end.known, sample)

    async def reach(self, stop: Stop) -> float:
        """Compute up to a stop."""
        await self._end.held_for(lambda: self._advance(stop))
        return self._end.now_s()

    def _advance(self, stop: Stop) -> None:
        end, plan = self._end, self._side.plan
        if self._stream is None:
            x = preprocess(self._frame[None], end.model.input_shape[-1]).to(end.device)
            self._stream = end.model.program.stream(self._side.segments, x)
        last = stop.head is None and stop.tensor is None
        wanted = None if last else stop.layer  # the end: whatever is left
        while wanted not in self._tensors:
            try:
                layer, tensor = next(self._stream)
            except StopIteration:
                break
            self._tensors[layer] = tensor
        if stop.head is not None:
            labels, confidences = end.heads[stop.layer].answer(self._tensors[stop.layer])
            self.outcomes.exits[stop.layer] = ExitAnswer(int(labels), float(confidences))
        elif last and plan.online is not None:
            self.outcomes.features = {
                tensor.layer: self._feature(tensor.layer) for tensor in plan.crossing
            }

    def _feature(self, layer: str) -> NDArray[np.float32]:
        axis = self._end.model.graph[layer].channel_axis
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
        raw = tensor.layer == self._end.model.graph.input.name
        task: NDArray[Any] = self._frame if raw else self._array(tensor.layer)
        return self._end.payloads.encode(tensor.layer, task, tensor.bits)

    async def finish(self, from_s: float) -> tuple[float, int]:
        """From the tensors that the end still holds, as they were before the codec."""
        label = await self._end.held_for(self._rest)
        return self._end.now_s(), label

    def _rest(self) -> int:
        if not self._side.plan.crossing:
            return int(self._tensors[self._end.model.graph.sink.name].argmax(dim=1))
        run = self._side.tail.start()
        for layer in self._side.tail.crossing:
            run.feed(layer, self._tensors[layer])
        return int(run.result.argmax(dim=1))


class TaskAnswers:
    """What is known of one task while it runs: its own feature and heads; all else as measured on
    the whole stream before."""

    def __init__(self, known: Outcomes, sample: int) -> None:
        self.features: dict[str, NDArray[np.float32]] = {}
        self.exits: dict[str, ExitAnswer] = {}
        self._known = known
        self._sample = sample

    def feature(self, sample: int, layers: Sequence[str]) -> NDArray[np.float32]:
        """Of this task, where it was computed."""
        if sample == self._sample and all(layer in self.features for layer in layers):
            return np.concatenate([self.features[layer] for layer in layers])
        return self._known.feature(sample, layers)

    def at_exit(self, sample: int, layer: str, crossing: tuple[Crossing, ...] = ()) -> ExitAnswer:
        """Of this task, where its head was asked."""
        if sample == self._sample and not crossing and layer in self.exits:
            return self.exits[layer]
        return self._known.at_exit(sample, layer, crossing)

    @property
    def classes(self) -> int:
        """Number of class scores."""
        return self._known.classes

    @property
    def samples(self) -> int:
        """Number of samples that can be asked about."""
        return self._known.samples

    def through(self, codec: Codec) -> Outcomes:
        """As measured before."""
        return self._known.through(codec)

    def with_exits(self, layers: Sequence[str]) -> Outcomes:
        """As measured before."""
        return self._known.with_exits(layers)

    def tensor_size(self, layer: str) -> TensorSize:
        """As measured before."""
        return self._known.tensor_size(layer)

    def true_label(self, sample: int) -> int:
        """Ground truth of a sample."""
        return self._known.true_label(sample)

    def video(self, sample: int) -> int:
        """The video or track that a sample belongs to."""
        return self._known.video(sample)

    def uncut(self, sample: int) -> int:
        """Label that the whole float model predicts."""
        return self._known.uncut(sample)

    def predict(self, sample: int, crossing: tuple[Crossing, ...]) -> Prediction:
        """As measured before."""
        return self._known.predict(sample, crossing)

    def sent_bytes(self, crossing: tuple[Crossing, ...]) -> NDArray[np.int64]:
        """As measured before."""
        return self._known.sent_bytes(crossing)
