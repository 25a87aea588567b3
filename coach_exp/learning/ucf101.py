"""Human actions: 13,320 clips of 101 classes, cut from videos on the web (Soomro et al. 2012).

In: a folder in the official layout, `<root>/UCF-101/<Class>/v_<Class>_g<group>_c<clip>.avi` with
the official lists in `<root>/ucfTrainTestlist`. Out: the four splits. The official test list is the
stream; the official train list is divided among the others. The clips of a group come from one
video, so a class's group is what no two splits may share.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from coach_exp.learning.array_cache import digest
from coach_exp.learning.decoding import FrameSide, in_order, square
from coach_exp.learning.dividing import Shares, check_shares, divide
from coach_exp.learning.footage import Clip, Footage
from coach_exp.learning.video import SPLIT_NAMES
from coach_exp.types.errors import DataError

LAYOUT = "UCF-101/<Class>/v_<Class>_g<group>_c<clip>.avi"
LISTS = "ucfTrainTestlist"
OF_TRAIN_LIST = ("train", "centres", "calib")
ENOUGH = 0.95  # of the frames that a file's header promises; encoders miscount by a few
_NAME = re.compile(r"(?P<class>[^/]+)/v_[^/]+_g(?P<group>\d+)_c(?P<clip>\d+)\.avi")


@dataclass(frozen=True)
class Ucf101:
    """Settings: the folder above `UCF-101`, the official split, the square size in pixels.

    `fps` frames of each second are kept, those on screen at its multiples (paper section IV-A: 20).
    `shares` divides the official train list. For a trial, `classes` keeps the first classes of
    classInd.txt and `max_frames` the first kept frames of each clip.
    """

    root: str | None = None
    split: Literal[1, 2, 3] = 1
    fps: PositiveFloat = 20.0
    size: FrameSide = 64
    classes: Annotated[int, Field(ge=2)] | None = None
    max_frames: PositiveInt | None = None
    shares: Shares = field(default_factory=lambda: {"train": 0.7, "centres": 0.1, "calib": 0.2})
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        check_shares(self.shares, OF_TRAIN_LIST)

    def fingerprint(self) -> str:
        """Hash of the settings, the lists, and the clips' names and sizes."""
        names, clips = _listing(self)
        files = [(c.tested, c.path.name, c.path.stat().st_size) for c in clips]
        return digest(replace(self, root=None), names, files)

    def read(self) -> Footage:
        """Clip by clip, decoded as they are taken; the clips of a group follow one another."""
        names, listed = _listing(self)
        split_of = _splits(listed, self)
        listed.sort(key=lambda c: SPLIT_NAMES.index(split_of[c.video]))
        number_of = {video: number for number, video in enumerate(sorted(split_of))}

        def clips() -> Iterator[Clip]:
            decoded = in_order(lambda c: decode(c.path, self), listed)
            before, first = None, 0
            for one, frames in zip(listed, decoded, strict=True):
                first = first if one.video == before else 0
                numbers = np.arange(first, first + len(frames))
                yield Clip(split_of[one.video], one.label, number_of[one.video], numbers, frames)
                before, first = one.video, first + len(frames)

        return Footage(names, len(listed), clips())


@dataclass(frozen=True, order=True)
class Listed:
    """One file and what the lists say of it."""

    label: int
    group: int
    clip: int
    tested: bool = field(compare=False)
    path: Path = field(compare=False)

    @property
    def video(self) -> tuple[int, int]:
        """What the clips of one video have in common: class and group."""
        return self.label, self.group


def decode(path: Path, settings: Ucf101) -> NDArray[np.uint8]:
    """The kept frames of a clip: [n, size, size, 3], its central square.

    Frame i of a clip of r frames a second is kept if it is on screen at some multiple of 1 / fps; a
    frame is kept once, however high `fps` is. Raises DataError for a file that is no video, or is
    cut short.
    """
    import av

    kept: list[NDArray[np.uint8]] = []
    count = promised = 0
    try:
        with av.open(str(path)) as container:
            stream = next(iter(container.streams.video), None)
            if stream is None or not stream.average_rate:
                raise DataError(f"{path} holds no moving pictures; replace it")
            promised = stream.frames
            step = Fraction(settings.fps) / stream.average_rate
            # in the decoder's order, which is that of the screen: the time stamps of clips with
            # packed B-frames are not
            for count, frame in enumerate(container.decode(stream), 1):
                if ceil((count - 1) * step) < count * step:
                    kept.append(square(frame.to_image(), settings.size, crop=True))
                if len(kept) == settings.max_frames:
                    return np.stack(kept)
    except (OSError, av.error.FFmpegError) as error:
        raise DataError(
            f"{path} cannot be read as a video: {error.strerror}; replace it"
        ) from error
    if count < ENOUGH * promised or not kept:
        raise DataError(
            f"{path} breaks off: {count} of its {promised} frames can be decoded; replace it"
        )
    return np.stack(kept)


def _splits(listed: list[Listed], settings: Ucf101) -> dict[tuple[int, int], str]:
    """The split of each video. Raises DataError for one that both lists name."""
    tested = {c.video for c in listed if c.tested}
    trained = sorted({c.video for c in listed if not c.tested})
    shared = tested.intersection(trained)
    if shared:
        label, group = min(shared)
        example = next(c.path for c in listed if c.video == (label, group))
        raise DataError(
            f"group {group} of class {example.parent.name} is in both lists of "
            f"data.split={settings.split}, as {len(shared)} groups are; the clips of a group come "
            "from one video, so take the official lists, which keep groups apart"
        )
    division = divide(np.array([label for label, _ in trained]), settings.shares, settings.seed)
    return dict.fromkeys(tested, "stream") | dict(zip(trained, division.tolist(), strict=True))


def _listing(settings: Ucf101) -> tuple[tuple[str, ...], list[Listed]]:
    """Names of the classes, and the clips of both lists by class, group and clip.

    Raises DataError when lists or clips are missing, or the lists contradict each other.
    """
    if settings.root is None:
        raise DataError(f"data.root is not set; give the folder that holds UCF-101/ and {LISTS}/")
    root = Path(settings.root)
    if not (root / "UCF-101").is_dir():
        raise DataError(
            f"data.root={root} holds no clips at {LAYOUT}; point data.root at the folder above "
            "UCF-101/"
        )
    names = tuple(words[1] for _, words in _lines(root, "classInd.txt", 2))[: settings.classes]
    label_of = {name: label for label, name in enumerate(names)}
    clips = []
    for tested, name in ((False, "trainlist"), (True, "testlist")):
        for place, (listed, *_) in _lines(root, f"{name}{settings.split:02d}.txt", 1):
            match = _NAME.fullmatch(listed)
            if match is None:
                raise DataError(
                    f"{place}: {listed!r} is not <Class>/v_<Class>_g<group>_c<clip>.avi"
                )
            if match["class"] in label_of:
                label, path = label_of[match["class"]], root / "UCF-101" / listed
                clips.append(Listed(label, int(match["group"]), int(match["clip"]), tested, path))
            elif settings.classes is None:
                raise DataError(f"{place}: class {match['class']!r} is not in {LISTS}/classInd.txt")
    absent = [c.path for c in clips if not c.path.is_file()]
    if absent:
        raise DataError(
            f"{absent[0]} is in the lists and not on disk, as are {len(absent)} of {len(clips)} "
            "clips; unpack the whole archive, or keep fewer classes with data.classes=N"
        )
    return names, sorted(clips)


def _lines(root: Path, name: str, min_words: int) -> Iterator[tuple[str, list[str]]]:
    """Place and words of every line of an official list, blank lines left out."""
    path = root / LISTS / name
    if not path.is_file():
        raise DataError(
            f"{path} is missing; unpack the official lists (UCF101TrainTestSplits-RecognitionTask) "
            f"to {LISTS}/ beside UCF-101/"
        )
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.split()
        if words:
            if len(words) < min_words:
                raise DataError(f"{path}:{number}: {line!r} has less than {min_words} words")
            yield f"{path}:{number}", words
