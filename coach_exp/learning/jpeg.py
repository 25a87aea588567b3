"""The raw input as a JPEG file (`input.encoding = jpeg`).

In: a uint8 frame. Out: the file that crosses the link and the picture that comes out of it. A frame
is brought to the resolution that is timed first, so the file is that of a picture of that size; one
that was enlarged for it holds less detail, and takes fewer bytes, than a real one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coach_exp.learning.array_cache import ArrayCache, digest
from coach_exp.learning.models import resize
from coach_exp.learning.video import VideoDataset


@dataclass(frozen=True)
class Jpeg:
    """Pictures of `side` × `side` pixels at Pillow's `quality`, 1 to 100, and else its defaults."""

    quality: int
    side: int

    def encode(self, frames: NDArray[np.uint8]) -> list[bytes]:
        """One file for each frame: [n, height, width, 3] uint8 -> n files."""
        return [self._file(frame) for frame in resize(frames, self.side)]

    def decode(self, files: Iterable[bytes]) -> NDArray[np.uint8]:
        """The pictures in these files: n files -> [n, side, side, 3] uint8."""
        from PIL import Image

        return np.stack([np.asarray(Image.open(BytesIO(file)).convert("RGB")) for file in files])

    def mean_bytes(self, data: VideoDataset, cache_dir: Path) -> float:
        """Mean size of the files of all samples; kept under `cache_dir`."""
        array_cache = ArrayCache(cache_dir / "jpeg")
        known = array_cache.get(
            digest(self, data.fingerprint),
            lambda: {"bytes": np.array([len(file) for file in self.encode(data.frames)])},
        )
        return float(known["bytes"].mean())

    def _file(self, frame: NDArray[np.uint8]) -> bytes:
        from PIL import Image

        written = BytesIO()
        Image.fromarray(frame).save(written, "JPEG", quality=self.quality)
        return written.getvalue()
