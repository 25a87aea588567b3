"""Which video goes to which split: every class is shared out alike, by chance.

In: the label of each video and the share of each split. Out: the split of each video.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat

from coach_exp.learning.video import SPLIT_NAMES
from coach_exp.types.errors import ConfigError

Shares = Mapping[str, PositiveFloat]  # of each split
SCARCE_FIRST = ("train", "stream", "calib", "centres")  # who gets a class's few videos


def check_shares(shares: Shares, splits: Sequence[str] = SPLIT_NAMES) -> None:
    """Raises ConfigError unless each of `splits`, and no other, has a share."""
    if set(shares) != set(splits):
        raise ConfigError(
            f"shares={dict(shares)}: give each of {', '.join(splits)} a positive share"
        )


def divide(labels: NDArray[np.int64], shares: Shares, seed: int) -> NDArray[np.str_]:
    """Name of the split of each video, from the label of each.

    Largest remainders, but a class of at least as many videos as splits appears in all of them. A
    class with fewer serves the splits in the order of SCARCE_FIRST.
    """
    rng = np.random.default_rng(seed)
    names = [name for name in SPLIT_NAMES if name in shares]
    share = np.array([shares[name] for name in names]) / sum(shares.values())
    scarce = [names.index(name) for name in SCARCE_FIRST if name in shares]
    split = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        videos = rng.permutation(np.flatnonzero(labels == label))
        split[videos] = np.repeat(np.arange(len(share)), _apportion(len(videos), share, scarce))
    return np.array(names)[split]


def split_by_split(split: NDArray[np.str_]) -> NDArray[np.int64]:
    """Numbers of the videos, those of the first split first, each split in dataset order."""
    return np.argsort([SPLIT_NAMES.index(name) for name in split], kind="stable")


def _apportion(videos: int, share: NDArray[np.float64], scarce: Sequence[int]) -> NDArray[np.int64]:
    """How many of a class's videos each split gets; `scarce` lists who is served first.

    >>> shares, scarce = np.array([0.5, 0.1, 0.2, 0.2]), [0, 3, 2, 1]
    >>> _apportion(10, shares, scarce).tolist()
    [5, 1, 2, 2]
    >>> _apportion(4, shares, scarce).tolist()
    [1, 1, 1, 1]
    >>> _apportion(2, shares, scarce).tolist()
    [1, 0, 0, 1]
    """
    count = np.zeros(len(share), np.int64)
    count[list(scarce[:videos])] = 1
    for _ in range(videos - int(count.sum())):
        count[np.argmax(share * videos - count)] += 1
    return count
