"""Exit heads by hand: two heads, four tasks of two videos."""

import numpy as np
import pytest

from coach_exp.studies.exits import Answers, cascade_row, draw, head_rows

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


def test_the_picture_is_drawn(tmp_path):
    thresholds = (0.35, 0.6)
    rows = list(head_rows(ANSWERS, ("a", "b"), (0.3, 0.6), thresholds))
    draw(rows, [cascade_row(ANSWERS, t) for t in thresholds], tmp_path / "exits.png")
    assert (tmp_path / "exits.png").stat().st_size > 10_000
