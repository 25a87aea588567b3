"""From a torch module to a layer graph that can be cut anywhere.

In: any module from one image tensor to class scores, and the image's shape. Out: its layers with
sizes and costs (the paper's G = (V, E), Section III-B), and `split`: head and tail of a cut, which
together give the uncut model's scores to the last bit.
"""

import copy
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from coach_exp.profiling.compiling import compiled
from coach_exp.profiling.layer_facts import layers_of
from coach_exp.profiling.program import Head, Program, Segment, Tail
from coach_exp.profiling.recording import record
from coach_exp.profiling.roles import TracedCalls
from coach_exp.profiling.tracing import check_single_input, source_line, trace
from coach_exp.types.errors import CaptureError, CutError
from coach_exp.types.graph import LayerGraph


@dataclass(frozen=True)
class CapturedModel:
    """A model as a layer graph, and the means to run it layer by layer.

    `module` is a copy of the user's, in eval mode and out of place; its weights may be loaded
    afterwards.
    """

    graph: LayerGraph
    module: nn.Module
    input_shape: tuple[int, ...]
    program: Program
    leaves: tuple[str, ...] = ()

    def run(self, x: Tensor) -> Tensor:
        """Scores of the whole model: [batch, *input_shape] -> [batch, classes]."""
        (_, scores), *_ = self._stream(self._whole, x)
        return scores

    def stream(self, x: Tensor, layers: Collection[str]) -> Iterator[tuple[str, Tensor]]:
        """Yields (layer, [batch, *shape]) for each of `layers` when it is ready, in the graph's
        order; computes nothing else.
        """
        needed = smallest_end(self.graph, layers)
        return self._stream(self.program.segments(needed, layers), x)

    def features(self, x: Tensor, layers: Collection[str]) -> dict[str, Tensor]:
        """The results of `layers` by name: [batch, *input_shape] -> {layer: [batch, *shape]}."""
        return dict(self.stream(x, layers))

    def to(self, device: str | torch.device) -> "CapturedModel":
        """The same model, captured on another device."""
        return capture(copy.deepcopy(self.module).to(device), self.input_shape, self.leaves)

    @cached_property
    def _whole(self) -> tuple[Segment, ...]:
        return self.program.segments(
            [layer.name for layer in self.graph.layers], [self.graph.sink.name]
        )

    def _stream(self, segments: Sequence[Segment], x: Tensor) -> Iterator[tuple[str, Tensor]]:
        if tuple(x.shape[1:]) != self.input_shape:
            raise CaptureError(
                f"the model was captured for tasks of shape {self.input_shape}, not for a batch of "
                f"shape {tuple(x.shape)}; capture it again for this shape"
            )
        return self.program.stream(segments, x)


def capture(
    model: nn.Module, input_shape: Sequence[int], leaves: Collection[str] = ()
) -> CapturedModel:
    """Capture `model` for inputs of `input_shape` (without the batch axis, as (3, 224, 224)).

    The user's model is left as it is. `leaves` are paths or class names of submodules to keep as
    one layer each. FLOPs are those of `torch.utils.flop_counter` with attention computed by plain
    matrix products: the counter does not see inside torch's fused attention on a CPU. The capture
    is compared with the model on a batch of three before it is returned. A model built on torch's
    meta device, which has shapes and no values, gives its graph quickly and cannot run. Raises
    CaptureError for a model that cannot be traced, has several inputs, or is not the same function
    when cut.
    """
    module = copy.deepcopy(model).eval()
    check_single_input(module)
    inputs = [_random_inputs(module, batch, tuple(input_shape)) for batch in (1, 2, 3)]
    expected = _answer(module, inputs[2])
    traced = trace(module, leaves)
    calls = TracedCalls.of(traced, record(traced, inputs[0]), record(traced, inputs[1]))
    graph = LayerGraph.of(layers_of(calls))
    captured = CapturedModel(graph, module, tuple(input_shape), compiled(calls), tuple(leaves))
    if not expected.is_meta and not _same(captured.run(inputs[2]), expected):
        raise CaptureError(
            f"the captured {type(model).__name__} gives other scores than the model itself; either "
            "it is random in eval mode, or its tasks in a batch are not independent, or it writes "
            "in place through a view: move that code into a submodule named in `leaves`"
        )
    return captured


def split(
    captured: CapturedModel, end_layers: Sequence[str], kept: Collection[str] = ()
) -> tuple[Head, Tail]:
    """Head and tail of the cut with these end layers, which the head runs in this order. `kept` are
    cloud layers whose results can be read from the tail's run, besides the scores.

    Raises CutError when the end layers are no end set, or not in a topological order, or when a
    layer to keep is among them.
    """
    graph = captured.graph
    held = graph.end_set(end_layers)
    place = {name: i for i, name in enumerate(end_layers)}
    if len(place) < len(end_layers):
        raise CutError("an end layer stands twice in the order of execution")
    for name in end_layers:
        late = [graph.layers[p].name for p in graph.predecessors[graph.position(name)]]
        late = [source for source in late if place[source] > place[name]]
        if late:
            raise CutError(f"layer {name!r} is run before its inputs {late}; order them first")
    both = [name for name in kept if graph.position(name) in held]
    if both:
        raise CutError(f"layers {both} are to be kept on the cloud, but they are on the end")
    crossing = {graph.layers[i].name for i in graph.crossing(held)}
    sent = tuple(name for name in end_layers if name in crossing)
    cloud = [layer.name for i, layer in enumerate(graph.layers) if i not in held]
    return Head(captured.program, end_layers, sent), Tail(captured.program, cloud, sent, kept)


def smallest_end(graph: LayerGraph, layers: Iterable[str]) -> tuple[str, ...]:
    """`layers` and all their ancestors, in the graph's order.

    Given the crossing tensors of a cut (one at least), this is the smallest end set that has them.
    """
    wanted = {graph.position(name) for name in layers} | {0}
    for i in reversed(range(len(graph))):
        if i in wanted:
            wanted.update(graph.predecessors[i])
    return tuple(layer.name for i, layer in enumerate(graph.layers) if i in wanted)


def _random_inputs(module: nn.Module, batch: int, shape: tuple[int, ...]) -> Tensor:
    weight = next((p for p in module.parameters() if p.is_floating_point()), torch.empty(0))
    noise = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(batch))
    return noise.to(device=weight.device, dtype=weight.dtype)


def _answer(module: nn.Module, x: Tensor) -> Tensor:
    try:
        with torch.no_grad():
            answer = module(x.clone())
    except Exception as error:
        raise CaptureError(
            f"{type(module).__name__} fails on an input of shape {tuple(x.shape)}"
            f"{source_line(error)}: {error}"
        ) from error
    if not isinstance(answer, Tensor):
        raise CaptureError(
            f"{type(module).__name__} returns a {type(answer).__name__}, not a tensor of scores; "
            "wrap it in a module that returns the scores alone"
        )
    return answer


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)
