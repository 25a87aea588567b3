"""Photographs in folders of their classes, as of ImageNet-100, and a stream with a long tail.

In: a folder in ImageFolder's layout, `<root>/train/<class>/<image>`. Out: the four splits, each
with its share of every class; every image is a video of its own. Common classes get many images of
the stream and rare ones few (paper section IV-A); the other splits stay balanced as they are.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt

from coach_exp.learning.array_cache import digest
from coach_exp.learning.decoding import FrameSide, in_order, picture
from coach_exp.learning.dividing import Shares, check_shares, divide, split_by_split
from coach_exp.learning.footage import Clip, Footage
from coach_exp.types.errors import ConfigError, DataError

LAYOUT = "train/<class>/<image>"
SUFFIXES = {".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".webp", ".tif", ".tiff"}


@dataclass(frozen=True)
class ImageNet100:
    """Settings: the folder above `train`, the square size in pixels, and each split's share.

    `imbalance` is the number of images of the stream's most common class over that of its rarest; 1
    leaves the stream as it is.
    """

    root: str | None = None
    size: FrameSide = 64
    shares: Shares = field(
        default_factory=lambda: {"train": 0.5, "centres": 0.1, "calib": 0.2, "stream": 0.2}
    )
    imbalance: Annotated[float, Field(ge=1)] = 10.0
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        check_shares(self.shares)

    def fingerprint(self) -> str:
        """Hash of the settings and of the files' names and sizes."""
        folder, classes = _listing(self)
        files = [
            (str(path.relative_to(folder)), path.stat().st_size)
            for paths in classes.values()
            for path in paths
        ]
        return digest(replace(self, root=None), files)

    def read(self) -> Footage:
        """A clip of one frame for every image that is kept, decoded as the clips are taken."""
        _, classes = _listing(self)
        images = [(label, path) for label, paths in enumerate(classes.values()) for path in paths]
        labels = np.array([label for label, _ in images])
        split = divide(labels, self.shares, self.seed)
        stream = np.flatnonzero(split == "stream")
        kept = stream[long_tail(labels[stream], self.imbalance, self.seed)]
        numbers = [n for n in split_by_split(split) if split[n] != "stream"] + kept.tolist()

        def clip(number: int) -> Clip:
            label, path = images[number]
            frames = picture(path, self.size, crop=True)[None]
            return Clip(str(split[number]), label, int(number), np.zeros(1, np.int64), frames)

        return Footage(tuple(classes), len(numbers), in_order(clip, numbers))


def long_tail(labels: NDArray[np.int64], imbalance: float, seed: int) -> NDArray[np.int64]:
    """Which samples to keep so that class sizes fall exponentially, in ascending order.

    Of k classes, the one at rank r keeps m · imbalance^(-r / (k - 1)) samples, rounded, as in
    long-tailed benchmarks (Cui et al. 2019); ranks and samples are drawn by `seed`, and m is the
    most that every class can serve. `imbalance` 1 keeps all. Raises ConfigError where less than one
    sample would be left of the rarest class.
    """
    if imbalance == 1:
        return np.arange(len(labels))
    rng = np.random.default_rng((seed, 1))
    order = rng.permutation(np.unique(labels))
    profile = imbalance ** -np.linspace(0, 1, len(order))
    samples = [np.flatnonzero(labels == label) for label in order]
    max_images = min(len(own) / part for own, part in zip(samples, profile, strict=True))
    if max_images < imbalance:
        raise ConfigError(
            f"data.imbalance={imbalance:g}: the most common class of the stream can have "
            f"{max_images:.0f} images, so the rarest would have less than one; use data.imbalance="
            f"{max(int(max_images), 1)} or less, a larger data.shares.stream, or more images"
        )
    counts = np.rint(max_images * profile).astype(int)
    kept = [rng.permutation(own)[:n] for own, n in zip(samples, counts, strict=True)]
    return np.sort(np.concatenate(kept))


def _listing(settings: ImageNet100) -> tuple[Path, dict[str, list[Path]]]:
    """The folder of classes, and the images of each class by name, both in order of name."""
    if settings.root is None:
        raise DataError(f"data.root is not set; give the folder that holds {LAYOUT}")
    folder = Path(settings.root) / "train"
    names = sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    if not names:
        raise DataError(
            f"data.root={settings.root} holds no pictures at {LAYOUT}; point data.root at the "
            "folder above train/"
        )
    classes = {
        name: sorted(p for p in (folder / name).rglob("*") if p.suffix.lower() in SUFFIXES)
        for name in names
    }
    empty = [name for name, paths in classes.items() if not paths]
    if empty:
        raise DataError(
            f"{folder / empty[0]} holds no pictures ({', '.join(sorted(SUFFIXES))}), as "
            f"{len(empty)} of {len(classes)} classes; fill or remove such folders"
        )
    return folder, classes
