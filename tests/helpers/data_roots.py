"""Small data sets on disk, in the layouts of the real ones."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from helpers.paths import ROOT

DATA = Path(os.environ.get("COACH_DATA", ROOT / "../shared/data"))
RATE = 25  # frames per second of the videos


def unpacked(pack: str, root: Path) -> None:
    """The real pictures of `pack` under `root`; skips the test where they are absent."""
    unpack = DATA / "unpack.py"
    if not unpack.is_file():
        pytest.skip(f"no {unpack}; set COACH_DATA")
    subprocess.run([sys.executable, unpack, pack, root], check=True, capture_output=True)


def write_tracks(root: Path, tracks: Mapping[int, int], frames: int = 3) -> None:
    """Traffic signs: `tracks[c]` tracks for class c. Pixels tell class, track and frame; files are
    20 × 30."""
    for label, count in tracks.items():
        folder = root / "gtsrb" / "GTSRB" / "Training" / f"{label:05d}"
        folder.mkdir(parents=True)
        for track in range(count):
            for frame in range(frames):
                colour = (10 * label, 10 * track, 10 * frame)
                picture = Image.new("RGB", (20, 30), colour)
                picture.save(folder / f"{track:05d}_{frame:05d}.ppm")


def write_images(root: Path, classes: Mapping[str, int]) -> None:
    """ImageFolder: `classes[name]` images each. Pixels tell class and image; files are 40 × 20."""
    for label, (name, count) in enumerate(classes.items()):
        folder = root / "train" / name
        folder.mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (40, 20), (10 * label, number, 0)).save(folder / f"{number:03d}.png")


def write_video(path: Path, greys: list[int], size: tuple[int, int] = (48, 32)) -> None:
    """A video of flat frames of these grey levels, at `RATE`; a codec that loses a little."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 4_000_000
        for grey in greys:
            pixels = np.full((size[1], size[0], 3), grey, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def clip_name(name: str, group: int, clip: int) -> str:
    """Of a clip, as the official lists have it."""
    return f"{name}/v_{name}_g{group:02d}_c{clip:02d}.avi"


def write_clips(
    root: Path,
    names: tuple[str, ...] = ("Archery", "Biking"),
    *,
    groups: int = 8,
    tested: int = 2,
    clips: int = 2,
    frames: int = 10,
) -> None:
    """UCF101: of every class `groups` groups of `clips` clips, the first `tested` in the test list.

    The grey level tells class, clip and frame: 100 · class + 50 · clip + 4 · frame, modulo 256.
    """
    lists = root / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    numbered = list(enumerate(names, 1))
    (lists / "classInd.txt").write_text("".join(f"{i} {name}\r\n" for i, name in numbered))
    train, test = [], []
    for label, name in enumerate(names):
        for group in range(1, groups + 1):
            for clip in range(1, clips + 1):
                greys = [(100 * label + 50 * (clip - 1) + 4 * i) % 256 for i in range(frames)]
                listed = clip_name(name, group, clip)
                write_video(root / "UCF-101" / listed, greys)
                if group <= tested:
                    test.append(f"{listed}\n")
                else:
                    train.append(f"{listed} {label + 1}\n")
    (lists / "trainlist01.txt").write_text("".join(train))
    (lists / "testlist01.txt").write_text("".join(test))
