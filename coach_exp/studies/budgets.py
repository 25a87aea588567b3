"""Do thresholds keep their limit on videos they were not fitted to? Every budget on many draws of
calibration and stream, at several depths.

In: a trained model and its data. Out: for each depth, budget and limit how often the loss on the
stream exceeded the limit, tested binomially, with the exits kept; `budgets.json`, `budgets.md` and
`budgets.png`. Centres stay where calibration put them (`update = none`), since no budget speaks of
centres that move, and every task that may be sent with fewer bits is sent with the fewest.

The loss that counts is the one the budget limits: `paper` and `guarantee` against the plan without
an online part, `joint` against the uncut model. The other one stands beside it.

The guarantee speaks of the loss on all videos there are; what can be counted is the loss on some
others, which strays around it, and the draws share one pool of videos. The binomial test takes the
draws as independent, so its p-value is a guide, not a proof.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt
from scipy.stats import binomtest

from coach_exp.online.budgets import Evidence, Limits, answers_right, min_certificate, thresholds
from coach_exp.online.calibration import Ladder, centres_of, evidence_of
from coach_exp.pipeline.parts import Parts
from coach_exp.plots.figures import COLOURS, new_figure, save_figure
from coach_exp.results.progress import Display
from coach_exp.results.tables import markdown, text_table
from coach_exp.studies.settings import StudySettings
from coach_exp.studies.split_draws import Draw, Draws, depths, planned
from coach_exp.types.method import Problem
from coach_exp.types.online import Budget

Points = Annotated[float, Field(gt=0, lt=100)]
Several = Annotated[tuple[Points, ...], Field(min_length=1)]
RESAMPLES = 2000  # of the videos, for an interval


class Settings(StudySettings):
    """How much is tried: `depths` cuts, `draws` divisions of the videos, and the limits ε of each
    budget in percentage points."""

    kind: Literal["budgets"] = "budgets"
    depths: PositiveInt = 4
    draws: PositiveInt = 100
    limits: Mapping[Budget, Several] = Field(min_length=1)
    delta: float = Field(0.1, gt=0, lt=1)
    exits: bool = True
    adjust: bool = True
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Outcome:
    """One draw under one budget. Losses in points on the stream; `videos` and `video_loss` are its
    videos and what each lost, `frames` how many frames each has."""

    exit_share: float
    loss_points: float
    uncut_loss_points: float
    videos: NDArray[np.int64]
    video_loss: NDArray[np.float64]
    frames: NDArray[np.int64]


@dataclass(frozen=True)
class Row:
    """A depth, a budget and its limit over all draws."""

    layer: str
    depth: float
    budget: Budget
    limit_points: float
    outcomes: Sequence[Outcome]

    @property
    def breaks(self) -> int:
        """Draws on whose stream the limited loss exceeded the limit."""
        return sum(self.limited(each) > self.limit_points + 1e-9 for each in self.outcomes)

    def limited(self, outcome: Outcome) -> float:
        """The loss that the budget limits."""
        return outcome.uncut_loss_points if self.budget == "joint" else outcome.loss_points


def study(settings: Mapping[str, Any], directory: Path, display: Display, parts: Parts) -> float:
    """Run the study; returns the largest share of draws in which `guarantee` was broken."""
    wanted = Settings.read(settings)
    rows: list[Row] = []
    least: list[list[str]] = []
    base = parts.problem(parts.trace())
    draws = list(Draws.of(parts, wanted.draws, wanted.seed))
    places = depths(base.graph, wanted.depths)
    for layer, depth in places.items():
        pairs = []
        for each in draws:
            pairs.append(_evidence(each, base, layer))
            done = list(places).index(layer) * len(draws) + len(pairs)
            display.progress(f"cut behind {layer}", done, len(places) * len(draws))
        rows += _rows(wanted, layer, depth, pairs)
        least.append(_certifiable(wanted, layer, depth, [calib for calib, _ in pairs]))
    cells = [_cells(row, wanted.delta) for row in rows]
    (directory / "budgets.md").write_text(
        markdown(_heads(wanted.delta), cells) + "\n" + markdown(MIN_HEADS, least)
    )
    content = json.dumps([_json(row) for row in rows], indent=1)
    (directory / "budgets.json").write_text(content + "\n")
    draw(rows, directory / "budgets.png")
    title = f"the loss on other videos, {wanted.draws} draws"
    display.say(text_table(title, _heads(wanted.delta), cells))
    display.say(text_table("what can be certified, medians over draws", MIN_HEADS, least))
    guaranteed = [row.breaks / len(row.outcomes) for row in rows if row.budget == "guarantee"]
    return max(guaranteed, default=0.0)


def _evidence(each: Draw, base: Problem, layer: str) -> tuple[Evidence, Evidence]:
    """What the thresholds are fitted to, and what judges them: no video is in both."""
    problem = each.problem(base)
    plan = planned(problem, layer)
    steps = Ladder.of(plan, problem.graph.input.name, most=None)
    centres = centres_of(each.centres, plan)
    calib, stream = (
        evidence_of(part, plan, steps, centres, each.centres) for part in (each.calib, each.stream)
    )
    return calib, stream


def _limits(wanted: Settings) -> Iterator[Limits]:
    for budget, limits in wanted.limits.items():
        for points in limits:
            yield Limits(budget, points / 100, wanted.delta, wanted.exits, wanted.adjust)


def _rows(
    wanted: Settings, layer: str, depth: float, pairs: Sequence[tuple[Evidence, Evidence]]
) -> Iterator[Row]:
    for limits in _limits(wanted):
        found = [judged(calib, stream, limits) for calib, stream in pairs]
        yield Row(layer, depth, limits.budget, 100 * limits.loss, found)


def judged(calib: Evidence, stream: Evidence, limits: Limits) -> Outcome:
    """Fit the thresholds to one set of videos and judge them on another."""
    chosen = thresholds(calib, limits)
    right = answers_right(stream, chosen)
    loss = stream.plain.astype(float) - right
    videos, which = np.unique(stream.video, return_inverse=True)
    return Outcome(
        exit_share=float((stream.separability > chosen.exit).mean()),
        loss_points=100 * float(loss.mean()),
        uncut_loss_points=100 * float(stream.uncut_right.mean() - right.mean()),
        videos=videos,
        video_loss=np.bincount(which, weights=loss).astype(float),
        frames=np.bincount(which),
    )


def loss_interval(outcomes: Sequence[Outcome], seed: int = 0) -> tuple[float, float, float]:
    """Loss in points over all draws, with a 95 % bootstrap interval: whole videos are drawn again,
    each with all its appearances, since its frames, and its appearances, are no new evidence."""
    videos = np.unique(np.concatenate([each.videos for each in outcomes]))
    loss, frames = np.zeros(len(videos)), np.zeros(len(videos))
    for each in outcomes:
        at = np.searchsorted(videos, each.videos)
        loss[at] += each.video_loss
        frames[at] += each.frames
    rng = np.random.default_rng(seed)
    picked = rng.integers(len(videos), size=(RESAMPLES, len(videos)))
    means = 100 * loss[picked].sum(axis=1) / frames[picked].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return 100 * float(loss.sum() / frames.sum()), float(low), float(high)


# --- What is shown --------------------------------------------------------------------------------

MIN_HEADS = ("cut behind", "depth %", "calibration videos", "smallest ε, points", "exits kept %")


def _heads(delta: float) -> tuple[str, ...]:
    return (
        *("cut behind", "depth %", "budget", "ε points", "exits %"),
        *("loss against the plan", "loss against uncut"),
        *("draws beyond ε %", f"p (≤ {100 * delta:g} %)"),
    )


def _cells(row: Row, delta: float) -> list[str]:
    count = len(row.outcomes)
    test = binomtest(row.breaks, count, delta, alternative="greater")
    exact = binomtest(row.breaks, count).proportion_ci(method="exact")
    value, low, high = loss_interval(row.outcomes)
    uncut = float(np.mean([each.uncut_loss_points for each in row.outcomes]))
    return [
        *(row.layer, f"{100 * row.depth:.0f}", row.budget, f"{row.limit_points:g}"),
        f"{100 * np.mean([each.exit_share for each in row.outcomes]):.1f}",
        f"{value:z.2f} [{low:z.2f}, {high:z.2f}]",
        f"{uncut:z.2f}",
        f"{100 * row.breaks / count:.0f} [{100 * exact.low:.0f}, {100 * exact.high:.0f}]",
        f"{test.pvalue:.2g}",
    ]


def _certifiable(
    wanted: Settings, layer: str, depth: float, calibrations: Sequence[Evidence]
) -> list[str]:
    """The smallest limit at which anything can be certified, and the exits it keeps: medians."""
    limits = Limits("guarantee", 1.0, wanted.delta, wanted.exits, wanted.adjust)
    found = [min_certificate(calib, limits) for calib in calibrations]
    known = np.array([(each.limit_points, each.exit_share) for each in found if each is not None])
    videos = np.median([len(np.unique(calib.video)) for calib in calibrations])
    row = [layer, f"{100 * depth:.0f}", f"{videos:.0f}"]
    if not len(known):
        return [*row, "–", "–"]
    points, share = np.median(known, axis=0)
    return [*row, f"{points:.2f}", f"{100 * share:.1f}"]


def _json(row: Row) -> dict[str, Any]:
    return {
        "layer": row.layer,
        "depth": row.depth,
        "budget": row.budget,
        "limit_points": row.limit_points,
        "breaks": row.breaks,
        "draws": [
            {
                "exit_share": each.exit_share,
                "loss_points": each.loss_points,
                "uncut_loss_points": each.uncut_loss_points,
            }
            for each in row.outcomes
        ],
    }


def draw(rows: Sequence[Row], path: Path) -> None:
    """The limited loss of every draw: a panel for each depth, a column for each budget and limit,
    the limit as a bar across it."""
    layers = list(dict.fromkeys(row.layer for row in rows))
    figure = new_figure(3.4 * len(layers) + 1, 4.2)
    panels = figure.subplots(1, len(layers), sharey=True, squeeze=False)[0]
    rng = np.random.default_rng(0)
    for axes, layer in zip(panels, layers, strict=True):
        own = [row for row in rows if row.layer == layer]
        for k, row in enumerate(own):
            values = [row.limited(each) for each in row.outcomes]
            jitter = k + rng.uniform(-0.25, 0.25, len(values))
            colour = COLOURS[("paper", "joint", "guarantee").index(row.budget)]
            axes.plot(jitter, values, ".", color=colour, ms=4, alpha=0.6)
            axes.plot([k - 0.4, k + 0.4], [row.limit_points] * 2, color="black", lw=1.5)
        labels = [f"{row.budget}\n{row.limit_points:g}" for row in own]
        axes.set_xticks(range(len(own)), labels, fontsize=8)
        axes.set_title(f"{layer} ({100 * own[0].depth:.0f} %)", fontsize=10, loc="left")
        axes.spines[["right"]].set_visible(False)
    panels[0].set_ylabel("accuracy lost on other videos (points)")
    save_figure(figure, path)
