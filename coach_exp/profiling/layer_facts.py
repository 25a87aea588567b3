"""The facts of each layer of a traced model: what it reads, its size, its kind, its costs.

In: the calls of a traced model with their roles. Out: its `Layer`s, in order. A layer bears the
cost of its helpers and constants, unless an earlier layer does.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from coach_exp.profiling.channels import Layout, channel_axis
from coach_exp.profiling.roles import TracedCalls
from coach_exp.types.feature import usual_axis
from coach_exp.types.graph import Layer

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


def layers_of(calls: TracedCalls) -> list[Layer]:
    """The layers of a traced model in the order of its calls, the input first."""
    facts = _LayerFacts(calls)
    return [facts.layer(node) for node in calls.layers]


class _LayerFacts:
    """Asked layer by layer, in order: what earlier layers have claimed or told is kept."""

    def __init__(self, calls: TracedCalls) -> None:
        self._calls = calls
        self._claimed: set[fx.Node] = set()
        self._non_negative: dict[fx.Node, bool] = {}
        self._layouts: dict[fx.Node, Layout] = {}

    def layer(self, node: fx.Node) -> Layer:
        """The next layer."""
        calls = self._calls
        members, inputs = self._members(node)
        self._layouts[node] = self._layout(node)
        shape = calls.wire(node).shape
        return Layer(
            name=calls.layers[node],
            inputs=tuple(calls.layers[source] for source in inputs),
            elements=torch.Size(shape).numel(),
            shape=shape,
            kind=_kind(calls, node, members),
            flops=sum(calls.one[member].flops for member in members),
            param_bytes=sum(_param_bytes(calls, member) for member in members),
            input_bytes=sum(calls.one[source].bytes for source in inputs),
            non_negative=self._is_non_negative(node),
            channel_axis=self._channel_axis(node),
        )

    def _members(self, layer: fx.Node) -> tuple[list[fx.Node], list[fx.Node]]:
        """The calls whose cost `layer` bears, and the layers that it reads, directly or through
        them.
        """
        calls = self._calls
        members, inputs, seen, stack = [layer], dict[fx.Node, None](), {layer}, [layer]
        while stack:
            for source in calls.sources(stack.pop()):
                if calls.roles[source] == "layer":
                    inputs[source] = None
                elif source not in seen:
                    seen.add(source)
                    stack.append(source)
                    if source not in self._claimed:
                        members.append(source)
        self._claimed.update(members)
        return members, sorted(inputs, key=calls.places.__getitem__)

    # --- the sign

    def _is_non_negative(self, node: fx.Node) -> bool:
        known = self._non_negative.get(node)
        if known is None:
            known = self._non_negative[node] = self._find_non_negative(node)
        return known

    def _find_non_negative(self, node: fx.Node) -> bool:
        calls = self._calls
        if calls.roles[node] in ("constant", "size") or node.op == "placeholder":
            return False
        name = calls.callee(node)
        if _NEVER_NEGATIVE.fullmatch(name):
            return True
        if not (calls.one[node].is_view or _KEEPS_SIGN.fullmatch(name)):
            return False
        if name in ("add", "mul") and any(
            isinstance(arg, int | float) and arg < 0 for arg in (*node.args, *node.kwargs.values())
        ):
            return False
        return all(self._is_non_negative(source) for source in calls.sources(node))

    # --- the channels

    def _channel_axis(self, node: fx.Node) -> int:
        """The axis of one task's result that holds the channels, or that usually does."""
        channels, wire = self._layouts[node].channels, self._calls.wire(node)
        sent = None if channels is None else wire.axis_sent(channels)
        return usual_axis(len(wire.shape)) if sent is None else sent

    def _layout(self, node: fx.Node) -> Layout:
        """Of two tasks, so that the batch axis has a stride of its own."""
        calls = self._calls
        fact, wire = calls.two[node], calls.wire(node)
        assert fact.shape is not None, f"{node} is no layer"
        result = Layout(fact.shape, fact.strides)
        if node.op == "placeholder":
            found = 1 + usual_axis(len(wire.shape)) if wire.shape else None
        else:
            doer = self._doer(node)
            sources = [self._layouts[source] for source in calls.layers_read(doer)]
            is_view = calls.two[doer].is_view
            found = channel_axis(calls.callee(doer), _told(calls, doer), sources, result, is_view)
        if found is None or wire.axis_sent(found) is None:
            return result
        return replace(result, channels=found)

    def _doer(self, node: fx.Node) -> fx.Node:
        """The call that made the elements of `node` from those of a layer: behind an item of a
        tuple, what gave the tuple.
        """
        calls = self._calls
        while calls.two[node].is_view and calls.roles[calls.sources(node)[0]] == "helper":
            node = calls.sources(node)[0]
        return node


def _told(calls: TracedCalls, node: fx.Node) -> Any:
    """The axes or sizes that a call was given besides its tensor."""
    if node.op == "call_module":
        return getattr(calls.module(node), "normalized_shape", None)
    for key in ("dim", "axis", "normalized_shape"):
        if key in node.kwargs:
            return node.kwargs[key]
    return node.args[1] if len(node.args) > 1 else None


def _param_bytes(calls: TracedCalls, node: fx.Node) -> int:
    if node.op == "call_module":
        parameters = list(calls.module(node).parameters())
    else:
        attribute = calls.attribute(node) if node.op == "get_attr" else None
        parameters = [attribute] if isinstance(attribute, nn.Parameter) else []
    return sum(p.numel() * p.element_size() for p in parameters)


def _kind(calls: TracedCalls, node: fx.Node, members: Sequence[fx.Node]) -> str:
    """The kind of the call that does the layer's work."""
    if node.op == "placeholder":
        return "input"
    work = [
        member
        for member in members
        if calls.roles[member] != "constant" and not calls.one[member].is_view
    ]
    if not work:
        return "view"
    main = max(work, key=lambda member: calls.one[member].flops)
    name = calls.callee(main)
    for pattern, kind in _KINDS:
        if re.search(pattern, name):
            return "depthwise" if kind == "conv" and _is_depthwise(calls, main) else kind
    return "other" if calls.one[main].flops else "elementwise"


def _is_depthwise(calls: TracedCalls, node: fx.Node) -> bool:
    """Whether each output channel of a convolution reads a single one of several channels."""
    if node.op == "call_module":
        weight = getattr(calls.module(node), "weight", None)
        shape = tuple(weight.shape) if isinstance(weight, Tensor) else None
    else:
        tensors = [calls.one[source].shape for source in node.all_input_nodes]
        shape = tensors[1] if len(tensors) > 1 else None
    channels = calls.one[node.all_input_nodes[0]].shape
    return bool(shape and channels and len(shape) > 1 and shape[1] == 1 and channels[1] > 1)
