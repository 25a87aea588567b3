"""What early exits of a frozen backbone know: how often each answers from which confidence, and how
often it is right (SPINN, Laskaridis et al., MobiCom 2020).

In: a trained model and its data. Out: for every head and threshold, on the stream split, whose
videos neither training nor calibration saw, the share of the tasks that the head answers in the
cascade, its accuracy on them and on all tasks; for every threshold, what the whole cascade exits
and loses, with intervals by video; `exits.json`, `exits.md` and `exits.png`. All heads look at the
tensors themselves, as they do on the end.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from coach_exp.pipeline.parts import Parts
from coach_exp.planner.exit_places import exit_places
from coach_exp.plots.figures import COLOURS, new_figure, save_figure
from coach_exp.results.metrics import Estimate, drop, ratio
from coach_exp.results.progress import Display
from coach_exp.results.tables import markdown, text_table
from coach_exp.studies.settings import StudySettings
from coach_exp.types.errors import ConfigError
from coach_exp.types.outcomes import Outcomes

Share = Annotated[float, Field(gt=0, le=1)]


class Settings(StudySettings):
    """`count` heads at equal shares of the model's work; thresholds to be shown."""

    kind: Literal["exits"] = "exits"
    count: PositiveInt = 6
    thresholds: tuple[Share, ...] = Field((0.5, 0.7, 0.8, 0.9, 0.95, 0.99), min_length=1)


@dataclass(frozen=True, slots=True)
class HeadRow:
    """One head under one threshold. `answers` is its share of all tasks; `right` its accuracy on
    those, None where there are none; `alone` its accuracy on all tasks."""

    layer: str
    depth: float
    threshold: float
    answers: float
    right: float | None
    alone: float


@dataclass(frozen=True, slots=True)
class CascadeRow:
    """All heads under one threshold: the share of the tasks that exit, and the points lost against
    the last exit, with an interval by video."""

    threshold: float
    exits: float
    drop_points: Estimate


@dataclass(frozen=True, eq=False)
class Answers:
    """What heads and model say of a split: [heads, n], and [n]."""

    labels: NDArray[np.int64]
    confidence: NDArray[np.float64]
    uncut: NDArray[np.int64]
    truth: NDArray[np.int64]
    video: NDArray[np.int64]

    @staticmethod
    def of(outcomes: Outcomes, heads: Sequence[str]) -> "Answers":
        """Asked of a model with exit heads."""
        count = range(outcomes.samples)
        asked = [[outcomes.at_exit(i, layer) for i in count] for layer in heads]
        return Answers(
            np.array([[answer.label for answer in head] for head in asked]),
            np.array([[answer.confidence for answer in head] for head in asked]),
            np.array([outcomes.uncut(i) for i in count]),
            np.array([outcomes.true_label(i) for i in count]),
            np.array([outcomes.video(i) for i in count]),
        )

    def first(self, threshold: float) -> NDArray[np.int64]:
        """The first head that is sure enough, of every task; their number where none is: [n]."""
        sure = np.vstack([self.confidence >= threshold, np.ones((1, len(self.truth)), dtype=bool)])
        first: NDArray[np.int64] = sure.argmax(axis=0)
        return first

    def predicted(self, threshold: float) -> NDArray[np.int64]:
        """The cascade's answers: [n]."""
        every = np.vstack([self.labels, self.uncut])
        answers: NDArray[np.int64] = every[self.first(threshold), np.arange(len(self.truth))]
        return answers


def study(settings: Mapping[str, Any], directory: Path, display: Display, parts: Parts) -> float:
    """Run the study; returns the share of the tasks that exit at the highest threshold."""
    wanted = Settings.read(settings)
    if not parts.trained:
        raise ConfigError("experiment=exits asks exit heads; use weights other than none")
    graph = parts.graph
    heads = exit_places(graph, wanted.count)
    answers = Answers.of(parts.answers("stream").with_exits(heads), heads)
    depths = [(graph.position(layer) + 1) / len(graph) for layer in heads]
    rows = list(head_rows(answers, heads, depths, wanted.thresholds))
    cascade = [cascade_row(answers, threshold) for threshold in wanted.thresholds]
    kept = {"heads": [asdict(r) for r in rows], "cascade": [asdict(r) for r in cascade]}
    (directory / "exits.json").write_text(json.dumps(kept, indent=1) + "\n")
    tables = [(HEADS, [_head_row(r) for r in rows]), (SUMS, [_sum_row(r) for r in cascade])]
    (directory / "exits.md").write_text("\n".join(markdown(*table) for table in tables))
    draw(rows, cascade, directory / "exits.png")
    display.say(text_table(f"exit heads: {parts.subject}", *tables[0]))
    display.say(text_table("all heads together", *tables[1]))
    uncut = ratio(answers.uncut == answers.truth, answers.video)
    display.say(f"{len(answers.truth)} frames; the last exit is right on {_percent(uncut)} %")
    return cascade[-1].exits


def head_rows(
    answers: Answers, heads: Sequence[str], depths: Sequence[float], thresholds: Sequence[float]
) -> Iterator[HeadRow]:
    """Every head under every threshold."""
    right = answers.labels == answers.truth
    for k, (layer, depth) in enumerate(zip(heads, depths, strict=True)):
        for threshold in thresholds:
            here = answers.first(threshold) == k
            yield HeadRow(
                *(layer, depth, threshold, float(here.mean())),
                float(right[k][here].mean()) if here.any() else None,
                float(right[k].mean()),
            )


def cascade_row(answers: Answers, threshold: float) -> CascadeRow:
    """All heads under one threshold."""
    before, after = answers.uncut == answers.truth, answers.predicted(threshold) == answers.truth
    exits = float((answers.first(threshold) < len(answers.labels)).mean())
    return CascadeRow(threshold, exits, drop(before, after, answers.video).scaled(100))


HEADS = ("exit behind", "depth %", "threshold", "answers % of tasks", "right %", "alone right %")
SUMS = ("threshold", "exits %", "drop, points [95 %]")


def _head_row(row: HeadRow) -> list[str]:
    return [
        *(row.layer, f"{100 * row.depth:.0f}", f"{row.threshold:g}", f"{100 * row.answers:.1f}"),
        "–" if row.right is None else f"{100 * row.right:.1f}",
        f"{100 * row.alone:.1f}",
    ]


def _sum_row(row: CascadeRow) -> list[str]:
    lost = row.drop_points
    return [
        *(f"{row.threshold:g}", f"{100 * row.exits:.1f}"),
        f"{lost.value:z.2f} [{lost.lo:z.2f}, {lost.hi:z.2f}]",
    ]


def _percent(estimate: Estimate) -> str:
    value = estimate.scaled(100)
    return f"{value.value:.1f} [{value.lo:.1f}, {value.hi:.1f}]"


def draw(rows: Sequence[HeadRow], cascade: Sequence[CascadeRow], path: Path) -> None:
    """Left: the share of the tasks that each head answers, a line for each threshold; right: what
    the cascade loses against what it exits."""
    figure = new_figure(9.5, 3.6)
    left, right = figure.subplots(1, 2)
    for k, total in enumerate(cascade):
        own = [row for row in rows if row.threshold == total.threshold]
        colour = COLOURS[k % len(COLOURS)]
        depth = [100 * row.depth for row in own]
        shares = np.cumsum([100 * row.answers for row in own])
        left.plot(depth, shares, "o-", ms=3, lw=1.2, color=colour, label=f"{total.threshold:g}")
        lost = total.drop_points
        low, high = lost.lo or lost.value, lost.hi or lost.value
        bars = [[lost.value - low], [high - lost.value]]
        right.errorbar(100 * total.exits, lost.value, bars, fmt="o", ms=4, color=colour)
    left.set_xlabel("layers before the head (%)")
    left.set_ylabel("tasks answered by then (%)")
    left.legend(title="threshold", frameon=False)
    right.set_xlabel("tasks that exit (%)")
    right.set_ylabel("accuracy drop (points)")
    right.axhline(0, color="0.7", lw=0.8, zorder=0)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)
