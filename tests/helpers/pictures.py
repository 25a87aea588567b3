"""What a test can see of a picture."""

from pathlib import Path

import numpy as np
from PIL import Image

GREY = "#E4E4E4"  # of bubbles and of the rate


def pixels(path: Path) -> dict[str, int]:
    """How many pixels have each colour."""
    with Image.open(path) as image:
        flat = np.asarray(image.convert("RGB")).reshape(-1, 3)
    colours, counts = np.unique(flat, axis=0, return_counts=True)
    return {"#{:02X}{:02X}{:02X}".format(*c): int(n) for c, n in zip(colours, counts, strict=True)}
