"""From a torch module to its torch.fx graph, ready to be cut.

In: a module in eval mode. Out: a graph of calls in which nothing is computed in place, so that no
call overwrites a tensor that is still to be sent. What torch.fx cannot follow is refused with the
line of the model that it could not follow.
"""

import inspect
import linecache
import operator
import os
import traceback
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from coach_exp.types.errors import CaptureError

_LIBRARY = str(Path(torch.__file__).parent) + os.sep
_WAY_OUT = (
    "torch.fx records one pass through forward(), so nothing there may branch, loop or call int() "
    "on the values of a tensor. Move that code into a submodule and name it in `leaves` (it "
    "becomes one layer), or into a function that is registered with torch.fx.wrap, or give the "
    "layers in a file (model=dag_file)"
)


def trace(module: nn.Module, leaves: Collection[str] = ()) -> fx.GraphModule:
    """The calls of `module`, traced at module level, all of them out of place.

    `leaves` are paths or class names of submodules that stay one call each. Switches the
    `inplace` flags of `module` off. Raises CaptureError naming the source line that cannot be
    traced.
    """
    _check_leaves(module, leaves)
    defaults = {p.name: p.default for p in _parameters(module)[1:]}
    try:
        graph = _Tracer(leaves).trace(module, concrete_args=defaults or None)
    except Exception as error:
        raise CaptureError(
            f"{type(module).__name__} cannot be traced{source_line(error)}: {error}. {_WAY_OUT}"
        ) from error
    traced = fx.GraphModule(module, graph)
    _out_of_place(traced)
    return traced


def check_single_input(module: nn.Module) -> None:
    """Raises CaptureError unless forward() can be called with one tensor; its other arguments keep
    their defaults.
    """
    required = [p.name for p in _parameters(module) if p.default is p.empty]
    if not _parameters(module) or len(required) > 1:
        raise CaptureError(
            f"{type(module).__name__}.forward() requires {required}, but a model is called with "
            "one tensor; wrap it in a module whose forward() takes the input alone"
        )


def source_line(error: BaseException) -> str:
    """` at file.py:12, in the line "..."`: where the user's code was when `error` was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    here = str(Path(__file__).parent)
    theirs = [f for f in frames if not f.filename.startswith((_LIBRARY, here, "<"))]
    if not theirs:
        return ""
    frame = theirs[-1]
    line = frame.line or linecache.getline(frame.filename, frame.lineno or 0).strip()
    return f' at {frame.filename}:{frame.lineno}, in the line "{line}"'


class _Tracer(fx.Tracer):
    def __init__(self, leaves: Collection[str]) -> None:
        super().__init__()
        self._leaves = frozenset(leaves)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        named = self._leaves & {module_qualified_name, type(m).__name__}
        return bool(named) or super().is_leaf_module(m, module_qualified_name)


def _check_leaves(module: nn.Module, leaves: Collection[str]) -> None:
    known = {name for path, part in module.named_modules() for name in (path, type(part).__name__)}
    unknown = sorted(set(leaves) - known)
    if unknown:
        raise CaptureError(
            f"leaves {unknown} name no submodule of {type(module).__name__}; a leaf is a path such "
            "as 'layer1.0' or a class name such as 'BasicBlock'"
        )


def _parameters(module: nn.Module) -> list[inspect.Parameter]:
    return [
        p
        for p in inspect.signature(module.forward).parameters.values()
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]


def _out_of_place(traced: fx.GraphModule) -> None:
    """Give every in-place call a result of its own, which later calls read instead.

    `relu_(x); f(x)` becomes `y = relu(x); f(y)`: the same values, and x stays what it was.
    """
    seen: set[fx.Node] = set()
    for node in traced.graph.nodes:
        seen.add(node)
        if node.args and isinstance(node.args[0], fx.Node) and _made_out_of_place(node, traced):
            node.args[0].replace_all_uses_with(node, lambda user: user not in seen)
    modules: Iterable[Any] = traced.modules()
    for module in modules:
        if isinstance(getattr(module, "inplace", None), bool):
            module.inplace = False
    traced.recompile()


def _made_out_of_place(node: fx.Node, traced: fx.GraphModule) -> bool:
    """Rewrite `node` if it works in place; whether it did."""
    if node.op == "call_module":
        return getattr(traced.get_submodule(str(node.target)), "inplace", False) is True
    if node.kwargs.get("inplace") is True:
        node.kwargs = {**node.kwargs, "inplace": False}
        return True
    if node.op == "call_method":
        name = str(node.target)
        if name.endswith("_") and not name.endswith("__") and hasattr(torch.Tensor, name[:-1]):
            node.target = name[:-1]
            return True
    if node.op == "call_function":
        twin = _twin(node.target)
        if twin is not None:
            node.target = twin
            return True
    return False


def _twin(function: Any) -> Callable[..., Any] | None:
    """The out-of-place function that computes the same: torch.relu for torch.relu_, operator.add
    for operator.iadd.
    """
    name = getattr(function, "__name__", "")
    if function is getattr(operator, name, None) and name.startswith("i"):
        for base in (name[1:], name[1:] + "_"):  # iadd -> add, iand -> and_
            if f"__{name}__" in dir(operator) and hasattr(operator, base):
                return getattr(operator, base)
    if name.endswith("_") and not name.endswith("__"):
        for home in (torch, nn.functional):
            if function is getattr(home, name, None) and hasattr(home, name[:-1]):
                return getattr(home, name[:-1])
    return None
