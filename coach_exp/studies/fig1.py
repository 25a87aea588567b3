"""Fig. 1 of the paper: how alike the features of neighbouring frames are, and whether frames that
stand few bits lie near their label's semantic centre (Section II-B).

In: a trained model's answers on a split, and the `centres` split. Out: (a) the features as a line
of colours (t-SNE to one dimension), frames in stream order and shuffled; (b) the features in the
plane (t-SNE to two), coloured by the fewest bits that keep the answer; and what both claim, as
numbers.

The paper draws both and gives no number. Here: neighbours are compared by cosine and colour with
random pairs, and the fewest bits of a frame with its distance to the own label's centre and with
its separability S (Eq. 9), both in the space of the features, since t-SNE keeps no distances. A
frame's answer is that of the uncut float model, right or wrong: with the fewest bits and every
larger width up to the most, the cut and quantised model gives it too.
"""

from dataclasses import asdict, dataclass
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from coach_exp.online.calibration import labels
from coach_exp.online.semantic_cache import SemanticCache, unit_rows
from coach_exp.pipeline.parts import Parts
from coach_exp.planner.cost_model import boundaries
from coach_exp.plots.locality import FewestBits, colour_lines, precision_map
from coach_exp.quant.precision import MAX_BITS, MIN_BITS
from coach_exp.results.findings import Findings
from coach_exp.results.progress import Display
from coach_exp.studies.fig1_summary import (
    Frames,
    Localities,
    as_json,
    caption_of_space,
    caption_of_time,
    claim_of_time,
    claims_of_space,
    panels_of_space,
    space_table,
    time_table,
)
from coach_exp.studies.locality import (
    Floats,
    Ints,
    Spatial,
    centre_distances,
    fewest_bits,
    spatial,
    temporal,
    whole_videos,
)
from coach_exp.types.errors import ConfigError
from coach_exp.types.graph import LayerGraph
from coach_exp.types.online import Centres
from coach_exp.types.outcomes import Crossing, Outcomes

Width = Annotated[int, Field(ge=1, le=8)]


# --- What is measured -----------------------------------------------------------------------------


def cut_layer(graph: LayerGraph, cut: str | None, depth: float) -> str:
    """The layer behind which to cut: the one named, or the boundary whose place is nearest to
    `depth` of the layers. Raises GraphError for an unknown name."""
    if cut is not None:
        return graph[cut].name
    places = boundaries(graph, len(graph))
    if not places:
        raise ConfigError("no single tensor crosses anywhere inside this model")
    wanted = depth * (len(graph) - 1)
    return graph.layers[min(places, key=lambda place: abs(place - wanted))].name


def features_at(answers: Outcomes, cut: str) -> Floats:
    """Task features of all samples at a cut: [n, channels]."""
    return np.stack([answers.feature(i, [cut]) for i in range(answers.samples)]).astype(float)


def frames_of(answers: Outcomes, cut: str, bits: tuple[int, int], display: Display) -> Frames:
    """All samples of a split, each sent with every width from the first of `bits` to the second."""
    every = range(answers.samples)
    features = features_at(answers, cut)
    uncut = np.array([answers.uncut(i) for i in every])
    min_bits, max_bits = bits
    kept = []
    for width in range(min_bits, max_bits + 1):
        sent = (Crossing(cut, width),)
        kept.append(uncut == np.array([answers.predict(i, sent).label for i in every]))
        display.progress("answers at each width", len(kept), max_bits - min_bits + 1)
    truth = labels(answers)
    videos = np.array([answers.video(i) for i in every])
    fewest = fewest_bits(np.stack(kept), min_bits)
    return Frames(features, truth, videos, fewest, uncut == truth)


def embedded(points: Floats, dimensions: int, perplexity: float, seed: int) -> Floats:
    """t-SNE of directions, whose squared distance is twice 1 − cosine: [n, channels] -> [n,
    dimensions]."""
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    tsne = TSNE(dimensions, perplexity=perplexity, init="pca", random_state=seed)
    with threadpool_limits(1):  # on busy cores more threads wait for each other, a hundredfold
        return np.asarray(tsne.fit_transform(unit_rows(points)), float)


@dataclass(frozen=True, eq=False)
class Embedding:
    """Frames and centres by t-SNE: colours in 0 … 1 [n], points [n, 2], centres [labels, 2]."""

    colours: Floats
    points: Floats
    centres: Floats


# --- The study ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fig1:
    """`cut`: a layer's name, or None for the one nearest to `depth` of all layers; `frames`: most
    that are embedded and drawn, in whole videos; `bits`: the fewest and the most that are tried."""

    cut: str | None = None
    depth: Annotated[float, Field(gt=0, lt=1)] = 0.75
    split: Literal["calib", "stream"] = "stream"
    frames: PositiveInt = 2400
    bits: tuple[Width, Width] = (MIN_BITS, MAX_BITS)
    perplexity: PositiveFloat = 30.0
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        if self.bits[0] >= self.bits[1]:
            raise ConfigError(
                f"bits: {self.bits[0]} and {self.bits[1]} are no range: give the fewest, then the "
                "most"
            )

    def __call__(self, parts: Parts, display: Display) -> Findings:
        """The value is Spearman's correlation of separability and fewest bits, NaN where all frames
        need the same. Raises ConfigError where the model has no trained weights or frames are too
        few for t-SNE."""
        if not parts.trained:
            raise ConfigError(
                "this study shows what a trained model makes of its data, and this one has no "
                "weights that mean something; use a torch model and weights=train, hub or a "
                "checkpoint"
            )
        cut = cut_layer(parts.graph, self.cut, self.depth)
        answers, learned = parts.answers(self.split), parts.answers("centres")
        frames = frames_of(answers, cut, self.bits, display)
        centres = Centres.of(features_at(learned, cut), labels(learned), learned.classes)
        shown = self._shown(frames.video)
        drawn = self._embedding(frames.features[shown], centres, display)
        shuffled = np.random.default_rng(self.seed).permutation(len(shown))
        label, video = frames.label[shown], frames.video[shown]
        space, space_right = self._space(frames, centres)
        found = Localities(
            subject=parts.subject,
            cut=cut,
            place=parts.graph.position(cut) + 1,
            layers=len(parts.graph),
            split=self.split,
            bits=self.bits,
            frames=frames,
            shown=shown,
            pairs=temporal(
                frames.features[shown], drawn.colours, label, video, shuffled, self.seed
            ),
            space=space,
            space_right=space_right,
        )
        line = colour_lines(drawn.colours, shuffled, label, video, caption_of_time(found))
        plane = FewestBits(
            drawn.points, frames.bits[shown], self.bits[1], drawn.centres, panels_of_space(found)
        )
        correlation = space.of_separability
        return Findings(
            name="fig1",
            tables=(time_table(found), space_table(found)),
            figures={"fig1a": line, "fig1b": precision_map(plane, caption_of_space(found))},
            data={"settings": asdict(self), **as_json(found)},
            notes=(found.about, claim_of_time(found), *claims_of_space(found)),
            value=float("nan") if correlation is None else correlation.value,
        )

    def _shown(self, videos: Ints) -> Ints:
        """Places of the frames to embed. Raises ConfigError when they are too few for t-SNE."""
        shown = whole_videos(videos, self.frames, self.seed)
        if len(shown) <= self.perplexity:
            raise ConfigError(
                f"frames = {self.frames}: {len(shown)} of {len(videos)} frames are shown, in "
                f"whole videos, and perplexity = {self.perplexity:g} asks more than that; "
                "raise the one or lower the other"
            )
        return shown

    def _embedding(self, features: Floats, centres: Centres, display: Display) -> Embedding:
        """Frames to a line, and together with the centres to the plane."""
        display.progress("embedding by t-SNE", 0, 2)
        line = embedded(features, 1, self.perplexity, self.seed)[:, 0]
        display.progress("embedding by t-SNE", 1, 2)
        directions = unit_rows(centres.feature[centres.count > 0])
        both = np.concatenate([unit_rows(features), directions])
        plane = embedded(both, 2, self.perplexity, self.seed)
        points, stars = np.split(plane, [len(features)])
        display.progress("embedding by t-SNE", 2, 2)
        return Embedding((line - line.min()) / (np.ptp(line) or 1.0), points, stars)

    def _space(self, frames: Frames, centres: Centres) -> tuple[Spatial, Spatial]:
        """Of all frames, and of those that the uncut model answers rightly."""
        separability = SemanticCache(centres).match_all(frames.features)[1]
        distance = centre_distances(frames.features, frames.label, centres)

        def of(kept: NDArray[np.bool_]) -> Spatial:
            bits, videos = frames.bits[kept], frames.video[kept]
            return spatial(bits, distance[kept], separability[kept], videos, self.seed)

        return of(np.ones(len(frames.label), dtype=bool)), of(frames.right)
