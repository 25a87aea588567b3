"""German traffic signs: tracks of 30 frames of one sign as a car nears it (Stallkamp et al. 2012).

In: a folder in torchvision's layout, `<root>/gtsrb/GTSRB/Training/<class>/<track>_<frame>.ppm`.
Out: the four splits, disjoint by track, each with its share of every class.
"""

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coach_exp.learning.video import SPLIT_NAMES, Splits, VideoDataset
from coach_exp.types.errors import ConfigError, DataError

LAYOUT = "gtsrb/GTSRB/Training/<class, 5 digits>/<track, 5 digits>_<frame, 5 digits>.ppm"
SCARCE_FIRST = ("train", "stream", "calib", "centres")  # who gets a class's few tracks
_NAME = re.compile(r"(\d{5})_(\d{5})\.ppm")


@dataclass(frozen=True)
class Gtsrb:
    """Settings: the folder above `gtsrb`, the square size in pixels, and each split's share."""

    root: str | None = None
    download: bool = False
    size: int = 64
    shares: Mapping[str, float] = field(
        default_factory=lambda: {"train": 0.5, "centres": 0.1, "calib": 0.2, "stream": 0.2}
    )
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size < 16:
            raise ConfigError(f"data.size={self.size}: images have at least 16 pixels a side")
        if set(self.shares) != set(SPLIT_NAMES) or min(self.shares.values()) <= 0:
            raise ConfigError(
                f"data.shares={dict(self.shares)}: give each of {', '.join(SPLIT_NAMES)} a "
                "positive share"
            )


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


def fingerprint(pictures: Sequence[Picture]) -> str:
    """Hash of the files' names and sizes, for the cache."""
    digest = blake2b(digest_size=12)
    for p in pictures:
        digest.update(f"{p.label}/{p.path.name}:{p.path.stat().st_size}\n".encode())
    return digest.hexdigest()


def read(pictures: Sequence[Picture], settings: Gtsrb) -> Splits:
    """Decode and resize all pictures and divide the tracks among the splits."""
    keys = np.array([(p.label, p.track, p.frame) for p in pictures])
    _, first, track = np.unique(keys[:, :2], axis=0, return_index=True, return_inverse=True)
    split_of_track = divide(keys[first, 0], settings.shares, settings.seed)
    split = split_of_track[track]
    order = np.argsort(split, kind="stable")  # each split is a slice, in dataset order
    frames = np.empty((len(order), settings.size, settings.size, 3), np.uint8)

    def decode(place: int) -> None:
        frames[place] = _decode(pictures[order[place]].path, settings.size)

    with ThreadPoolExecutor() as threads:
        list(threads.map(decode, range(len(order)), chunksize=64))
    names = tuple(f"{c:05d}" for c in range(int(keys[:, 0].max()) + 1))
    everything = VideoDataset(frames, keys[order, 0], track[order], keys[order, 2], names)
    bounds = np.searchsorted(split[order], range(len(SPLIT_NAMES) + 1))
    return Splits(*(everything.subset(slice(a, b)) for a, b in pairwise(bounds)))


def divide(labels: NDArray[np.int64], shares: Mapping[str, float], seed: int) -> NDArray[np.int64]:
    """Split number of each track, from the label of each: every class is shared out alike.

    Largest remainders, but a class of at least as many tracks as splits appears in all of them. A
    class with fewer serves the splits in the order of SCARCE_FIRST.
    """
    rng = np.random.default_rng(seed)
    share = np.array([shares[name] for name in SPLIT_NAMES]) / sum(shares.values())
    split = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        tracks = rng.permutation(np.flatnonzero(labels == label))
        split[tracks] = np.repeat(np.arange(len(share)), _apportion(len(tracks), share))
    return split


def _apportion(tracks: int, share: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many of a class's tracks each split gets.

    >>> _apportion(10, np.array([0.5, 0.1, 0.2, 0.2])).tolist()
    [5, 1, 2, 2]
    >>> _apportion(4, np.array([0.5, 0.1, 0.2, 0.2])).tolist()
    [1, 1, 1, 1]
    >>> _apportion(2, np.array([0.5, 0.1, 0.2, 0.2])).tolist()
    [1, 0, 0, 1]
    """
    scarce = [SPLIT_NAMES.index(name) for name in SCARCE_FIRST]
    count = np.zeros(len(share), np.int64)
    count[scarce[:tracks]] = 1
    for _ in range(tracks - int(count.sum())):
        count[np.argmax(share * tracks - count)] += 1
    return count


def _pictures(folder: Path) -> list[Picture]:
    found = []
    for path in folder.glob("*.ppm"):
        match = _NAME.fullmatch(path.name)
        if match is None or not re.fullmatch(r"\d{5}", folder.name):
            raise DataError(f"{path} does not fit the layout {LAYOUT}; rename or remove it")
        found.append(Picture(int(folder.name), int(match[1]), int(match[2]), path))
    return found


def _decode(path: Path, size: int) -> NDArray[np.uint8]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            picture = image.convert("RGB")
            if picture.size != (size, size):
                picture = picture.resize((size, size), Image.Resampling.BILINEAR)
            return np.asarray(picture)
    except OSError as error:
        raise DataError(f"{path} cannot be read as a picture: {error}; replace it") from error


def _download(root: Path) -> None:
    from torchvision.datasets import GTSRB

    try:
        GTSRB(str(root), split="train", download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"GTSRB could not be downloaded to data.root={root}: {error}; check the network, or "
            f"put the pictures at {LAYOUT} yourself"
        ) from error
