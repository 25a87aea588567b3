"""The studies at sizes of a few seconds: what they find, and what holds of any such measurement."""

from math import inf, isclose, isfinite, isnan

import numpy as np
import pytest
from helpers.studies import row, study, written

from coach_exp.planner.planning import Planner
from coach_exp.results.estimation import SAMPLES
from coach_exp.studies import complexity, gaps
from coach_exp.studies.random_graphs import SHAPES
from coach_exp.types.errors import ConfigError

SMALL_BLOCKS = {
    "branches": [1, 2, 3],
    "layers": [1, 2, 3, 4],
    "limit": 50,
    "totals": [30, 90],
    "large": [4, 3],
    "seeds": 2,
}


# ------------------------------------------------------------------------------ complexity


@pytest.fixture(scope="module")
def found_complexity(display):
    return study("complexity.Complexity", **SMALL_BLOCKS)(None, display)


@pytest.fixture(scope="module")
def measured(found_complexity):
    return written(found_complexity)


def test_the_exponent_of_the_plain_algorithm_is_the_value(found_complexity, measured):
    assert measured["fits"]["one_move"] == found_complexity.value
    assert len(found_complexity.figures["complexity"].axes) == 2
    assert found_complexity.notes[0].endswith("more than limit = 50 cuts (3×3, 3×4)")
    assert row(found_complexity, "2 × 1")[1:4] == ["8", "9", "5"]
    assert row(found_complexity, "3 × 4")[3] == "–"


def test_all_exponents_are_finite(measured):
    assert all(isfinite(value) for value in measured["fits"].values())


def test_exhaustive_search_meets_every_cut_of_a_block_and_stops_at_the_limit(measured):
    counted = {
        (each["branches"], each["layers"]): each["evaluations"]
        for each in measured["blocks"]
        if each["search"] == "exhaustive"
    }
    assert counted == {
        (n, c): (c + 1) ** n + 1 for n in (1, 2, 3) for c in (1, 2, 3, 4) if (c + 1) ** n + 1 <= 50
    }
    assert measured["exhaustive_skipped"] == ["3×3", "3×4"]


def test_networks_and_the_large_block_have_the_layers_asked_for(measured):
    assert [each["layers"] for each in measured["networks"]] == [40, 80]  # in blocks of 20
    assert [each["branches"] for each in measured["networks"]] == [2, 4]
    assert [each["objective"] for each in measured["large"]] == ["paper", "bottleneck", "latency"]
    assert {(each["branches"], each["layers"]) for each in measured["large"]} == {(4, 3)}


def test_a_law_is_found_in_numbers_that_follow_it():
    def blocks(search, law):
        return [
            complexity.Effort(search, "paper", n, c, law(n, c), 0.0)
            for n in (1, 2, 3, 4)
            for c in (1, 2, 4, 8)
        ]

    networks = [complexity.Effort("moves=two", "paper", 1, n, 1, 1e-6 * n) for n in (10, 1000)]
    found = complexity.fits(
        [
            *blocks("moves=one", lambda n, c: 7 * c * n),
            *blocks("moves=two", lambda n, c: 5 * (c * n) ** 2),
            *blocks("exhaustive", lambda n, c: 3.0 * c**n),
        ],
        networks,
    )
    assert isclose(found.one_move, 1)
    assert isclose(found.two_moves, 2)
    assert isclose(found.exhaustive, 1)
    assert isclose(found.network_time, 1)


def test_one_size_has_no_exponent():
    assert isnan(complexity.fits([], []).one_move)


def test_a_block_of_many_branches_is_searched_in_time_linear_in_its_depth():
    """Evaluations, which no busy machine disturbs."""
    effort = [
        Planner(moves="one")
        .plan(complexity.balanced_block(np.random.default_rng(0), 20, layers))
        .evaluations
        for layers in (10, 40)
    ]
    assert effort[1] <= 3 * 4 * effort[0]


# ------------------------------------------------------------------------------------ gaps


@pytest.fixture(scope="module")
def found_gaps(display):
    """Of a few graphs of each shape and one small classifier."""
    settings = {
        "graphs": 25,
        "max_layers": 11,
        "architectures": ["squeezenet1_1", "googlenet"],
        "devices": ["nx"],
        "mbps": [10],
        "limit": 500,
    }
    return study("gaps.Gaps", **settings)(None, display)


@pytest.fixture(scope="module")
def compared(found_gaps):
    return written(found_gaps)


def of(found, moves, shape, objective="all"):
    (row,) = [
        each
        for each in found["random"]
        if (each["moves"], each["group"], each["objective"]) == (moves, shape, objective)
    ]
    return row


def test_every_shape_is_compared_under_every_objective(compared):
    for shape in SHAPES:
        for moves in ("one", "two"):
            assert of(compared, moves, shape)["plans"] == 4 * 25
            for objective in ("paper", "bottleneck", "latency", "weighted"):
                assert of(compared, moves, shape, objective)["plans"] == 25


def test_chains_have_no_gap(compared):
    for moves in ("one", "two"):
        chain = of(compared, moves, "chain")
        assert (chain["equal"], chain["mean"], chain["maximum"]) == (1, 0, 0)


def test_two_moves_are_never_worse_than_one_and_no_plan_beats_the_optimum(found_gaps):
    found = written(found_gaps)
    for shape in SHAPES:
        one, two = (of(found, moves, shape) for moves in ("one", "two"))
        assert 0 <= two["mean"] <= one["mean"]
        assert two["equal"] >= one["equal"]
        assert two["maximum"] <= one["maximum"]
    assert found_gaps.value == pytest.approx(
        np.mean([of(found, "two", shape)["mean"] for shape in SHAPES])
    )


def test_a_classifier_has_no_gap_and_one_with_too_many_cuts_is_named_with_the_cause(found_gaps):
    found = written(found_gaps)
    assert [each["name"] for each in found["architectures"]] == ["squeezenet1_1"]
    assert {each["maximum"] for each in found["classifiers"]} == {0}
    assert "more than planner.limit = 500 cuts" in found["left_out"]["googlenet"]
    assert row(found_gaps, "googlenet")[1].startswith("exhaustive search met")
    assert row(found_gaps, "chain", "all", "two")[3:] == ["100", "100.0", "0", "0", "0"]
    assert "Classifiers with a gap" not in [table.title for table in found_gaps.tables]


def test_graphs_are_small_enough_and_the_same_every_time():
    for shape in SHAPES:
        first, second = (list(gaps.random_problems(shape, 20, 8, seed=0)) for _ in range(2))
        assert first == second
        assert 3 <= max(len(each.graph) for each in first) <= 8


def test_a_gap_is_a_share_of_the_optimum():
    def summary(*values):
        every = [gaps.Gap("g", "", "paper", "two", gap) for gap in values]
        return gaps.Summary.of("g", "all", "two", every)

    found = summary(0, 0, 0, 0.4)
    assert (found.plans, found.equal, found.mean, found.maximum) == (4, 0.75, 0.1, 0.4)
    assert summary(inf).maximum == inf


def test_a_device_that_is_not_there_is_named_before_anything_is_planned(display):
    with pytest.raises(ConfigError, match=r"device = nx3: .* did you mean 'nx'"):
        study("gaps.Gaps", devices=["nx3"])(None, display)


# ------------------------------------------------------------------------------ estimators


@pytest.fixture(scope="module")
def found_errors(tmp_path_factory, display):
    """Of generated traces and two files, one of which is none."""
    folder = tmp_path_factory.mktemp("traces") / "walked"
    folder.mkdir()
    (folder / "a.csv").write_text("1,1000000\n2,0\n3,500000\n")
    (folder / "README").write_text("not a trace\n")
    settings = {"walks": 1, "elements": 200_000, "bits": 8, "traces": str(folder.parent)}
    return study("estimators.Estimators", weights=[1.0, 0.3], **settings)(None, display)


@pytest.fixture(scope="module")
def scored(found_errors):
    return written(found_errors)


def test_every_estimator_is_scored_on_every_trace(found_errors, scored):
    names = ["ewma 1", "ewma 0.3", "harmonic 5", "oracle"]
    families = ["fig5a", "fig5b", "random_walk", "walked"]
    assert [(e["family"], e["estimator"]) for e in scored["scores"]] == [
        (family, name) for family in families for name in names
    ]
    assert row(found_errors, "walked", "1", "4.0", "oracle")[4:7] == ["0.0", "0.0", "0.00"]
    assert len(found_errors.figures["estimators"].axes) == len(families)
    (note,) = found_errors.notes
    assert "README is left out: README, line 1: 'not a trace' is wrong" in note


def test_a_folder_that_is_none_is_named(display):
    with pytest.raises(ConfigError, match=r"traces = /nowhere: is no folder"):
        study("estimators.Estimators", traces="/nowhere", walks=1)(None, display)


def of_estimator(scored, family, name):
    (each,) = [e for e in scored["scores"] if (e["family"], e["estimator"]) == (family, name)]
    return each


def test_the_oracle_alone_is_always_right(scored):
    for each in scored["scores"]:
        exact = each["error_percent"] == each["bias_percent"] == each["lag_s"] == 0
        assert exact == (each["estimator"] == "oracle")


def test_the_last_transfer_as_estimate_over_two_steps_by_hand(found_errors, scored):
    # Transfers of 1.600192 Mbit end 5 ms + n · 80.0096 ms after the start; the end decides 7 ms
    # after each. The one from 9.92620 s to 10.01240 s spans the first step: 18.562 Mbps where the
    # truth is 10. The one from 19.93359 to 20.18721 s spans the second: 6.3095 for 5. All others
    # are right.
    last = of_estimator(scored, "fig5a", "ewma 1")
    assert last["tasks"] == last["scored"] == 218  # 350 Mbit
    assert last["bias_percent"] == pytest.approx(
        100 * ((18.562 / 10 * 6.3095 / 5) ** (1 / 218) - 1), rel=1e-3
    )
    # The first is nearer to 20 than to 10 for one transfer, the second nearer to 5 than to 10.
    assert last["lag_s"] == pytest.approx(0.16002, abs=3 * 30 / SAMPLES)
    assert found_errors.value == pytest.approx(
        np.mean([e["error_percent"] for e in scored["scores"] if e["estimator"] == "ewma 1"])
    )


def test_a_transfer_through_an_outage_is_taken_for_a_slow_link(scored):
    # 8 Mbps, nothing from 1 to 2 s, 4 Mbps: the transfer that starts at 0.805096 s ends at
    # 2.01024 s, 1.3278 Mbps. One of seven decisions is made from it.
    last = of_estimator(scored, "walked", "ewma 1")
    assert (last["tasks"], last["scored"], last["outages"]) == (7, 7, 0)
    assert last["bias_percent"] == pytest.approx(100 * ((1.3278 / 4) ** (1 / 7) - 1), rel=1e-3)
