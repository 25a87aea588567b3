"""The four splits as files: written clip by clip, opened memory-mapped.

In: footage and a folder. Out: `frames.u8`, all frames one after the other, and `index.npz`, the
rest: a run that needs only labels reads no pixels.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np

from coach_exp.learning.footage import Clip, Footage
from coach_exp.learning.video import SPLIT_NAMES, Splits, VideoDataset
from coach_exp.types.errors import DataError
from coach_exp.types.progress import Progress

FRAMES, INDEX = "frames.u8", "index.npz"


def write(footage: Footage, folder: Path, progress: Progress) -> None:
    """Keep all clips in `folder`, one in memory at a time.

    Raises DataError when they are out of order or unlike in size, or a split has none.
    """
    split, label, video, length, numbers = [], [], [], [], []
    before: Clip | None = None
    with (folder / FRAMES).open("wb") as file:
        for done, clip in enumerate(footage.clips, 1):
            _refuse_misfits(clip, before or clip)
            before = clip
            file.write(np.ascontiguousarray(clip.frames).data)
            split.append(SPLIT_NAMES.index(clip.split))
            label.append(clip.label)
            video.append(clip.video)
            length.append(len(clip.frames))
            numbers.append(clip.frame)
            progress("reading the data", done, footage.count)
    empty = [name for i, name in enumerate(SPLIT_NAMES) if i not in split]
    if empty:
        raise DataError(
            f"no video is left for the splits {', '.join(empty)}: no class has enough of them; "
            "add videos"
        )
    np.savez(
        folder / INDEX,
        allow_pickle=False,
        label=np.repeat(label, length),
        video=np.repeat(video, length),
        frame=np.concatenate(numbers),
        bounds=np.cumsum([0, *np.bincount(split, weights=length)]).astype(np.int64),
        shape=before.frames.shape[1:] if before else (),
        class_names=np.array(footage.class_names),
    )


def read(folder: Path) -> Splits:
    """The splits that `write` kept."""
    with np.load(folder / INDEX) as index:
        label, video, frame = index["label"], index["video"], index["frame"]
        names, bounds = tuple(map(str, index["class_names"])), index["bounds"]
        shape = (len(label), *index["shape"].tolist())
    frames = np.memmap(folder / FRAMES, np.uint8, "r", shape=shape)
    everything = VideoDataset(frames, label, video, frame, names)
    return Splits(*(everything.subset(slice(a, b)) for a, b in pairwise(bounds)))


def _refuse_misfits(clip: Clip, before: Clip) -> None:
    if clip.frames.shape[1:] != before.frames.shape[1:] or clip.frames.dtype != np.uint8:
        raise DataError(
            f"video {clip.video} has frames of {clip.frames.dtype} {list(clip.frames.shape[1:])} "
            f"after some of {list(before.frames.shape[1:])}; all are uint8 and of one size"
        )
    if SPLIT_NAMES.index(clip.split) < SPLIT_NAMES.index(before.split):
        raise DataError(
            f"a clip of split {clip.split!r} comes after one of {before.split!r}; clips come split "
            f"by split, in the order {', '.join(SPLIT_NAMES)}"
        )
