"""Small layer graphs with times, drawn by hand or at random, for planner and pipeline tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from coach_exp.types.graph import Layer, LayerGraph
from coach_exp.types.method import Link, Problem
from coach_exp.types.profile import DeviceProfile
from coach_exp.types.workload import Workload


@dataclass(frozen=True)
class PlainCodec:
    """Sizes only: `header_bytes` and the packed elements."""

    header_bytes: int = 0

    def expected_bytes(self, elements: int, bits: int, channels: int = 1) -> int:
        return self.header_bytes + ceil(elements * bits / 8)

    def encode(self, tensor, bits):
        raise NotImplementedError

    def decode(self, payload):
        raise NotImplementedError


@dataclass(frozen=True)
class SameBits:
    """Every layer at the same width."""

    width: int = 8

    def bits(self, layer: str) -> int:
        return self.width

    def settle(self, crossing) -> bool:
        return False


def problem(
    inputs: Mapping[str, Sequence[str]],
    end_s: Mapping[str, float],
    cloud_s: Mapping[str, float],
    tensor_s: Mapping[str, float],
    **changes,
) -> Problem:
    """A problem whose tensors take `tensor_s` on the link: 1000 bytes/s, 8 bits, no header."""
    graph = LayerGraph.of(
        Layer(name, tuple(sources), elements=round(1000 * tensor_s.get(name, 0)))
        for name, sources in inputs.items()
    )
    facts = {
        "graph": graph,
        "end": DeviceProfile("end", end_s),
        "cloud": DeviceProfile("cloud", cloud_s),
        "link": Link(bandwidth_bps=8000.0),
        "codec": PlainCodec(),
        "bits": SameBits(),
        "workload": Workload("saturated", tasks=100),
    }
    return Problem(**{**facts, **changes})


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


def random_problem(rng: np.random.Generator, shape: str, size: int, **changes) -> Problem:
    """A random DAG of one of the `SHAPES` with about `size` layers besides the input."""
    inputs = SHAPES[shape](rng, size)
    scale = 10.0 ** rng.integers(-1, 2, size=2)
    zero = rng.random(len(inputs)) < 0.15
    end = rng.random(len(inputs)) * ~zero
    cloud = rng.random(len(inputs)) * scale[0] * (rng.random(len(inputs)) > 0.15)
    send = rng.random(len(inputs)) * scale[1] * 3
    end[0] = cloud[0] = 0
    names = list(inputs)
    return problem(
        inputs,
        dict(zip(names, end.tolist(), strict=True)),
        dict(zip(names, cloud.tolist(), strict=True)),
        dict(zip(names, send.tolist(), strict=True)),
        **changes,
    )


def _chain_shape(rng, size):
    return {str(k): [str(k - 1)] if k else [] for k in range(size + 1)}


def _one_level(rng, size):
    """A chain in which some links are blocks of parallel chains."""
    inputs, last, count = {"0": []}, "0", 1
    while count <= size:
        branches = int(rng.integers(1, 5))
        ends = []
        for _ in range(branches):
            here = last
            for _ in range(int(rng.integers(0 if branches > 1 else 1, 4))):
                inputs[str(count)] = [here]
                here, count = str(count), count + 1
            ends.append(here)
        inputs[str(count)] = list(dict.fromkeys(ends))
        last, count = str(count), count + 1
    return inputs


def _nested(rng, size):
    """Series-parallel by repeated series and parallel splitting of edges."""
    edges = [("in", "out")]
    layers = ["out"]
    while len(layers) < size:
        source, target = edges[int(rng.integers(len(edges)))]
        name = f"n{len(layers)}"
        layers.append(name)
        if rng.random() < 0.5:
            edges.remove((source, target))
        edges += [(source, name), (name, target)]
    inputs = {"in": []}
    for name in layers:
        inputs[name] = sorted({a for a, b in edges if b == name})
    return inputs


def _any_shape(rng, size):
    """Each layer takes some of the earlier ones; loose ends join in the last."""
    inputs = {"0": []}
    for k in range(1, size):
        wanted = rng.choice(k, size=min(k, int(rng.integers(1, 4))), replace=False)
        inputs[str(k)] = sorted(str(i) for i in wanted)
    used = {name for sources in inputs.values() for name in sources}
    inputs[str(size)] = [name for name in inputs if name not in used]
    return inputs


SHAPES = {"chain": _chain_shape, "one_level": _one_level, "nested": _nested, "any": _any_shape}
