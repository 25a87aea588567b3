"""The end's part of a task: computed, or emulated for as long as the end's profile says.

In: a sample, a plan, when the end begins. Out: the stops on the way - exit heads, crossing tensors,
the last layer - each with the time at which it was reached; payloads; and, for a task that gave up
on the link, the remaining layers. `EmulatedEnd` (compute=profile) computes nothing; the end that
does is in `live`, which knows torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from coach_exp.network.precise import sleep_until
from coach_exp.pipeline.cloud.work import instruction
from coach_exp.pipeline.payload import payload
from coach_exp.types.method import Problem
from coach_exp.types.outcomes import Crossing, Outcomes
from coach_exp.types.plan import DecisionPoint, Plan
from coach_exp.types.task import NOT_SIMULATED


class Stop(NamedTuple):
    """A layer at which something is to be done, `at_s` seconds into the end part by the plan: a
    head is asked, a crossing tensor (by its place in the plan) is ready, or the part is over."""

    at_s: float
    layer: str
    head: DecisionPoint | None = None
    tensor: int | None = None


def stops(plan: Plan) -> tuple[Stop, ...]:
    """Returns all stops of a plan in the order of execution; at the last one the end part is
    over."""
    place = {layer: k for k, layer in enumerate(plan.end_layers)}
    found = [Stop(h.at_s, h.layer, head=h) for h in plan.heads if h.side == "end"]
    found += [
        Stop(ready_s, tensor.layer, tensor=k)
        for k, (tensor, ready_s) in enumerate(zip(plan.crossing, plan.ready_s, strict=False))
    ]
    found.sort(key=lambda stop: (place[stop.layer], stop.tensor is not None))
    return (*found, Stop(plan.stage_s.end_s, plan.end_layers[-1]))


class CloudExit(NamedTuple):
    """The cloud's head that will answer a task, by its place among the plan's cloud heads."""

    head: int
    label: int


class EndTask(Protocol):
    """One task on the end. Times are seconds since the run began."""

    @property
    def outcomes(self) -> Outcomes | None:
        """The answers that a controller may ask for now; None when only times count."""

    async def reach(self, stop: Stop) -> float:
        """Compute up to a stop, the next in order. Returns when it was reached."""

    async def pack(
        self, crossing: Sequence[Crossing], parts: Sequence[int], early: CloudExit | None
    ) -> list[bytes]:
        """Returns the payloads of the crossing tensors `parts`, which are ready, at the widths in
        `crossing`, which lists all of the plan's. `early` tells a cloud that computes nothing where
        to stop."""

    async def finish(self, from_s: float) -> tuple[float, int]:
        """Compute what the plan leaves to the cloud, from `from_s` on or as soon as possible.
        Returns when that was done, and the label. A plan that sends nothing leaves only the
        label."""


class EndWork(Protocol):
    """An end device, which runs one task at a time."""

    @property
    def emulated(self) -> bool:
        """Whether times are those of a profile: a stage that could begin when the one before it was
        over begins at that very time, however late this process woke up. A cloud that computes
        nothing is then told what to answer."""

    def begin(self, sample: int, plan: Plan, start_s: float) -> EndTask:
        """Start a task and return it; its end part begins at `start_s`."""


@dataclass(frozen=True)
class EmulatedEnd:
    """Nothing is computed: each stop is reached when the plan says, and payloads are fillers of the
    sizes that the model's payloads have. `began_s` is the run's beginning on this machine's clock.
    """

    problem: Problem
    began_s: float
    emulated: bool = True

    def begin(self, sample: int, plan: Plan, start_s: float) -> "EmulatedTask":
        """Start a task and return it."""
        return EmulatedTask(self, sample, plan, start_s)


@dataclass(frozen=True)
class EmulatedTask:
    """A task whose answers are those of the real model, known beforehand."""

    end: EmulatedEnd
    sample: int
    plan: Plan
    start_s: float

    @property
    def outcomes(self) -> Outcomes | None:
        """The answers on the stream's split, None when only times count."""
        return self.end.problem.outcomes

    async def reach(self, stop: Stop) -> float:
        """Wait for the time at which the plan reaches the stop, and return it."""
        return await self._wait_until(self.start_s + stop.at_s)

    async def pack(
        self, crossing: Sequence[Crossing], parts: Sequence[int], early: CloudExit | None
    ) -> list[bytes]:
        """Returns fillers that tell the cloud the label; 0 where no model answers."""
        sizes, label = payload(self.end.problem, self.sample, tuple(crossing))
        head, label = (None, label) if early is None else early
        return [instruction(sizes[part], max(label, 0), head) for part in parts]

    async def finish(self, from_s: float) -> tuple[float, int]:
        """Wait for as long as the remaining layers take. Returns when they are done, and the
        label."""
        outcomes = self.outcomes
        label = NOT_SIMULATED if outcomes is None else outcomes.uncut(self.sample)
        if not self.plan.crossing:
            return from_s, label
        return await self._wait_until(from_s + self._remaining_s()), label

    def _remaining_s(self) -> float:
        """Returns the seconds of the layers that the plan leaves to the cloud, on the end: the
        plan's own word where it gives up by itself, the end's profile elsewhere."""
        if self.plan.local_s > 0:
            return self.plan.local_s
        own = set(self.plan.end_layers)
        profile = self.end.problem.end.layer_s
        return sum(
            profile[layer.name] for layer in self.end.problem.graph.layers if layer.name not in own
        )

    async def _wait_until(self, instant_s: float) -> float:
        await sleep_until(self.end.began_s + instant_s)
        return instant_s
