"""Labelled video as arrays, and the four splits that no video may share.

In: frames with label, video and frame number. Out: the same, checked; a split that shares a video
with another is refused, because thresholds calibrated on the videos of the centres promise far more
than they keep.
"""

from dataclasses import dataclass, fields
from functools import cached_property
from hashlib import blake2b
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coach_exp.types.errors import DataError


@dataclass(frozen=True, eq=False)
class VideoDataset:
    """Frames [n, height, width, 3] uint8, and for each its label, video and frame number: [n] int.

    Samples stand in dataset order: video by video, each in order of time. `frames` may be
    memory-mapped, so a reader of labels alone reads no pixels.
    """

    frames: NDArray[np.uint8]
    label: NDArray[np.int64]
    video: NDArray[np.int64]
    frame: NDArray[np.int64]
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[-1] != 3 or self.frames.dtype != np.uint8:
            raise DataError(
                f"frames must be uint8 [n, height, width, 3], not {self.frames.dtype} "
                f"{list(self.frames.shape)}"
            )
        lengths = {name: len(getattr(self, name)) for name in ("frames", "label", "video", "frame")}
        if len(set(lengths.values())) > 1:
            raise DataError(f"every sample needs a label, a video and a frame number: {lengths}")
        outside = [int(c) for c in np.unique(self.label) if not 0 <= c < self.classes]
        if outside:
            raise DataError(f"labels {outside} are outside 0 … {self.classes - 1}")

    def __len__(self) -> int:
        return len(self.label)

    @property
    def classes(self) -> int:
        """Number of classes, those without a sample included."""
        return len(self.class_names)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of frames and labels; equal contents have equal fingerprints."""
        digest = blake2b(repr((self.frames.shape, self.class_names)).encode(), digest_size=12)
        for array in (self.frames, self.label, self.video, self.frame):
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def videos(self) -> list[NDArray[np.int64]]:
        """Sample numbers of each video in order of time; videos in dataset order."""
        _, first, which = np.unique(self.video, return_index=True, return_inverse=True)
        by_video = np.lexsort((self.frame, first[which]))
        ends = np.flatnonzero(np.diff(self.video[by_video])) + 1
        return list(np.split(by_video, ends))

    def subset(self, samples: NDArray[Any] | slice) -> "VideoDataset":
        """The given samples only; a slice copies nothing."""
        return VideoDataset(
            self.frames[samples],
            self.label[samples],
            self.video[samples],
            self.frame[samples],
            self.class_names,
        )


@dataclass(frozen=True, eq=False)
class Splits:
    """`train` fits the model, `centres` starts the semantic cache, `calib` chooses bits and
    thresholds, `stream` is measured. Raises DataError when two of them share a video.
    """

    train: VideoDataset
    centres: VideoDataset
    calib: VideoDataset
    stream: VideoDataset

    def __post_init__(self) -> None:
        for (one, a), (other, b) in combinations(self.items(), 2):
            shared = np.intersect1d(a.video, b.video)
            if len(shared):
                raise DataError(
                    f"splits {one!r} and {other!r} share {len(shared)} videos, such as video "
                    f"{shared[0]}; every video belongs to one split"
                )
            if a.class_names != b.class_names:
                raise DataError(
                    f"splits {one!r} and {other!r} name different classes; a label must mean the "
                    "same in all splits"
                )

    def items(self) -> list[tuple[str, VideoDataset]]:
        """Name and data of each split."""
        return [(f.name, getattr(self, f.name)) for f in fields(self)]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, the same in every split."""
        return self.train.class_names


SPLIT_NAMES = tuple(f.name for f in fields(Splits))
