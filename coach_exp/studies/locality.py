"""The two localities of task features (paper, Section II-B) as numbers.

In: features, labels, videos and answers of a stream's frames, as arrays. Out: how alike neighbours
in time are, and how far frames that need more bits are from their label's centre. Frames of one
video are alike, so every interval comes from drawing whole videos anew.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coach_exp.online.semantic_cache import unit_rows
from coach_exp.results.metrics import MIN_FOR_INTERVAL, Estimate
from coach_exp.types.online import Centres

RESAMPLES = 1000

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


# --- Time -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of frames of one kind: their mean cosine and mean difference of colour, None where
    there is no such pair."""

    name: str
    count: int
    cosine: float | None
    colour_step: float | None


def whole_videos(videos: Ints, max_frames: int, seed: int) -> Ints:
    """The frames, in order, of as many randomly chosen whole videos as hold at most `max_frames`
    together: [n] videos of the frames -> places of those chosen.

    >>> whole_videos(np.array([7, 7, 5, 5, 5]), 5, seed=0).tolist()
    [0, 1, 2, 3, 4]
    """
    _, which, lengths = np.unique(videos, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(lengths))
    chosen = order[np.cumsum(lengths[order]) <= max_frames]
    return np.flatnonzero(np.isin(which, chosen))


def temporal(
    features: Floats, colours: Floats, labels: Ints, videos: Ints, shuffled: Ints, seed: int
) -> tuple[Pairs, ...]:
    """Neighbours in stream order, of one video and across a border; neighbours in the order
    `shuffled`; and random pairs of one label from two videos, which tell what of the likeness is
    the label's and not the video's. [n, channels], [n] each.
    """
    n = len(features)
    unit = unit_rows(features)
    first, second = np.arange(n - 1), np.arange(1, n)
    same = videos[first] == videos[second]
    twins = _partners(labels, np.random.default_rng(seed))
    apart = videos != videos[twins]

    def pairs(name: str, one: Ints, other: Ints) -> Pairs:
        if not len(one):
            return Pairs(name, 0, None, None)
        cosines = _cosines(unit[one], unit[other])
        steps = np.abs(colours[one] - colours[other])
        return Pairs(name, len(one), float(cosines.mean()), float(steps.mean()))

    return (
        pairs("neighbours in stream order", first, second),
        pairs("… of one video", first[same], second[same]),
        pairs("… of two videos", first[~same], second[~same]),
        pairs("neighbours in random order", shuffled[:-1], shuffled[1:]),
        pairs("random, one label, two videos", np.flatnonzero(apart), twins[apart]),
    )


def _partners(labels: Ints, rng: np.random.Generator) -> Ints:
    """For each frame a random one of its label, perhaps itself: [n] -> [n]."""
    partners = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        partners[own] = rng.choice(own, len(own))
    return partners


def _cosines(one: Floats, other: Floats) -> Floats:
    """Of rows of length 1, each with its own partner: [n, channels] twice -> [n]."""
    cosines: Floats = (one * other).sum(axis=1)
    return cosines


# --- Space ----------------------------------------------------------------------------------------


def fewest_bits(kept: NDArray[np.bool_], min_bits: int) -> Ints:
    """The fewest bits that keep each frame's answer, and with which every larger width keeps it
    too; one more than the most where none does. `kept[k]` says it of width `min_bits + k`:
    [widths, n] -> [n].

    >>> kept = np.array([[1, 1, 0, 0], [1, 0, 1, 1], [1, 1, 1, 0]], bool)  # 2, 3 and 4 bits
    >>> fewest_bits(kept, min_bits=2).tolist()
    [2, 4, 3, 5]
    """
    widths = np.logical_and.accumulate(kept[::-1]).sum(axis=0)
    bits: Ints = min_bits + len(kept) - widths
    return bits


def centre_distances(features: Floats, labels: Ints, centres: Centres) -> Floats:
    """1 − cos(F, T_j) to the centre of the own label j, NaN where it has none: [n, channels], [n]
    -> [n]."""
    cosines = _cosines(unit_rows(features), unit_rows(centres.feature)[labels])
    return np.where(centres.count[labels] > 0, 1 - cosines, np.nan)


@dataclass(frozen=True, slots=True)
class Group:
    """Frames with the same fewest bits: how many, of how many videos, and their means."""

    bits: int
    frames: int
    videos: int
    distance: Estimate | None  # to the own label's centre; None where no frame has one
    separability: Estimate


@dataclass(frozen=True, slots=True)
class Spatial:
    """The groups, fewest bits first, and Spearman's rank correlation of the fewest bits with
    distance and separability; None where one of the two never changes."""

    groups: tuple[Group, ...]
    of_distance: Estimate | None
    of_separability: Estimate | None


def spatial(
    bits: Ints,
    distance: Floats,
    separability: Floats,
    videos: Ints,
    seed: int,
) -> Spatial:
    """What of "easy frames lie near their centre" is seen: [n] each, NaN for no distance."""
    known = ~np.isnan(distance)

    def group(value: int) -> Group:
        own = bits == value
        near = own & known
        return Group(
            bits=value,
            frames=int(own.sum()),
            videos=len(np.unique(videos[own])),
            distance=video_mean(distance[near], videos[near], seed) if near.any() else None,
            separability=video_mean(separability[own], videos[own], seed),
        )

    return Spatial(
        groups=tuple(group(int(value)) for value in np.unique(bits)),
        of_distance=video_spearman(distance[known], bits[known], videos[known], seed),
        of_separability=video_spearman(separability, bits, videos, seed),
    )


# --- Intervals over videos ------------------------------------------------------------------------


def video_mean(values: Floats, videos: Ints, seed: int) -> Estimate:
    """Mean over frames, its 95 % interval by drawing videos: [n], [n].

    >>> video_mean(np.array([1.0, 2.0, 6.0]), np.array([4, 4, 9]), seed=0)  # of two videos alone
    Estimate(value=3.0, lo=None, hi=None)
    """
    _, which = np.unique(videos, return_inverse=True)
    sums, counts = np.bincount(which, values), np.bincount(which)

    def drawn_mean(drawn: Ints) -> float:
        return float(sums[drawn].sum() / counts[drawn].sum())

    return Estimate(float(values.mean()), *_interval(drawn_mean, len(counts), seed))


def video_spearman(x: Floats, y: Ints, videos: Ints, seed: int) -> Estimate | None:
    """Rank correlation over frames, its 95 % interval by drawing videos; None where x or y never
    changes: [n], [n], [n]."""
    value = _spearman(x, y)
    if np.isnan(value):
        return None
    _, which, lengths = np.unique(videos, return_inverse=True, return_counts=True)
    frames = np.split(np.argsort(which, kind="stable"), np.cumsum(lengths)[:-1])

    def drawn_correlation(drawn: Ints) -> float:
        rows = np.concatenate([frames[video] for video in drawn])
        return _spearman(x[rows], y[rows])

    return Estimate(value, *_interval(drawn_correlation, len(frames), seed))


def _spearman(x: Floats, y: Ints) -> float:
    from scipy.stats import spearmanr

    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(spearmanr(x, y).statistic)


def _interval(
    statistic: Callable[[Ints], float], videos: int, seed: int
) -> tuple[float | None, float | None]:
    """The middle 95 % of what a statistic of drawn videos gives; of few videos none."""
    if videos < MIN_FOR_INTERVAL:
        return None, None
    draws = np.random.default_rng(seed).integers(videos, size=(RESAMPLES, videos))
    low, high = np.nanquantile([statistic(drawn) for drawn in draws], [0.025, 0.975])
    return float(low), float(high)
