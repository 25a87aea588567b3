"""The task feature F: the mean of each channel of the crossing tensors (paper, Eqs. 7-9).

In: one task's crossing tensors and the axis of each that holds its channels. Out: one vector. The
stored answers and a live end compute it with this one function, so that both see the same bits.
"""

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray


def task_feature(
    tensors: Sequence[NDArray[np.float32]], axes: Sequence[int]
) -> NDArray[np.float32]:
    """Means over all but the channel axis, concatenated: [*shape] float32 each -> [channels].

    >>> image = np.array([[[1, 3]], [[5, 7]]], np.float32)  # [channels, height, width]
    >>> tokens = np.array([[0, 1, 2], [4, 5, 6]], np.float32)  # [tokens, channels]
    >>> task_feature([image, tokens], [0, 1])
    array([2., 6., 2., 3., 4.], dtype=float32)
    """
    return np.concatenate(
        [_channel_means(tensor, axis) for tensor, axis in zip(tensors, axes, strict=True)]
    )


def usual_axis(axes: int) -> int:
    """The channel axis of a tensor of which only the number of axes is known: the first, but the
    last of [tokens, channels].
    """
    return 1 if axes == 2 else 0


def _channel_means(tensor: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    plain = np.ascontiguousarray(tensor)  # the order of adding up, so the last bit, depends on it
    before, after = prod(plain.shape[:axis]), prod(plain.shape[axis + 1 :])
    flat = plain.reshape(before, plain.shape[axis], after)
    sums: NDArray[np.float32] = np.einsum("bca->c", flat)  # a third of the time of mean()
    return sums / np.float32(before * after)
