"""What a decision costs on this machine: feature, similarities, separability, bits, packing.

In: a layer graph and a codec. Out: seconds for each layer, should its output cross. The very
functions that decide in a run are timed, on one thread, with tensors of the layers' shapes.
"""

from collections.abc import Callable, Iterable
from statistics import median
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from coach_exp.online.scheduler import eq11, permitted
from coach_exp.online.semantic_cache import SemanticCache
from coach_exp.types.feature import task_feature
from coach_exp.types.graph import Layer, LayerGraph
from coach_exp.types.online import Centres, Rung
from coach_exp.types.outcomes import Codec

BITS = 4  # packing takes about as long at every width
REPEATS = 7


def host_decision_s(graph: LayerGraph, codec: Codec) -> dict[str, float]:
    """Median seconds of deciding about and packing each layer's output: one measurement for all
    layers of a shape."""
    labels = graph.sink.elements
    shapes = {layer.shape: layer for layer in graph.layers if layer.shape}
    times = {shape: _median_s(decision(layer, labels, codec)) for shape, layer in shapes.items()}
    return {layer.name: times.get(layer.shape, 0.0) for layer in graph.layers}


def crossing_decision_s(layers: Iterable[Layer], labels: int, codec: Codec) -> float:
    """Median seconds of deciding about and packing some tensors together."""
    return sum(_median_s(decision(layer, labels, codec)) for layer in layers if layer.shape)


def decision(layer: Layer, labels: int, codec: Codec) -> Callable[[], bytes]:
    """One whole decision on a tensor of the layer's shape against `labels` centres, which ends in
    the packed payload."""
    rng = np.random.default_rng(0)
    tensor = rng.standard_normal(layer.shape, np.float32)
    centres = rng.standard_normal((labels, layer.channels))
    cache = SemanticCache(Centres(centres, np.ones(labels, np.int64)))
    rungs = [Rung(bits, (bits,), bits * layer.elements // 8) for bits in range(2, 9)]

    def decide() -> bytes:
        feature: NDArray[np.float32] = task_feature([tensor], [layer.channel_axis])
        _, separability = cache.match(feature)
        eq11(permitted(rungs, separability), 2e7, 0.01)
        return codec.encode(tensor, BITS)

    return decide


def _median_s(work: Callable[[], object]) -> float:
    work()  # the first call pays for memory and caches
    times = []
    for _ in range(REPEATS):
        began = perf_counter()
        work()
        times.append(perf_counter() - began)
    return median(times)
