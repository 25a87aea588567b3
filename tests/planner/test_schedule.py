"""The one-task schedule: Fig. 4 by hand, random plans against the reference and the simulator."""

from dataclasses import replace

import pytest
from helpers.graphs import SHAPES, diamond, figure_4, random_problem
from helpers.reference import one_task
from numpy.random import default_rng

from coach_exp.network.estimator import Ewma
from coach_exp.network.trace import steps
from coach_exp.pipeline.simulator import simulate
from coach_exp.planner.planning import Planner
from coach_exp.planner.schedule import Span, TaskSchedule, stream_schedules, task_schedule
from coach_exp.types.method import FixedPlans, Link
from coach_exp.types.plan import PlanSet
from coach_exp.types.workload import Workload

RELEASES = ("per_tensor", "after_decision")


def spans(*pieces):
    return tuple(Span(name, begin_s, end_s) for name, begin_s, end_s in pieces)


#          0    1    2    3    4    5    6    7    8    9   10   11   12
#   end    |-1--|-2--|-3--|-5--|----6----|
#   link                  |-----V_0^1----|V_0^2V_1^2|
#   cloud                                |-4--|    |----7----|-8--|-9--|
def test_figure_4_by_hand():
    problem = figure_4()
    assert task_schedule(problem, Planner().plan(problem)) == TaskSchedule(
        end=spans(("1", 0, 1), ("2", 1, 2), ("3", 2, 3), ("5", 3, 4), ("6", 4, 6)),
        link=spans(("3", 3, 6), ("5", 6, 7), ("6", 7, 8)),
        released=spans(("3", 6, 7), ("5", 7, 7), ("6", 8, 12)),
        cloud=spans(("4", 6, 7), ("7", 8, 10), ("8", 10, 11), ("9", 11, 12)),
    )


def test_figure_4_waits_for_the_decision():
    # Nothing is sent before the end is done at 6.
    problem = figure_4()
    schedule = task_schedule(problem, Planner(release="after_decision").plan(problem))
    assert schedule.link == spans(("3", 6, 9), ("5", 9, 10), ("6", 10, 11))
    assert schedule.cloud == spans(("4", 9, 10), ("7", 11, 13), ("8", 13, 14), ("9", 14, 15))
    assert (schedule.link_end_s, schedule.cloud_end_s) == (11, 15)


def test_half_the_round_trip_lies_between_link_and_cloud():
    #   in ─┬ light ┬ add     in and light on the end; each tensor travels 0.5 s
    problem = diamond((1, 1, 9, 9), 1, 1, link=Link(8000.0, rtt_s=1.0))
    schedule = task_schedule(problem, Planner().plan_for(problem, ["in", "light"]))
    assert schedule.link == spans(("in", 1, 2), ("light", 2, 3))
    assert schedule.cloud == spans(("heavy", 2.5, 3.5), ("add", 3.5, 4.5))


def test_device_only_holds_the_end_alone():
    problem = diamond((1, 1, 9, 9), 1, 1)
    schedule = task_schedule(problem, Planner().plan_for(problem, ["in", "light", "heavy", "add"]))
    assert schedule.end == spans(("in", 0, 1), ("light", 1, 2), ("heavy", 2, 11), ("add", 11, 20))
    assert (schedule.link, schedule.released, schedule.cloud) == ((), (), ())
    assert (schedule.link_end_s, schedule.cloud_end_s) == (0, 0)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_schedule_of_the_reference(shape, release):
    for seed in range(6):
        problem = random_problem(default_rng([seed, 3]), shape, size=8)
        plan = Planner(release=release).plan(problem)
        schedule = task_schedule(problem, plan)
        task = one_task(problem, plan.end_layers, release)
        assert [span.name for span in schedule.link] == [name for name, *_ in task.sent]
        for span, (_, begin_s, end_s) in zip(schedule.link, task.sent, strict=True):
            assert (span.begin_s, span.end_s) == pytest.approx((begin_s, end_s))
        last_s = max(schedule.cloud_end_s, plan.stage_s.end_s if not plan.crossing else 0.0)
        assert last_s == pytest.approx(plan.latency_s)
        assert sum(span.seconds for span in schedule.cloud) == pytest.approx(plan.stage_s.cloud_s)


@pytest.mark.parametrize("release", RELEASES)
def test_a_stream_runs_as_in_the_simulator(release):
    planner = Planner(release=release)
    for seed in range(6):
        link = Link(8000.0, rtt_s=0.4)
        problem = random_problem(default_rng(seed), "nested", size=10, link=link)
        problem = replace(problem, workload=Workload("saturated", tasks=60, in_flight=4))
        plans = FixedPlans(PlanSet((planner.plan(problem),)))
        records = simulate(problem, plans, steps([link.bandwidth_bps], 1.0), Ewma(8000.0))
        for record, task in zip(records, stream_schedules(problem, records), strict=True):
            held = {"end": task.end, "link": task.link, "cloud": task.released}
            for resource, pieces in held.items():
                if pieces:
                    busy_s = sum(span.seconds for span in pieces)
                    assert pieces[-1].end_s == pytest.approx(getattr(record, f"{resource}_end_s"))
                    assert busy_s == pytest.approx(getattr(record, f"{resource}_busy_s"))
