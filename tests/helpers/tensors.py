"""Tensors of any scale, and what a grid over one of them must be."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

WIDTHS = st.integers(1, 8)


def tensors(largest=2.0**124, **shape):
    """Finite float32 tensors of any scale, down to subnormal ones."""
    shape = {"min_dims": 0, "max_dims": 4, "min_side": 0, "max_side": 5} | shape
    values = st.floats(-largest, largest, width=32)
    near = st.floats(-4, 4, width=32)
    return st.one_of(
        *(hnp.arrays(np.float32, hnp.array_shapes(**shape), elements=v) for v in (values, near))
    )


def floats(*values):
    return np.array(values, np.float32)


def exact_scale(tensor, bits):
    """The step of a grid over the tensor's range with 0, in float64; at least float32's normal."""
    wide = tensor.astype(np.float64)
    span = wide.max(initial=0) - wide.min(initial=0)
    return max(span / (2**bits - 1), 2.0**-126)
