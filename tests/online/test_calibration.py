"""Calibration of a plan's online part on answers written by hand, and what it refuses."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from helpers.answers import Answers
from helpers.graphs import chain

from coach_exp.online.budgets import Limits
from coach_exp.online.calibration import Ladder, calibrated
from coach_exp.planner.planning import Planner
from coach_exp.types.errors import DataError
from coach_exp.types.method import Calibration
from coach_exp.types.outcomes import Crossing

# Label 0 lies along (1, 0), label 1 along (0, 1). The angle tells how separable a task is.
CENTRES = Answers(
    np.array([[2.0, 0.0], [4.0, 0.0], [0.0, 1.0]], np.float32),
    np.array([0, 0, 1]),
    np.array([0, 0, 1]),
    classes=3,
)


def tasks(degrees, label, sent, first_video: int = 10) -> Answers:
    """One task for each angle, each a video of its own."""
    turned = np.radians(degrees)
    features = np.stack([np.cos(turned), np.sin(turned)], axis=1).astype(np.float32)
    videos = first_video + np.arange(len(degrees))
    return Answers(features, np.array(label), videos, 3, _arrays(sent))


def _arrays(sent) -> dict[int, np.ndarray]:
    return {bits: np.array(labels) for bits, labels in sent.items()}


#   angle      5  15  25  35  40      nearest: label 0, S falling
#   truth      0   0   1   0   1      exits with 0: the third and the fifth are wrong
#   at 3 bits  0   0   1   0   0      the last is lost
#   at 2 bits  0   0   0   0   0      the third and the last are lost
#   plan, 4    0   0   1   0   1      all right
CALIB = tasks([5, 15, 25, 35, 40], [0, 0, 1, 0, 1], {3: [0, 0, 1, 0, 0], 2: [0, 0, 0, 0, 0]})


def planned(calib=CALIB, centres=CENTRES, **changes):
    given = replace(chain((0, 2, 9), (0, 1, 1), (1, 1, 1)), **changes)
    given = replace(given, calibration=Calibration(centres, calib))
    plan = Planner(release="after_decision").plan_for(given, ["in", "1"])
    return given, replace(plan, crossing=(Crossing("1", 4),))


def separability(degrees: float) -> float:
    """Eq. 9 for two orthogonal centres: ‖t‖ = 1, (cos − sin)·cos / sin."""
    turned = np.radians(degrees)
    return float((np.cos(turned) - np.sin(turned)) * np.cos(turned) / np.sin(turned))


def test_thresholds_by_hand():
    # One of five may be lost. Exits: up to 35°, for the third alone is wrong: S above that of 40°.
    # 3 bits: all, the last alone is lost. 2 bits: all but the last.
    table = calibrated(*planned(), Limits("paper", 0.2)).online
    assert table.exit_threshold == pytest.approx(separability(40), rel=1e-6)
    assert [rung.bits for rung in table.rungs] == [2, 3, 4]
    assert table.rungs[0].threshold == pytest.approx(separability(40), rel=1e-6)
    assert [rung.threshold for rung in table.rungs[1:]] == [-inf, -inf]
    assert [rung.widths for rung in table.rungs] == [(2,), (3,), (4,)]
    assert [rung.payload_bytes for rung in table.rungs] == [250, 375, 500]  # 1000 elements
    assert (table.samples, table.videos) == (5, 5)
    assert table.exit_share == pytest.approx(0.8)
    assert table.loss_points == pytest.approx(40)  # the third exits wrongly, the last at 3 bits
    assert table.as_json()["exit_threshold"] == pytest.approx(separability(40), rel=1e-6)
    assert table.as_json()["rungs"][1]["threshold"] is None


def test_centres_are_means_and_a_label_without_samples_has_none():
    table = calibrated(*planned(), Limits("paper", 0.2)).online
    assert table.centres.feature[:2].tolist() == [[3, 0], [0, 1]]
    assert table.centres.count.tolist() == [2, 1, 0]


def test_nothing_may_be_lost():
    # 2 bits keep the first two, exits as well; the third is wrong both ways.
    table = calibrated(*planned(), Limits("paper", 0.0)).online
    assert table.exit_threshold == pytest.approx(separability(25), rel=1e-6)
    assert table.rungs[0].threshold == pytest.approx(separability(25), rel=1e-6)
    assert table.rungs[1].threshold == pytest.approx(separability(40), rel=1e-6)


def test_parts_switched_off():
    exits = calibrated(*planned(), Limits("paper", 0.2, adjust=False)).online
    assert [rung.bits for rung in exits.rungs] == [4]
    bits = calibrated(*planned(), Limits("paper", 0.2, exits=False)).online
    assert bits.exit_threshold == inf
    assert [curve.name for curve in bits.curves] == ["3 bits", "2 bits"]


def test_more_bits_than_the_plans_only_where_asked():
    table = calibrated(*planned(), Limits("paper", 0.2), max_bits=6).online
    assert [(rung.bits, rung.threshold) for rung in table.rungs[2:]] == [
        *((4, -inf), (5, -inf), (6, -inf))
    ]


def test_equal_settings_are_calibrated_once():
    given, plan = planned()
    limits = Limits("paper", 0.2)
    assert calibrated(given, plan, limits).online is calibrated(given, plan, limits).online
    assert calibrated(given, plan, Limits("paper", 0.1)).online is not (
        calibrated(given, plan, limits).online
    )


def test_shared_videos_are_refused():
    given, plan = planned(calib=tasks([5], [0], {}, first_video=1))
    with pytest.raises(DataError, match="'centres' and 'calib' share 1 videos, such as video 1"):
        calibrated(given, plan, Limits())
    given, plan = planned(outcomes=tasks([5], [0], {}, first_video=12))
    with pytest.raises(DataError, match="'calib' and 'stream' share 1 videos, such as video 12"):
        calibrated(given, plan, Limits())


def test_a_plan_that_sends_nothing_or_has_no_answers_stays():
    given, plan = planned()
    local = Planner().plan_for(given, ["in", "1", "2"])
    assert calibrated(given, local, Limits()) is local
    assert calibrated(replace(given, calibration=None), plan, Limits()) is plan


def test_widths_of_several_tensors():
    plan = replace(planned()[1], crossing=(Crossing("in", 8), Crossing("a", 3), Crossing("b", 5)))
    steps = Ladder.of(plan, "in", most=6)
    assert steps.own == 5
    assert {b: tuple(t.bits for t in c) for b, c in steps.crossings.items()} == {
        2: (8, 2, 2),
        3: (8, 3, 3),
        4: (8, 3, 4),
        5: (8, 3, 5),
        6: (8, 6, 6),
    }


def test_the_raw_input_keeps_its_encoding():
    plan = replace(planned()[1], crossing=(Crossing("in", 8),))
    assert Ladder.of(plan, "in", most=None).crossings == {8: (Crossing("in", 8),)}
