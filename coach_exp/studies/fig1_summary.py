"""What Fig. 1's two claims come to: tables, sentences, captions.

In: what was measured of the frames of a split. Out: text, and numbers to keep.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coach_exp.plots.locality import bits_name
from coach_exp.results.findings import Table
from coach_exp.results.metrics import MIN_FOR_INTERVAL, Estimate
from coach_exp.studies.locality import Floats, Ints, Pairs, Spatial


@dataclass(frozen=True, eq=False)
class Frames:
    """What is known of all frames of the split at one cut: [n, channels] and [n] each."""

    features: Floats
    label: Ints
    video: Ints
    bits: Ints  # fewest that keep the answer
    right: NDArray[np.bool_]  # whether the uncut model's answer is


@dataclass(frozen=True)
class Localities:
    """The numbers of both parts, and what they are about."""

    subject: str
    cut: str
    place: int  # of the cut among the layers, from 1
    layers: int
    split: str
    bits: tuple[int, int]  # the fewest and the most that were tried
    frames: Frames
    shown: Ints  # places of the frames that are embedded
    pairs: tuple[Pairs, ...]
    space: Spatial
    space_right: Spatial  # of the frames that the uncut model answers rightly

    @property
    def colour_ratio(self) -> float:
        """Mean difference of colour of neighbours in stream order, over that in random order."""
        stream, _, _, shuffled, _ = (pairs.colour_step for pairs in self.pairs)
        assert stream is not None
        assert shuffled is not None
        return stream / shuffled

    @property
    def about(self) -> str:
        """Model, data, cut and its depth, for captions."""
        return f"{self.subject}, {self.split} split; cut behind {self.cut} ({self.depth})"

    @property
    def depth(self) -> str:
        """The cut's depth in words."""
        return f"layer {self.place} of {self.layers}"

    @property
    def counted(self) -> str:
        """How many frames and videos are drawn, in words."""
        return _counted(self.frames.video[self.shown])

    def right_share(self, bits: int) -> float:
        """Share of a group's frames that the uncut model answers rightly."""
        return float(self.frames.right[self.frames.bits == bits].mean())


def as_json(found: Localities) -> dict[str, Any]:
    """Everything that was measured."""
    frames = found.frames
    return {
        "subject": found.subject,
        "cut": found.cut,
        "layers_on_the_end": found.place,
        "layers": found.layers,
        "frames": len(frames.label),
        "videos": len(np.unique(frames.video)),
        "uncut_accuracy": float(frames.right.mean()),
        "temporal": {
            "frames": len(found.shown),
            "videos": len(np.unique(frames.video[found.shown])),
            "pairs": [asdict(each) for each in found.pairs],
            "colour_step_ratio": found.colour_ratio,
        },
        "spatial": {
            "groups": [
                asdict(each)
                | {"bits": None if each.bits > found.bits[1] else each.bits}
                | {"uncut_accuracy": found.right_share(each.bits)}
                for each in found.space.groups
            ],
            **_correlations(found.space),
            "uncut_right_alone": _correlations(found.space_right),
        },
    }


def _correlations(space: Spatial) -> dict[str, Any]:
    near, apart = space.of_distance, space.of_separability
    return {
        "spearman_distance_bits": None if near is None else asdict(near),
        "spearman_separability_bits": None if apart is None else asdict(apart),
    }


def time_table(found: Localities) -> Table:
    """Pairs of frames: how alike they are."""
    return Table(
        f"Fig. 1(a), temporal locality: {found.counted}",
        ("pairs of frames", "number", "mean cosine", "mean difference of colour"),
        [
            [pairs.name, str(pairs.count), _number(pairs.cosine, 4), _number(pairs.colour_step, 3)]
            for pairs in found.pairs
        ],
    )


SPACE_HEADS = (
    "fewest bits",
    "frames",
    "videos",
    "uncut right, %",
    "1 − cos to own centre",
    "separability S",
)


def space_table(found: Localities) -> Table:
    """Groups of frames that need the same bits: how far they are from their centre."""
    right = 100 * found.frames.right.mean()
    counted = _counted(found.frames.video)
    return Table(
        f"Fig. 1(b), spatial locality: {counted}, uncut accuracy {right:.1f} %",
        SPACE_HEADS,
        [
            [
                bits_name(group.bits, found.bits[1]),
                str(group.frames),
                str(group.videos),
                f"{100 * found.right_share(group.bits):.0f}",
                _interval(group.distance),
                _interval(group.separability),
            ]
            for group in found.space.groups
        ],
    )


def claim_of_time(found: Localities) -> str:
    """What the paper sees in the colour line, as a number."""
    return (
        f"Neighbours in stream order differ in colour {found.colour_ratio:.2f} × as much as "
        "neighbours in random order."
    )


def claims_of_space(found: Localities) -> list[str]:
    """What the paper sees in the plane, tested."""
    near, apart = found.space.of_distance, found.space.of_separability
    right = found.space_right
    only = "Of the frames that the uncut model answers rightly alone"
    return [
        "Claim: the fewer bits a frame needs, the nearer it lies to its label's centre. Spearman's "
        f"correlation {_interval(near)}: {verdict(near, 1)}. {only}, "
        f"{_interval(right.of_distance)}: {verdict(right.of_distance, 1)}.",
        "Claim: the fewer bits a frame needs, the more separable it is. Spearman's correlation "
        f"{_interval(apart)}: {verdict(apart, -1)}. {only}, "
        f"{_interval(right.of_separability)}: {verdict(right.of_separability, -1)}.",
    ]


def verdict(correlation: Estimate | None, sign: int) -> str:
    """Whether a correlation of this sign is seen, by its interval.

    >>> verdict(Estimate(0.2, 0.1, 0.3), 1), verdict(Estimate(0.2, 0.1, 0.3), -1)
    ('it holds here', 'the opposite holds here')
    >>> verdict(Estimate(0.1, -0.1, 0.3), 1)
    'not seen here, the interval holds 0'
    """
    if correlation is None:
        return "cannot be told here, for one of the two never changes"
    if correlation.lo is None or correlation.hi is None:
        return "cannot be told here, the videos are too few for an interval"
    low, high = sorted((sign * correlation.lo, sign * correlation.hi))
    if low > 0:
        return "it holds here"
    return "the opposite holds here" if high < 0 else "not seen here, the interval holds 0"


def caption_of_time(found: Localities) -> str:
    """Under the line of colours."""
    stream, _, _, shuffled, _ = found.pairs
    return (
        f"{found.about}; {found.counted}. Mean cosine of neighbours {_number(stream.cosine, 3)} in "
        f"stream order, {_number(shuffled.cosine, 3)} in random order; mean difference of colour "
        f"{_number(stream.colour_step, 3)} and {_number(shuffled.colour_step, 3)}."
    )


def caption_of_space(found: Localities) -> str:
    """Under the plane."""
    min_bits, max_bits = found.bits
    near, apart = found.space.of_distance, found.space.of_separability
    return (
        f"{found.about}; {found.counted} drawn. Colour: the fewest bits, {min_bits} to {max_bits}, "
        "that keep the uncut model's answer, as every larger width does; the centres of the "
        "centres split are embedded with the frames. Right: means over all frames of the split "
        f"({_counted(found.frames.video)}) in the space of the features, lines their 95 % "
        f"intervals (hollow: below {MIN_FOR_INTERVAL} videos, none); Spearman's correlation "
        f"with the bits {_interval(near)} and {_interval(apart)}."
    )


def panels_of_space(
    found: Localities,
) -> Sequence[tuple[str, Sequence[tuple[int, Estimate]]]]:
    """For each title the bits of every group and its mean."""
    groups = found.space.groups
    near = [(group.bits, group.distance) for group in groups if group.distance is not None]
    apart = [(group.bits, group.separability) for group in groups]
    return (("1 − cosine to own centre", near), ("separability S", apart))


def _counted(videos: Ints) -> str:
    return f"{len(videos)} frames of {len(np.unique(videos))} videos"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _interval(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    if estimate.lo is None or estimate.hi is None:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} [{estimate.lo:.3f}, {estimate.hi:.3f}]"
