"""Small layer graphs with times, drawn by hand or at random, for planner and pipeline tests."""

from coach_exp.studies.random_graphs import (
    SHAPES,
    PlainCodec,
    SameBits,
    problem,
    random_problem,
)
from coach_exp.types.method import Problem

__all__ = ["SHAPES", "PlainCodec", "SameBits", "chain", "diamond", "problem", "random_problem"]


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
