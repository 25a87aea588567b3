"""Draws of the splits, and the two studies on them, with a model that is a table of answers."""

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pytest
from helpers.answers import Answers
from helpers.graphs import PlainCodec, chain
from helpers.studies import study, written

from coach_exp.network.trace import constant
from coach_exp.online.budgets import Evidence, Limits
from coach_exp.pipeline.outcomes import RescaledOutcomes, SelectedOutcomes
from coach_exp.quant.precision import SearchedBits
from coach_exp.studies import budgets, orders
from coach_exp.studies.split_draws import Draws
from coach_exp.types.errors import ConfigError
from coach_exp.types.graph import Layer, LayerGraph
from coach_exp.types.method import Problem
from coach_exp.types.outcomes import ExitAnswer

FRAMES = 6  # of each video


def split(rng, videos: int, first: int) -> Answers:
    """Two labels; a video strays from its label's centre, its frames a little more; what strays far
    is answered wrongly from the cache and by few bits."""
    label = np.repeat(np.arange(videos) % 2, FRAMES)
    stray = np.repeat(rng.normal(0, 0.6, videos), FRAMES) + rng.normal(0, 0.05, videos * FRAMES)
    angle = label * np.pi / 2 + stray
    features = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    sent = {bits: np.where(np.abs(stray) > 0.3 * bits, 1 - label, label) for bits in (2, 3, 4)}
    return Answers(features, label, first + np.repeat(np.arange(videos), FRAMES), 2, sent)


@dataclass
class Made:
    """Parts of a config that needs no model."""

    trained: bool = True

    def __post_init__(self) -> None:
        rng = np.random.default_rng(0)
        sizes = {"centres": 30, "calib": 60, "stream": 60}
        firsts = np.cumsum([0, *sizes.values()])
        self.splits = {
            name: split(rng, count, int(first))
            for (name, count), first in zip(sizes.items(), firsts[:-1], strict=True)
        }

    def problem(self, trace) -> Problem:
        bits = SearchedBits(lambda: self.splits["calib"], 0.5, "in")
        return chain((0, 1, 1, 1), (0, 1, 1, 1), (1, 1, 1, 1), bits=bits)

    def trace(self):
        return constant(8000.0)

    @property
    def graph(self) -> LayerGraph:
        return self.problem(None).graph

    def answers(self, name):
        return self.splits[name]


def videos_of(outcomes: SelectedOutcomes) -> set[int]:
    return {outcomes.video(i) for i in range(outcomes.samples)}


def test_a_draw_divides_all_videos_and_shares_none():
    draws = list(Draws.of(Made(), count=3, seed=0))
    assert [each.number for each in draws] == [0, 1, 2]
    for each in draws:
        parts = [videos_of(part) for part in (each.centres, each.calib, each.stream)]
        assert [len(part) for part in parts] == [30, 60, 60]
        assert not any(a & b for a, b in combinations(parts, 2))
        assert set.union(*parts) == set(range(150))
    assert videos_of(draws[0].calib) != videos_of(draws[1].calib)


def test_selected_samples_answer_as_they_did_in_their_split():
    made = Made()
    pool = SelectedOutcomes.all_of(made.splits["centres"], made.splits["calib"])
    few = pool.of(np.array([3, 200]))
    assert few.samples == 2
    assert few.true_label(0) == made.splits["centres"].true_label(3)
    assert few.video(1) == made.splits["calib"].video(200 - 30 * FRAMES)
    np.testing.assert_array_equal(few.feature(0, []), made.splits["centres"].feature(3, []))


def test_exit_heads_answer_for_selected_and_for_rescaled_samples():
    rng = np.random.default_rng(0)
    splits = [split(rng, 1, first) for first in (0, 1)]
    heads = [[ExitAnswer(10 * part + i, 0.5) for i in range(splits[0].samples)] for part in (0, 1)]
    sources = [
        replace(each, heads={"a": said, "b": []}) for each, said in zip(splits, heads, strict=True)
    ]
    few = SelectedOutcomes.all_of(*sources).of(np.array([sources[0].samples + 3, 2]))
    timed = LayerGraph.of([Layer("in"), Layer("a", ("in",))])
    for each in (few, RescaledOutcomes(few, timed, PlainCodec())):
        with_exits = each.with_exits(["a"])
        assert [with_exits.at_exit(i, "a").label for i in (0, 1)] == [13, 2]
        with pytest.raises(KeyError):
            with_exits.at_exit(0, "b")


def test_all_orders_hold_the_same_frames_and_high_keeps_videos_whole():
    each = next(iter(Draws.of(Made(), count=1, seed=0)))
    found = {order: each.order(order, seed=1) for order in orders.ORDERS}
    for order in found.values():
        assert sorted(order) == list(range(each.stream.samples))
    video = np.array([each.stream.video(i) for i in found["high"]])
    assert (np.diff(video) != 0).sum() == 60 - 1
    assert (np.diff([each.stream.video(i) for i in found["low"]]) != 0).sum() > 250


def test_without_training_there_is_nothing_to_ask():
    with pytest.raises(ConfigError, match="weights other than none"):
        Draws.of(Made(trained=False), count=1, seed=0)


@pytest.mark.slow
def test_orders_of_centres_that_stay_are_the_same(display):
    found = study("orders.Orders", depths=2, draws=2, count_caps=[None, 5])(Made(), display)
    rows = written(found)["rows"]
    assert len(rows) == 2 * 5  # depths × rules
    still = [row for row in rows if row["rule"]["update"] == "none"]
    for row in still:
        low, medium, high = (row["runs"][order] for order in orders.ORDERS)
        assert low == medium == high
        assert 0 < low[0]["exit_ratio"] < 1
    moving = [row for row in rows if row["rule"]["cap"] == 5]
    assert any(row["runs"]["low"] != row["runs"]["high"] for row in moving)
    (table,) = found.tables
    assert len(table.rows) == len(rows)
    assert {len(cells) for cells in table.rows} == {len(table.heads)}
    assert len(found.figures["orders"].axes) == 2 * 5
    assert found.notes[0].startswith("centres that stay: the exit ratio is the same")


def test_the_rise_is_paired_by_draw():
    def run(ratio: float) -> orders.Measured:
        return orders.Measured(ratio, None, 0.0, None)

    runs = {"low": [run(0.1), run(0.5)], "medium": [], "high": [run(0.3), run(0.7)]}
    row = orders.Row("a", 0.5, orders.Rule("exits", None), runs)
    assert row.rise().value == pytest.approx(0.2)
    assert row.rise().lo == pytest.approx(0.2)  # the same rise in both: no spread
    assert row.mean("low", "wrong_exits") is None


def test_budgets_are_judged_on_videos_they_never_saw(display):
    limits = {"paper": [0.5], "guarantee": [0.5, 8.0]}
    found = study("budgets.Budgets", depths=1, draws=8, limits=limits)(Made(), display)
    paper, none, some = written(found)["rows"]
    assert paper["breaks"] >= 2  # a limit fitted to 60 videos does not hold on the next 60
    assert none["breaks"] == 0
    assert all(each["exit_share"] == 0 for each in none["draws"])  # nothing can be certified
    assert any(each["exit_share"] > 0 for each in some["draws"])
    assert found.value == max(none["breaks"], some["breaks"]) / 8
    assert [len(table.rows) for table in found.tables] == [3, 1]
    assert len(found.figures["budgets"].axes) == 1


def evidence(exit_right, videos) -> Evidence:
    n = len(exit_right)
    right = np.ones(n, bool)
    return Evidence(
        separability=np.arange(n, 0, -1.0),
        exit_right=np.array(exit_right, bool),
        sent={4: right},
        bits=4,
        uncut_right=right,
        video=np.array(videos),
        reference=np.arange(n, 0, -1.0),
    )


def test_losses_are_counted_on_the_other_videos_by_hand():
    # Fitted where no exit is wrong, so all exit; judged where one of four is.
    calib, stream = evidence([1, 1, 1, 1], [0, 0, 1, 1]), evidence([1, 1, 0, 1], [5, 5, 6, 6])
    found = budgets.judged(calib, stream, Limits("paper", 0.0))
    assert (found.exit_share, found.loss_points) == (1.0, 25.0)
    assert (found.videos.tolist(), found.video_loss.tolist()) == ([5, 6], [0, 1])
    # Two videos of two frames: a resample loses 0, 25 or 50 points.
    assert budgets.loss_interval([found]) == (25.0, 0.0, 50.0)
    row = budgets.Row("a", 0.5, "paper", 24.9, [found])
    assert row.breaks == 1
