"""A small network with two branches, its cuts, and exit heads that were never trained."""

from dataclasses import dataclass

import torch
from torch import nn

from coach_exp.learning.models import ModelSpec
from coach_exp.learning.weights import Weights
from coach_exp.live.exit_heads import ExitHeads
from coach_exp.quant.affine import UniformAffine
from coach_exp.types.outcomes import Crossing

SAMPLES = 12  # frames that are classified
CODEC = UniformAffine()


class Branches(nn.Module):
    """Two branches that are joined.

    in ─ stem ─ relu ┬ left ──┬ cat ─ pool ─ flatten ─ scores
                     └ right ─┘
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2)
        self.relu = nn.ReLU()
        self.left = nn.Conv2d(6, 4, 3, padding=1)
        self.right = nn.Conv2d(6, 5, 1)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.scores = nn.Linear(36, num_classes)

    def forward(self, x):
        x = self.relu(self.stem(x))
        x = torch.cat([self.left(x), self.right(x)], dim=1)
        return self.scores(self.pool(x).flatten(1))


SPEC = ModelSpec(f"{__name__}.Branches", input_size=16)
STEM = (Crossing("relu", 4),)
BOTH = (Crossing("right", 8), Crossing("left", 4))
HEADS = ("right", "cat")
WEIGHTS = Weights(SPEC, 20, "none", "branches")


def heads_of(model) -> ExitHeads:
    """Heads that were never trained: their answers differ by sample all the same."""
    torch.manual_seed(5)
    return ExitHeads(model.graph, HEADS).eval()


@dataclass(frozen=True)
class Untrained:
    """Stands for a training of heads."""

    def key(self, weights, layers):
        return "untrained"

    def heads(self, weights, backbone, layers, cache_dir):
        return heads_of(backbone)
