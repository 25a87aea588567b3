"""The role of each call of a traced model, and the names of its layers.

In: a traced model and the facts of its calls for one task and for two. Out: the calls that the
scores depend on, each with one of four roles:

=========  ======================================================================================
layer      its result is a float tensor that holds each task along one axis: it can be cut
helper     depends on the input but is no such tensor (the tuple of a chunk, a mask): made by the
           side that reads it, from layers that are there
constant   does not depend on the input (position embeddings): made by the side that reads it
size       no tensor at all: a number, written into the calls, a multiple of the batch where the
           number of tasks enters
=========  ======================================================================================
"""

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from torch import fx, nn

from coach_exp.profiling.program import Wire
from coach_exp.profiling.recording import Fact
from coach_exp.types.errors import CaptureError

INPUT = "input"

Role = Literal["layer", "helper", "constant", "size"]
Facts = Mapping[fx.Node, Fact]


@dataclass(frozen=True)
class TracedCalls:
    """The calls of a traced model: `one` and `two` are their facts for one task and for two, `live`
    are those that the scores depend on, in order, the input first.
    """

    traced: fx.GraphModule
    one: Facts
    two: Facts
    roles: Mapping[fx.Node, Role]
    live: tuple[fx.Node, ...]

    @staticmethod
    def of(traced: fx.GraphModule, one: Facts, two: Facts) -> "TracedCalls":
        """The calls with their roles. Raises CaptureError for a model that does not return one
        tensor of scores with a row per task.
        """
        roles: dict[fx.Node, Role] = {}
        for node in traced.graph.nodes:
            if node.op != "output":
                roles[node] = _role(node, roles, one[node], two[node])
        return TracedCalls(traced, one, two, roles, _ancestors_of_output(traced, roles))

    @cached_property
    def places(self) -> Mapping[fx.Node, int]:
        """Where each live call stands in the order."""
        return {node: i for i, node in enumerate(self.live)}

    @cached_property
    def layers(self) -> Mapping[fx.Node, str]:
        """The layers by the model's own names: a module's path, or the path of the module that
        makes the call and what it calls; a second call gets _1.
        """
        names: dict[fx.Node, str] = {}
        used = set[str]()
        for node in self.live:
            if self.roles[node] == "layer":
                base = name = INPUT if node.op == "placeholder" else _path(node)
                count = 0
                while name in used:
                    count += 1
                    name = f"{base}_{count}"
                used.add(name)
                names[node] = name
        return names

    def sources(self, node: fx.Node) -> list[fx.Node]:
        """The calls whose results this one reads, sizes aside."""
        return _sources(node, self.roles)

    def layers_read(self, node: fx.Node) -> list[fx.Node]:
        """The layers that a call reads, directly or through helpers, in the order of the call."""
        found: dict[fx.Node, None] = {}
        for source in self.sources(node):
            if self.roles[source] == "layer":
                found[source] = None
            elif self.roles[source] == "helper":
                found.update(dict.fromkeys(self.layers_read(source)))
        return list(found)

    def wire(self, node: fx.Node) -> Wire:
        """How the result of a layer crosses."""
        axis = _batch_axis(self.one[node], self.two[node])
        shape = self.one[node].shape
        assert axis is not None, f"{node} is no layer"
        assert shape is not None, f"{node} is no layer"
        per_task = shape[axis]
        rest = shape[:axis] + shape[axis + 1 :]
        strides = self.two[node].strides
        return Wire(
            shape=rest if per_task == 1 else (per_task, *rest),
            axis=axis,
            per_task=per_task,
            order=tuple(sorted(range(len(shape)), key=lambda i: -strides[i])),
        )

    def module(self, node: fx.Node) -> nn.Module:
        """The submodule that a call_module calls."""
        return self.traced.get_submodule(str(node.target))

    def attribute(self, node: fx.Node) -> Any:
        """What a get_attr reads."""
        return operator.attrgetter(str(node.target))(self.traced)

    def callee(self, node: fx.Node) -> str:
        """The name of the module's class or of the function that is called, in lower case."""
        if node.op == "call_module":
            return type(self.module(node)).__name__.lower()
        return _called(node).lower()


def _role(node: fx.Node, roles: Mapping[fx.Node, Role], one: Fact, two: Fact) -> Role:
    if node.op == "placeholder":
        return "layer"
    if not one.holds_tensors:
        return "size"
    if not any(roles[source] in ("layer", "helper") for source in node.all_input_nodes):
        return "constant"
    return "helper" if _batch_axis(one, two) is None else "layer"


def _batch_axis(one: Fact, two: Fact) -> int | None:
    """The one axis that is twice as long for two tasks as for one."""
    if one.shape is None or two.shape is None or len(one.shape) != len(two.shape):
        return None
    changed = [i for i, (a, b) in enumerate(zip(one.shape, two.shape, strict=True)) if a != b]
    if len(changed) != 1:
        return None
    (axis,) = changed
    return axis if two.shape[axis] == 2 * one.shape[axis] else None


def _sources(node: fx.Node, roles: Mapping[fx.Node, Role]) -> list[fx.Node]:
    return [source for source in node.all_input_nodes if roles[source] != "size"]


def _ancestors_of_output(
    traced: fx.GraphModule, roles: Mapping[fx.Node, Role]
) -> tuple[fx.Node, ...]:
    """The calls that the scores depend on, in order; the input first."""
    nodes: list[fx.Node] = list(traced.graph.nodes)
    scores = nodes[-1].args[0]
    if not isinstance(scores, fx.Node) or roles[scores] != "layer":
        raise CaptureError(
            f"the model returns {scores!r}, not one tensor of scores that depends on the input "
            "and has a row per task; wrap it in a module that returns the scores alone"
        )
    live = {scores}
    for node in reversed(nodes[:-1]):
        if node in live:
            live.update(_sources(node, roles))
    return tuple(node for node in nodes if node in live)


def _path(node: fx.Node) -> str:
    """`layer1.0.conv1` for a module, `layer1.0.add` for a function called inside `layer1.0`."""
    if node.op == "call_module":
        return str(node.target)
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return f"{stack[-1][0]}.{_called(node)}" if stack else _called(node)


def _called(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", node.target))
