"""The layer graph: a DAG of layers from the raw input to the class scores (paper, Section III-B).

In: layers that name their inputs. Out: the same layers in topological order, with integer
adjacency, checked once.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from heapq import heapify, heappop, heappush
from math import prod

from coach_exp.types.errors import CutError, GraphError


@dataclass(frozen=True, slots=True)
class Layer:
    """One call of the model, or its raw input.

    `shape` is that of the output for one task, without the batch axis, and `channel_axis` the axis
    of it that holds the channels; `flops` counts a multiply-accumulate as two.
    """

    name: str
    inputs: tuple[str, ...] = ()
    elements: int = 0
    shape: tuple[int, ...] = ()
    kind: str = "other"
    flops: int = 0
    param_bytes: int = 0
    input_bytes: int = 0
    non_negative: bool = False
    channel_axis: int = 0

    def __post_init__(self) -> None:
        if self.elements < 0:
            raise GraphError(
                f"layer {self.name!r} has {self.elements} elements; a size is never negative"
            )
        if self.shape and prod(self.shape) != self.elements:
            raise GraphError(
                f"layer {self.name!r} has shape {self.shape} = {prod(self.shape)} elements but "
                f"says {self.elements}; "
                f"leave one of the two out"
            )
        if not 0 <= self.channel_axis < max(len(self.shape), 1):
            raise GraphError(
                f"layer {self.name!r} has channel_axis {self.channel_axis} but shape {self.shape}; "
                "it is the place of one of the shape's axes, counted from 0"
            )

    @property
    def channels(self) -> int:
        """Size of the channel axis of the output, 1 where no shape is known."""
        return self.shape[self.channel_axis] if self.shape else 1

    @property
    def rows(self) -> int:
        """Size of the first axis of the output, 1 where no shape is known: the number of pieces
        that a codec quantises one by one, if it does not quantise the tensor as a whole.
        """
        return self.shape[0] if self.shape else 1


@dataclass(frozen=True)
class LayerGraph:
    """Layers in topological order; `layers[0]` is the raw input and `layers[-1]` the only sink.

    Build it with `LayerGraph.of`, which orders and checks the layers.
    """

    layers: tuple[Layer, ...]
    predecessors: tuple[tuple[int, ...], ...] = field(repr=False)
    successors: tuple[tuple[int, ...], ...] = field(repr=False)

    @staticmethod
    def of(layers: Iterable[Layer]) -> "LayerGraph":
        """Order the layers topologically (stable: the given order where it may be kept).

        Raises GraphError for duplicate names, unknown inputs, a cycle, no or several inputs, or
        several sinks.
        """
        given = tuple(layers)
        _check_names(given)
        ordered = _topological(given)
        index = {layer.name: i for i, layer in enumerate(ordered)}
        predecessors = tuple(
            tuple(dict.fromkeys(index[name] for name in layer.inputs)) for layer in ordered
        )
        successors: list[list[int]] = [[] for _ in ordered]
        for i, sources in enumerate(predecessors):
            for source in sources:
                successors[source].append(i)
        _check_ends(ordered, predecessors, successors)
        return LayerGraph(ordered, predecessors, tuple(tuple(s) for s in successors))

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, name: str) -> Layer:
        return self.layers[self.position(name)]

    @cached_property
    def index(self) -> Mapping[str, int]:
        """Position of each layer in topological order, by name."""
        return {layer.name: i for i, layer in enumerate(self.layers)}

    def position(self, name: str) -> int:
        """Position of the layer called `name`. Raises GraphError when there is none."""
        try:
            return self.index[name]
        except KeyError:
            raise GraphError(
                f"the graph has no layer {name!r}; it has {_some(self.index)}"
            ) from None

    @property
    def input(self) -> Layer:
        """The raw input: a layer that every end set holds."""
        return self.layers[0]

    @property
    def sink(self) -> Layer:
        """The layer that yields the class scores."""
        return self.layers[-1]

    def end_set(self, names: Iterable[str]) -> frozenset[int]:
        """Positions of `names`, checked to be an end set.

        Raises CutError when the input is missing or a layer's predecessor is on the cloud.
        """
        held = frozenset(self.position(name) for name in names)
        if 0 not in held:
            raise CutError(
                f"the end set lacks the input {self.input.name!r}; the end device always holds the "
                "raw input"
            )
        for i in sorted(held):
            missing = [self.layers[p].name for p in self.predecessors[i] if p not in held]
            if missing:
                raise CutError(
                    f"layer {self.layers[i].name!r} is on the end but its inputs {missing} are on "
                    "the cloud; "
                    f"the end side must hold every ancestor of its layers"
                )
        return held

    def crossing(self, held: frozenset[int]) -> tuple[int, ...]:
        """Positions of the end layers whose output some cloud layer needs, in topological order
        (the paper's V_p).
        """
        return tuple(i for i in sorted(held) if any(s not in held for s in self.successors[i]))


def _some(names: Iterable[str], limit: int = 8) -> str:
    listed = list(names)
    return ", ".join(listed[:limit]) + (
        f", … ({len(listed)} in all)" if len(listed) > limit else ""
    )


def _check_names(layers: tuple[Layer, ...]) -> None:
    if not layers:
        raise GraphError("the graph has no layers; it needs an input and at least one layer")
    twice = [name for name, count in Counter(layer.name for layer in layers).items() if count > 1]
    if twice:
        raise GraphError(f"layer names must be unique, but these stand twice: {_some(twice)}")
    known = {layer.name for layer in layers}
    for layer in layers:
        unknown = [name for name in layer.inputs if name not in known]
        if unknown:
            raise GraphError(
                f"layer {layer.name!r} takes its input from {_some(unknown)}, which the graph does "
                "not have"
            )


def _topological(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Kahn's algorithm; of the layers that are ready, the one given first comes first."""
    place = {layer.name: i for i, layer in enumerate(layers)}
    waiting = [len(set(layer.inputs)) for layer in layers]
    consumers: list[list[int]] = [[] for _ in layers]
    for i, layer in enumerate(layers):
        for name in dict.fromkeys(layer.inputs):
            consumers[place[name]].append(i)
    ready = [i for i, count in enumerate(waiting) if count == 0]
    heapify(ready)
    ordered = []
    while ready:
        i = heappop(ready)
        ordered.append(layers[i])
        for consumer in consumers[i]:
            waiting[consumer] -= 1
            if waiting[consumer] == 0:
                heappush(ready, consumer)
    if len(ordered) < len(layers):
        stuck = [layers[i].name for i, count in enumerate(waiting) if count > 0]
        raise GraphError(
            f"the graph has a cycle through some of {_some(stuck)}; a layer may not depend on "
            "itself"
        )
    return tuple(ordered)


def _check_ends(
    layers: tuple[Layer, ...],
    predecessors: tuple[tuple[int, ...], ...],
    successors: list[list[int]],
) -> None:
    inputs = [
        layer.name for layer, sources in zip(layers, predecessors, strict=True) if not sources
    ]
    sinks = [layer.name for layer, users in zip(layers, successors, strict=True) if not users]
    if len(inputs) != 1:
        raise GraphError(
            f"the graph has {len(inputs)} inputs ({_some(inputs)}); exactly one layer may have no "
            "inputs"
        )
    if len(sinks) != 1:
        raise GraphError(
            f"the graph has {len(sinks)} sinks ({_some(sinks)}); exactly one layer may have no "
            "consumer"
        )
    if len(layers) < 2:
        raise GraphError(
            f"the graph has only the input {inputs[0]!r}; it needs at least one layer to run"
        )
