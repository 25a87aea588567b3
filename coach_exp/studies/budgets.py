"""Do thresholds keep their limit on videos they were not fitted to? Every budget on many draws of
calibration and stream, at several depths.

In: a trained model and its data. Out: for each depth, budget and limit how often the loss on the
stream exceeded the limit, tested binomially, with the exits kept; what can be certified at all; a
picture of every draw. Centres stay where calibration put them (`update = none`), since no budget
speaks of centres that move, and every task that may be sent with fewer bits is sent with the
fewest.

The loss that counts is the one the budget limits: `paper` and `guarantee` against the plan without
an online part, `joint` against the uncut model. The other one stands beside it.

The guarantee speaks of the loss on all videos there are; what can be counted is the loss on some
others, which strays around it, and the draws share one pool of videos. The binomial test takes the
draws as independent, so its p-value is a guide, not a proof.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt
from scipy.stats import binomtest

from coach_exp.online.budgets import Evidence, Limits, answers_right, min_certificate, thresholds
from coach_exp.online.calibration import Ladder, centres_of, evidence_of
from coach_exp.pipeline.parts import Parts
from coach_exp.plots.budgets import Column, loss_panels
from coach_exp.results.findings import Findings, Table
from coach_exp.results.progress import Display
from coach_exp.studies.split_draws import Draw, Draws, depths, planned
from coach_exp.types.method import Problem
from coach_exp.types.online import Budget

Points = Annotated[float, Field(gt=0, lt=100)]
Several = Annotated[tuple[Points, ...], Field(min_length=1)]
RESAMPLES = 2000  # of the videos, for an interval


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


@dataclass(frozen=True, slots=True)
class Budgets:
    """How much is tried: `depths` cuts, `draws` divisions of the videos, and the limits ε of each
    budget in percentage points; `delta` is the probability with which `guarantee` may exceed its
    own."""

    limits: Annotated[Mapping[Budget, Several], Field(min_length=1)]
    depths: PositiveInt = 4
    draws: PositiveInt = 100
    delta: Annotated[float, Field(gt=0, lt=1)] = 0.1
    exits: bool = True
    adjust: bool = True
    seed: int = 0

    def __call__(self, parts: Parts, display: Display) -> Findings:
        """The value is the largest share of draws in which `guarantee` was broken."""
        rows: list[Row] = []
        certifiable: list[list[str]] = []
        base = parts.problem(parts.trace())
        draws = list(Draws.of(parts, self.draws, self.seed))
        places = depths(base.graph, self.depths)
        for number, (layer, depth) in enumerate(places.items()):
            pairs = []
            for each in draws:
                pairs.append(_evidence(each, base, layer))
                done = number * len(draws) + len(pairs)
                display.progress(f"cut behind {layer}", done, len(places) * len(draws))
            rows += self._rows(layer, depth, pairs)
            known = self._certifiable([calib for calib, _ in pairs])
            certifiable.append([layer, _percent(depth), *known])
        title = f"the loss on other videos, {self.draws} draws"
        cells = [_cells(row, self.delta) for row in rows]
        guaranteed = [row.breaks / len(row.outcomes) for row in rows if row.budget == "guarantee"]
        return Findings(
            name="budgets",
            tables=(
                Table(title, _heads(self.delta), cells),
                Table("what can be certified, medians over draws", MIN_HEADS, certifiable),
            ),
            figures={"budgets": loss_panels(_panels(rows))},
            data={"rows": [_json(row) for row in rows]},
            value=max(guaranteed, default=0.0),
        )

    def _rows(
        self, layer: str, depth: float, pairs: Sequence[tuple[Evidence, Evidence]]
    ) -> Iterator[Row]:
        """Every budget and limit at one depth."""
        for budget, limits in self.limits.items():
            for points in limits:
                asked = Limits(budget, points / 100, self.delta, self.exits, self.adjust)
                found = [judged(calib, stream, asked) for calib, stream in pairs]
                yield Row(layer, depth, budget, 100 * asked.loss, found)

    def _certifiable(self, calibrations: Sequence[Evidence]) -> list[str]:
        """How many videos calibrate, the smallest limit at which anything can be certified, and the
        exits it keeps: medians."""
        limits = Limits("guarantee", 1.0, self.delta, self.exits, self.adjust)
        found = [min_certificate(calib, limits) for calib in calibrations]
        known = np.array([(e.limit_points, e.exit_share) for e in found if e is not None])
        videos = np.median([len(np.unique(calib.video)) for calib in calibrations])
        if not len(known):
            return [f"{videos:.0f}", "–", "–"]
        points, share = np.median(known, axis=0)
        return [f"{videos:.0f}", f"{points:.2f}", f"{100 * share:.1f}"]


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


def _heads(delta: float) -> list[str]:
    heads = ["cut behind", "depth %", "budget", "ε points", "exits %"]
    heads += ["loss against the plan", "loss against uncut"]
    return [*heads, "draws beyond ε %", f"p (≤ {100 * delta:g} %)"]


def _cells(row: Row, delta: float) -> list[str]:
    count = len(row.outcomes)
    test = binomtest(row.breaks, count, delta, alternative="greater")
    exact = binomtest(row.breaks, count).proportion_ci(method="exact")
    value, low, high = loss_interval(row.outcomes)
    uncut = float(np.mean([each.uncut_loss_points for each in row.outcomes]))
    return [
        row.layer,
        _percent(row.depth),
        row.budget,
        f"{row.limit_points:g}",
        f"{100 * np.mean([each.exit_share for each in row.outcomes]):.1f}",
        f"{value:z.2f} [{low:z.2f}, {high:z.2f}]",
        f"{uncut:z.2f}",
        f"{100 * row.breaks / count:.0f} [{100 * exact.low:.0f}, {100 * exact.high:.0f}]",
        f"{test.pvalue:.2g}",
    ]


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


def _panels(rows: Sequence[Row]) -> dict[str, list[Column]]:
    """The limited losses of each depth, under its title."""
    panels: dict[str, list[Column]] = {}
    for row in rows:
        losses = [row.limited(each) for each in row.outcomes]
        title = f"{row.layer} ({_percent(row.depth)} %)"
        panels.setdefault(title, []).append(Column(row.budget, row.limit_points, losses))
    return panels


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"
