"""What early exits of a frozen backbone know: how often each answers from which confidence, and how
often it is right (SPINN, Laskaridis et al., MobiCom 2020).

In: a trained model and its data. Out: for every head and threshold, on the stream split, whose
videos neither training nor calibration saw, the share of the tasks that the head answers in the
cascade, its accuracy on them and on all tasks; for every threshold, what the whole cascade exits
and loses, with intervals by video; a picture of both. All heads look at the tensors themselves, as
they do on the end.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from coach_exp.pipeline.parts import Parts
from coach_exp.planner.exit_places import exit_places
from coach_exp.plots.exits import Cascade, cascades
from coach_exp.results.findings import Findings, Table
from coach_exp.results.metrics import Estimate, drop, ratio
from coach_exp.results.progress import Display
from coach_exp.types.errors import ConfigError
from coach_exp.types.outcomes import Outcomes

Share = Annotated[float, Field(gt=0, le=1)]
THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)


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


@dataclass(frozen=True, slots=True)
class Exits:
    """`count` heads at equal shares of the model's work; thresholds to be shown."""

    count: PositiveInt = 6
    thresholds: Annotated[tuple[Share, ...], Field(min_length=1)] = THRESHOLDS

    def __call__(self, parts: Parts, display: Display) -> Findings:
        """The value is the share of the tasks that exit at the last threshold. Raises ConfigError
        where the model has no trained weights."""
        if not parts.trained:
            raise ConfigError("this study asks exit heads; use weights other than none")
        graph = parts.graph
        heads = exit_places(graph, self.count)
        answers = Answers.of(parts.answers("stream").with_exits(heads), heads)
        depths = [(graph.position(layer) + 1) / len(graph) for layer in heads]
        rows = list(head_rows(answers, heads, depths, self.thresholds))
        every = [cascade_row(answers, threshold) for threshold in self.thresholds]
        uncut = _percent(ratio(answers.uncut == answers.truth, answers.video))
        return Findings(
            name="exits",
            tables=(
                Table(f"exit heads: {parts.subject}", HEADS, [_head_row(row) for row in rows]),
                Table("all heads together", SUMS, [_sum_row(row) for row in every]),
            ),
            figures={"exits": cascades(_drawn(rows, every))},
            data={
                "heads": [asdict(row) for row in rows],
                "cascade": [asdict(row) for row in every],
            },
            notes=(f"{len(answers.truth)} frames; the last exit is right on {uncut} %",),
            value=every[-1].exits,
        )


def head_rows(
    answers: Answers, heads: Sequence[str], depths: Sequence[float], thresholds: Sequence[float]
) -> Iterator[HeadRow]:
    """Every head under every threshold."""
    right = answers.labels == answers.truth
    for k, (layer, depth) in enumerate(zip(heads, depths, strict=True)):
        for threshold in thresholds:
            here = answers.first(threshold) == k
            yield HeadRow(
                layer=layer,
                depth=depth,
                threshold=threshold,
                answers=float(here.mean()),
                right=float(right[k][here].mean()) if here.any() else None,
                alone=float(right[k].mean()),
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
        row.layer,
        f"{100 * row.depth:.0f}",
        f"{row.threshold:g}",
        f"{100 * row.answers:.1f}",
        "–" if row.right is None else f"{100 * row.right:.1f}",
        f"{100 * row.alone:.1f}",
    ]


def _sum_row(row: CascadeRow) -> list[str]:
    lost = row.drop_points
    return [
        f"{row.threshold:g}",
        f"{100 * row.exits:.1f}",
        f"{lost.value:z.2f} [{lost.lo:z.2f}, {lost.hi:z.2f}]",
    ]


def _percent(estimate: Estimate) -> str:
    value = estimate.scaled(100)
    return f"{value.value:.1f} [{value.lo:.1f}, {value.hi:.1f}]"


def _drawn(rows: Sequence[HeadRow], every: Sequence[CascadeRow]) -> list[Cascade]:
    """Each threshold as it is drawn."""
    found = []
    for total in every:
        own = [row for row in rows if row.threshold == total.threshold]
        found.append(
            Cascade(
                threshold=total.threshold,
                depths_percent=[100 * row.depth for row in own],
                answered_percent=np.cumsum([100 * row.answers for row in own]).tolist(),
                exits_percent=100 * total.exits,
                drop_points=total.drop_points,
            )
        )
    return found
