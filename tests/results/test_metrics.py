"""Metrics against runs small enough to compute by hand, then against series of known truth."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.records import pipelined, plan, records, row
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter

from coach_exp.results.metrics import (
    drop,
    mean,
    ratio,
    summarise,
    throughput_over_time,
    wilson,
)
from coach_exp.types.task import COLUMNS, Records

# Three tasks; end 2 s, link 3 s, cloud 1 s; the second exits on the end.
#   end    0───2───4───6
#   link       2─────5 6─────9
#   cloud            5─6     9─10
THREE = [
    row(0, (0, 2), (2, 5), (5, 6), predicted=1, label=1, uncut=1),
    row(1, (2, 4), None, None, arrival_s=1, decision="exit", predicted=0, label=1, uncut=1),
    row(2, (4, 6), (6, 9), (9, 10), payload_bytes=2048, bits=8, predicted=2, label=2, uncut=0),
]


def test_three_tasks_by_hand():
    flat = summarise(records(THREE, (plan(2, 3, 1),))).as_dict()
    assert flat["latency_mean_ms"] == pytest.approx((6 + 3 + 6) / 3 * 1e3)
    assert flat["service_latency_mean_ms"] == pytest.approx((6 + 2 + 6) / 3 * 1e3)
    assert flat["latency_p50_ms"] == pytest.approx(6e3)
    assert flat["stage_sum_mean_ms"] == pytest.approx((6 + 2 + 6) / 3 * 1e3)
    assert flat["throughput_its"] == pytest.approx(3 / 10)
    assert flat["makespan_per_task_ms"] == pytest.approx(10e3 / 3)
    assert flat["idle_ratio_end"] == pytest.approx(1 - 6 / 10)
    assert flat["idle_ratio_link"] == pytest.approx(1 - 6 / 10)
    assert flat["idle_ratio_cloud"] == pytest.approx(1 - 2 / 10)
    assert flat["planned_idle_ratio_cloud"] == pytest.approx(1 - 1 / 3)
    assert flat["transmission_kib_per_task"] == pytest.approx((1 + 0 + 2) / 3)
    assert flat["bits_mean"] == 6
    assert flat["exit_ratio"] == pytest.approx(1 / 3)
    assert flat["accuracy"] == pytest.approx(2 / 3)
    assert flat["accuracy_drop_points"] == pytest.approx(0)
    assert (flat["tasks"], flat["answered"], flat["dropped"], flat["fallback"]) == (3, 3, 0, 0)


def test_a_waiting_stage_is_idle_while_it_waits():
    waited = records([row(0, (0, 1), (1, 5), (5, 6), link_busy_s=1.0)])
    assert summarise(waited)["idle_ratio_link"].value == pytest.approx(5 / 6)


def test_dropped_tasks_are_counted_and_otherwise_ignored():
    lost = row(3, (np.nan, np.nan), None, None, arrival_s=3.0, dropped=True, decision="send")
    rescued = replace(THREE[2], fallback=True)
    flat = summarise(records([*THREE[:2], rescued, lost])).as_dict()
    assert (flat["tasks"], flat["answered"], flat["dropped"], flat["fallback"]) == (4, 3, 1, 1)
    assert flat["throughput_its"] == pytest.approx(3 / 10)
    assert all(np.isfinite(list(flat.values())))


def test_a_run_without_answers_has_counts_only():
    lost = row(0, (np.nan, np.nan), None, None, dropped=True)
    assert set(summarise(records([lost]))) == {"tasks", "answered", "dropped", "fallback"}


def test_what_was_not_measured_is_absent():
    device_only = records([row(i, (i, i + 1), None, None) for i in range(3)])
    summary = summarise(device_only)
    assert {"accuracy", "accuracy_drop_points", "bits_mean"}.isdisjoint(summary)
    no_uncut = summarise(records([replace(r, uncut=-1) for r in THREE]))
    assert "accuracy" in no_uncut
    assert "accuracy_drop_points" not in no_uncut
    one_unknown = summarise(records([THREE[0], replace(THREE[1], predicted=-1)]))
    assert "accuracy" not in one_unknown


@pytest.mark.parametrize(("tasks", "absent"), [(19, {"95", "99"}), (20, {"99"}), (100, set())])
def test_a_percentile_needs_a_task_beyond_it(tasks, absent):
    summary = summarise(pipelined(tasks, 1, 1, 1))
    assert absent == {p for p in ("50", "95", "99") if f"latency_p{p}_ms" not in summary}


def test_two_plans_promise_the_idle_ratio_of_their_mix():
    # Half the tasks take end 4, link 2; half end 2, link 4: both resources hold 3 s a task.
    rows = [row(0, (0, 4), (4, 6), (6, 7)), row(1, (4, 6), (6, 10), (10, 11), plan=1)]
    summary = summarise(records(rows, (plan(4, 2, 1), plan(2, 4, 1))))
    assert summary["planned_idle_ratio_end"].value == pytest.approx(0)
    assert summary["planned_idle_ratio_link"].value == pytest.approx(0)
    assert summary["planned_idle_ratio_cloud"].value == pytest.approx(2 / 3)


def test_the_order_of_the_rows_does_not_matter():
    run = pipelined(200, 1, 2, 1, exits=3)
    turned = Records({name: run.columns[name][::-1] for name in COLUMNS}, run.plans)
    assert summarise(turned) == summarise(run)


def test_batch_means_by_hand():
    # Eight values, batches of four: means 0, 1/4, 1/2, 3/4, 1 around 1/2.
    # Variance 8·4/(5·4) · (1/4 + 1/16 + 0 + 1/16 + 1/4) = 1; t(0.975; 1.5 degrees) = 6.017.
    estimate = mean(np.array([0, 0, 0, 0, 1, 1, 1, 1]))
    assert estimate.value == 0.5
    assert estimate.hi - 0.5 == pytest.approx(6.017 * np.sqrt(1 / 8), rel=2e-3)
    assert 0.5 - estimate.lo == pytest.approx(estimate.hi - 0.5)


def test_wilson_of_none_and_all():
    # z² = 3.8415: none of 10 gives 0 to z²/(10 + z²).
    assert wilson(0.0, 10) == pytest.approx((0.0, 3.8415 / 13.8415), abs=1e-4)
    assert wilson(1.0, 10) == pytest.approx((10 / 13.8415, 1.0), abs=1e-4)


def test_drop_of_pairs_by_hand():
    # Of 98 tasks 2 are lost and none is won: centre 2/100, half width 1.96·√(2 + 1 - 4/100)/100.
    before = np.ones(98, bool)
    after = before.copy()
    after[[20, 70]] = False
    estimate = drop(before, after)
    assert estimate.value == pytest.approx(2 / 98)
    assert estimate.lo == pytest.approx(0.02 - 0.0337, abs=1e-3)
    assert estimate.hi == pytest.approx(0.02 + 0.0337, abs=1e-3)


def test_agreement_on_every_task_does_not_prove_a_drop_of_zero():
    always = np.ones(100, bool)
    estimate = drop(always, always)
    assert estimate.value == 0
    assert estimate.hi == -estimate.lo
    assert 0.01 < estimate.hi < 0.03


def test_frames_of_one_video_do_not_count_as_independent():
    videos = np.random.default_rng(0).random(40) < 0.8
    frames = np.repeat(videos, 30)
    shuffled = np.random.default_rng(1).permutation(frames)
    width = [ratio(hits).hi - ratio(hits).lo for hits in (frames, shuffled)]
    assert width[0] > 3 * width[1]


def test_the_interval_of_a_correlated_mean_holds_the_truth():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        series = lfilter([1], [1, -0.9], rng.exponential(size=1500) - 1)[500:]
        estimate = mean(series)
        held += estimate.lo <= 0 <= estimate.hi
    assert 0.88 <= held / 200 <= 0.99


@given(st.lists(st.booleans(), min_size=1, max_size=200))
def test_the_interval_of_a_ratio_holds_its_value_and_stays_in_range(hits):
    estimate = ratio(np.array(hits))
    assert 0 <= estimate.lo <= estimate.value + 1e-12
    assert estimate.value - 1e-12 <= estimate.hi <= 1


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200))
def test_the_interval_of_a_drop_holds_its_value_and_turns_with_the_pair(pairs):
    before, after = np.array(pairs).T
    there, back = drop(before, after), drop(after, before)
    assert -1 <= there.lo <= there.value + 1e-12
    assert there.value - 1e-12 <= there.hi <= 1
    assert (back.value, back.lo) == pytest.approx((-there.value, -there.hi))


def test_throughput_over_time_by_hand():
    steps = throughput_over_time(records(THREE), bin_s=4.0)  # answers at 4, 6 and 10 s
    assert steps.edges_s.tolist() == [0, 4, 10]
    assert steps.values.tolist() == [0, 3 / 6]


@pytest.mark.parametrize("order", ["low", "high"])
def test_intervals_of_accuracy_hold_whatever_the_order_of_the_frames(order):
    """100 videos of 16 like frames, true accuracy 0.8: shuffled frames are no new observations."""
    rng, trials, held = np.random.default_rng(0), 200, 0
    for _ in range(trials):
        video = np.repeat(np.arange(100), 16)
        hits = np.repeat(rng.random(100) < 0.8, 16)
        where = rng.permutation(1600) if order == "low" else np.arange(1600)
        found = ratio(hits[where], video[where])
        held += found.lo <= 0.8 <= found.hi
    assert held >= 0.9 * trials


def test_frames_of_one_video_are_one_observation_by_hand():
    # Two of four videos right, four frames each: the variance is that of four values, times 4/3.
    hits, video = np.repeat([True, False, True, False], 4), np.repeat(np.arange(4), 4)
    shuffled = np.random.default_rng(1).permutation(16)
    found = ratio(hits[shuffled], video[shuffled])
    assert (found.lo, found.hi) == pytest.approx(wilson(0.5, 3))
