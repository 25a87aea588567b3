"""Random planning problems: layer graphs of four shapes with random times and tensor sizes.

In: a NumPy generator, a shape, a size. Out: a `Problem`. Its codec knows sizes alone and nothing is
searched, so it can be planned but not run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coach_exp.types.graph import Layer, LayerGraph
from coach_exp.types.method import Link, Problem
from coach_exp.types.profile import DeviceProfile
from coach_exp.types.workload import Workload

Inputs = dict[str, list[str]]  # of each layer, by name; the first is the raw input
BYTES_PER_S = 1000


@dataclass(frozen=True)
class PlainCodec:
    """Sizes only: `header_bytes` and the packed elements. Raises NotImplementedError when asked for
    the bytes themselves."""

    header_bytes: int = 0

    def expected_bytes(self, elements: int, bits: int, rows: int = 1) -> int:
        """The header and the elements without gaps."""
        return self.header_bytes + ceil(elements * bits / 8)

    def encode(self, tensor: NDArray[np.float32], bits: int) -> bytes:
        """There are no tensors."""
        raise NotImplementedError

    def decode(self, payload: bytes) -> NDArray[np.float32]:
        """There are no tensors."""
        raise NotImplementedError

    def shape(self, payload: bytes) -> tuple[int, ...]:
        """There are no tensors."""
        raise NotImplementedError


@dataclass(frozen=True)
class SameBits:
    """Every layer at the same width, the input included."""

    width: int = 8

    def bits(self, layer: str) -> int:
        """The one width."""
        return self.width

    def fresh(self) -> "SameBits":
        """The same: there is nothing to forget."""
        return self

    def settle(self, crossing: Sequence[str]) -> bool:
        """Nothing is searched, so nothing changes."""
        return False


def problem(
    inputs: Mapping[str, Sequence[str]],
    end_s: Mapping[str, float],
    cloud_s: Mapping[str, float],
    tensor_s: Mapping[str, float],
    **changes: Any,
) -> Problem:
    """A problem whose tensors take `tensor_s` on the link: 1000 bytes/s, 8 bits, no header.

    `changes` replaces fields of the Problem.
    """
    graph = LayerGraph.of(
        Layer(name, tuple(sources), elements=round(BYTES_PER_S * tensor_s.get(name, 0)))
        for name, sources in inputs.items()
    )
    facts: dict[str, Any] = {
        "graph": graph,
        "end": DeviceProfile("end", end_s),
        "cloud": DeviceProfile("cloud", cloud_s),
        "link": Link(bandwidth_bps=8.0 * BYTES_PER_S),
        "codec": PlainCodec(),
        "bits": SameBits(),
        "workload": Workload("saturated", tasks=100),
    }
    return Problem(**{**facts, **changes})


def random_problem(rng: np.random.Generator, shape: str, size: int, **changes: Any) -> Problem:
    """A random DAG of one of the `SHAPES` with about `size` layers besides the input. Its cloud and
    its link are slower than its end, as fast, or faster; some layers take no time on a side. Where
    something is decided at the cut, that takes time for most tensors.
    """
    inputs = SHAPES[shape](rng, size)
    scale = 10.0 ** rng.integers(-1, 2, size=2)
    zero = rng.random(len(inputs)) < 0.15
    end = rng.random(len(inputs)) * ~zero
    cloud = rng.random(len(inputs)) * scale[0] * (rng.random(len(inputs)) > 0.15)
    send = rng.random(len(inputs)) * scale[1] * 3
    end[0] = cloud[0] = 0
    deciding = 0.3 * rng.random(len(inputs)) * (rng.random(len(inputs)) > 0.3)
    end_s, cloud_s, send_s, decision_s = (
        dict(zip(inputs, drawn.tolist(), strict=True)) for drawn in (end, cloud, send, deciding)
    )
    device = DeviceProfile("end", end_s, decision_s=decision_s)
    return problem(inputs, end_s, cloud_s, send_s, **{"end": device, **changes})


def _chain(rng: np.random.Generator, size: int) -> Inputs:
    return {str(k): [str(k - 1)] if k else [] for k in range(size + 1)}


def _one_level(rng: np.random.Generator, size: int) -> Inputs:
    """A chain in which some links are blocks of parallel chains."""
    inputs: Inputs = {"0": []}
    last, count = "0", 1
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


def _nested(rng: np.random.Generator, size: int) -> Inputs:
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
    inputs: Inputs = {"in": []}
    for name in layers:
        inputs[name] = sorted({a for a, b in edges if b == name})
    return inputs


def _any(rng: np.random.Generator, size: int) -> Inputs:
    """Each layer takes some of the earlier ones; loose ends join in the last."""
    inputs: Inputs = {"0": []}
    for k in range(1, size):
        wanted = rng.choice(k, size=min(k, int(rng.integers(1, 4))), replace=False)
        inputs[str(k)] = sorted(str(i) for i in wanted)
    used = {name for sources in inputs.values() for name in sources}
    inputs[str(size)] = [name for name in inputs if name not in used]
    return inputs


Shape = Callable[[np.random.Generator, int], Inputs]
SHAPES: dict[str, Shape] = {
    "chain": _chain,
    "one_level": _one_level,
    "nested": _nested,
    "any": _any,
}
