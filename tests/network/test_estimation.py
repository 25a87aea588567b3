"""The scoring of estimators: series whose bias and lag can be read off."""

from math import e

import numpy as np
import pytest
from helpers.records import records, row
from hypothesis import given, settings
from hypothesis import strategies as st

from coach_exp.network.estimator import Ewma, Oracle
from coach_exp.network.trace import Trace, constant, random_walk
from coach_exp.results.estimation import SAMPLES, estimate_error
from coach_exp.results.metrics import summarise
from coach_exp.types.method import Transfer


def score(decided_s, estimated_bps, true_bps):
    return estimate_error(*(np.asarray(x, float) for x in (decided_s, estimated_bps, true_bps)))


def test_a_constant_link_that_is_known_has_no_error():
    found = score([0, 1, 2], [5e6] * 3, [5e6] * 3)
    assert (found.bias, found.spread, found.lag_s) == (0, 0, 0)
    assert (found.scored, found.outages) == (3, 0)


def test_bias_and_error_are_means_of_logarithms():
    # ln 2, 0, -ln 4: mean -ln(2)/3, mean size ln(8)/3 = ln 2.
    found = score([0, 1, 2], [2, 1, 0.25], [1, 1, 1])
    assert found.bias_percent == pytest.approx(100 * (2 ** (-1 / 3) - 1))
    assert found.error_percent == pytest.approx(100)
    assert found.lag_s == 0  # the truth never changed


def test_outages_are_counted_and_otherwise_left_out():
    found = score([0, 1, 2, 3], [e, 7, e, 9], [1, 0, 1, 0])
    assert (found.bias, found.scored, found.outages) == (pytest.approx(1), 2, 2)
    assert score([0, 1], [1, 1], [0, 0]) is None
    assert score([], [], []) is None


def test_a_delayed_copy_has_its_delay_as_lag():
    rng = np.random.default_rng(0)
    when = np.arange(0, 100, 0.5)
    true = np.exp(np.cumsum(rng.normal(0, 0.3, len(when))))
    found = score(when, np.concatenate([[true[0]] * 6, true[:-6]]), true)
    assert found.lag_s == pytest.approx(6 * 0.5, abs=2 * 100 / SAMPLES)
    halved = score(when, np.concatenate([[true[0]] * 6, true[:-6]]) / 2, true)
    assert halved.lag_s == pytest.approx(6 * 0.5, abs=2 * 100 / SAMPLES)


def decided(trace, estimator, transfers, payload_bytes=125_000):
    """One transfer after the other; the end decides about each when the one before has finished."""
    now_s, when, estimated = 0.0, [], []
    for task in range(transfers):
        when.append(now_s)
        estimated.append(estimator.rate_bps(now_s))
        end_s = now_s + 8 * payload_bytes / trace.at(np.array([now_s]))[0]
        estimator.sent(Transfer(task, payload_bytes, now_s, end_s))
        now_s = end_s
    return np.array(when), np.array(estimated), trace.at(np.array(when))


@pytest.mark.parametrize(("weight", "lag_s"), [(1.0, 1), (0.5, 2), (0.3, 4)])
def test_the_lag_of_an_ewma_behind_a_step(weight, lag_s):
    # 1 Mbit at 4 Mbps until 5 s, then at 1 Mbps: one transfer a second. After n of them the
    # estimate is 1 + 3·(1 - weight)^n; it is nearer to 1 than to 4, by ratio, once below 2:
    # (1 - weight)^n < 1/3, so n = 1, 2 and 4. At weight 0.3, n = 3 leaves 2.03.
    trace = Trace((0, 5), (4e6, 1e6))
    found = score(*decided(trace, Ewma(4e6, weight), 40))
    assert found.lag_s == pytest.approx(lag_s, abs=3 * 25 / SAMPLES)


def test_the_bias_of_an_ewma_behind_a_step():
    # Weight 1: of 40 decisions the one at 5 s alone is wrong, 4 for 1 Mbps.
    found = score(*decided(Trace((0, 5), (4e6, 1e6)), Ewma(4e6, 1.0), 40))
    assert found.bias == found.spread == pytest.approx(np.log(4) / 40)


def test_an_oracle_has_neither_bias_nor_lag():
    trace = random_walk(1e6, 8e6, 0.7, 0.4, 50, seed=1)
    found = score(*decided(trace, Oracle(trace), 300))
    assert (found.bias, found.spread, found.lag_s) == (0, 0, 0)


def test_an_estimator_that_starts_too_high_is_biased_until_it_has_learnt():
    # 8 for 2 Mbps, weight 1/2: 8, 5, 3.5, 2.75 Mbps.
    found = score(*decided(constant(2e6), Ewma(8e6, 0.5), 4))
    assert found.bias == pytest.approx(np.mean(np.log([4, 2.5, 1.75, 1.375])))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.floats(1, 1e9), st.floats(1, 1e9)), min_size=1, max_size=30),
    st.floats(0.1, 10),
)
def test_a_factor_on_all_estimates_moves_the_bias_alone(pairs, factor):
    estimated, true = np.array(pairs).T
    when = np.arange(len(pairs), dtype=float)
    one, other = score(when, estimated, true), score(when, factor * estimated, true)
    assert other.bias == pytest.approx(one.bias + np.log(factor), abs=1e-9)
    assert one.spread >= abs(one.bias) - 1e-12
    assert 0 <= one.lag_s <= max(0.5, len(pairs) / 2)


# --- in a run's metrics


def test_only_tasks_that_sent_are_scored():
    wrong = {"estimated_bps": 4e6, "true_bps": 2e6}
    run = records(
        [
            row(0, (0, 1), (1, 2), (2, 3), **wrong),
            row(1, (1, 2), None, None, estimated_bps=9e6, true_bps=1e6),
            row(2, (2, 3), (3, 4), (4, 5), **(wrong | {"true_bps": 0.0})),
        ]
    )
    summary = summarise(run)
    assert summary["bandwidth_bias_percent"].value == pytest.approx(100)
    assert summary["bandwidth_error_percent"].value == pytest.approx(100)
    assert summary["bandwidth_lag_s"].value == 0
    assert summary["bandwidth_outages"].value == 1


def test_nothing_sent_has_no_score():
    local = summarise(records([row(0, (0, 3), None, None)]))
    assert not [name for name in local if name.startswith("bandwidth")]
