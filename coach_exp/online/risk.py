"""Limits that hold on the next videos, not only on those they were fitted to.

In: the accuracy loss of each calibration video under some policies, which are ordered from cautious
to bold. Out: how far the order may be followed so that the true loss exceeds the limit with
probability at most δ over the draw of the calibration videos.

Learn then Test (Angelopoulos, Bates, Candès, Jordan and Lei, 2021): each policy is the hypothesis
"its loss exceeds the limit"; in a fixed sequence every test has the whole δ and the first that is
not rejected ends it. The test is by betting (Waudby-Smith and Ramdas, 2024): a fair bettor's
capital reaches 1/δ with probability at most δ if the hypothesis is true. Videos are exchangeable,
frames of a video are not, so a video counts once, with the mean loss of its frames.
"""

from collections.abc import Iterable
from math import log

import numpy as np
from numpy.typing import NDArray

BOLDNESS = 0.9  # the largest bet, as a share of one that a video of total loss would ruin


def rejects_excess(losses: NDArray[np.float64], limit: float, delta: float) -> bool:
    """Whether the videos' losses refute, at level `delta`, that their mean exceeds `limit`.

    `losses` [videos] are at most 1 each and in random order; they may be negative. The bets are the
    predictable plug-in of Waudby-Smith and Ramdas, Eq. 15. Without any loss about
    ln(1/δ) / (0.9 · limit) videos suffice.

    >>> [rejects_excess(np.zeros(n), limit=0.02, delta=0.1) for n in (100, 200)]
    [False, True]
    """
    count = len(losses)
    if not count or limit <= 0:
        return False
    seen = np.arange(1, count + 1)
    mean = (0.5 + np.cumsum(losses)) / (seen + 1)
    variance = (0.25 + np.cumsum((losses - mean) ** 2)) / (seen + 1)
    before = np.concatenate([[0.25], variance[:-1]])  # a bet knows the past alone
    bet = np.minimum(np.sqrt(2 * log(1 / delta) / (count * before)), BOLDNESS / (1 - limit))
    capital = np.cumsum(np.log1p(bet * (limit - losses)))
    return bool(capital.max() >= log(1 / delta))


def followed(policies: Iterable[NDArray[np.float64]], limit: float, delta: float) -> int:
    """How many policies, from the first on, lose at most `limit` with confidence 1 − `delta`."""
    certified = 0
    for losses in policies:
        if not rejects_excess(losses, limit, delta):
            break
        certified += 1
    return certified


def smallest_limit(losses: NDArray[np.float64], delta: float, step: float = 1e-4) -> float | None:
    """The smallest multiple of `step` below 1 that `losses` certify; None: not even the largest."""
    low, high = 0, int(1 / step) - 1
    if not rejects_excess(losses, high * step, delta):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if rejects_excess(losses, middle * step, delta):
            high = middle
        else:
            low = middle
    return high * step
