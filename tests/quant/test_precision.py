"""Widths on a model whose losses are written down by hand."""

from dataclasses import dataclass, field, replace

import pytest
from helpers.graphs import chain

from coach_exp.planner.planning import Planner
from coach_exp.quant.precision import FixedBits, SearchedBits
from coach_exp.types.outcomes import Crossing, Prediction

SAMPLES = 1000


@dataclass
class Scripted:
    """A model that is always right uncut; each tensor's width costs the points of `losses`."""

    losses: dict[str, dict[int, float]]
    samples: int = SAMPLES
    classes: int = 2
    asked: set[tuple[Crossing, ...]] = field(default_factory=set)

    def true_label(self, sample):
        return 0

    def uncut(self, sample):
        return 0

    def feature(self, sample, layers):
        raise AssertionError("not needed")

    def predict(self, sample, crossing):
        self.asked.add(crossing)
        points = sum(self.losses[c.layer].get(c.bits, 0.0) for c in crossing)
        return Prediction(int(sample < points / 100 * SAMPLES), tuple(0 for _ in crossing))


def searched(losses, **settings) -> tuple[SearchedBits, Scripted]:
    model = Scripted(losses)
    return SearchedBits(lambda: model, 0.5, "input", **settings), model


@pytest.mark.parametrize("fewest", [2, 3, 4, 5, 6, 7, 8])
def test_the_fewest_bits_within_the_limit_are_found(fewest):
    losses = {"a": {width: 1.0 for width in range(2, fewest)} | {fewest: 0.5}}
    table, model = searched(losses)
    assert table.bits("a") == 2
    assert table.settle(["a"]) == (fewest != 2)
    assert table.bits("a") == fewest
    assert len(model.asked) <= 5  # dichotomous: 8, and about two halvings, and one above


def test_a_width_counts_only_if_the_one_above_passes_too():
    table, _ = searched({"a": {2: 9, 3: 9, 4: 0, 5: 9, 6: 0, 7: 0, 8: 0}})
    table.settle(["a"])
    assert table.bits("a") == 6


def test_a_tensor_that_eight_bits_harm_goes_as_float():
    table, _ = searched({"a": {width: 3.0 for width in range(2, 9)}})
    table.settle(["a"])
    assert table.bits("a") == 16


def test_tensors_that_pass_alone_and_fail_together_are_raised_widest_first():
    # Alone: a passes at 3 bits with 0.4 points, b at 4 with 0.4; together 0.8 > 0.5. The widest, b,
    # goes to 5 bits, which costs nothing: 0.4.
    losses = {"a": {2: 1, 3: 0.4}, "b": {2: 1, 3: 1, 4: 0.4}}
    table, _ = searched(losses)
    assert table.settle(["a", "b"])
    assert (table.bits("a"), table.bits("b")) == (3, 5)
    assert table.loss_points((Crossing("a", 3), Crossing("b", 5))) == pytest.approx(0.4)


def test_a_settled_cut_stays_settled_and_nothing_else_is_searched():
    table, model = searched({"a": {2: 1}, "b": {2: 1}})
    assert table.settle(["a"])
    asked = set(model.asked)
    assert not table.settle(["a"])
    assert model.asked == asked
    assert table.bits("b") == 2
    assert "b" not in table.found


def test_the_raw_input_keeps_its_own_width():
    table, _ = searched({"input": {}}, input_bits=8)
    assert not table.settle(["input"])
    assert table.bits("input") == 8
    fixed = FixedBits(4, "input", 32)
    assert (fixed.bits("input"), fixed.bits("a"), fixed.settle(["a"])) == (32, 4, False)


def test_what_the_raw_input_loses_is_not_held_against_a_tensor():
    # As a JPEG file at 8 bits the input costs 3 points; beside it, `a` costs nothing at 2 bits.
    table, _ = searched({"input": {8: 3.0}, "a": {}}, input_bits=8)
    table.settle(["input", "a"])
    assert (table.bits("input"), table.bits("a")) == (8, 2)


def test_a_fresh_table_knows_the_losses_and_no_widths():
    table, model = searched({"a": {2: 1}})
    table.settle(["a"])
    asked = len(model.asked)
    fresh = table.fresh()
    assert fresh.bits("a") == 2
    fresh.settle(["a"])
    assert fresh.bits("a") == table.bits("a") == 3
    assert len(model.asked) == asked


def test_a_given_cut_is_sent_at_searched_widths_too():
    given = chain([0, 1, 1], [0, 1, 1], [1, 1, 1])
    table, _ = searched({"1": {2: 9, 3: 9, 4: 0}, "in": {}})
    plan = Planner().plan_for(replace(given, bits=table), ["in", "1"])
    assert [c.bits for c in plan.crossing] == [4]
