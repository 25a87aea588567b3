"""What each call of a traced model gives: the model is run once, and noted.

In: a traced model and a batch. Out: a fact about each call, from which its role, its size and its
costs are told.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils.flop_counter import FlopCounterMode

from coach_exp.types.errors import CaptureError


@dataclass(frozen=True, slots=True)
class Fact:
    """What one call gave: for a tensor its layout, for anything without tensors the value. FLOPs
    are 2 for each multiply-add.
    """

    value: Any = None
    holds_tensors: bool = False
    shape: tuple[int, ...] | None = None  # None: not a single float tensor
    strides: tuple[int, ...] = ()
    bytes: int = 0
    flops: int = 0
    is_view: bool = False  # its memory is that of an input: nothing was computed


def record(traced: fx.GraphModule, x: Tensor) -> Mapping[fx.Node, Fact]:
    """A fact about each call of the model run on [batch, *shape]; attention is computed by plain
    matrix products, because the FLOP counter does not see inside a fused one. Raises CaptureError
    naming a call that writes into its input.
    """
    with torch.no_grad(), _unfused_attention(), FlopCounterMode(display=False) as counter:
        recorder = _Recorder(traced, counter)
        recorder.run(x)
    return recorder.facts


class _Recorder(fx.Interpreter):
    """Runs the traced model once and notes a fact about each call."""

    def __init__(self, traced: fx.GraphModule, counter: FlopCounterMode) -> None:
        super().__init__(traced)
        self.extra_traceback = False
        self.facts: dict[fx.Node, Fact] = {}
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
        self.facts[n] = _fact(value, inputs, self._counter.get_total_flops() - before)
        return value


def _fact(value: Any, inputs: list[Tensor], flops: int) -> Fact:
    tensors = _tensors(value)
    if not tensors:
        return Fact(value=value, flops=flops)
    read = {_memory(t) for t in inputs}
    is_float_tensor = isinstance(value, Tensor) and value.is_floating_point()
    return Fact(
        holds_tensors=True,
        shape=tuple(value.shape) if is_float_tensor else None,
        strides=value.stride() if isinstance(value, Tensor) else (),
        bytes=sum(t.numel() * t.element_size() for t in tensors),
        flops=flops,
        is_view=all(_memory(t) in read for t in tensors),
    )


def _tensors(value: Any) -> list[Tensor]:
    """All tensors in a value: itself, or those in its items."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for item in value for t in _tensors(item)] if isinstance(value, tuple | list) else []


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata  # unlike data_ptr(), also distinct on the meta device


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
