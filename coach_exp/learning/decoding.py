"""From files to square frames, several files at once.

In: pictures. Out: arrays [size, size, 3] uint8, in the order asked for.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from coach_exp.types.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

FrameSide = Annotated[int, Field(ge=16)]  # pixels; smaller frames show nothing
AHEAD = 16  # results that may wait for their turn: they are held in memory

Item = TypeVar("Item")
Result = TypeVar("Result")


def picture(path: Path, size: int, *, crop: bool) -> NDArray[np.uint8]:
    """The picture in a file. Raises DataError where there is none to read."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.draft("RGB", (2 * size, 2 * size))  # a large JPEG: no more detail than is used
            return square(image.convert("RGB"), size, crop=crop)
    except (OSError, SyntaxError) as error:  # Pillow's word for a broken PNG
        raise DataError(f"{path} cannot be read as a picture: {error}; replace it") from error


def square(image: "Image", size: int, *, crop: bool) -> NDArray[np.uint8]:
    """Central square of an image, or without `crop` all of it squeezed: [size, size, 3] uint8."""
    from PIL.Image import Resampling

    width, height = image.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side) if crop else None
    if image.size != (size, size):
        image = image.resize((size, size), Resampling.BILINEAR, box)
    return np.asarray(image)


def in_order(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`work` of every item, in the order of the items; threads work on those that come next."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor() as threads:
        for item in items:
            waiting.append(threads.submit(work, item))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
