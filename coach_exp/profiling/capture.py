"""From a torch module to a layer graph that can be cut anywhere.

In: any module from one image tensor to class scores, and the image's shape. Out: its layers with
sizes and costs (the paper's G = (V, E), Section III-B), and `split`: head and tail of a cut, which
together give the uncut model's scores to the last bit.

Each call of the traced model has one of four roles, told apart by running it on one task and on
two:

=========  ======================================================================================
layer      its result is a float tensor that holds each task along one axis: it can be cut
helper     depends on the input but is no such tensor (the tuple of a chunk, a mask): made by the
           side that reads it, from layers that are there
constant   does not depend on the input (position embeddings): made by the side that reads it
size       no tensor at all: a number, written into the calls, a multiple of the batch where the
           number of tasks enters
=========  ======================================================================================
"""

import copy
import operator
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.utils.flop_counter import FlopCounterMode

from coach_exp.profiling.channels import Layout, channel_axis
from coach_exp.profiling.program import Call, Head, Program, Segment, Tail, Values, Wire
from coach_exp.profiling.tracing import check_single_input, source_line, trace
from coach_exp.types.errors import CaptureError, CutError
from coach_exp.types.feature import usual_axis
from coach_exp.types.graph import Layer, LayerGraph

INPUT = "input"

Role = Literal["layer", "helper", "constant", "size"]
_Reader = Callable[[Values, int], Any]

# The first pattern found in the name of a module's class or of a function decides.
_KINDS = (
    ("attention|transformer", "attention"),
    ("conv", "conv"),
    ("norm", "norm"),
    ("pool|^mean$|^sum$|^amax$", "pool"),
    ("relu|elu|gelu|silu|glu|mish|swish|sigmoid|tanh|soft|threshold", "activation"),
    ("linear|matmul|einsum|mm$", "linear"),
)
_NEVER_NEGATIVE = re.compile("relu6?|(hard|soft)?sigmoid|softmax|softplus|abs|square|exp")
_KEEPS_SIGN = re.compile(
    "cat|concat|stack|add|mul|mean|reshape|contiguous|flatten|permute|clone"
    "|(adaptive_?)?(avg|max)_?pool[123]d"
)


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
    captured = _Capture(traced, _record(traced, inputs[0]), _record(traced, inputs[1])).result(
        module, tuple(input_shape), tuple(leaves)
    )
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


@dataclass(frozen=True, slots=True)
class _Fact:
    """What one call gave: for a tensor its layout, for anything without tensors the value."""

    value: Any = None
    holds_tensors: bool = False
    shape: tuple[int, ...] | None = None  # None: not a single float tensor
    strides: tuple[int, ...] = ()
    bytes: int = 0
    flops: int = 0
    is_view: bool = False  # its memory is that of an input: nothing was computed


class _Recorder(fx.Interpreter):
    """Runs the traced model once and notes a fact about each call."""

    def __init__(self, traced: fx.GraphModule, counter: FlopCounterMode) -> None:
        super().__init__(traced)
        self.extra_traceback = False
        self.facts: dict[fx.Node, _Fact] = {}
        self._counter = counter

    def run_node(self, n: fx.Node) -> Any:
        inputs = [t for source in n.all_input_nodes for t in _tensors(self.env[source])]
        versions = [t._version for t in inputs]
        before = self._counter.get_total_flops()
        value = super().run_node(n)
        if versions != [t._version for t in inputs]:
            raise CaptureError(
                f"{n.name!r} ({n.target}) writes into its input, which may have to be sent; use "
                "its out-of-place form"
            )
        self.facts[n] = self._fact(value, inputs, self._counter.get_total_flops() - before)
        return value

    @staticmethod
    def _fact(value: Any, inputs: list[Tensor], flops: int) -> _Fact:
        tensors = _tensors(value)
        if not tensors:
            return _Fact(value=value, flops=flops)
        read = {_memory(t) for t in inputs}
        return _Fact(
            holds_tensors=True,
            shape=tuple(value.shape)
            if isinstance(value, Tensor) and value.is_floating_point()
            else None,
            strides=value.stride() if isinstance(value, Tensor) else (),
            bytes=sum(t.numel() * t.element_size() for t in tensors),
            flops=flops,
            is_view=all(_memory(t) in read for t in tensors),
        )


def _record(traced: fx.GraphModule, x: Tensor) -> dict[fx.Node, _Fact]:
    with torch.no_grad(), _unfused_attention(), FlopCounterMode(display=False) as counter:
        recorder = _Recorder(traced, counter)
        recorder.run(x)
    return recorder.facts


class _Capture:
    """Sorts the recorded calls into roles and turns them into layers and a program."""

    def __init__(
        self, traced: fx.GraphModule, one: Mapping[fx.Node, _Fact], two: Mapping[fx.Node, _Fact]
    ) -> None:
        self._traced = traced
        self._one = one
        self._two = two
        self._roles: dict[fx.Node, Role] = {}
        for node in traced.graph.nodes:
            if node.op != "output":
                self._roles[node] = self._role(node)
        self._live = self._ancestors_of_output()
        self._place = {node: i for i, node in enumerate(self._live)}
        self._names = self._name_layers()
        self._non_negative: dict[fx.Node, bool] = {}
        self._layouts: dict[fx.Node, Layout] = {}
        for node in self._names:  # each from those before it
            self._layouts[node] = self._layout(node)

    def result(
        self, module: nn.Module, input_shape: tuple[int, ...], leaves: tuple[str, ...]
    ) -> CapturedModel:
        layers = self._layers()
        program = Program(
            calls=tuple(self._call(node) for node in self._live),
            places={name: self._place[node] for node, name in self._names.items()},
            wires={name: self._wire(node) for node, name in self._names.items()},
            sink=layers[-1].name,
        )
        return CapturedModel(LayerGraph.of(layers), module, input_shape, program, leaves)

    # --- roles

    def _role(self, node: fx.Node) -> Role:
        if node.op == "placeholder":
            return "layer"
        if not self._one[node].holds_tensors:
            return "size"
        if not any(self._roles[source] in ("layer", "helper") for source in node.all_input_nodes):
            return "constant"
        return "helper" if self._batch_axis(node) is None else "layer"

    def _batch_axis(self, node: fx.Node) -> int | None:
        """The one axis that is twice as long for two tasks as for one."""
        one, two = self._one[node].shape, self._two[node].shape
        if one is None or two is None or len(one) != len(two):
            return None
        changed = [i for i, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]
        return changed[0] if len(changed) == 1 and two[changed[0]] == 2 * one[changed[0]] else None

    def _sources(self, node: fx.Node) -> list[fx.Node]:
        return [source for source in node.all_input_nodes if self._roles[source] != "size"]

    def _ancestors_of_output(self) -> list[fx.Node]:
        """The calls that the scores depend on, in order; the input first."""
        nodes = list(self._traced.graph.nodes)
        scores = nodes[-1].args[0]
        if not isinstance(scores, fx.Node) or self._roles[scores] != "layer":
            raise CaptureError(
                f"the model returns {scores!r}, not one tensor of scores that depends on the input "
                "and has a row per task; wrap it in a module that returns the scores alone"
            )
        live = {scores}
        for node in reversed(nodes[:-1]):
            if node in live:
                live.update(self._sources(node))
        return [node for node in nodes if node in live]

    # --- layers

    def _name_layers(self) -> dict[fx.Node, str]:
        """The model's own names: a module's path, or the path of the module that makes the call
        and what it calls; a second call gets _1.
        """
        names: dict[fx.Node, str] = {}
        used = set[str]()
        for node in self._live:
            if self._roles[node] == "layer":
                base = name = INPUT if node.op == "placeholder" else _path(node)
                count = 0
                while name in used:
                    count += 1
                    name = f"{base}_{count}"
                used.add(name)
                names[node] = name
        return names

    def _layers(self) -> list[Layer]:
        claimed: set[fx.Node] = set()
        layers = []
        for node, name in self._names.items():
            members, inputs = self._members(node, claimed)
            layers.append(self._layer(node, name, members, inputs))
        return layers

    def _members(
        self, layer: fx.Node, claimed: set[fx.Node]
    ) -> tuple[list[fx.Node], list[fx.Node]]:
        """The calls whose cost `layer` bears, its helpers and constants unless an earlier layer
        has them; and the layers that it reads, directly or through them.
        """
        members, inputs, seen, stack = [layer], dict[fx.Node, None](), {layer}, [layer]
        while stack:
            for source in self._sources(stack.pop()):
                if self._roles[source] == "layer":
                    inputs[source] = None
                elif source not in seen:
                    seen.add(source)
                    stack.append(source)
                    if source not in claimed:
                        members.append(source)
        claimed.update(members)
        return members, sorted(inputs, key=self._place.__getitem__)

    def _layer(
        self, node: fx.Node, name: str, members: list[fx.Node], inputs: list[fx.Node]
    ) -> Layer:
        shape = self._wire(node).shape
        return Layer(
            name=name,
            inputs=tuple(self._names[source] for source in inputs),
            elements=torch.Size(shape).numel(),
            shape=shape,
            kind=self._kind(node, members),
            flops=sum(self._one[member].flops for member in members),
            param_bytes=sum(self._param_bytes(member) for member in members),
            input_bytes=sum(self._one[source].bytes for source in inputs),
            non_negative=self._is_non_negative(node),
            channel_axis=self._channel_axis(node),
        )

    def _wire(self, node: fx.Node) -> Wire:
        axis = self._batch_axis(node)
        shape = self._one[node].shape
        assert axis is not None, f"{node} is no layer"
        assert shape is not None, f"{node} is no layer"
        per_task = shape[axis]
        rest = shape[:axis] + shape[axis + 1 :]
        strides = self._two[node].strides
        return Wire(
            shape=rest if per_task == 1 else (per_task, *rest),
            axis=axis,
            per_task=per_task,
            order=tuple(sorted(range(len(shape)), key=lambda i: -strides[i])),
        )

    def _param_bytes(self, node: fx.Node) -> int:
        if node.op == "call_module":
            parameters = list(self._traced.get_submodule(str(node.target)).parameters())
        else:
            attribute = self._attribute(node) if node.op == "get_attr" else None
            parameters = [attribute] if isinstance(attribute, nn.Parameter) else []
        return sum(p.numel() * p.element_size() for p in parameters)

    def _kind(self, node: fx.Node, members: list[fx.Node]) -> str:
        """The kind of the call that does the layer's work."""
        if node.op == "placeholder":
            return "input"
        work = [
            member
            for member in members
            if self._roles[member] != "constant" and not self._one[member].is_view
        ]
        if not work:
            return "view"
        main = max(work, key=lambda member: self._one[member].flops)
        name = self._callee(main)
        for pattern, kind in _KINDS:
            if re.search(pattern, name):
                return "depthwise" if kind == "conv" and self._is_depthwise(main) else kind
        return "other" if self._one[main].flops else "elementwise"

    def _is_depthwise(self, node: fx.Node) -> bool:
        """Whether each output channel of a convolution reads a single one of several channels."""
        if node.op == "call_module":
            weight = getattr(self._traced.get_submodule(str(node.target)), "weight", None)
            shape = tuple(weight.shape) if isinstance(weight, Tensor) else None
        else:
            tensors = [self._one[source].shape for source in node.all_input_nodes]
            shape = tensors[1] if len(tensors) > 1 else None
        channels = self._one[node.all_input_nodes[0]].shape
        return bool(shape and channels and len(shape) > 1 and shape[1] == 1 and channels[1] > 1)

    def _is_non_negative(self, node: fx.Node) -> bool:
        known = self._non_negative.get(node)
        if known is None:
            known = self._non_negative[node] = self._find_non_negative(node)
        return known

    def _find_non_negative(self, node: fx.Node) -> bool:
        if self._roles[node] in ("constant", "size") or node.op == "placeholder":
            return False
        name = self._callee(node)
        if _NEVER_NEGATIVE.fullmatch(name):
            return True
        if not (self._one[node].is_view or _KEEPS_SIGN.fullmatch(name)):
            return False
        if name in ("add", "mul") and any(
            isinstance(arg, int | float) and arg < 0 for arg in (*node.args, *node.kwargs.values())
        ):
            return False
        return all(self._is_non_negative(source) for source in self._sources(node))

    def _channel_axis(self, node: fx.Node) -> int:
        """The axis of one task's result that holds the channels, or that usually does."""
        channels, wire = self._layouts[node].channels, self._wire(node)
        sent = None if channels is None else wire.axis_sent(channels)
        return usual_axis(len(wire.shape)) if sent is None else sent

    def _layout(self, node: fx.Node) -> Layout:
        """Of two tasks, so that the batch axis has a stride of its own."""
        fact, wire = self._two[node], self._wire(node)
        assert fact.shape is not None, f"{node} is no layer"
        result = Layout(fact.shape, fact.strides)
        if node.op == "placeholder":
            found = 1 + usual_axis(len(wire.shape)) if wire.shape else None
        else:
            doer = self._doer(node)
            sources = [self._layouts[source] for source in self._layers_read(doer)]
            is_view = self._two[doer].is_view
            found = channel_axis(self._callee(doer), self._told(doer), sources, result, is_view)
        if found is None or wire.axis_sent(found) is None:
            return result
        return replace(result, channels=found)

    def _doer(self, node: fx.Node) -> fx.Node:
        """The call that made the elements of `node` from those of a layer: behind an item of a
        tuple, what gave the tuple.
        """
        while self._two[node].is_view and self._roles[self._sources(node)[0]] == "helper":
            node = self._sources(node)[0]
        return node

    def _layers_read(self, node: fx.Node) -> list[fx.Node]:
        """The layers that a call reads, directly or through helpers, in the order of the call."""
        found: dict[fx.Node, None] = {}
        for source in self._sources(node):
            if self._roles[source] == "layer":
                found[source] = None
            elif self._roles[source] == "helper":
                found.update(dict.fromkeys(self._layers_read(source)))
        return list(found)

    def _told(self, node: fx.Node) -> Any:
        """The axes or sizes that a call was given besides its tensor."""
        if node.op == "call_module":
            module = self._traced.get_submodule(str(node.target))
            return getattr(module, "normalized_shape", None)
        for key in ("dim", "axis", "normalized_shape"):
            if key in node.kwargs:
                return node.kwargs[key]
        return node.args[1] if len(node.args) > 1 else None

    def _callee(self, node: fx.Node) -> str:
        if node.op == "call_module":
            name = type(self._traced.get_submodule(str(node.target))).__name__
        else:
            name = _called(node)
        return name.lower()

    # --- calls

    def _call(self, node: fx.Node) -> Call:
        reads = tuple(self._place[source] for source in self._sources(node))
        if node.op == "placeholder":
            return Call(lambda values, batch: values[0], ())
        if node.op == "get_attr":
            attribute = self._attribute(node)
            return Call(lambda values, batch: attribute, ())
        function = self._function(node)
        if (
            not node.kwargs
            and len(node.args) == 1
            and len(reads) == 1
            and node.args[0] in self._place
        ):
            (place,) = reads
            return Call(lambda values, batch: function(values[place]), reads)
        args, kwargs = self._reader(node.args), self._reader(node.kwargs)
        return Call(
            lambda values, batch: function(*args(values, batch), **kwargs(values, batch)), reads
        )

    def _function(self, node: fx.Node) -> Callable[..., Any]:
        if node.op == "call_module":
            return self._traced.get_submodule(str(node.target))
        if node.op == "call_method":
            return getattr(torch.Tensor, str(node.target))
        assert callable(node.target)
        return node.target

    def _reader(self, arg: Any) -> _Reader:
        """A function that finds the value of a call's argument, compiled from its structure."""
        nodes: list[fx.Node] = []
        fx.node.map_arg(arg, nodes.append)
        if not nodes:
            return lambda values, batch: arg
        if isinstance(arg, fx.Node):
            return self._node_reader(arg)
        if isinstance(arg, slice):
            bounds = self._reader((arg.start, arg.stop, arg.step))
            return lambda values, batch: slice(*bounds(values, batch))
        if isinstance(arg, dict):
            entries = [(key, self._reader(value)) for key, value in arg.items()]
            return lambda values, batch: {key: read(values, batch) for key, read in entries}
        parts = [self._reader(part) for part in arg]
        sequence = tuple if isinstance(arg, tuple) else list
        return lambda values, batch: sequence([read(values, batch) for read in parts])

    def _node_reader(self, node: fx.Node) -> _Reader:
        if self._roles[node] != "size":
            place = self._place[node]
            return lambda values, batch: values[place]
        return _size_reader(node, self._one[node].value, self._two[node].value)

    def _attribute(self, node: fx.Node) -> Any:
        return operator.attrgetter(str(node.target))(self._traced)


def _size_reader(node: fx.Node, one: Any, two: Any) -> _Reader:
    """The value of a size in a batch, given what it is for one task and for two."""
    if isinstance(one, tuple | list) and isinstance(two, tuple | list) and len(one) == len(two):
        parts = [_size_reader(node, a, b) for a, b in zip(one, two, strict=True)]
        return lambda values, batch: tuple([read(values, batch) for read in parts])
    if one == two:
        return lambda values, batch: one
    if type(one) is int and type(two) is int:
        per_task, rest = two - one, 2 * one - two
        return lambda values, batch: rest + per_task * batch
    raise CaptureError(
        f"{node.name!r} ({node.target}) is {one!r} for one task and {two!r} for two; a number that "
        "a model computes from a tensor may depend on its shape alone"
    )


def _path(node: fx.Node) -> str:
    """`layer1.0.conv1` for a module, `layer1.0.add` for a function called inside `layer1.0`."""
    if node.op == "call_module":
        return str(node.target)
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return f"{stack[-1][0]}.{_called(node)}" if stack else _called(node)


def _called(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target))


def _tensors(value: Any) -> list[Tensor]:
    """All tensors in a value: itself, or those in its items."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for item in value for t in _tensors(item)] if isinstance(value, tuple | list) else []


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata  # unlike data_ptr(), also distinct on the meta device


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


@contextmanager
def _unfused_attention() -> Iterator[None]:
    """Attention by matrix products, which the FLOP counter sees."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
