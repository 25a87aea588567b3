"""Exit heads by hand: two heads, four tasks of two videos."""

from dataclasses import dataclass

import numpy as np
import pytest
from helpers import answers as table_of
from helpers.studies import row, study, written

from coach_exp.studies.exits import Answers, cascade_row, head_rows
from coach_exp.types.errors import ConfigError
from coach_exp.types.graph import Layer, LayerGraph
from coach_exp.types.outcomes import ExitAnswer

ANSWERS = Answers(
    labels=np.array([[0, 1, 0, 1], [0, 0, 0, 0]]),
    confidence=np.array([[0.9, 0.4, 0.6, 0.2], [0.1, 0.8, 0.7, 0.3]]),
    uncut=np.array([0, 0, 0, 1]),
    truth=np.array([0, 0, 1, 1]),
    video=np.array([0, 0, 1, 1]),
)


def test_the_first_head_that_is_sure_enough_answers():
    # From 0.6 on: head 0 answers tasks 0 and 2, head 1 answers task 1, nobody task 3.
    assert ANSWERS.first(0.6).tolist() == [0, 1, 0, 2]
    assert ANSWERS.predicted(0.6).tolist() == [0, 0, 0, 1]
    first, second = head_rows(ANSWERS, ("a", "b"), (0.3, 0.6), (0.6,))
    assert (first.answers, first.right, first.alone) == (0.5, 0.5, 0.5)
    assert (second.answers, second.right, second.alone) == (0.25, 1.0, 0.5)


def test_what_the_cascade_exits_and_loses():
    row = cascade_row(ANSWERS, 0.6)
    assert row.exits == 0.75
    assert row.drop_points.value == 0  # both are wrong on task 2 alone
    assert cascade_row(ANSWERS, 0.35).drop_points.value == pytest.approx(25)  # task 1, by head 0


def test_a_threshold_that_no_head_reaches_exits_nothing():
    (row,) = [r for r in head_rows(ANSWERS, ("a",), (0.3,), (0.95,))]
    assert (row.answers, row.right) == (0.0, None)
    assert cascade_row(ANSWERS, 0.95).exits == 0
    assert cascade_row(ANSWERS, 0.95).drop_points.value == 0


CHAIN = LayerGraph.of(
    [Layer("in"), *(Layer(b, (a,)) for a, b in (("in", "a"), ("a", "b"), ("b", "out")))]
)


@dataclass(frozen=True)
class Fake:
    """The parts of a model that answers as above."""

    trained: bool = True
    subject: str = "toy on paper"
    graph: LayerGraph = CHAIN

    def answers(self, split: str) -> table_of.Answers:
        heads = {
            name: [
                ExitAnswer(int(label), float(sure))
                for label, sure in zip(labels, confidence, strict=True)
            ]
            for name, labels, confidence in zip(
                ("a", "b"), ANSWERS.labels, ANSWERS.confidence, strict=True
            )
        }
        features = np.zeros((4, 1), np.float32)
        return table_of.Answers(
            features, ANSWERS.truth, ANSWERS.video, 2, wrong_uncut=frozenset({2}), heads=heads
        )


def test_the_study_tells_each_head_and_all_together(display):
    found = study("exits.Exits", count=2, thresholds=[0.35, 0.6])(Fake(), display)
    assert found.value == 0.75
    assert row(found, "a", "50", "0.6")[3:] == ["50.0", "50.0", "50.0"]
    assert row(found, "0.6")[1] == "75.0"
    assert found.notes[0].startswith("4 frames; the last exit is right on 75.0")
    lost = [each["drop_points"]["value"] for each in written(found)["cascade"]]
    assert lost == [25, 0]
    left, right = found.figures["exits"].axes
    assert len(left.lines) == 2  # thresholds
    assert right.get_ylabel() == "accuracy drop (points)"


def test_a_model_without_weights_has_no_heads(display):
    with pytest.raises(ConfigError, match="weights other than none"):
        study("exits.Exits")(Fake(trained=False), display)
