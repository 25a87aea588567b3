"""Early-exit heads behind a model's layers.

In: the outputs of some layers. Out: for each a label and how sure the head is of it (SPINN,
Laskaridis et al., MobiCom 2020). `types.exits` counts the costs of the same architecture.
"""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from coach_exp.types.exits import CHANNELS, KERNEL, averaged_sides, image_shape
from coach_exp.types.graph import Layer, LayerGraph


class ExitHead(nn.Module):
    """The head behind one layer: [batch, *layer shape] -> scores [batch, classes]."""

    temperature: Tensor

    def __init__(self, layer: Layer, classes: int) -> None:
        super().__init__()
        self._axis = layer.channel_axis + 1
        self._image, self._sides = image_shape(layer), averaged_sides(layer)
        self.conv = nn.Conv2d(layer.channels, CHANNELS, KERNEL, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(CHANNELS)
        self.scores = nn.Linear(CHANNELS, classes)
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() > 2:
            x = x.movedim(self._axis, 1)
        if tuple(x.shape[1:]) != self._image:
            x = x.reshape(len(x), *self._image)
        if self._image[1:] != self._sides:
            x = nn.functional.adaptive_avg_pool2d(x, self._sides)
        scores: Tensor = self.scores(self.norm(self.conv(x)).relu().mean(dim=(2, 3)))
        return scores

    @torch.no_grad()
    def answer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Labels and confidences, the largest softmax at the head's temperature: [batch] each."""
        confidences, labels = (self(x) / self.temperature).softmax(dim=1).max(dim=1)
        return labels, confidences


class ExitHeads(nn.Module):
    """A head behind each of some layers, which stand in the graph's order."""

    def __init__(self, graph: LayerGraph, layers: Sequence[str]) -> None:
        super().__init__()
        self.layers = tuple(sorted(layers, key=graph.position))
        self.heads = nn.ModuleList(
            ExitHead(graph[layer], graph.sink.elements) for layer in self.layers
        )

    def forward(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """Scores of every head: {layer: [batch, *layer shape]} -> [heads, batch, classes]."""
        return torch.stack([head(outputs[name]) for name, head in self.by_layer()])

    def answers(self, outputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Labels and confidences of the heads whose layers are given, in order: [batch, heads]."""
        said = [head.answer(outputs[name]) for name, head in self.by_layer() if name in outputs]
        labels, confidences = zip(*said, strict=True)
        return torch.stack(labels, dim=1), torch.stack(confidences, dim=1)

    def by_layer(self) -> list[tuple[str, ExitHead]]:
        """Each head with the layer it stands behind, in the graph's order."""
        return list(zip(self.layers, cast(list[ExitHead], list(self.heads)), strict=True))
