"""German traffic signs: tracks of 30 frames of one sign as a car nears it (Stallkamp et al. 2012).

In: a folder in torchvision's layout, `<root>/gtsrb/GTSRB/Training/<class>/<track>_<frame>.ppm`.
Out: the four splits, disjoint by track, each with its share of every class.
"""

import re
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import numpy as np
from pydantic import NonNegativeInt

from coach_exp.learning.array_cache import digest
from coach_exp.learning.decoding import FrameSide, in_order, picture
from coach_exp.learning.dividing import Shares, check_shares, divide, split_by_split
from coach_exp.learning.footage import Clip, Footage
from coach_exp.types.errors import DataError

LAYOUT = "gtsrb/GTSRB/Training/<class, 5 digits>/<track, 5 digits>_<frame, 5 digits>.ppm"
_NAME = re.compile(r"(\d{5})_(\d{5})\.ppm")


@dataclass(frozen=True)
class Gtsrb:
    """Settings: the folder above `gtsrb`, the square size in pixels, and each split's share."""

    root: str | None = None
    download: bool = False
    size: FrameSide = 64
    shares: Shares = field(
        default_factory=lambda: {"train": 0.5, "centres": 0.1, "calib": 0.2, "stream": 0.2}
    )
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        check_shares(self.shares)

    def fingerprint(self) -> str:
        """Hash of the settings and of the files' names and sizes."""
        files = [(p.label, p.path.name, p.path.stat().st_size) for p in listing(self)]
        return digest(replace(self, root=None, download=False), files)

    def read(self) -> Footage:
        """A clip for every track; files are decoded and resized as the clips are taken."""
        pictures = listing(self)
        tracks = [list(group) for _, group in groupby(pictures, lambda p: (p.label, p.track))]
        split = divide(np.array([track[0].label for track in tracks]), self.shares, self.seed)

        def clip(number: int) -> Clip:
            track = tracks[number]
            return Clip(
                split=str(split[number]),
                label=track[0].label,
                video=number,
                frame=np.array([p.frame for p in track]),
                frames=np.stack([picture(p.path, self.size, crop=False) for p in track]),
            )

        names = tuple(f"{label:05d}" for label in range(pictures[-1].label + 1))
        return Footage(names, len(tracks), in_order(clip, split_by_split(split).tolist()))


@dataclass(frozen=True, order=True)
class Picture:
    """One file and what its name says."""

    label: int
    track: int
    frame: int
    path: Path = field(compare=False)


def listing(settings: Gtsrb) -> list[Picture]:
    """All pictures by class, track and frame; downloads them first if asked.

    Raises DataError when the folder is missing, empty or laid out otherwise.
    """
    if settings.root is None:
        raise DataError(
            "data.root is not set; give the folder that holds gtsrb/, or an empty one with "
            "data.download=true"
        )
    training = Path(settings.root) / "gtsrb" / "GTSRB" / "Training"
    if not training.is_dir() and settings.download:
        _download(Path(settings.root))
    pictures = [
        picture
        for folder in (sorted(training.iterdir()) if training.is_dir() else [])
        if folder.is_dir()
        for picture in _pictures(folder)
    ]
    if not pictures:
        raise DataError(
            f"data.root={settings.root} holds no pictures at {LAYOUT}; point data.root at the "
            "folder above gtsrb/, or download them with data.download=true"
        )
    return sorted(pictures)


def _pictures(folder: Path) -> list[Picture]:
    found = []
    for path in folder.glob("*.ppm"):
        match = _NAME.fullmatch(path.name)
        if match is None or not re.fullmatch(r"\d{5}", folder.name):
            raise DataError(f"{path} does not fit the layout {LAYOUT}; rename or remove it")
        found.append(Picture(int(folder.name), int(match[1]), int(match[2]), path))
    return found


def _download(root: Path) -> None:
    from torchvision.datasets import GTSRB

    try:
        GTSRB(str(root), split="train", download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"GTSRB could not be downloaded to data.root={root}: {error}; check the network, or "
            f"put the pictures at {LAYOUT} yourself"
        ) from error
