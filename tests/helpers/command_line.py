"""The command line as a user types it, and settings that keep it short."""

import subprocess
import sys
from pathlib import Path

from helpers.paths import ROOT
from helpers.store import lay_out

LITTLE_VIDEO = (  # generated data and a training that take a second
    *("data.classes=3", "data.frames=6", "data.videos.train=6", "data.videos.centres=2"),
    *("data.videos.calib=3", "data.videos.stream=3", "data.size=32"),
    *("training.epochs=1", "training.batch_size=8"),
)


def command(root: Path, *overrides: str) -> list[str]:
    """What is typed, to leave everything under `root`."""
    if not any(each.startswith("tracking") for each in overrides):
        lay_out(root)
    return [sys.executable, str(ROOT / "run.py"), *overrides, f"output.root={root}"]


def typed(root: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, once it has ended."""
    given = command(root, *overrides)
    return subprocess.run(given, cwd=ROOT, capture_output=True, text=True, timeout=120)
