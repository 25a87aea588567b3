"""The executor against the simulator: the same plans, made by hand, over TCP, stages emulated.

Decisions and all that does not depend on the clock must be equal, always. Times are those of a
machine that others use too: a core that is taken away for some milliseconds delays a run of a
second by as much, so a run that disagrees is repeated, three times at most. What is wrong by
construction disagrees every time.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from helpers.answers import Answers
from helpers.clouds import SETTINGS, quiet
from helpers.scripted import Scripted, made, world

from coach_exp.network.estimator import Ewma
from coach_exp.network.trace import Trace, constant, steps
from coach_exp.pipeline.cloud.process import CloudProcess
from coach_exp.pipeline.cloud.work import ProfileWork
from coach_exp.pipeline.end_work import EmulatedEnd
from coach_exp.pipeline.executor import Setting, execute
from coach_exp.pipeline.simulator import simulate
from coach_exp.pipeline.trial import Trial
from coach_exp.pipeline.uplink import CloudAddress
from coach_exp.results.agreement import WITHIN_PERCENT, agreement, allowed_latency_ms
from coach_exp.types.method import Decision, Link, Problem
from coach_exp.types.plan import DecisionPoint, Plan, PlanSet
from coach_exp.types.task import Records
from coach_exp.types.workload import Workload

pytestmark = pytest.mark.socket

MS = 1e-3
RATE_BPS = 8e6  # 1000 bytes take 1 ms
LINK = Link(RATE_BPS)
TENSOR_BYTES = 4000  # of every tensor, at every width
KINDS = 20
ATTEMPTS = 3

ALIKE = (  # whatever the clock does
    *("task", "sample", "plan", "decision", "bits", "payload_bytes", "predicted", "label"),
    *("uncut", "video", "dropped", "fallback"),
)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with CloudProcess(SETTINGS, ProfileWork, quiet) as cloud:
        yield cloud.port


LABELS = np.arange(KINDS) % 5
ANSWERS = Answers(
    features=np.zeros((KINDS, 1), dtype=np.float32),
    label=LABELS,
    videos=np.arange(KINDS),
    classes=5,
    sent={4: (LABELS + 1) % 5},
    payload_bytes=TENSOR_BYTES,
)


def plan(end_ms: float, *tensors: tuple[float, float], **changes) -> Plan:
    """Milliseconds of the end, then (ready, cloud's work) of each tensor."""
    legs = [(ready * MS, TENSOR_BYTES, work * MS) for ready, work in tensors]
    return made(end_ms * MS, *legs, **changes)


def alone(end_ms: float) -> Plan:
    """Nothing is sent."""
    return replace(plan(end_ms), end_layers=("0",))


def saturated(tasks: int) -> Workload:
    return Workload("saturated", tasks, 8)


def both(
    port: int, plans: Sequence[Plan], problem: Problem, trace: Trace, decide
) -> tuple[Records, Records]:
    """The records of the simulator and of the executor."""
    samples = np.arange(problem.workload.tasks) % KINDS
    simulated = simulate(problem, Scripted(plans, decide), trace, Ewma(RATE_BPS), samples)
    executed = execute(
        Trial(problem, Scripted(plans, decide), trace, Ewma(RATE_BPS), samples),
        PlanSet(tuple(plans), tuple(1 / len(plans) for _ in plans)),
        lambda began_s: EmulatedEnd(problem, began_s),
        Setting(CloudAddress("127.0.0.1", port, SETTINGS.fingerprint)),
        say=quiet,
    )
    return simulated, executed


def assert_agree(
    port: int,
    plans: Sequence[Plan],
    workload: Workload,
    trace: Trace | None = None,
    decide=lambda call, task: None,
    link: Link = LINK,
) -> Records:
    """Returns the executor's records, which agree with the simulator's."""
    problem = world(workload, link=link, outcomes=ANSWERS)
    for _ in range(ATTEMPTS):
        simulated, executed = both(port, plans, problem, trace or constant(RATE_BPS), decide)
        for name in ALIKE:
            assert executed.columns[name].tolist() == simulated.columns[name].tolist(), name
        for name in ("end_busy_s", "cloud_busy_s"):
            assert executed.columns[name] == pytest.approx(simulated.columns[name]), name
        found = agreement(simulated, executed)
        late_ms, allowed_ms = found["diff_latency_ms"].value, allowed_latency_ms(found)
        rate_percent = found["diff_throughput_percent"].value
        if abs(late_ms) <= allowed_ms and abs(rate_percent) <= WITHIN_PERCENT:
            return executed
    if os.getloadavg()[0] > (os.cpu_count() or 1):
        pytest.skip("more processes want to run than this machine has cores: no time can be judged")
    pytest.fail(
        f"{ATTEMPTS} runs disagree, the last one by {late_ms:+.3f} ms, of {allowed_ms:.3f} allowed,"
        f" and {rate_percent:+.2f} % of the throughput"
    )


def test_one_tensor_that_waits_for_the_decision(port: int):
    def decide(call: str, task: int) -> Decision | None:
        if task % 5 == 4:
            return Decision("exit", label=3)
        return Decision("send", bits=(4,)) if task % 3 == 0 else None

    coach = plan(3, (3, 2), release="after_decision")
    records = assert_agree(port, [coach], saturated(60), decide=decide)
    assert set(records.decision) == {"send", "exit"}
    assert set(records.bits) == {0, 4, 8}
    widened = records.bits == 4
    assert (records.predicted[widened] == (records.label[widened] + 1) % 5).all()


def test_two_tensors_that_leave_as_they_are_ready(port: int):
    records = assert_agree(port, [plan(6, (2, 3), (6, 2))], saturated(50))
    assert set(records.payload_bytes) == {2 * TENSOR_BYTES}


def test_plans_that_take_turns_and_a_link_that_changes(port: int):
    plans = [plan(2, (2, 3)), alone(7)]
    trace = steps((RATE_BPS, RATE_BPS / 2), step_s=0.15)
    records = assert_agree(port, plans, saturated(60), trace)
    assert set(records.decision) == {"send", "local"}


def test_heads_on_both_sides(port: int):
    heads = (
        DecisionPoint("end", "0", 1 * MS),
        DecisionPoint("cloud", "a", 2 * MS),
        DecisionPoint("cloud", "b", 5 * MS),
    )

    def decide(call: str, task: int) -> Decision | None:
        exits = {"0": task % 4 == 0, "a": task % 4 == 1, "b": task % 4 == 2}
        return Decision("exit", label=4) if exits.get(call) else None

    spinn = plan(3, (3, 7), heads=heads)
    records = assert_agree(port, [spinn], saturated(60), decide=decide)
    busy_ms = np.round(records.cloud_busy_s / MS, 6).reshape(-1, 4)
    assert np.unique(busy_ms, axis=0).tolist() == [[0, 2, 5, 7]]


def test_the_way_there_and_back(port: int):
    there_and_back = Link(RATE_BPS, rtt_s=20 * MS, result_return=True)
    records = assert_agree(port, [plan(3, (3, 2))], saturated(40), link=there_and_back)
    assert (records.finish_s - records.cloud_end_s >= 10 * MS).all()


def test_outages_and_tasks_that_give_up(port: int):
    """Tasks start on a clock, so that those that meet the outages are the same on both sides."""

    def decide(call: str, task: int) -> Decision | None:
        return Decision("exit", label=2) if call == "gave up" and task % 2 else None

    timed = plan(3, (3, 2), timeout_s=25 * MS, local_s=4 * MS)
    trace = Trace((0.0, 0.1, 0.19, 0.35, 0.41), (RATE_BPS, 0.0, RATE_BPS, 0.0, RATE_BPS))
    workload = Workload("periodic", 60, 60, rate_hz=100)
    records = assert_agree(port, [timed], workload, trace, decide)
    assert 5 < records.fallback.sum() < 30
    assert set(records.decision[records.fallback]) == {"local", "exit"}
