"""Run a captured model, whole or on either side of a cut.

In: the model's calls, compiled once. Out: tensors, handed over as soon as they are ready. A result
is dropped after its last use, and nothing is computed that the side does not need.

A crossing tensor travels with the batch axis first. `Wire` knows how the model lays it out, so that
the cloud continues from the very memory layout that the uncut model would have seen: kernels are
chosen by it, and rounding by the kernel.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor

from coach_exp.types.errors import CutError

Values = list[Any]  # results by place; None before they are computed and after their last use


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the model: `run(values, batch)` finds its inputs in `values` at `reads`."""

    run: Callable[[Values, int], Any]
    reads: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Wire:
    """How a layer's result crosses: `shape` for one task, batch axis first.

    In the model the tasks lie along `axis`, `per_task` entries each; `order` lists the model's
    axes from the widest stride to the narrowest.
    """

    shape: tuple[int, ...]
    axis: int
    per_task: int
    order: tuple[int, ...]

    def out(self, tensor: Tensor, batch: int) -> Tensor:
        """The model's tensor as it is sent: [batch, *shape], a view."""
        if self.axis:
            tensor = tensor.movedim(self.axis, 0)
        return tensor if self.per_task == 1 else tensor.unflatten(0, (batch, self.per_task))

    def axis_sent(self, axis: int) -> int | None:
        """Where the model's `axis` is in `shape`; None for one that holds tasks and nothing else.

        >>> Wire((4, 6, 3), axis=1, per_task=1, order=(0, 1, 2, 3)).axis_sent(3)
        2
        """
        folded = self.per_task != 1
        if axis == self.axis:
            return 0 if folded else None
        return axis - (axis > self.axis) + folded

    def back(self, tensor: Tensor) -> Tensor:
        """A received tensor [batch, *shape] as the model had it, memory layout included."""
        if self.per_task != 1:
            tensor = tensor.flatten(0, 1)
        if self.axis:
            tensor = tensor.movedim(0, self.axis)
        strides = self._strides(tensor.shape)
        if tensor.stride() == strides:
            return tensor
        return torch.empty_strided(
            tensor.shape, strides, dtype=tensor.dtype, device=tensor.device
        ).copy_(tensor)

    def _strides(self, shape: Sequence[int]) -> tuple[int, ...]:
        strides = [0] * len(shape)
        for rank, axis in enumerate(self.order):
            strides[axis] = prod(shape[narrower] for narrower in self.order[rank + 1 :])
        return tuple(strides)


@dataclass(frozen=True, slots=True)
class Step:
    """Compute the result at `place`, then drop the results at `spent`."""

    place: int
    run: Callable[[Values, int], Any]
    spent: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """Steps up to a layer that is handed over; `spent` is dropped after that."""

    steps: tuple[Step, ...]
    layer: str
    spent: tuple[int, ...]


@dataclass(frozen=True)
class Program:
    """A model's calls in topological order, place 0 being the input; `places` and `wires` are by
    layer.

    Calls that are no layer (sizes aside, which are numbers by now) belong to no side: whichever
    side reads their result makes it.
    """

    calls: tuple[Call, ...]
    places: Mapping[str, int]
    wires: Mapping[str, Wire]
    sink: str

    def sequence(self, layers: Iterable[str], given: Collection[int]) -> list[int]:
        """Places to compute for `layers` in this order; each other call stands right before its
        first use.
        """
        made: set[int] = set(given)
        sequence: list[int] = []

        def make(place: int) -> None:
            if place not in made:
                made.add(place)
                for source in self.calls[place].reads:
                    make(source)
                sequence.append(place)

        for layer in layers:
            make(self.places[layer])
        return sequence

    def segments(self, layers: Iterable[str], handed_over: Collection[str]) -> tuple[Segment, ...]:
        """How to compute `layers` in this order from the input and hand over some of them."""
        sequence = self.sequence(layers, given={0})
        last_use = {source: place for place in sequence for source in self.calls[place].reads}
        names = {self.places[layer]: layer for layer in handed_over}
        segments, steps = [], list[Step]()
        for place in [0, *sequence]:
            if place:
                sources = dict.fromkeys(self.calls[place].reads)
                spent = tuple(source for source in sources if last_use[source] == place)
                steps.append(Step(place, self.calls[place].run, spent))
            if place in names:
                unused = () if place in last_use else (place,)
                segments.append(Segment(tuple(steps), names[place], unused))
                steps = []
        assert not steps, "a layer was asked for that leads to no layer handed over"
        return tuple(segments)

    def stream(self, segments: Sequence[Segment], x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Run `segments` on the inputs [batch, *shape]; yields (layer, [batch, *layer shape]) when
        ready.
        """
        batch = len(x)
        values: Values = [None] * len(self.calls)
        values[0] = x
        del x
        for segment in segments:
            execute(segment.steps, values, batch)
            yield segment.layer, self._hand_over(segment, values, batch)

    def _hand_over(self, segment: Segment, values: Values, batch: int) -> Tensor:
        tensor = self.wires[segment.layer].out(values[self.places[segment.layer]], batch)
        for place in segment.spent:
            values[place] = None
        return tensor


def execute(steps: Iterable[Step], values: Values, batch: int) -> None:
    """Carry out `steps` on `values`, without gradients."""
    with torch.no_grad():
        for step in steps:
            values[step.place] = step.run(values, batch)
            for place in step.spent:
                values[place] = None


class Head:
    """The end's side of a cut. `crossing` names the tensors that it sends, in that order."""

    def __init__(self, program: Program, end_layers: Sequence[str], crossing: tuple[str, ...]):
        self.crossing = crossing
        self._program = program
        self._segments = program.segments(end_layers, crossing or (program.sink,))

    def run(self, x: Tensor) -> "HeadRun":
        """Start a batch of tasks [batch, *input shape]; computes only as the result is iterated."""
        return HeadRun(self._program, self._program.stream(self._segments, x))


class HeadRun:
    """One pass through a head: iterate over it for each crossing (layer, tensor), as soon as it is
    ready.

    After a device-only pass, which yields nothing, `result` holds the scores [batch, classes].
    """

    def __init__(self, program: Program, stream: Iterator[tuple[str, Tensor]]) -> None:
        self.result: Tensor | None = None
        self._sink = program.sink
        self._stream = stream

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        return self

    def __next__(self) -> tuple[str, Tensor]:  # no generator: its frame would keep the tensor alive
        layer, tensor = next(self._stream)
        if layer == self._sink:
            self.result = tensor
            raise StopIteration
        return layer, tensor


class Tail:
    """The cloud's side of a cut. It is fed the tensors named in `crossing`, in any order. Results
    of the cloud layers in `kept` outlive their last use, to be read in between.
    """

    def __init__(
        self,
        program: Program,
        cloud_layers: Sequence[str],
        crossing: tuple[str, ...],
        kept: Collection[str] = (),
    ):
        self.crossing = crossing
        self.kept = frozenset(kept)
        self.program = program
        self.kept_at = {program.places[layer]: layer for layer in kept}
        self._given = {layer: program.places[layer] for layer in crossing}
        self._sequence = program.sequence(cloud_layers, given=self._given.values())
        self._steps_by_arrivals: dict[tuple[str, ...], tuple[Step, ...]] = {}

    def start(self) -> "TailRun":
        """Begin a batch of tasks; several may be in progress."""
        return TailRun(self)

    def steps(self, arrived: tuple[str, ...]) -> tuple[Step, ...]:
        """What the last of the tensors that `arrived`, in this order, makes computable."""
        known = self._steps_by_arrivals.get(arrived)
        if known is None:
            known = self._steps_by_arrivals[arrived] = self._find_steps(arrived)
        return known

    def _find_steps(self, arrived: tuple[str, ...]) -> tuple[Step, ...]:
        done = set(self._computable(arrived[:-1])) if len(arrived) > 1 else set()
        steps = []
        for place in self._computable(arrived):
            if place not in done:
                done.add(place)
                sources = dict.fromkeys(self.program.calls[place].reads)
                spent = tuple(
                    source
                    for source in sources
                    if self._readers[source] <= done and source not in self.kept_at
                )
                steps.append(Step(place, self.program.calls[place].run, spent))
        return tuple(steps)

    def _computable(self, arrived: Iterable[str]) -> list[int]:
        present = {self._given[layer] for layer in arrived}
        return [place for place in self._sequence if self._needs[place] <= present]

    @cached_property
    def _needs(self) -> dict[int, frozenset[int]]:
        """The crossing tensors that each call depends on, however far back."""
        needs = {place: frozenset((place,)) for place in self._given.values()}
        for place in self._sequence:
            needs[place] = frozenset[int]().union(
                *(needs[source] for source in self.program.calls[place].reads)
            )
        return needs

    @cached_property
    def _readers(self) -> dict[int, set[int]]:
        readers: dict[int, set[int]] = {}
        for place in self._sequence:
            for source in self.program.calls[place].reads:
                readers.setdefault(source, set()).add(place)
        return readers


class TailRun:
    """One pass through a tail."""

    def __init__(self, tail: Tail) -> None:
        self._tail = tail
        self._arrived: tuple[str, ...] = ()
        self._batch = 0
        self._values: Values = [None] * len(tail.program.calls)

    @property
    def missing(self) -> tuple[str, ...]:
        """Crossing tensors that have not arrived yet."""
        return tuple(layer for layer in self._tail.crossing if layer not in self._arrived)

    def feed(self, layer: str, tensor: Tensor) -> None:
        """Take the crossing tensor [batch, *layer shape] and compute all that it makes computable.

        Raises CutError for a tensor that does not belong to this cut, comes twice or has another
        shape.
        """
        for _ in self.feeding(layer, tensor):
            pass

    def feeding(self, layer: str, tensor: Tensor) -> Iterator[str]:
        """As `feed`, step by step: the name of each layer kept as soon as its result can be read.
        What stands behind it is computed as the iteration goes on, and not at all where it does
        not. The tensor is taken, and judged, at once.
        """
        self._check(layer, tensor)
        self._batch = len(tensor)
        self._arrived += (layer,)
        program = self._tail.program
        self._values[program.places[layer]] = program.wires[layer].back(tensor)
        return self._computing(self._tail.steps(self._arrived))

    def _computing(self, steps: Sequence[Step]) -> Iterator[str]:
        done = 0
        for at, step in enumerate(steps, 1):
            layer = self._tail.kept_at.get(step.place)
            if layer is not None:
                execute(steps[done:at], self._values, self._batch)
                done = at
                yield layer
        execute(steps[done:], self._values, self._batch)

    @property
    def result(self) -> Tensor:
        """The scores [batch, classes]. Raises CutError while crossing tensors are missing."""
        if self.missing or not self._tail.crossing:
            raise CutError(
                f"the cloud has no answer yet: it waits for {list(self.missing)}"
                if self.missing
                else "nothing crosses this cut: the answer is HeadRun.result, on the end"
            )
        return self._out(self._tail.program.sink)

    def kept(self, layer: str) -> Tensor:
        """The result of one of the layers kept: [batch, *layer shape]. Raises CutError for another,
        and while it waits for crossing tensors.
        """
        if layer not in self._tail.kept:
            raise CutError(f"{layer!r} is not kept on the cloud; {sorted(self._tail.kept)} are")
        if self._values[self._tail.program.places[layer]] is None:
            raise CutError(f"{layer!r} has no result yet: it waits for {list(self.missing)}")
        return self._out(layer)

    def _out(self, layer: str) -> Tensor:
        program = self._tail.program
        return program.wires[layer].out(self._values[program.places[layer]], self._batch)

    def _check(self, layer: str, tensor: Tensor) -> None:
        if layer not in self._tail.crossing:
            raise CutError(
                f"{layer!r} does not cross this cut; the cloud takes {list(self._tail.crossing)}"
            )
        if layer in self._arrived:
            raise CutError(f"{layer!r} has arrived already; each crossing tensor is sent once")
        shape = self._tail.program.wires[layer].shape
        if tuple(tensor.shape[1:]) != shape or (self._arrived and len(tensor) != self._batch):
            batch = self._batch or "batch"
            raise CutError(
                f"{layer!r} arrived as {tuple(tensor.shape)}, not as ({batch}, "
                f"{', '.join(map(str, shape))})"
            )
