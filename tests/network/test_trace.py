"""Traces by hand, and the forward-reading cursor against plain integration from the beginning."""

from math import inf

import numpy as np
import pytest
from helpers.reference import sent_by
from hypothesis import given, settings
from hypothesis import strategies as st

from coach_exp.network.estimator import Ewma, HarmonicMean, Oracle
from coach_exp.network.trace import (
    Trace,
    TraceCursor,
    constant,
    excerpt,
    random_walk,
    rescaled,
    steps,
)
from coach_exp.types.errors import ConfigError, LinkError
from coach_exp.types.method import Transfer

MBIT = 125_000  # bytes


def test_one_megabit_takes_a_second_at_one_mbps():
    assert TraceCursor(constant(1e6)).finish(3.0, MBIT) == 4.0


@pytest.mark.parametrize(
    ("start_s", "payload_bytes", "end_s"),
    [
        (0, MBIT, 0.5),  # 2 Mbps until 1 s
        (0, 2 * MBIT, 1.0),  # to the very edge
        (0, 3 * MBIT, 2.0),  # 1 s at 2 Mbps, 1 s at 1 Mbps
        (0.5, 2 * MBIT, 2.0),
        (0, 4 * MBIT, 4.5),  # 2 + 1 Mbit, outage from 2 to 4, half a second at 2 Mbps
        (2.5, MBIT, 4.5),  # starts within the outage
        (4, 3 * MBIT, 6.0),
        (0, 0, 0),
    ],
)
def test_outage_and_loop_by_hand(start_s, payload_bytes, end_s):
    trace = Trace((0, 1, 2), (2e6, 1e6, 0), period_s=4)
    assert TraceCursor(trace).finish(start_s, payload_bytes) == end_s


def test_an_outage_that_never_ends_is_refused_when_something_must_pass_it():
    trace = Trace((0, 1), (1e6, 0))
    assert TraceCursor(trace).finish(0, MBIT) == 1
    with pytest.raises(LinkError, match=r"125001 bytes never leave.* an outage that never ends"):
        TraceCursor(trace).finish(0, MBIT + 1)
    with pytest.raises(LinkError, match="1 bytes never leave"):
        TraceCursor(trace).finish(50, 1)


@pytest.mark.parametrize(
    ("latest_s", "again_s"),
    [
        (0.5, 0.625),  # a quarter at 2 Mbps
        (1.0, 1.25),  # at the edge, where 1 Mbps begins
        (1.5, 1.75),
        (2.5, 4.125),  # in the outage
        (4.5, 4.625),  # in the next lap
    ],
)
def test_a_transfer_that_is_abandoned_leaves_the_cursor_where_the_next_may_start(latest_s, again_s):
    trace = Trace((0, 1, 2), (2e6, 1e6, 0), period_s=4)
    cursor = TraceCursor(trace)
    assert cursor.finish(0, 100 * MBIT, latest_s) > latest_s
    assert cursor.finish(latest_s, MBIT // 4) == again_s
    assert TraceCursor(trace).finish(0, 3 * MBIT, 2.0) == 2.0  # just in time


def test_a_transfer_may_be_abandoned_in_an_outage_that_never_ends():
    cursor = TraceCursor(Trace((0, 1), (1e6, 0)))
    for latest_s in (2.0, 3.0, 1e9):
        assert cursor.finish(0.5, MBIT, latest_s) > latest_s


def test_last_rate_holds_for_ever():
    trace = steps((4e6, 2e6, 1e6), step_s=10)
    assert trace == Trace((0, 10, 20), (4e6, 2e6, 1e6))
    assert TraceCursor(trace).finish(1000, 5 * MBIT) == 1005
    assert trace.at(np.array([0, 9.999, 10, 25, 1e6])).tolist() == [4e6, 4e6, 2e6, 1e6, 1e6]


def test_rates_of_a_looped_trace():
    trace = Trace((0, 1), (5.0, 3.0), period_s=4)
    assert trace.at(np.array([0, 1, 3.5, 4, 5, 8.5])).tolist() == [5, 3, 3, 5, 3, 5]
    starts_s, rates_bps = trace.steps(until_s=8)
    assert starts_s.tolist() == [0, 1, 4, 5, 8]
    assert rates_bps.tolist() == [5, 3, 5, 3, 5]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (((), ()), "as many rates as starts"),
        (((0, 1), (1.0,)), "as many rates as starts"),
        (((1,), (1.0,)), "first start at 0 s"),
        (((0, 2, 2), (1.0, 2.0, 3.0)), "must increase"),
        (((0, 2), (1.0, 2.0), 2.0), "period of 2.0 s ends before"),
        (((0,), (-1.0,)), "finite and ≥ 0"),
        (((0,), (inf,)), "finite and ≥ 0"),
        (((0,), (0.0,), 3.0), "carries nothing: every rate is 0"),
    ],
)
def test_traces_that_cannot_carry_traffic_are_refused(arguments, words):
    with pytest.raises(LinkError, match=words):
        Trace(*arguments)


rates = st.one_of(st.just(0.0), st.floats(1e3, 1e7))


@st.composite
def traces(draw):
    lengths = draw(st.lists(st.floats(0.01, 3), min_size=1, max_size=6))
    rates_bps = [draw(rates) for _ in lengths]
    if max(rates_bps) == 0:
        rates_bps[0] = 1e5
    edges = np.cumsum([0, *lengths]).tolist()
    looped = draw(st.booleans()) or rates_bps[-1] == 0
    return Trace(tuple(edges[:-1]), tuple(rates_bps), edges[-1] if looped else inf)


@settings(deadline=None)
@given(traces(), st.lists(st.tuples(st.floats(0, 5), st.integers(0, 20_000)), max_size=8))
def test_cursor_sends_what_plain_integration_sends(trace, transfers):
    """Transfers in a row, with pauses between them."""
    cursor, clock = TraceCursor(trace), 0.0
    for pause_s, payload_bytes in transfers:
        start_s = clock + pause_s
        clock = cursor.finish(start_s, payload_bytes)
        assert clock >= start_s
        expected = sent_by(trace.starts_s, trace.rates_bps, trace.period_s, start_s, payload_bytes)
        assert clock == pytest.approx(expected, rel=1e-9)


@settings(deadline=None)
@given(
    st.floats(1e5, 1e6),
    st.floats(1, 50),
    st.floats(0.001, 3),
    st.integers(1, 200),
    st.integers(0, 9),
)
def test_random_walk_stays_between_its_bounds_and_repeats(low, ratio, volatility, count, seed):
    walk = random_walk(low, low * ratio, 0.5, volatility, 0.5 * count, seed)
    assert len(walk.rates_bps) == count
    assert walk.period_s == 0.5 * count
    assert min(walk.rates_bps) >= low * (1 - 1e-12)
    assert max(walk.rates_bps) <= low * ratio * (1 + 1e-12)
    assert walk == random_walk(low, low * ratio, 0.5, volatility, 0.5 * count, seed)


def test_random_walk_steps_as_far_as_its_volatility_says():
    walk = random_walk(1.0, 1e300, 1.0, 0.2, 20_000, seed=1)  # bounds too far to be met
    moves = np.diff(np.log(walk.rates_bps))
    assert moves.std() == pytest.approx(0.2, rel=0.02)
    assert walk != random_walk(1.0, 1e300, 1.0, 0.2, 20_000, seed=2)


def test_ewma_by_hand():
    estimator = Ewma(initial_bps=8e6, weight=0.25)
    estimator.sent(Transfer(0, 500_000, 1.0, 2.0))  # 4 Mbps: 8 - 1
    assert estimator.rate_bps(0.0) == 7e6
    estimator.sent(Transfer(1, 500_000, 2.0, 2.0))  # no time, no news
    assert estimator.rate_bps(0.0) == 7e6
    estimator.sent(Transfer(2, 500_000, 3.0, 3.25))  # 16 Mbps: 7 + 9/4
    assert estimator.rate_bps(0.0) == 9.25e6


@pytest.mark.parametrize("weight", [0, -0.1, 1.01])
def test_ewma_refuses_a_weight_out_of_range(weight):
    with pytest.raises(ConfigError, match=r"weight of .* above 0 and at most 1"):
        Ewma(1e6, weight)


def test_harmonic_mean_of_the_last_transfers():
    estimator = HarmonicMean(initial_bps=8e6, transfers=2)
    assert estimator.rate_bps(0.0) == 8e6
    estimator.sent(Transfer(0, 500_000, 1.0, 2.0))  # 4 Mbps, the first guess is forgotten
    assert estimator.rate_bps(2.0) == 4e6
    estimator.sent(Transfer(1, 500_000, 2.0, 2.0))  # no time, no news
    estimator.sent(Transfer(2, 0, 2.0, 3.0))  # no bytes, no news
    assert estimator.rate_bps(3.0) == 4e6
    estimator.sent(Transfer(3, 500_000, 3.0, 3.25))  # 16 Mbps: 2 / (1/4 + 1/16)
    assert estimator.rate_bps(3.25) == pytest.approx(6.4e6)
    estimator.sent(Transfer(4, 500_000, 4.0, 4.25))  # 16 twice
    assert estimator.rate_bps(4.25) == pytest.approx(16e6)


def test_a_harmonic_mean_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="of 0 transfers must be of at least 1"):
        HarmonicMean(1e6, 0)


def test_an_oracle_tells_the_present_rate_and_what_follows_an_outage():
    trace = Trace((0, 1, 2, 3), (0, 4e6, 2e6, 0), period_s=5)
    oracle = Oracle(trace)
    times = [0.0, 0.9, 1.0, 2.5, 3.0, 4.9, 6.0]
    assert [oracle.rate_bps(t) for t in times] == [4e6, 4e6, 4e6, 2e6, 4e6, 4e6, 4e6]
    endless = Oracle(Trace((0, 1, 2), (4e6, 2e6, 0)))
    assert [endless.rate_bps(t) for t in (0.5, 1.5, 2.5, 100)] == [4e6, 2e6, 2e6, 2e6]


@given(traces(), st.lists(st.floats(0, 50), max_size=20))
def test_an_oracle_agrees_with_the_trace_wherever_that_carries(trace, times_s):
    oracle = Oracle(trace)
    for now_s, true_bps in zip(times_s, trace.at(np.array(times_s)), strict=True):
        assert oracle.rate_bps(now_s) == true_bps or true_bps == 0
        assert oracle.rate_bps(now_s) > 0


@given(traces(), st.floats(0, 1), st.floats(0.1, 1))
def test_a_part_carries_what_the_whole_carries_in_its_time(trace, begin, share):
    if trace.period_s == inf:
        return
    begin_s = 0.9 * begin * trace.period_s
    duration_s = share * (trace.period_s - begin_s)
    carried = trace.carried_bits(begin_s + duration_s) - trace.carried_bits(begin_s)
    try:
        part = excerpt(trace, begin_s, duration_s)
    except LinkError:
        assert carried == pytest.approx(0, abs=1)
        return
    assert part.carried_bits(duration_s) == pytest.approx(carried, rel=1e-6, abs=1)
    assert rescaled(part, 2.0).carried_bits(duration_s) == pytest.approx(2 * carried, abs=2)
