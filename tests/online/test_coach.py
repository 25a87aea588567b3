"""COACH through planner, calibration, controller and simulator, on answers written by hand."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.answers import Answers
from helpers.graphs import SameBits, chain

from coach_exp.coach import Coach
from coach_exp.network.estimator import Ewma, Oracle
from coach_exp.network.trace import constant, steps
from coach_exp.online.method import Online
from coach_exp.online.replan import FollowRate, Replan
from coach_exp.online.scheduler import OnlineController
from coach_exp.pipeline.simulator import simulate
from coach_exp.planner.planning import Planner
from coach_exp.types.errors import InfeasibleError
from coach_exp.types.method import Calibration, FixedPlans, Link, Observation, Problem
from coach_exp.types.plan import Plan, PlanSet
from coach_exp.types.profile import DeviceProfile
from coach_exp.types.workload import Workload

STATM = Path("/proc/self/statm")
BPS = 8000.0  # the graphs' link: a byte takes a millisecond


def split(videos, rng) -> Answers:
    """Two labels a quarter turn apart; 4 bits are always right, fewer only near a centre."""
    label = np.arange(len(videos)) % 2
    spread = rng.normal(0, 0.45, len(videos))
    angle = label * np.pi / 2 + spread
    features = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    wrong = np.where(np.abs(spread) > 0.6, 1 - label, label)
    return Answers(features, label, np.array(videos), 2, {2: wrong, 3: wrong}, payload_bytes=500)


@pytest.fixture
def given() -> Problem:
    """in → 1 → 2: behind 1 the end takes 0.4 s, the link 0.5 s at 4 bits, the cloud 0.3 s."""
    rng = np.random.default_rng(0)
    problem = chain((0, 0.4, 3), (0, 2, 0.3), (1, 1, 1))
    end = replace(problem.end, decision_s={"in": 0.2, "1": 0.1, "2": 0.1})
    return replace(
        problem,
        end=end,
        bits=replace(problem.bits, width=4),
        workload=Workload("saturated", tasks=200, in_flight=4),
        outcomes=split(range(1000, 1200), rng),
        calibration=Calibration(split(range(100), rng), split(range(100, 400), rng)),
    )


def run(method, problem):
    plans = method.plan(problem)
    trace = constant(problem.link.bandwidth_bps)
    records = simulate(
        problem, method.controller(plans), trace, Ewma(BPS), np.arange(problem.workload.tasks)
    )
    return plans, records


def test_noadjust_reproduces_the_offline_component_exactly(given):
    plans, records = run(Coach(Planner(), Online(exits=False, adjust=False)), given)
    expected, offline = run(Coach(Planner()), given)
    assert plans == expected
    assert plans.plans[0].release == "per_tensor"
    assert plans.plans[0].online is None
    for name, column in offline.columns.items():
        np.testing.assert_array_equal(records.columns[name], column)


def test_the_decision_is_part_of_the_end_stage(given):
    plans, records = run(Coach(Planner(), Online()), given)
    plan = plans.plans[0]
    assert plan.crossing[0].layer == "1"
    assert plan.stage_s.end_s == pytest.approx(0.4 + 0.1)
    assert (plan.decision_s, plan.release) == (0.1, "after_decision")
    assert records.end_busy_s == pytest.approx(np.full(200, 0.5))


def test_exits_send_nothing_and_are_answered_when_the_end_is_done(given):
    _, records = run(Coach(Planner(), Online(limit_points=2)), given)
    exits = records.decision == "exit"
    assert 0 < exits.sum() < 200
    assert (records.payload_bytes[exits] == 0).all()
    np.testing.assert_array_equal(records.finish_s[exits], records.end_end_s[exits])
    assert (records.predicted[~exits] == records.label[~exits]).mean() > 0.9
    assert np.isfinite(records.separability).all()


def test_the_decisions_cost_can_move_the_cut(given):
    # Deciding behind 1 now costs as much as running 2 on the end.
    end = DeviceProfile("end", given.end.layer_s, decision_s={"in": 9.0, "1": 9.0})
    plans = Coach(Planner(objective="bottleneck"), Online()).plan(replace(given, end=end))
    assert not plans.plans[0].crossing
    offline = Coach(Planner(objective="bottleneck")).plan(replace(given, end=end))
    assert offline.plans[0].crossing


def test_without_answers_the_offline_component_is_left(given):
    bare = replace(given, outcomes=None, calibration=None)
    plans, records = run(Coach(Planner(), Online()), bare)
    assert plans == Coach(Planner()).plan(bare)
    assert (records.decision == "send").all()


# --- Replanning -----------------------------------------------------------------------------------


def every(plans: PlanSet) -> list[Plan]:
    return [plan for each in (plans, *plans.prepared) for plan in each.plans]


def alone(planner: Planner):
    return lambda problem: PlanSet((planner.plan(problem),))


def test_a_plan_for_every_rate_and_each_calibrated(given):
    replan = Replan(mbps=(0.0004, 0.1))
    plans = Coach(Planner(objective="bottleneck"), Online(), replan).plan(given)
    first, low, high = every(plans)
    assert [plan.link_bps for plan in (first, low, high)] == [BPS, 400.0, 1e5]
    assert plans.plans == (first,)
    assert [plan.cut_name for plan in (first, low, high)] == ["1", "device-only", "1"]
    assert [plan.online is not None for plan in (first, low, high)] == [True, False, True]
    assert first.online is high.online  # the same cut


def test_the_plan_follows_the_rate_once_a_period():
    given = chain((0, 0.4, 3), (0, 2, 0.3), (1, 1, 1))
    replan = Replan(mbps=(0.0004, 0.1), period_s=2.0, change=0.5)
    plans = replan.plans(given, alone(Planner(objective="bottleneck")))
    follow = FollowRate(plans, replan)

    def at(now_s: float, rate_bps: float) -> float:
        return follow.choose(0, Observation(now_s, 0, rate_bps, 0, None)).link_bps

    assert at(0.0, 400) == BPS  # too early
    assert at(2.0, 400) == 400
    assert at(3.0, BPS) == 400  # within the period
    assert at(4.0, 550) == 400  # less than half as much again
    assert at(6.0, 1e6) == 1e5  # the nearest there is


def test_following_the_rate_beats_keeping_the_plan(given):
    # 8 kbit/s, then a twentieth: 10 s a task on the link against 3.4 s on the end alone.
    trace = steps([BPS, BPS / 20], 20.0)
    rates = {}
    for replan in (Replan(), Replan(mbps=(0.0004,))):
        method = Coach(Planner(objective="bottleneck"), replan=replan)
        bare = replace(given, outcomes=None, calibration=None)
        controller = method.controller(method.plan(bare))
        records = simulate(bare, controller, trace, Oracle(trace))
        rates[bool(replan.mbps)] = len(records) / records.finish_s.max()
    assert rates[True] > 2 * rates[False]


def test_an_end_that_sends_nothing_still_learns_that_the_link_is_back():
    # Sent, a task takes 0.05 s on the link and, at a twentieth of the rate, 1 s; on the end alone
    # 0.34 s. The rate is low from 30 to 60 s. Without a probe the estimate would stay where the
    # last transfer left it, and every task on the end.
    fast = 80_000.0
    given = chain(
        (0, 0.04, 0.3),
        (0, 0.2, 0.03),
        (1, 1, 1),
        link=Link(fast),
        bits=SameBits(4),
        workload=Workload("saturated", tasks=1500, in_flight=4),
    )
    method = Coach(Planner(objective="bottleneck"), replan=Replan(mbps=(0.004, 0.08)))
    plans = method.plan(given)
    trace = steps([fast, fast / 20, fast], 30.0)
    records = simulate(given, method.controller(plans), trace, Ewma(fast))
    start_s, sent = records.end_start_s, records.decision == "send"
    slow = sent[(start_s > 45) & (start_s < 60)]
    assert 0 < slow.mean() < 0.1  # probes alone
    assert sent[start_s > 75].all()
    assert (start_s > 75).sum() > 400


def test_one_task_at_a_time_is_sent_to_learn_of_a_slow_link():
    # All on the end takes 0.34 s; sent, a task holds the link for 50 s. Were one sent every period,
    # they would fill all four places and the end would wait for the link.
    given = chain(
        (0, 0.04, 0.3),
        (0, 0.2, 0.03),
        (1, 1, 1),
        link=Link(80.0),
        bits=SameBits(4),
        workload=Workload("saturated", tasks=600, in_flight=4),
    )
    method = Coach(Planner(objective="bottleneck"), replan=Replan(mbps=(0.08,)))
    trace = steps([80.0], 1.0)
    records = simulate(given, method.controller(method.plan(given)), trace, Ewma(80.0))
    sent = records.decision == "send"
    apart_s = np.diff(records.end_start_s[sent])
    assert 2 < sent.sum() < 8
    assert apart_s.min() > 50
    assert records.finish_s[~sent].max() < 1.05 * 600 * 0.34


def test_rates_without_a_feasible_cut_are_left_out(given):
    slow = replace(given, t_max_s=1.3)
    plans = Replan(mbps=(0.0001, 0.1)).plans(slow, alone(Planner()))
    assert [plan.link_bps for plan in every(plans)] == [BPS, 1e5]
    with pytest.raises(InfeasibleError):
        Replan(mbps=(0.1,)).plans(replace(given, t_max_s=0.1), alone(Planner()))


# --- Memory ---------------------------------------------------------------------------------------


def resident_bytes() -> int:
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not STATM.exists(), reason="this system does not tell a process's memory")
def test_memory_stays_flat_over_a_long_stream(given):
    method = Coach(Planner(), Online(update="results", limit_points=2))
    plan = method.plan(given).plans[0]
    online = OnlineController(FixedPlans(PlanSet((plan,))), "eq11", "results", None)
    observation = Observation(0.0, 0, BPS, 0, given.outcomes)
    for task in range(100_000):
        observation.sample = task % 200
        if online.at_cut(task, plan, observation).action == "send" and task >= 8:
            online.answered(task - 8, task % 2, float(task))
        if task == 10_000:
            before = resident_bytes()
    assert resident_bytes() - before < 4e6  # what is kept of every task would be several times that
