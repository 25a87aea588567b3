"""What a data set must offer: a name for its contents, and its videos, read one clip at a time.

In: the settings of a data set, a frozen value. Out: clips in the order in which they are kept, so
that a data set larger than the memory passes through it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Consecutive frames [n, height, width, 3] uint8 of one video, with their numbers [n] in it.

    `split` is one of `video.SPLIT_NAMES`; `video` is the same number for all clips of one video and
    for no others; `label` is the place of its class in `Footage.class_names`.
    """

    split: str
    label: int
    video: int
    frame: NDArray[np.int64]
    frames: NDArray[np.uint8]


@dataclass(frozen=True)
class Footage:
    """All clips, `count` of them: split by split as `video.SPLIT_NAMES` has them, each in dataset
    order."""

    class_names: tuple[str, ...]
    count: int
    clips: Iterable[Clip]


class DataSet(Protocol):
    """The settings of a data set, a frozen dataclass that knows how to find and read it."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def size(self) -> int:
        """Height and width of every frame in pixels."""

    def fingerprint(self) -> str:
        """Hash of all that decides the frames: settings, and names and sizes of the files.

        Raises DataError when files are missing or laid out otherwise.
        """

    def read(self) -> Footage:
        """The clips, decoded as they are taken. Raises DataError as `fingerprint`, and for a file
        that cannot be read."""
