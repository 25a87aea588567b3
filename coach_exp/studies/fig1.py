"""Fig. 1 of the paper: how alike the features of neighbouring frames are, and whether frames that
stand few bits lie near their label's semantic centre (Section II-B).

In: a trained model's answers on a split, and the `centres` split. Out: `fig1a.png`, the features as
a line of colours (t-SNE to one dimension), frames in stream order and shuffled; `fig1b.png`, the
features in the plane (t-SNE to two), coloured by the fewest bits that keep the answer; `fig1.md`
and `fig1.json`, what both claim, as numbers.

The paper draws both and gives no number. Here: neighbours are compared by cosine and colour with
random pairs, and the fewest bits of a frame with its distance to the own label's centre and with
its separability S (Eq. 9), both in the space of the features, since t-SNE keeps no distances. A
frame's answer is that of the uncut float model, right or wrong: with the fewest bits and every
larger width up to the most, the cut and quantised model gives it too.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from coach_exp.online.calibration import labels
from coach_exp.online.semantic_cache import SemanticCache, unit_rows
from coach_exp.pipeline.parts import Parts
from coach_exp.planner.cost_model import boundaries
from coach_exp.plots.locality import FewestBits, bits_name, colour_lines, precision_map
from coach_exp.quant.precision import MAX_BITS, MIN_BITS
from coach_exp.results.metrics import MIN_FOR_INTERVAL, Estimate
from coach_exp.results.progress import Display
from coach_exp.results.tables import markdown, text_table
from coach_exp.studies.locality import (
    Pairs,
    Spatial,
    centre_distances,
    fewest_bits,
    spatial,
    temporal,
    whole_videos,
)
from coach_exp.studies.settings import StudySettings
from coach_exp.types.errors import ConfigError
from coach_exp.types.graph import LayerGraph
from coach_exp.types.online import Centres
from coach_exp.types.outcomes import Crossing, Outcomes

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def _ordered(bits: tuple[int, int]) -> tuple[int, int]:
    if bits[0] >= bits[1]:
        raise ValueError(f"{bits[0]} and {bits[1]} are no range: give the fewest, then the most")
    return bits


Width = Annotated[int, Field(ge=1, le=8)]


class Settings(StudySettings):
    """`cut`: a layer's name, or None for the one nearest to `depth` of all layers; `frames`: most
    that are embedded and drawn, in whole videos; `bits`: the fewest and the most that are tried."""

    kind: Literal["fig1"] = "fig1"
    cut: str | None = None
    depth: Annotated[float, Field(gt=0, lt=1)] = 0.75
    split: Literal["calib", "stream"] = "stream"
    frames: PositiveInt = 2400
    bits: Annotated[tuple[Width, Width], AfterValidator(_ordered)] = (MIN_BITS, MAX_BITS)
    perplexity: PositiveFloat = 30.0
    seed: NonNegativeInt = 0

    @property
    def most(self) -> int:
        """The widest that is tried; one more stands for frames that no width keeps."""
        return self.bits[1]


@dataclass(frozen=True, eq=False)
class Frames:
    """What is known of all frames of the split at one cut: [n, channels] and [n] each."""

    features: Floats
    label: Ints
    video: Ints
    bits: Ints  # fewest that keep the answer
    right: NDArray[np.bool_]  # whether the uncut model's answer is


@dataclass(frozen=True)
class Findings:
    """The numbers of both parts, and what they are about."""

    subject: str
    cut: str
    place: int  # of the cut among the layers, from 1
    layers: int
    split: str
    frames: Frames
    shown: Ints  # places of the frames that are embedded
    pairs: tuple[Pairs, ...]
    space: Spatial
    space_right: Spatial  # of the frames that the uncut model answers rightly
    most: int

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


# --- What is measured -----------------------------------------------------------------------------


def cut_layer(graph: LayerGraph, cut: str | None, depth: float) -> str:
    """The layer behind which to cut: the one named, or the boundary whose place is nearest to
    `depth` of the layers. Raises GraphError for an unknown name."""
    if cut is not None:
        return graph[cut].name
    places = boundaries(graph, len(graph))
    if not places:
        raise ConfigError("study fig1: no single tensor crosses anywhere inside this model")
    wanted = depth * (len(graph) - 1)
    return graph.layers[min(places, key=lambda place: abs(place - wanted))].name


def features_at(answers: Outcomes, cut: str) -> Floats:
    """Task features of all samples at a cut: [n, channels]."""
    return np.stack([answers.feature(i, [cut]) for i in range(answers.samples)]).astype(float)


def frames_of(answers: Outcomes, cut: str, settings: Settings, display: Display) -> Frames:
    """All samples of a split, each sent with every width."""
    every = range(answers.samples)
    features = features_at(answers, cut)
    uncut = np.array([answers.uncut(i) for i in every])
    least, most = settings.bits
    kept = []
    for bits in range(least, most + 1):
        sent = (Crossing(cut, bits),)
        kept.append(uncut == np.array([answers.predict(i, sent).label for i in every]))
        display.progress("answers at each width", len(kept), most - least + 1)
    truth = labels(answers)
    videos = np.array([answers.video(i) for i in every])
    return Frames(features, truth, videos, fewest_bits(np.stack(kept), least), uncut == truth)


def embedded(points: Floats, dimensions: int, settings: Settings) -> Floats:
    """t-SNE of directions, whose squared distance is twice 1 − cosine: [n, channels] -> [n,
    dimensions]."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    tsne = TSNE(dimensions, perplexity=settings.perplexity, init="pca", random_state=settings.seed)
    with threadpool_limits(1):  # on busy cores more threads wait for each other, a hundredfold
        return np.asarray(tsne.fit_transform(unit_rows(points)), float)


def shown_frames(videos: Ints, settings: Settings) -> Ints:
    """Places of the frames to embed. Raises ConfigError when they are too few for t-SNE."""
    shown = whole_videos(videos, settings.frames, settings.seed)
    if len(shown) <= settings.perplexity:
        raise ConfigError(
            f"study.frames = {settings.frames}: {len(shown)} of {len(videos)} frames are shown, in "
            f"whole videos, and study.perplexity = {settings.perplexity:g} asks more than that; "
            "raise the one or lower the other"
        )
    return shown


# --- The study ------------------------------------------------------------------------------------


def study(settings: Mapping[str, Any], directory: Path, display: Display, parts: Parts) -> float:
    """Measure, embed, draw; returns Spearman's correlation of separability and fewest bits (NaN
    where all frames need the same). Raises ConfigError naming wrong settings or missing weights.
    """
    checked = Settings.read(settings)
    if not parts.trained:
        raise ConfigError(
            "study fig1 shows what a trained model makes of its data, and this one has no weights "
            "that mean something; use a torch model and weights=train, hub or a checkpoint"
        )
    graph = parts.graph
    cut = cut_layer(graph, checked.cut, checked.depth)
    answers, learned = parts.answers(checked.split), parts.answers("centres")
    frames = frames_of(answers, cut, checked, display)
    centres = Centres.of(features_at(learned, cut), labels(learned), learned.classes)
    shown = shown_frames(frames.video, checked)

    display.progress("embedding by t-SNE", 0, 2)
    line = embedded(frames.features[shown], 1, checked)[:, 0]
    colours = (line - line.min()) / (np.ptp(line) or 1.0)
    display.progress("embedding by t-SNE", 1, 2)
    directions = unit_rows(centres.feature[centres.count > 0])
    both = np.concatenate([unit_rows(frames.features[shown]), directions])
    points, stars = np.split(embedded(both, 2, checked), [len(shown)])
    display.progress("embedding by t-SNE", 2, 2)

    right = frames.right
    shuffled = np.random.default_rng(checked.seed).permutation(len(shown))
    own = (frames.features[shown], colours, frames.label[shown], frames.video[shown])
    separability = SemanticCache(centres).match_all(frames.features)[1]
    distance = centre_distances(frames.features, frames.label, centres)
    made = Findings(
        subject=parts.subject,
        cut=cut,
        place=graph.position(cut) + 1,
        layers=len(graph),
        split=checked.split,
        frames=frames,
        shown=shown,
        pairs=temporal(*own, shuffled, checked.seed),
        space=spatial(frames.bits, distance, separability, frames.video, checked.seed),
        space_right=spatial(
            frames.bits[right],
            distance[right],
            separability[right],
            frames.video[right],
            checked.seed,
        ),
        most=checked.most,
    )
    colour_lines(*own[1:2], shuffled, *own[2:], directory / "fig1a.png", _caption_a(made))
    space = FewestBits(points, frames.bits[shown], checked.most, stars, _panels(made))
    precision_map(space, directory / "fig1b.png", _caption_b(made, checked))
    write(made, checked, directory)
    say(made, display)
    correlation = made.space.of_separability
    return float("nan") if correlation is None else correlation.value


def write(found: Findings, settings: Settings, directory: Path) -> None:
    """`fig1.json` and `fig1.md`."""
    (directory / "fig1.json").write_text(json.dumps(as_json(found, settings), indent=2) + "\n")
    text = (
        f"{found.about}\n\n{_about_time(found)}\n\n{markdown(*time_table(found))}\n{claim_of_time(found)}\n\n"
        f"{_about_space(found)}\n\n{markdown(*space_table(found))}\n"
        + "\n\n".join(claims_of_space(found))
    )
    (directory / "fig1.md").write_text(text + "\n")


def say(found: Findings, display: Display) -> None:
    """Both tables and what follows from them."""
    display.say(found.about)
    display.say(text_table(_about_time(found), *time_table(found)))
    display.say(claim_of_time(found))
    display.say(text_table(_about_space(found), *space_table(found)))
    for sentence in claims_of_space(found):
        display.say(sentence)


# --- In words -------------------------------------------------------------------------------------


def as_json(found: Findings, settings: Settings) -> dict[str, Any]:
    """The content of `fig1.json`."""
    frames = found.frames
    return {
        "settings": settings.model_dump(mode="json"),
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
                | {"bits": None if each.bits > found.most else each.bits}
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


def time_table(found: Findings) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the table of pairs."""
    heads = ["pairs of frames", "number", "mean cosine", "mean difference of colour"]
    return heads, [
        [pairs.name, str(pairs.count), _number(pairs.cosine, 4), _number(pairs.colour_step, 3)]
        for pairs in found.pairs
    ]


def space_table(found: Findings) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the table of groups."""
    heads = ["fewest bits", "frames", "videos", "uncut right, %"]
    heads += ["1 − cos to own centre", "separability S"]
    return heads, [
        [
            *(bits_name(group.bits, found.most), str(group.frames), str(group.videos)),
            f"{100 * found.right_share(group.bits):.0f}",
            *(_interval(group.distance), _interval(group.separability)),
        ]
        for group in found.space.groups
    ]


def claim_of_time(found: Findings) -> str:
    """What the paper sees in the colour line, as a number."""
    return (
        f"Neighbours in stream order differ in colour {found.colour_ratio:.2f} × as much as "
        "neighbours in random order."
    )


def claims_of_space(found: Findings) -> list[str]:
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


def _about_time(found: Findings) -> str:
    return f"Fig. 1(a), temporal locality: {found.counted}"


def _about_space(found: Findings) -> str:
    right = 100 * found.frames.right.mean()
    counted = _counted(found.frames.video)
    return f"Fig. 1(b), spatial locality: {counted}, uncut accuracy {right:.1f} %"


def _caption_a(found: Findings) -> str:
    stream, _, _, shuffled, _ = found.pairs
    return (
        f"{found.about}; {found.counted}. Mean cosine of neighbours {_number(stream.cosine, 3)} in "
        f"stream order, {_number(shuffled.cosine, 3)} in random order; mean difference of colour "
        f"{_number(stream.colour_step, 3)} and {_number(shuffled.colour_step, 3)}."
    )


def _caption_b(found: Findings, settings: Settings) -> str:
    least, most = settings.bits
    near, apart = found.space.of_distance, found.space.of_separability
    return (
        f"{found.about}; {found.counted} drawn. Colour: the fewest bits, {least} to {most}, that "
        "keep the uncut model's answer, as every larger width does; the centres of the centres "
        "split are embedded with the frames. Right: means over all frames of the split "
        f"({_counted(found.frames.video)}) in the space of the features, lines their 95 % "
        f"intervals (hollow: below {MIN_FOR_INTERVAL} videos, none); Spearman's correlation "
        f"with the bits {_interval(near)} and {_interval(apart)}."
    )


def _panels(found: Findings) -> Sequence[tuple[str, Sequence[tuple[int, Estimate]]]]:
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
