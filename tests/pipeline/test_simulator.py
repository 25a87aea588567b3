"""The simulator: schedules worked out by hand, then random plans, traces and workloads against the
event by event simulation in `reference`; and what the controller is told, and when.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import inf

import numpy as np
import pytest
from helpers.answers import Answers
from helpers.graphs import chain
from helpers.looped import looped
from helpers.reference import Job, Story, simulate_naive
from helpers.scripted import Scripted, made, single, world
from hypothesis import given, settings
from hypothesis import strategies as st

from coach_exp.network.estimator import Ewma, Oracle
from coach_exp.network.trace import Trace, constant, random_walk, steps
from coach_exp.pipeline.simulator import simulate
from coach_exp.planner.planning import Planner
from coach_exp.types.errors import LinkError
from coach_exp.types.method import (
    Decision,
    FixedPlans,
    Link,
    Problem,
    Transfer,
)
from coach_exp.types.outcomes import Crossing
from coach_exp.types.plan import (
    DecisionPoint,
    Plan,
    PlanSet,
)
from coach_exp.types.task import Records
from coach_exp.types.workload import Workload

KBYTE_PER_S = 8000.0  # bit/s: a payload of 3000 bytes takes 3 s


def run(
    plans: Plan | Sequence[Plan],
    workload: Workload,
    trace: Trace | None = None,
    link: Link | None = None,
) -> Records:
    plans = [plans] if isinstance(plans, Plan) else plans
    problem = world(workload, link=link or Link(KBYTE_PER_S))
    return simulate(problem, Scripted(plans), trace or constant(KBYTE_PER_S), Ewma(KBYTE_PER_S))


def saturated(tasks: int, in_flight: int = 8) -> Workload:
    return Workload("saturated", tasks, in_flight)


def spans(records: Records) -> list[tuple[float, ...]]:
    """Arrival, then start and end on each resource, then the answer."""
    stages = [
        f"{stage}_{edge}_s" for stage in ("end", "link", "cloud") for edge in ("start", "end")
    ]
    names = ("arrival_s", *stages, "finish_s")
    return list(zip(*(records.columns[name].tolist() for name in names), strict=True))


# ---------------------------------------------------------------------------------- by hand


def test_three_tasks_through_three_stages():
    #            0   2   4   6   8   10  12
    #   end      |000|111|222|
    #   link         |00000|11111|22222|       2 + 3 + 1 s, and 3 s more for each further task
    #   cloud              |0|   |1|   |2|
    records = run(single(2, 3, 1), saturated(3))
    assert spans(records) == [
        (0, 0, 2, 2, 5, 5, 6, 6),
        (0, 2, 4, 5, 8, 8, 9, 9),
        (0, 4, 6, 8, 11, 11, 12, 12),
    ]
    assert records.end_busy_s.tolist() == [2, 2, 2]
    assert records.link_busy_s.tolist() == [3, 3, 3]
    assert records.cloud_busy_s.tolist() == [1, 1, 1]
    assert records.decision.tolist() == ["send"] * 3
    assert records.payload_bytes.tolist() == [3000] * 3
    assert records.bits.tolist() == [8] * 3
    assert records.task.tolist() == [0, 1, 2]
    assert records.true_bps.tolist() == records.estimated_bps.tolist() == [KBYTE_PER_S] * 3
    assert not records.dropped.any()
    assert not records.fallback.any()
    assert (
        records.predicted.tolist() == records.label.tolist() == records.uncut.tolist() == [-1] * 3
    )


def test_two_in_flight_let_the_third_in_when_the_first_is_answered():
    assert spans(run(single(2, 3, 1), saturated(4, in_flight=2))) == [
        (0, 0, 2, 2, 5, 5, 6, 6),
        (0, 2, 4, 5, 8, 8, 9, 9),
        (6, 6, 8, 8, 11, 11, 12, 12),
        (9, 9, 11, 11, 14, 14, 15, 15),
    ]


@pytest.mark.parametrize("in_flight", [1, 8])
def test_single_stream_starts_the_next_task_when_the_last_is_answered(in_flight):
    assert spans(run(single(2, 3, 1), Workload("single_stream", 3, in_flight))) == [
        (0, 0, 2, 2, 5, 5, 6, 6),
        (6, 6, 8, 8, 11, 11, 12, 12),
        (12, 12, 14, 14, 17, 17, 18, 18),
    ]


def test_periodic_tasks_queue_for_a_slow_end():
    records = run(single(3, 1, 1), Workload("periodic", 3, rate_hz=0.5))
    assert spans(records) == [
        (0, 0, 3, 3, 4, 4, 5, 5),
        (2, 3, 6, 6, 7, 7, 8, 8),
        (4, 6, 9, 9, 10, 10, 11, 11),
    ]


def test_periodic_tasks_wait_for_a_place_in_flight():
    records = run(single(1, 1, 1), Workload("periodic", 3, in_flight=1, rate_hz=0.5))
    assert records.arrival_s.tolist() == [0, 2, 4]
    assert records.end_start_s.tolist() == [0, 3, 6]


def test_a_slow_stream_leaves_the_pipeline_empty_between_tasks():
    records = run(single(1, 1, 1), Workload("periodic", 3, rate_hz=0.1))
    assert records.end_start_s.tolist() == [0, 10, 20]
    assert records.finish_s.tolist() == [3, 13, 23]


def test_tasks_that_find_the_pipeline_full_are_dropped():
    # answered at 2.5: the tasks of 1 s and 2 s are dropped, that of 3 s runs, and so on
    workload = Workload("periodic", 7, in_flight=1, rate_hz=1, drop=True)
    records = run(single(1, 1, 0.5), workload)
    assert records.dropped.tolist() == [False, True, True, False, True, True, False]
    assert records.decision.tolist() == [
        *("send", "dropped", "dropped", "send", "dropped", "dropped", "send"),
    ]
    assert records.arrival_s.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert records.finish_s[~records.dropped].tolist() == [2.5, 5.5, 8.5]
    assert records.payload_bytes.tolist() == [1000, 0, 0, 1000, 0, 0, 1000]
    assert records.end_busy_s.tolist() == [1, 0, 0, 1, 0, 0, 1]


def test_a_task_that_arrives_as_a_place_frees_is_not_dropped():
    workload = Workload("periodic", 4, in_flight=1, rate_hz=0.5, drop=True)
    assert not run(single(0.5, 1, 0.5), workload).dropped.any()


def test_tasks_waiting_for_the_end_fill_the_pipeline_too():
    # one task every 5 s, each 10 s on the end, two places:
    #    0 s  task 0 runs                15 s  1 runs, 2 waits: task 3 is dropped
    #    5 s  task 1 waits               20 s  1 answered, 2 runs, task 4 waits
    #   10 s  0 answered, task 2 waits   25 s  task 5 is dropped
    workload = Workload("periodic", 6, in_flight=2, rate_hz=0.2, drop=True)
    records = run(made(10.0), workload)
    assert records.dropped.tolist() == [False, False, False, True, False, True]
    assert records.end_start_s[~records.dropped].tolist() == [0, 10, 20, 30]


def test_an_outage_holds_the_link():
    trace = Trace((0, 3, 5), (KBYTE_PER_S, 0, KBYTE_PER_S))
    # 1000 bytes until 3 s, nothing until 5 s, 2000 bytes until 7 s
    records = run(single(2, 3, 1), saturated(2), trace)
    assert spans(records) == [(0, 0, 2, 2, 7, 7, 8, 8), (0, 2, 4, 7, 10, 10, 11, 11)]
    assert records.link_busy_s.tolist() == [5, 3]
    assert records.decided_s.tolist() == [0, 2]
    assert records.true_bps.tolist() == [KBYTE_PER_S] * 2


def test_the_true_rate_is_that_of_the_time_of_the_estimate():
    trace = Trace((0, 3, 5), (KBYTE_PER_S, 0, 2 * KBYTE_PER_S))
    plan = made(2, (2, 3000, 1), release="after_decision")
    records = simulate(world(saturated(2)), Scripted([plan]), trace, Oracle(trace))
    assert records.decided_s.tolist() == [2, 4]  # as the tasks leave the end
    assert records.true_bps.tolist() == [KBYTE_PER_S, 0]
    assert records.estimated_bps.tolist() == [KBYTE_PER_S, 2 * KBYTE_PER_S]


def test_a_looped_trace():
    trace = Trace((0, 1), (KBYTE_PER_S, KBYTE_PER_S / 2), period_s=2)
    # 1000 bytes in each even second, 500 in each odd one; from 2 s: 1000, 500, 1000, 500
    records = run(single(2, 3, 1), saturated(2), trace)
    assert records.link_start_s.tolist() == [2, 6]
    assert records.link_end_s.tolist() == [6, 10]


@pytest.mark.parametrize(("result_return", "back_s"), [(False, 0), (True, 0.5)])
def test_half_the_rtt_delays_delivery_and_answer_but_never_the_link(result_return, back_s):
    records = run(single(2, 3, 1), saturated(2), link=Link(KBYTE_PER_S, 1.0, result_return))
    assert spans(records) == [
        (0, 0, 2, 2, 5, 5.5, 6.5, 6.5 + back_s),
        (0, 2, 4, 5, 8, 8.5, 9.5, 9.5 + back_s),
    ]


def test_a_place_frees_when_the_answer_is_back():
    link = Link(KBYTE_PER_S, rtt_s=2, result_return=True)
    records = run(single(1, 1, 1), saturated(2, in_flight=1), link=link)
    assert records.finish_s.tolist() == [5, 10]
    assert records.arrival_s.tolist() == [0, 5]


TWO_TENSORS = ((1.0, 2000, 1.0), (4.0, 1000, 2.0))


def test_tensors_are_sent_as_they_are_ready():
    #           0 1 2 3 4 5 6 7 8 9 10 11
    #   end     |00000000|1111111|
    #   link      |000|  |0|1 1 |  |1|
    #   cloud         |0|  |000|1|   |111|        the first half of task 1 comes at 7
    records = run(made(4, *TWO_TENSORS), saturated(2))
    assert spans(records) == [(0, 0, 4, 1, 5, 3, 7, 7), (0, 4, 8, 5, 9, 7, 11, 11)]
    assert records.link_busy_s.tolist() == records.cloud_busy_s.tolist() == [3, 3]
    assert records.payload_bytes.tolist() == [3000, 3000]


def test_tensors_wait_for_the_decision():
    # link 4-6, 6-7 and 8-10, 10-11; cloud 6-7, 7-9 and 10-11, 11-13
    records = run(made(4, *TWO_TENSORS, release="after_decision"), saturated(2))
    assert spans(records) == [(0, 0, 4, 4, 7, 6, 9, 9), (0, 4, 8, 8, 11, 10, 13, 13)]


def test_device_only_uses_nothing_but_the_end():
    records = run(made(2.5), saturated(2), link=Link(KBYTE_PER_S, 1.0, result_return=True))
    assert records.finish_s.tolist() == [2.5, 5]
    assert records.decision.tolist() == ["local", "local"]
    assert records.bits.tolist() == records.payload_bytes.tolist() == [0, 0]
    for stage in ("link", "cloud"):
        columns = [records.columns[f"{stage}_{name}_s"] for name in ("start", "end", "busy")]
        assert columns[0].tolist() == columns[1].tolist()
        assert columns[2].tolist() == [0, 0]


def test_one_megabit_takes_a_second_at_one_mbps():
    records = run(made(0.0, (0.0, 125_000, 0.0)), saturated(3), constant(1e6))
    assert records.link_end_s.tolist() == records.finish_s.tolist() == [1, 2, 3]


def test_simulated_plan_alone_takes_the_latency_that_the_planner_foretold():
    problem = replace(chain([0, 2, 2, 8], [0, 1, 1, 3], [4, 5, 3, 0]), workload=saturated(1))
    plan = Planner().plan(problem)
    records = simulate(
        problem, FixedPlans(PlanSet((plan,))), constant(KBYTE_PER_S), Ewma(KBYTE_PER_S)
    )
    assert records.finish_s.tolist() == [plan.latency_s] == [10]
    assert records.plans == (plan,)


def test_samples_and_poisson_arrivals():
    workload = Workload("poisson", 4000, rate_hz=10, seed=3)
    problem = world(workload)
    samples = np.arange(4000) * 7
    plan = made(0.0)
    controller = Scripted([plan])
    records = simulate(problem, controller, constant(1), Ewma(1), samples)
    assert records.sample.tolist() == samples.tolist()
    assert [t.sample for t in controller.diary if t.call == "choose"] == samples.tolist()
    gaps = np.diff(records.arrival_s)
    assert gaps.mean() == pytest.approx(0.1, rel=0.05)
    assert gaps.std() == pytest.approx(0.1, rel=0.1)
    other = run(plan, replace(workload, seed=4))
    assert other.arrival_s.tolist() != records.arrival_s.tolist()


# ------------------------------------------------------------------------------- decisions


def test_exits_on_the_end_free_it_early_and_send_nothing():
    head = DecisionPoint("end", "h", 0.5)
    plan = replace(single(2, 3, 1, release="after_decision"), heads=(head,))
    exits = {("h", 1): Decision("exit", label=7), ("cut", 2): Decision("exit", 8, None, 2.5)}
    controller = Scripted([plan], lambda call, task: exits.get((call, task)))
    problem = world(saturated(4))
    records = simulate(problem, controller, constant(KBYTE_PER_S), Ewma(KBYTE_PER_S))
    # end: 0-2, 2-2.5 (exit at the head), 2.5-4.5 (exit at the cut), 4.5-6.5
    assert records.end_start_s.tolist() == [0, 2, 2.5, 4.5]
    assert records.end_end_s.tolist() == [2, 2.5, 4.5, 6.5]
    assert records.end_busy_s.tolist() == [2, 0.5, 2, 2]
    assert records.finish_s.tolist() == [6, 2.5, 4.5, 10.5]
    assert records.link_start_s[[0, 3]].tolist() == [2, 6.5]
    assert records.decision.tolist() == ["send", "exit", "exit", "send"]
    assert records.predicted.tolist() == [-1, 7, 8, -1]
    assert records.payload_bytes.tolist() == [3000, 0, 0, 3000]
    assert records.bits.tolist() == [8, 0, 0, 8]
    assert records.separability[2] == 2.5
    answers = [(t.task, t.label, t.time_s) for t in controller.diary if t.call == "answered"]
    assert (1, 7, 2.5) in answers
    assert (2, 8, 4.5) in answers


def test_exit_on_the_cloud_spares_the_rest_of_its_work():
    plan = replace(single(1, 1, 4), heads=(DecisionPoint("cloud", "h", 1.5),))
    exits = {("h", 0): Decision("exit", label=3)}
    controller = Scripted([plan], lambda call, task: exits.get((call, task)))
    records = simulate(world(saturated(2)), controller, constant(KBYTE_PER_S), Ewma(KBYTE_PER_S))
    assert records.cloud_start_s.tolist() == [2, 3.5]
    assert records.cloud_busy_s.tolist() == [1.5, 4]
    assert records.finish_s.tolist() == [3.5, 7.5]
    assert records.decision.tolist() == ["exit", "send"]
    assert records.predicted.tolist() == [3, -1]
    assert records.payload_bytes.tolist() == [1000, 1000]  # both were sent


def test_bits_at_the_cut_change_what_is_sent():
    # layers "0", "1" of the graph: 1000 and 2000 elements; 16 bytes of header each
    inputs = ("in", "1")
    plan = made(1, (0.5, 5, 0.25), (1.0, 5, 0.25), release="after_decision")
    plan = replace(plan, crossing=tuple(Crossing(layer, 8) for layer in inputs))
    widths = [(2, 4), (3, 3), None]
    controller = Scripted([plan], lambda call, task: Decision("send", bits=widths[task]))
    records = simulate(world(saturated(3)), controller, constant(KBYTE_PER_S), Ewma(KBYTE_PER_S))
    sizes = [16 + 250 + 16 + 1000, 16 + 375 + 16 + 750, 5 + 5]
    assert records.payload_bytes.tolist() == sizes
    assert records.bits.tolist() == [4, 3, 8]  # the widest; without a word the plan's
    assert records.link_busy_s.tolist() == pytest.approx([size / 1000 for size in sizes])


def test_two_plans_take_their_share_of_the_tasks_in_turn():
    plans = PlanSet((single(1, 2, 0), single(2, 1, 0)), (2 / 3, 1 / 3))
    problem = world(saturated(3000))
    records = simulate(problem, FixedPlans(plans), constant(KBYTE_PER_S), Ewma(KBYTE_PER_S))
    assert records.plans == plans.plans
    assert records.plan.tolist()[:9] == [0, 1, 0, 0, 1, 0, 0, 1, 0]
    behind = np.cumsum(records.plan == 0) - 2 / 3 * np.arange(1, 3001)
    assert np.abs(behind).max() < 1


# ---------------------------------------------------------------------- the link is down


DOWN_FOR_LONG = Trace((0, 3, 100), (KBYTE_PER_S, 0, KBYTE_PER_S))
EXIT = Decision("exit", label=5)


def faulty(plans: Sequence[Plan], workload: Workload, trace: Trace, decide=lambda call, task: None):
    controller = Scripted(plans, decide)
    problem = world(workload, link=Link(KBYTE_PER_S))
    return simulate(problem, controller, trace, Ewma(KBYTE_PER_S)), controller.diary


def exits_late(call: str, task: int) -> Decision | None:
    return EXIT if call == "gave up" else None


def test_tasks_that_give_up_are_finished_by_the_end_before_it_starts_another():
    #           0   2   4   6   8   10  12  14  16  18  20
    #   end     |000|111|  000  |  111  |222|   |  222  |    4 s for the remaining layers
    #   link        |00x|11x|           .   |22x|            down from 3 s; 2 s of timeout
    records, diary = faulty([single(2, 3, 1, timeout_s=2, local_s=4)], saturated(3), DOWN_FOR_LONG)
    assert spans(records) == [
        (0, 0, 2, 2, 4, 4, 4, 8),
        (0, 2, 4, 4, 6, 6, 6, 12),
        (0, 12, 14, 14, 16, 16, 16, 20),
    ]
    assert records.fallback.tolist() == [True] * 3
    assert records.decision.tolist() == ["local"] * 3
    assert records.end_busy_s.tolist() == [6, 6, 6]
    assert records.link_busy_s.tolist() == [2, 2, 2]
    assert records.cloud_busy_s.tolist() == records.payload_bytes.tolist() == [0, 0, 0]
    assert records.bits.tolist() == [0, 0, 0]
    assert records.decided_s.tolist() == [4, 6, 16]
    assert records.true_bps.tolist() == [0, 0, 0]
    assert [(e.call, e.task, e.time_s, e.backlog) for e in diary] == [
        *(("choose", 0, 0, 0), ("choose", 1, 2, 1)),
        *(("gave up", 0, 4, 1), ("gave up", 1, 6, 1), ("answered", 0, 8, -1)),
        *(("answered", 1, 12, -1), ("choose", 2, 12, 0)),
        *(("gave up", 2, 16, 0), ("answered", 2, 20, -1)),
    ]


def test_tasks_that_exit_as_they_give_up_are_answered_there_and_then():
    plan = single(2, 3, 1, timeout_s=2, local_s=4)
    records, diary = faulty([plan], saturated(3), DOWN_FOR_LONG, exits_late)
    # end 0-2, 2-4, 4-6; link 2-4, 4-6, 6-8
    assert records.end_start_s.tolist() == [0, 2, 4]
    assert records.finish_s.tolist() == [4, 6, 8]
    assert records.decision.tolist() == ["exit"] * 3
    assert records.predicted.tolist() == [5, 5, 5]
    assert records.fallback.all()
    assert records.end_busy_s.tolist() == [2, 2, 2]
    assert [e.label for e in diary if e.call == "answered"] == [5, 5, 5]


def test_a_task_that_waits_for_the_link_gives_up_without_having_had_it():
    #           0   2   4   6   8   10  12  14
    #   end     |0|1|2| |  1  |                  task 1 is released at 2 and gives up at 4
    #   link      |00000000000|222222222222|
    plans = [single(1, 6, 1), single(1, 3, 1, timeout_s=2, local_s=3)]
    records, _ = faulty(plans, saturated(3), constant(KBYTE_PER_S))
    assert spans(records) == [
        (0, 0, 1, 1, 7, 7, 8, 8),
        (0, 1, 2, 4, 4, 4, 4, 7),
        (0, 2, 3, 7, 13, 13, 14, 14),
    ]
    assert records.link_busy_s.tolist() == [6, 0, 6]
    assert records.fallback.tolist() == [False, True, False]
    assert records.decision.tolist() == ["send", "local", "send"]


def test_tensors_that_had_left_before_a_task_gave_up_cost_the_cloud_their_work():
    #           0 1 2 3 4 5 6 7 8
    #   end     |000|1|000|           task 0: tensors at 1 and 2, timeout at 3
    #   link      |0|x|1|             the second has the link from 2 to 3
    #   cloud       |000000000|1|
    plans = [made(2, (1, 1000, 5), (2, 3000, 1), timeout_s=2, local_s=2), single(1, 1, 1)]
    records, diary = faulty(plans, saturated(2), constant(KBYTE_PER_S))
    assert spans(records) == [(0, 0, 2, 1, 3, 2, 7, 5), (0, 2, 3, 3, 4, 7, 8, 8)]
    assert records.payload_bytes.tolist() == [1000, 1000]
    assert records.bits.tolist() == [8, 8]
    assert records.link_busy_s.tolist() == [2, 1]
    assert records.cloud_busy_s.tolist() == [5, 1]
    sent = [e.transfer for e in diary if e.call == "sent"]
    assert sent == [Transfer(0, 1000, 1, 2), Transfer(1, 1000, 3, 4)]


def test_no_task_gives_up_before_its_end_part_is_over():
    plan = made(4, (1, 5000, 1), (4, 1000, 1), timeout_s=1, local_s=2)
    records, _ = faulty([plan], saturated(1), constant(KBYTE_PER_S))
    assert spans(records) == [(0, 0, 4, 1, 4, 4, 4, 6)]
    assert records.link_busy_s.tolist() == [3]


def test_without_work_and_time_to_wait_all_happens_at_once():
    records, _ = faulty([made(0, (0, 1, 1), timeout_s=0, local_s=1)], saturated(3), DOWN_FOR_LONG)
    assert records.end_start_s.tolist() == [0, 1, 2]
    assert records.decided_s.tolist() == [0, 1, 2]
    assert records.finish_s.tolist() == [1, 2, 3]


@pytest.mark.parametrize(("timeout_s", "gives_up"), [(3, False), (2.875, True)])
def test_a_last_byte_that_leaves_at_the_timeout_is_in_time(timeout_s, gives_up):
    plan = single(2, 3, 1, timeout_s=timeout_s, local_s=1)
    records, diary = faulty([plan], saturated(1), constant(KBYTE_PER_S))
    assert records.fallback.tolist() == [gives_up]
    assert records.finish_s.tolist() == [5.875 if gives_up else 6]
    assert ("sent" in [entry.call for entry in diary]) != gives_up


def test_a_task_that_waits_for_the_end_after_giving_up_holds_its_place():
    plan = single(2, 3, 1, timeout_s=2, local_s=4)
    # as above, but the third task comes in at 8, when the first is answered, and waits until 12
    records, _ = faulty([plan], saturated(3, in_flight=2), DOWN_FOR_LONG)
    assert records.arrival_s.tolist() == [0, 0, 8]
    assert records.end_start_s.tolist() == [0, 2, 12]
    assert records.finish_s.tolist() == [8, 12, 20]
    # alone: 2 s on the end, 2 s of timeout, 4 s on the end
    records, _ = faulty([plan], saturated(3, in_flight=1), DOWN_FOR_LONG)
    assert records.finish_s.tolist() == [8, 16, 24]


def test_tasks_that_find_all_places_held_by_those_that_gave_up_are_dropped():
    workload = Workload("periodic", 6, in_flight=1, rate_hz=0.5, drop=True)
    records, _ = faulty(
        [single(1, 9, 1, timeout_s=1, local_s=2.5)], workload, constant(KBYTE_PER_S)
    )
    # 0-1 on the end, given up at 2, answered at 4.5: those of 2 and 4 s are dropped
    assert records.dropped.tolist() == [False, True, True, False, True, True]
    assert records.finish_s[~records.dropped].tolist() == [4.5, 10.5]


def test_a_task_gives_up_while_the_end_runs_one_that_exits_at_a_head():
    #           0 1 2 3 4 5 6
    #   end     |0|111|000|2|         task 1 would run until 5, and exits at its head at 3
    #   link      |x|                 task 0 gives up at 2
    head = DecisionPoint("end", "h", 2)
    plans = [
        single(1, 3, 1, timeout_s=1, local_s=2),
        made(4, (4, 1000, 1), release="after_decision", heads=(head,)),
        made(1),
    ]
    records, diary = faulty(
        plans, saturated(3), constant(KBYTE_PER_S), lambda call, task: EXIT if call == "h" else None
    )
    assert records.end_start_s.tolist() == [0, 1, 5]
    assert records.end_end_s.tolist() == [1, 3, 6]
    assert records.finish_s.tolist() == [5, 3, 6]
    asked = [(e.call, e.task, e.time_s, e.backlog) for e in diary if e.call in ("gave up", "h")]
    assert asked == [("gave up", 0, 2, 1), ("h", 1, 3, 1)]


def test_the_cloud_is_not_asked_about_a_task_that_gave_up():
    heads = (DecisionPoint("cloud", "h", 1),)
    plan = single(1, 3, 4, heads=heads, timeout_s=3, local_s=1)
    records, diary = faulty([plan], saturated(2), constant(KBYTE_PER_S))
    # link 1-4 in time; the second has it from 4 to 5 only
    assert records.fallback.tolist() == [False, True]
    assert records.finish_s.tolist() == [8, 6]
    assert [e.task for e in diary if e.call == "h"] == [0]


def test_a_link_that_is_down_for_ever():
    trace = Trace((0, 3), (KBYTE_PER_S, 0))
    records, _ = faulty([single(2, 1, 1, timeout_s=2, local_s=4)], saturated(20), trace)
    assert records.fallback.tolist() == [False, *[True] * 19]
    assert np.isfinite(records.finish_s).all()
    assert records.link_busy_s.tolist() == [1, *[2] * 19]
    with pytest.raises(LinkError, match=r"1000 bytes never leave.* outage that never ends"):
        run(single(2, 1, 1), saturated(20), trace)


def test_the_end_answers_with_the_labels_of_the_uncut_model():
    answers = Answers(np.zeros((2, 1), np.float32), np.array([3, 4]), np.array([0, 1]), 5)
    answers = replace(answers, sent={8: np.array([0, 0])})
    plan = single(1, 1, 1, timeout_s=2, local_s=1)
    problem = world(saturated(2), outcomes=answers)
    records = simulate(
        problem,
        FixedPlans(PlanSet((plan,))),
        Trace((0, 2), (KBYTE_PER_S, 0)),
        Ewma(KBYTE_PER_S),
        np.array([0, 1]),
    )
    assert records.fallback.tolist() == [False, True]
    assert records.predicted.tolist() == [0, 4]


# ------------------------------------------------------- what a controller is told, and when


def busy_stream(seed: int) -> tuple[Problem, Scripted, Trace]:
    """Random plans with heads, adaptive bits and, every other time, timeouts on a random link, and
    a controller for them."""
    rng = np.random.default_rng(seed)
    plans = []
    for _ in range(3):
        end_s = float(rng.uniform(0.1, 2))
        tensors = random_tensors(rng, end_s)
        release = "after_decision" if rng.random() < 0.7 else "per_tensor"
        heads = (DecisionPoint("end", "early", end_s * 0.5),) if release == "after_decision" else ()
        timeout_s = float(rng.uniform(0, 3)) if seed % 2 and rng.random() < 0.8 else inf
        plan = made(end_s, *tensors, release=release, heads=heads, timeout_s=timeout_s)
        plan = replace(plan, local_s=float(rng.uniform(0.1, 2)) * (timeout_s < inf))
        layers = ("in", "1", "2", "3")[: len(tensors)]
        plans.append(replace(plan, crossing=tuple(Crossing(layer, 8) for layer in layers)))
    tasks = 40

    def decide(call: str, task: int) -> Decision | None:
        luck = np.random.default_rng([seed, task, len(call)]).random()
        if luck < 0.2:
            return Decision("exit", label=task)
        if call == "cut" and luck < 0.7:
            crossing = plans[task % len(plans)].crossing
            return Decision("send", bits=tuple(2 + (task + k) % 7 for k in range(len(crossing))))
        return None

    workload = random_workload(rng, tasks)
    link = Link(KBYTE_PER_S, float(rng.choice([0, 0.3])), bool(rng.random() < 0.5))
    return world(workload, link=link), Scripted(plans, decide), random_trace(rng)


def random_tensors(rng: np.random.Generator, end_s: float) -> list[tuple[float, int, float]]:
    """The last one is ready with the end's last layer, as in every plan."""
    ready = sorted([*(rng.random(int(rng.integers(0, 4))) * end_s).tolist(), end_s])
    return [(r, int(rng.integers(1, 3000)), float(rng.random())) for r in ready]


def random_workload(rng: np.random.Generator, tasks: int) -> Workload:
    kind = str(rng.choice(["single_stream", "saturated", "periodic", "poisson"]))
    rate_hz = float(rng.uniform(0.2, 3)) if kind in ("periodic", "poisson") else None
    drop = bool(rng.random() < 0.5) and rate_hz is not None
    places = 1 if kind == "single_stream" else int(rng.integers(1, 9))
    return Workload(kind, tasks, places, rate_hz, drop, seed=int(rng.integers(100)))


def random_trace(rng: np.random.Generator) -> Trace:
    """Half a minute or so in pieces, some of them outages; looped, or not."""
    edges = np.cumsum([0, *rng.uniform(0.2, 6, size=int(rng.integers(1, 9)))]).tolist()
    rates = np.where(rng.random(len(edges)) < 0.2, 0, rng.uniform(2e3, 3e4, len(edges)))
    rates[-1] = KBYTE_PER_S
    period = edges[-1] + 1.5 if rng.random() < 0.5 else inf
    return Trace(tuple(edges), tuple(rates.tolist()), period)


ASKED = ("choose", "early", "cut", "gave up")


@looped("seed", range(40))
def test_controller_is_told_everything_in_the_order_of_time(seed):
    problem, controller, trace = busy_stream(seed)
    records = simulate(problem, controller, trace, Ewma(KBYTE_PER_S))
    diary = controller.diary
    times = [entry.time_s for entry in diary]
    assert times == sorted(times)
    for call in ("choose", "answered"):
        tasks = [entry.task for entry in diary if entry.call == call]
        assert len(tasks) == len(set(tasks))
    finish = dict(zip(records.task.tolist(), records.finish_s.tolist(), strict=True))
    starts = dict(zip(records.task.tolist(), records.end_start_s.tolist(), strict=True))
    chosen, answered, estimate = [], set(), Ewma(KBYTE_PER_S)
    for entry in diary:
        if entry.call == "answered":
            assert entry.time_s == finish[entry.task]
            answered.add(entry.task)
        elif entry.call == "sent":
            estimate.sent(entry.transfer)
        else:
            others = [j for j in chosen if j != entry.task]
            late = [j for j in others if finish[j] <= entry.time_s and j not in answered]
            assert not late, f"{entry} before the answers of {late}"
            assert entry.backlog == sum(finish[j] > entry.time_s for j in others)
            assert entry.bandwidth_bps == estimate.rate_bps(entry.time_s)
        if entry.call == "choose":
            assert entry.time_s == starts[entry.task]
            chosen.append(entry.task)
    assert set(chosen) == set(records.task[~records.dropped].tolist())


@looped("seed", range(40))
def test_asked_times_are_those_of_the_record(seed):
    problem, controller, trace = busy_stream(seed)
    records = simulate(problem, controller, trace, Ewma(KBYTE_PER_S))
    asked = {(e.call, e.task): e for e in controller.diary if e.call in ASKED}
    for row in records:
        if row.dropped:
            assert ("choose", row.task) not in asked
            continue
        plan = records.plans[row.plan]
        assert asked["choose", row.task].time_s == row.end_start_s
        if plan.heads:
            assert asked["early", row.task].time_s == pytest.approx(
                row.end_start_s + plan.heads[0].at_s, rel=1e-12
            )
        assert row.fallback == (("gave up", row.task) in asked)
        if ("cut", row.task) in asked:
            assert plan.release == "after_decision"
            assert asked["cut", row.task].time_s == row.end_end_s
        if row.fallback or ("cut", row.task) in asked:
            last = asked["gave up" if row.fallback else "cut", row.task]
            assert (row.decided_s, row.estimated_bps) == (last.time_s, last.bandwidth_bps)


def test_random_streams_hold_tasks_that_give_up_in_every_way():
    """Or the tests around this one say little."""
    ways = set()
    for seed in range(1, 40, 2):
        problem, controller, trace = busy_stream(seed)
        for row in simulate(problem, controller, trace, Ewma(KBYTE_PER_S)):
            if row.fallback:
                ways.add((row.decision, row.payload_bytes > 0, row.link_busy_s > 0))
    every = {("exit", False), ("local", False), ("exit", True), ("local", True)}
    assert {way[:2] for way in ways} == every
    assert {way[2] for way in ways} == {False, True}


@looped("seed", range(10))
def test_every_transfer_and_every_answer_is_told_once(seed):
    problem, controller, trace = busy_stream(seed)
    records = simulate(problem, controller, trace, Ewma(KBYTE_PER_S))
    kept = records.task[~records.dropped].tolist()
    assert sorted(e.task for e in controller.diary if e.call == "answered") == kept
    transfers = [e.transfer for e in controller.diary if e.call == "sent"]
    told = np.zeros(len(records))
    for transfer in transfers:
        told[transfer.task] += transfer.payload_bytes
    assert told.tolist() == records.payload_bytes.tolist()


# ------------------------------------------------ random streams against the naive simulation


def naive(problem: Problem, jobs: Sequence[Job], trace: Trace, arrivals_s) -> list[Story]:
    workload = problem.workload
    closed = workload.kind in ("single_stream", "saturated")
    return simulate_naive(
        jobs,
        trace.starts_s,
        trace.rates_bps,
        trace.period_s,
        in_flight=1 if workload.kind == "single_stream" else workload.in_flight,
        arrivals_s=None if closed else arrivals_s,
        drop=workload.drop,
        rtt_s=problem.link.rtt_s,
        result_return=problem.link.result_return,
    )


def assert_same(records: Records, stories: list[Story]) -> None:
    assert records.dropped.tolist() == [story.dropped for story in stories]
    for row, story in zip(records, stories, strict=True):
        if story.dropped:
            continue
        sends = story.sends + story.abandoned or [(row.link_start_s, row.link_start_s)]
        assert row.fallback == (story.gave_up_s == story.gave_up_s)  # a number
        works = story.works or [(row.cloud_start_s, row.cloud_start_s)]
        assert [
            *(row.arrival_s, row.end_start_s, row.end_end_s, row.end_busy_s),
            *(row.link_start_s, row.link_end_s, row.link_busy_s),
            *(row.cloud_start_s, row.cloud_end_s, row.cloud_busy_s, row.finish_s),
        ] == pytest.approx(
            [
                *(story.arrival_s, *story.end),
                story.end[1] - story.end[0] + story.local[1] - story.local[0],
                *(sends[0][0], sends[-1][1], sum(b - a for a, b in sends)),
                *(works[0][0], works[-1][1], sum(b - a for a, b in works), story.finish_s),
            ],
            rel=1e-9,
            abs=1e-12,
        ), row.task


@looped("seed", range(150))
def test_random_streams_run_as_event_by_event(seed):
    rng = np.random.default_rng(seed)
    plans = []
    for _ in range(int(rng.integers(1, 4))):
        end_s = float(rng.uniform(0, 2))
        tensors = random_tensors(rng, end_s) if rng.random() < 0.85 else ()
        plans.append(
            made(end_s, *tensors, release=str(rng.choice(["per_tensor", "after_decision"])))
        )
    link = Link(KBYTE_PER_S, float(rng.choice([0, 0.3])), bool(rng.random() < 0.5))
    problem = world(random_workload(rng, 30), link=link)
    trace = random_trace(rng)
    records = simulate(problem, Scripted(plans), trace, Ewma(KBYTE_PER_S))
    jobs = [Job.of(plans[task % len(plans)]) for task in range(30)]
    assert_same(records, naive(problem, jobs, trace, records.arrival_s.tolist()))


@looped("seed", range(60))
def test_random_decisions_run_as_event_by_event(seed):
    """Exits at heads and at the cut, and bits chosen there, are jobs with other times and sizes."""
    problem, controller, trace = busy_stream(seed)
    records = simulate(problem, controller, trace, Ewma(KBYTE_PER_S))
    elements = [problem.graph[layer].elements for layer in ("in", "1", "2", "3")]
    jobs = []
    for task in range(len(records)):
        plan = controller.plans[task % len(controller.plans)]
        job = Job.of(plan)
        at_head = controller.decide("early", task) if plan.heads else None
        at_cut = controller.decide("cut", task) if plan.release == "after_decision" else None
        if at_head and at_head.action == "exit":
            job = Job(plan.heads[0].at_s)
        elif at_cut and at_cut.action == "exit":
            job = Job(job.end_s)
        elif at_cut:
            sizes = [16 + -(-n * bits // 8) for n, bits in zip(elements, at_cut.bits, strict=False)]
            job = replace(
                job,
                tensors=tuple(
                    (ready, size, work)
                    for (ready, _, work), size in zip(job.tensors, sizes, strict=True)
                ),
            )
        jobs.append(replace(job, exits_late=controller.decide("gave up", task) is not None))
    assert_same(records, naive(problem, jobs, trace, records.arrival_s.tolist()))


def eighths(low: int, high: int) -> st.SearchStrategy[float]:
    """Numbers that sums, and quotients by 2, keep exactly, so that times may coincide."""
    return st.integers(low, high).map(lambda k: k / 8)


@st.composite
def faulty_streams(draw) -> tuple[Workload, Link, Trace, list[Job]]:
    """Streams, some tasks of which have a timeout, on links that fail, some of them for ever."""
    kind = draw(st.sampled_from(["saturated", "periodic", "single_stream"]))
    tasks = draw(st.integers(1, 12))
    rate_hz = draw(st.sampled_from([0.5, 1.0, 2.0, 4.0])) if kind == "periodic" else None
    places = 1 if kind == "single_stream" else draw(st.integers(1, 5))
    workload = Workload(kind, tasks, places, rate_hz, kind == "periodic" and draw(st.booleans()))

    durations = draw(st.lists(eighths(1, 40), min_size=1, max_size=6))
    edges = [0.0, *np.cumsum(durations).tolist()]
    rates = [draw(st.sampled_from([0, 0, 4000, 8000, 16000])) for _ in edges]
    ends_down = draw(st.booleans())
    rates[0 if ends_down else -1] = 8000
    rates[-1] *= not ends_down
    looped = draw(st.booleans())
    trace = Trace(tuple(edges), tuple(rates), edges[-1] + draw(eighths(1, 16)) if looped else inf)
    must_give_up = ends_down and not looped

    jobs = []
    for _ in range(tasks):
        end_s = draw(eighths(1, 16))
        early = draw(st.lists(eighths(0, round(8 * end_s)), max_size=2))
        sizes, works = st.integers(1, 24).map(lambda k: 125 * k), eighths(0, 12)
        tensors = [(ready, draw(sizes), draw(works)) for ready in sorted([*early, end_s])]
        if draw(st.integers(0, 9)) == 0:
            tensors = []
        timeout_s = draw(eighths(0, 40) if must_give_up else st.just(inf) | eighths(0, 40))
        jobs.append(
            Job(
                end_s,
                tuple(tensors),
                after_decision=bool(tensors) and draw(st.booleans()),
                timeout_s=timeout_s,
                local_s=draw(eighths(1, 24)),
                exits_late=draw(st.booleans()),
            )
        )
    link = Link(8000, draw(st.sampled_from([0, 0.5])), draw(st.booleans()))
    return workload, link, trace, jobs


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(faulty_streams())
def test_streams_on_failing_links_run_as_event_by_event(stream):
    workload, link, trace, jobs = stream
    plans = [
        made(
            job.end_s,
            *job.tensors,
            release="after_decision" if job.after_decision else "per_tensor",
            timeout_s=job.timeout_s,
            local_s=job.local_s,
        )
        for job in jobs
    ]
    controller = Scripted(
        plans,
        lambda call, task: (
            Decision("exit", label=task) if call == "gave up" and jobs[task].exits_late else None
        ),
    )
    problem = world(workload, link=link)
    records = simulate(problem, controller, trace, Ewma(KBYTE_PER_S))
    stories = naive(problem, jobs, trace, records.arrival_s.tolist())
    assert_same(records, stories)
    for row, story, job in zip(records, stories, jobs, strict=True):
        assert row.payload_bytes == sum(t[1] for t in job.tensors[: len(story.sends)])
        if row.fallback:
            assert row.decided_s == story.gave_up_s
            assert row.decision == ("exit" if job.exits_late else "local")
            assert row.predicted == (row.task if job.exits_late else -1)
    times = [entry.time_s for entry in controller.diary]
    assert times == sorted(times)
    for name, column in records.columns.items():
        if column.dtype.kind == "f" and name != "separability":
            assert np.isfinite(column).all(), name
    told = [entry.transfer.payload_bytes for entry in controller.diary if entry.call == "sent"]
    assert sum(told) == records.payload_bytes.sum()


# ------------------------------------------------------------------------------ properties


@pytest.mark.parametrize("stages", [(2, 3, 1), (5, 1, 1), (1, 1, 7), (0.1, 0.1, 0.1)])
def test_equal_tasks_take_the_longest_stage_each(stages):
    records = run(single(*stages), saturated(50))
    assert records.finish_s[-1] == pytest.approx(sum(stages) + 49 * max(stages), rel=1e-9)


@looped("seed", range(10))
@pytest.mark.parametrize("in_flight", [1, 2, 5])
def test_littles_law_and_capacity(seed, in_flight):
    rng = np.random.default_rng(seed)
    plans = [single(*rng.uniform(0.2, 2, 3)) for _ in range(3)]
    records = run(plans, saturated(200, in_flight), random_trace(rng))
    arrivals, finishes = np.sort(records.arrival_s), np.sort(records.finish_s)
    makespan = finishes[-1]
    for stage in ("end", "link", "cloud"):
        busy = records.columns[f"{stage}_busy_s"].sum()
        assert busy <= makespan * (1 + 1e-12)
    # as long as tasks are left every place is taken, so what is inside on average is known
    inside = np.searchsorted(arrivals, finishes[:-1], "right") - np.arange(1, len(records))
    assert (inside[: len(records) - in_flight] == in_flight).all()
    window = arrivals[-1]
    spent = (np.minimum(records.finish_s, window) - np.minimum(records.arrival_s, window)).sum()
    assert spent == pytest.approx(in_flight * window, rel=1e-9, abs=1e-9)


def test_same_seed_same_records():
    for seed in range(5):
        first, second = (
            simulate(p, c, t, Ewma(KBYTE_PER_S)) for p, c, t in map(busy_stream, [seed] * 2)
        )
        for name, column in first.columns.items():
            np.testing.assert_array_equal(column, second.columns[name], err_msg=name)


def test_more_places_never_make_a_stream_longer():
    trace = random_walk(2e3, 2e4, 1.0, 0.5, 60.0, seed=4)
    spans_s = [run(single(1, 1.5, 0.7), saturated(100, k), trace).finish_s[-1] for k in range(1, 9)]
    assert all(later <= sooner + 1e-9 for sooner, later in pairwise(spans_s))


def test_throughput_follows_the_steps_of_the_trace():
    """A link-bound stream answers as many tasks a second as the link carries (Fig. 5)."""
    trace = steps((2 * KBYTE_PER_S, KBYTE_PER_S), step_s=100)
    finish = run(single(0.1, 1, 0.1), saturated(280), trace).finish_s
    assert (finish < 100).sum() == pytest.approx(200, abs=2)
    assert ((finish >= 100) & (finish < 150)).sum() == pytest.approx(50, abs=2)
