"""From the calls of a traced model to a program that runs any part of them.

In: the calls with their roles. Out: a `Program`, in which the structure of every call's arguments
is compiled once, and sizes are written in as multiples of the batch.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from coach_exp.profiling.program import Call, Program, Values
from coach_exp.profiling.roles import TracedCalls
from coach_exp.types.errors import CaptureError

_Reader = Callable[[Values, int], Any]


def compiled(calls: TracedCalls) -> Program:
    """The program of a traced model. Raises CaptureError for a number that depends on more than a
    tensor's shape.
    """
    names = calls.layers
    return Program(
        calls=tuple(_call(calls, node) for node in calls.live),
        places={name: calls.places[node] for node, name in names.items()},
        wires={name: calls.wire(node) for node, name in names.items()},
        sink=list(names.values())[-1],
    )


def _call(calls: TracedCalls, node: fx.Node) -> Call:
    reads = tuple(calls.places[source] for source in calls.sources(node))
    if node.op == "placeholder":
        return Call(lambda values, batch: values[0], ())
    if node.op == "get_attr":
        attribute = calls.attribute(node)
        return Call(lambda values, batch: attribute, ())
    function = _function(calls, node)
    reads_one_alone = not node.kwargs and len(node.args) == 1 and len(reads) == 1
    if reads_one_alone and node.args[0] in calls.places:
        (place,) = reads
        return Call(lambda values, batch: function(values[place]), reads)
    args, kwargs = _reader(calls, node.args), _reader(calls, node.kwargs)
    return Call(
        lambda values, batch: function(*args(values, batch), **kwargs(values, batch)), reads
    )


def _function(calls: TracedCalls, node: fx.Node) -> Callable[..., Any]:
    if node.op == "call_module":
        return calls.module(node)
    if node.op == "call_method":
        return getattr(torch.Tensor, str(node.target))
    assert callable(node.target)
    return node.target


def _reader(calls: TracedCalls, arg: Any) -> _Reader:
    """A function that finds the value of a call's argument, compiled from its structure."""
    nodes: list[fx.Node] = []
    fx.node.map_arg(arg, nodes.append)
    if not nodes:
        return lambda values, batch: arg
    if isinstance(arg, fx.Node):
        return _node_reader(calls, arg)
    if isinstance(arg, slice):
        bounds = _reader(calls, (arg.start, arg.stop, arg.step))
        return lambda values, batch: slice(*bounds(values, batch))
    if isinstance(arg, dict):
        entries = [(key, _reader(calls, value)) for key, value in arg.items()]
        return lambda values, batch: {key: read(values, batch) for key, read in entries}
    parts = [_reader(calls, part) for part in arg]
    sequence = tuple if isinstance(arg, tuple) else list
    return lambda values, batch: sequence([read(values, batch) for read in parts])


def _node_reader(calls: TracedCalls, node: fx.Node) -> _Reader:
    if calls.roles[node] != "size":
        place = calls.places[node]
        return lambda values, batch: values[place]
    return _size_reader(node, calls.one[node].value, calls.two[node].value)


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
