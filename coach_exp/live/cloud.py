"""The cloud's part of a task, really computed (`compute=live`).

In: a model with its weights, the exit heads that it has, and payloads. Out: labels, as `pipeline`'s
cloud asks for them. The model is captured once; the segment of a cut is built when a plan is
offered and kept, so that tasks change cuts without loading anything.
"""

from collections.abc import Callable
from functools import lru_cache
from time import monotonic
from typing import Final

import torch

from coach_exp.learning.jpeg import Jpeg
from coach_exp.learning.weights import Weights
from coach_exp.live.exit_heads import ExitHeads
from coach_exp.live.live_model import HERE, LiveModel, Machine
from coach_exp.live.payloads import Payloads
from coach_exp.network.wire_messages import WirePlan
from coach_exp.pipeline.cloud.work import Step
from coach_exp.profiling.capture import CapturedModel, capture, split
from coach_exp.profiling.program import Tail
from coach_exp.types.errors import CutError, GraphError
from coach_exp.types.outcomes import Codec

MAX_SEGMENTS: Final = 64  # kept; others are built again


def live_work(
    weights: Weights,
    codec: Codec,
    jpeg: Jpeg | None,
    heads: Callable[[CapturedModel], ExitHeads] | None = None,
    machine: Machine = HERE,
) -> "LiveWork":
    """The work of a cloud that has these weights. `heads` gives the model its exit heads; all of it
    can be pickled, and is called where the cloud runs."""
    model = capture(weights.load(), weights.model.input_shape)
    exits = None if heads is None else heads(model)
    payloads = Payloads(codec, model.graph, jpeg, weights.model.input_size)
    return LiveWork(LiveModel(model, payloads, exits, machine))


class LiveWork:
    """Computes the cloud's side of cuts of a `live` model. Every tensor holds the cloud for as long
    as the model's machine says."""

    def __init__(self, live: LiveModel) -> None:
        self.live = live
        # By crossing as well: a tail keeps something for every order in which its tensors came.
        self._segment = lru_cache(maxsize=MAX_SEGMENTS)(self._build)

    def accept(self, plan: WirePlan) -> None:
        """Build the plan's segment. Raises GraphError for layers that the model lacks and for heads
        that the cloud lacks, CutError for a plan that is no cut of the model."""
        if self.live.machine.threads is not None:
            torch.set_num_threads(self.live.machine.threads)  # of the thread that computes
        self._tail(plan)

    def start(self, plan: WirePlan) -> "LiveTask":
        """Begin a task."""
        return LiveTask(self, plan, self._tail(plan))

    def _tail(self, plan: WirePlan) -> Tail:
        crossing = tuple(tensor.layer for tensor in plan.crossing)
        asked = tuple(head.layer for head in plan.heads if head.threshold <= 1.0)
        return self._segment(plan.end_layers, crossing, asked)

    def _build(
        self, end_layers: tuple[str, ...], crossing: tuple[str, ...], heads: tuple[str, ...]
    ) -> Tail:
        missing = [layer for layer in heads if layer not in self.live.heads]
        if missing:
            raise GraphError(
                f"this cloud has no exit heads behind {missing}; it has them behind "
                f"{list(self.live.heads)}: train them there, or give it those of the end"
            )
        _, tail = split(self.live.model, end_layers, heads)
        if sorted(tail.crossing) != sorted(crossing):
            raise CutError(
                f"{list(crossing)} are not what crosses this cut: {list(tail.crossing)} are"
            )
        return tail


class LiveTask:
    """One task on the cloud: its tensors are fed to the tail as they come, until a head answers."""

    def __init__(self, work: LiveWork, plan: WirePlan, tail: Tail) -> None:
        self._live = work.live
        self._plan = plan
        self._run = tail.start()
        self._thresholds = {
            head.layer: head.threshold for head in plan.heads if head.layer in tail.kept
        }
        self._exit: tuple[int, str] | None = None

    def take(self, part: int, payload: bytes, from_s: float) -> Step:
        """Compute what a tensor makes computable. Raises CodecError for a payload that cannot be
        decoded."""
        last = part == len(self._plan.crossing) - 1
        if self._exit is not None:  # nothing behind the exit is decoded or computed
            return Step(max(from_s, monotonic()), *self._exit) if last else Step(from_s)
        begun_s = monotonic()
        self._feed(self._plan.crossing[part].layer, payload)
        label = None
        if last and self._exit is None:
            label = int(self._run.result.argmax(dim=1))
        self._live.machine.hold(begun_s)
        end_s = max(from_s, monotonic())
        if last and self._exit is not None:
            return Step(end_s, *self._exit)
        return Step(end_s, label)

    def _feed(self, layer: str, payload: bytes) -> None:
        tensor = self._live.payloads.decode(layer, payload).to(self._live.machine.device)
        for kept in self._run.feeding(layer, tensor):
            labels, confidences = self._live.heads[kept].answer(self._run.kept(kept))
            if float(confidences) >= self._thresholds[kept]:
                self._exit = int(labels), kept
                return
