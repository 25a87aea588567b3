"""Trained exit heads by what they were trained from: found on disk, or made now.

In: weights, layers, data, settings. Out: a key that tells one set of heads from another without
importing torch, and the heads on demand.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coach_exp.learning.array_cache import digest
from coach_exp.learning.training import Training
from coach_exp.learning.video import VideoDataset
from coach_exp.learning.weights import Weights
from coach_exp.types import exits

if TYPE_CHECKING:
    from coach_exp.live.exit_heads import ExitHeads
    from coach_exp.profiling.capture import CapturedModel

MODULES = ("exit_heads.py", "exit_fitting.py")
SOURCES = (Path(exits.__file__), *(Path(__file__).with_name(name) for name in MODULES))


@dataclass(frozen=True, eq=False)
class ExitTraining:
    """What heads are fitted to (`train`), what tells how sure they are (`calib`), and how."""

    train: VideoDataset
    calib: VideoDataset
    training: Training

    def key(self, weights: Weights, layers: Sequence[str]) -> str:
        """Tells these heads from all others; the order of `layers` makes no difference."""
        return digest(
            weights.fingerprint,
            sorted(layers),
            asdict(self.training),
            self.train.fingerprint,
            self.calib.fingerprint,
            [digest(source.read_bytes()) for source in SOURCES],
        )

    def heads(
        self, weights: Weights, backbone: "CapturedModel", layers: Sequence[str], cache_dir: Path
    ) -> "ExitHeads":
        """The heads behind `layers` of a model with these weights, in eval mode: found under
        `cache_dir`, or trained now.

        Raises GraphError for an unknown layer, DataError when there is too little to train on.
        """
        path = self.checkpoint(weights, layers, cache_dir)
        if not path.is_file():
            from coach_exp.learning.classifier import save_checkpoint
            from coach_exp.live.exit_fitting import fit_heads

            heads, report = fit_heads(backbone, layers, self.train, self.calib, self.training)
            save_checkpoint(heads, report, path)
            return heads
        return load_heads(path, tuple(layers), backbone)

    def checkpoint(self, weights: Weights, layers: Sequence[str], cache_dir: Path) -> Path:
        """Where the heads are, once they are trained."""
        return cache_dir / "exits" / f"heads-{self.key(weights, layers)}.pt"


def load_heads(path: Path, layers: Sequence[str], backbone: "CapturedModel") -> "ExitHeads":
    """Trained heads behind `layers` from their file, in eval mode."""
    import torch

    from coach_exp.live.exit_heads import ExitHeads

    heads = ExitHeads(backbone.graph, layers)
    heads.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state_dict"])
    return heads.eval()
