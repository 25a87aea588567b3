"""What an early-exit head costs on this machine.

In: a layer graph, a torch device. Out: seconds of a head behind each layer, its confidence
included. The very module that answers in a run is timed, for one task.
"""

from statistics import median

import torch

from coach_exp.live.exit_heads import ExitHead
from coach_exp.profiling.device import intervals, resolved_device
from coach_exp.types.graph import Layer, LayerGraph

WARMUP = 2  # the first calls pay for memory and caches
REPEATS = 7


def host_exit_s(graph: LayerGraph, torch_device: str = "auto") -> dict[str, float]:
    """Median seconds of a head behind each layer: one measurement for all layers of a shape.

    Raises ConfigError for a device that is not here.
    """
    device, classes = resolved_device(torch_device), graph.sink.elements
    alike = {(layer.shape, layer.channel_axis): layer for layer in graph.layers}
    times = {kind: _median_s(layer, classes, device) for kind, layer in alike.items()}
    return {layer.name: times[layer.shape, layer.channel_axis] for layer in graph.layers}


def _median_s(layer: Layer, classes: int, device: torch.device) -> float:
    head = ExitHead(layer, classes).eval().to(device)
    x = torch.randn(1, *layer.shape).to(device)
    answers = (head.answer(x) for _ in range(WARMUP + REPEATS))
    return median(intervals(device, answers)[WARMUP:])
