"""Which axis of a call's result holds the channels, from what the call does.

In: the call's name, the tensors it reads and the tensor it gives. Out: an axis of the latter.

==========================  ====================================================================
call                        channels of its result
==========================  ====================================================================
a view, reshape             the axis that steps through the elements as the channels did: of a
                            merged axis the whole, of a divided one the innermost part
convolution, batch norm     the second axis (the first behind the batch)
layer norm over one axis,   the last axis
linear, matrix product,
torch's own attention
mean or sum over axes       the axis that is left of the channels
stack                       moved by the new axis
anything else that keeps    as in the input: the first of the result's shape, or else of as many
the number of axes          axes
==========================  ====================================================================
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

_SECOND = re.compile(r"(lazy)?(conv.*|((sync)?batch|group|instance)_?norm.*)")
_LAST = re.compile(
    r"(bi)?linear|matmul|b?mm|(b?add|badd)b?mm|einsum|scaled_dot_product_attention"
    r"|multiheadattention|multi_head_attention_forward|transformer((en|de)coder(layer)?)?"
)
_LAYER_NORM = re.compile(r"(layer|rms)_?norm")
_RESHAPE = re.compile(r"(un)?flatten|reshape|view|(reshape|view)_as")
_REDUCTION = re.compile(r"mean|sum|nansum|prod|a?max|a?min|logsumexp|std|var|median")


@dataclass(frozen=True, slots=True)
class Layout:
    """A tensor of the model, batch axis included; `strides` in elements, `channels` the axis of
    the channels, None where it has none or none is known.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    channels: int | None = None


def channel_axis(
    call: str, told: Any, sources: Sequence[Layout], result: Layout, is_view: bool
) -> int | None:
    """The axis of `result` that holds the channels, None where that cannot be said.

    `call` is the lower-case name of the module or function, `told` the axes or sizes it was given
    (a layer norm's normalised shape, a mean's dimensions), `sources` the tensors that depend on the
    input, in the call's order. `is_view`: the result is the memory of the first source.
    """
    known = [source for source in sources if source.channels is not None]
    if is_view or _RESHAPE.fullmatch(call):
        found = _followed(known[0], result, is_view) if known else None
        return _inherited(known, result) if found is None else found
    if _SECOND.fullmatch(call):
        return 1
    if _LAST.fullmatch(call) or (_LAYER_NORM.fullmatch(call) and len(_numbers(told)) == 1):
        return len(result.shape) - 1
    if known and _REDUCTION.fullmatch(call) and len(result.shape) < len(known[0].shape):
        return _left(known[0], _numbers(told))
    if known and call == "stack":
        return _behind_new_axis(known[0], _numbers(told))
    return _inherited(known, result)


def _followed(source: Layout, result: Layout, is_view: bool) -> int | None:
    """The same elements in the same order of memory: the axis whose steps cover the channels'."""
    steps_in = source.strides if is_view else _row_major(source.shape)
    steps_out = result.strides if is_view else _row_major(result.shape)
    assert source.channels is not None
    size, step = source.shape[source.channels], steps_in[source.channels]
    axes = list(zip(range(len(result.shape)), result.shape, steps_out, strict=True))
    same = [axis for axis, n, each in axes if (n, each) == (size, step)]
    if source.channels in same:  # several only where the channels are one
        return source.channels
    covering = [axis for axis, n, each in axes if each <= step < each * n]
    thinned = [axis for axis, n, each in axes if n > 1 and step < each < step * size]  # every k-th
    return next(iter(same + covering + thinned), None)


def _inherited(known: Sequence[Layout], result: Layout) -> int | None:
    alike = [source for source in known if len(source.shape) == len(result.shape)]
    whole = [source for source in alike if source.shape == result.shape]  # the rest is broadcast
    return next((source.channels for source in whole + alike), None)


def _left(source: Layout, gone: Sequence[int]) -> int | None:
    """Where the channels are once the axes `gone` are."""
    gone = [axis % len(source.shape) for axis in gone]
    if source.channels is None or source.channels in gone or not gone:
        return None
    return source.channels - sum(axis < source.channels for axis in gone)


def _behind_new_axis(source: Layout, told: Sequence[int]) -> int | None:
    new = (told[0] if told else 0) % (len(source.shape) + 1)
    return None if source.channels is None else source.channels + (new <= source.channels)


def _numbers(told: Any) -> list[int]:
    several = told if isinstance(told, tuple | list) else [told]
    return [one for one in several if isinstance(one, int)]


def _row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of a contiguous tensor.

    >>> _row_major((2, 3, 5))
    (15, 5, 1)
    """
    return tuple(accumulate(reversed(shape[1:]), int.__mul__, initial=1))[::-1]
