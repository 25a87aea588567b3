"""Small layer graphs with times, drawn by hand or at random, for planner and pipeline tests."""

from coach_exp.studies.random_graphs import (
    SHAPES,
    PlainCodec,
    SameBits,
    problem,
    random_problem,
)
from coach_exp.types.method import Problem

__all__ = [
    "FIGURE_4_ORDER",
    "SHAPES",
    "PlainCodec",
    "SameBits",
    "chain",
    "diamond",
    "figure_4",
    "problem",
    "random_problem",
]


def chain(end_s, cloud_s, tensor_s, **changes) -> Problem:
    """in → 1 → 2 → …; the lists begin with the input."""
    names = ["in", *map(str, range(1, len(end_s)))]
    inputs = {name: names[k - 1 : k] if k else [] for k, name in enumerate(names)}
    times = (dict(zip(names, list_s, strict=True)) for list_s in (end_s, cloud_s, tensor_s))
    return problem(inputs, *times, **changes)


def diamond(end_s, cloud_s, tensor_s, **changes) -> Problem:
    """in → (light | heavy) → add; times in that order, or one number for all."""
    names = ["in", "light", "heavy", "add"]
    inputs = {"in": [], "light": ["in"], "heavy": ["in"], "add": ["light", "heavy"]}
    times = (
        dict.fromkeys(names, t) if isinstance(t, int | float) else dict(zip(names, t, strict=True))
        for t in (end_s, cloud_s, tensor_s)
    )
    return problem(inputs, *times, **changes)


#            ┌ 2 ── 3 ── 4 ──────┐        Fig. 4: the block between 1 and 8 has two branches, the
#   in ── 1 ─┤  ┌ 5 ┐            8 ── 9   lower of which begins with a block of its own.
#            └──┤   ├─ 7 ────────┘        Sent: 3 (V_0^1), 5 (V_0^2), 6 (V_1^2).
#               └ 6 ┘
def figure_4(**changes) -> Problem:
    names = ["in", *"123456789"]
    inputs = dict(
        zip(names, ["", "in", "1", "2", "3", "1", "1", "5 6", "4 7", "8"], strict=True),
    )
    return problem(
        {name: sources.split() for name, sources in inputs.items()},
        end_s=dict(zip(names, (0, 1, 1, 1, 3, 1, 2, 3, 3, 3), strict=True)),
        cloud_s=dict(zip(names, (0, 1, 1, 1, 1, 1, 1, 2, 1, 1), strict=True)),
        tensor_s=dict(zip(names, (10, 5, 5, 3, 3, 1, 1, 3, 3, 0), strict=True)),
        **changes,
    )


#          0    1    2    3    4    5    6    7    8    9   10   11   12
#   end    |-1--|-2--|-3--|-5--|----6----|
#   link                  |-----V_0^1----|V_0^2V_1^2|
#   cloud                                |-4--|    |----7----|-8--|-9--|
#   T_e = 6, T_t = 5, T_c = 5; T_t^p = 3 (until 6), T_c^p = 1 (layer 4 beside V_0^2)
#   layer 7 waits for both tensors: the bubble from 7 to 8
FIGURE_4_ORDER = ("in", "1", "2", "3", "5", "6")
