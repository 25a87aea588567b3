"""The task log: named columns in, records out."""

from math import isnan

import numpy as np
from helpers.answers import Answers
from helpers.records import plan

from coach_exp.network.trace import steps
from coach_exp.pipeline.task_log import DECISIONS, DROPPED, EXIT, LOCAL, SEND, TaskLog
from coach_exp.types.task import COLUMNS, Records

SAMPLES = np.array([1, 0, 1])
ANSWERS = Answers(np.zeros((2, 1), np.float32), np.array([3, 4]), np.array([7, 8]), classes=5)


def three_tasks(fallback_s: float = 0.0) -> TaskLog:
    """A task that is sent, one that exits on the end, and one that is dropped."""
    log = TaskLog(3)
    for task in (0, 1):
        log.plan[task] = 0
        log.arrival_s[task], log.end_start_s[task], log.end_end_s[task] = 0.0, 1.0, 3.0
        log.decided_s[task], log.estimated_bps[task] = 3.0, 5e6
    log.link_start_s[0], log.link_end_s[0], log.link_busy_s[0] = 3.0, 5.0, 2.0
    log.cloud_start_s[0], log.cloud_end_s[0], log.cloud_busy_s[0] = 5.0, 6.0, 1.0
    log.bits[0], log.payload_bytes[0] = 4, 1000
    log.finish_s[0], log.decision[0], log.predicted[0] = 6.0, SEND, 4
    log.fallback[0], log.fallback_s[0] = fallback_s > 0, fallback_s
    log.nothing_sent(1, 3.0)
    log.finish_s[1], log.decision[1], log.predicted[1], log.separability[1] = 3.0, EXIT, 2, 0.5
    log.dropped(2, arrival_s=4.0, estimated_bps=6e6)
    return log


def records(log: TaskLog, outcomes=ANSWERS, trace=None) -> Records:
    return log.records((plan(),), SAMPLES, outcomes, trace)


def test_a_record_has_what_was_written_and_what_the_data_says_of_its_sample():
    sent, exited, _ = records(three_tasks(), trace=steps((8e6, 4e6), step_s=2.0))
    assert (sent.task, sent.sample, sent.label, sent.uncut, sent.video) == (0, 1, 4, 4, 8)
    assert (sent.end_busy_s, sent.link_busy_s, sent.cloud_busy_s) == (2.0, 2.0, 1.0)
    assert (sent.decision, sent.bits, sent.payload_bytes, sent.predicted) == ("send", 4, 1000, 4)
    assert (sent.estimated_bps, sent.true_bps) == (5e6, 4e6)
    assert isnan(sent.separability)
    assert (exited.decision, exited.separability, exited.label) == ("exit", 0.5, 3)
    assert exited.link_start_s == exited.link_end_s == exited.cloud_end_s == 3.0
    assert (exited.link_busy_s, exited.payload_bytes, exited.bits) == (0.0, 0, 0)


def test_a_dropped_task_takes_no_time():
    dropped = records(three_tasks())[2]
    assert (dropped.decision, dropped.dropped, dropped.plan) == ("dropped", True, -1)
    spent = [name for name in COLUMNS if name.endswith(("start_s", "end_s", "finish_s"))]
    assert {getattr(dropped, name) for name in spent} == {4.0}
    assert dropped.end_busy_s == dropped.link_busy_s == dropped.cloud_busy_s == 0.0
    assert (dropped.decided_s, dropped.estimated_bps, dropped.predicted) == (4.0, 6e6, -1)


def test_work_after_giving_up_counts_as_busy_time_of_the_end():
    late = records(three_tasks(fallback_s=1.5))[0]
    assert late.fallback
    assert (late.end_end_s - late.end_start_s, late.end_busy_s) == (2.0, 3.5)
    assert not records(three_tasks()).fallback.any()


def test_without_answers_labels_are_unknown_and_without_a_trace_the_true_rate():
    found = records(three_tasks(), outcomes=None)
    for name in ("label", "uncut", "video"):
        assert found.columns[name].tolist() == [-1] * 3
    assert np.isnan(found.true_bps).all()


def test_decisions_have_the_names_of_the_records():
    assert DECISIONS[[LOCAL, EXIT, SEND, DROPPED]].tolist() == ["local", "exit", "send", "dropped"]
