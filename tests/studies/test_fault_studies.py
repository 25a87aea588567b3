"""The studies of failures over real sockets, with stages that are held and answers from a table."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from helpers.answers import Answers
from helpers.studies import row, study, written

from coach_exp.network.trace import constant
from coach_exp.pipeline.cloud.work import ProfileWork
from coach_exp.pipeline.end_work import EmulatedEnd
from coach_exp.pipeline.parts import Sides
from coach_exp.quant.affine import UniformAffine
from coach_exp.quant.precision import FixedBits
from coach_exp.studies.fault_kinds import NAMES, together
from coach_exp.studies.fault_runs import Outcome
from coach_exp.studies.faults import broken_rules, in_words, row_of
from coach_exp.types.errors import ConfigError
from coach_exp.types.graph import Layer, LayerGraph
from coach_exp.types.method import Link, Problem
from coach_exp.types.profile import DeviceProfile
from coach_exp.types.workload import Workload

GRAPH = LayerGraph.of(
    [
        Layer("in", (), elements=5000),
        Layer("cut", ("in",), elements=1000),
        Layer("out", ("cut",), elements=10),
    ]
)


@dataclass(frozen=True)
class Made:
    """Parts of a config that needs no model: 4 ms on the end, 5 on the cloud."""

    trained: bool = True

    def trace(self):
        return constant(10e6)

    def problem(self, trace) -> Problem:
        return Problem(
            graph=GRAPH,
            end=DeviceProfile("end", {"in": 0.0, "cut": 0.004, "out": 0.004}),
            cloud=DeviceProfile("cloud", {"in": 0.0, "cut": 0.004, "out": 0.005}),
            link=Link(trace.initial_bps),
            codec=UniformAffine(),
            bits=FixedBits(8, "in", 8),
            workload=Workload("periodic", 1),
        )

    def answers(self, split: str) -> Answers:
        return Answers(np.ones((6, 2), np.float32), np.arange(6) % 3, np.arange(6), 3)

    def reference(self) -> Answers:
        return self.answers("stream")

    def sides(self, problem: Problem) -> Sides:
        return Sides("a model", lambda began_s: EmulatedEnd(problem, began_s), ProfileWork)


def outcome(**changes) -> Outcome:
    facts = dict.fromkeys(("fallbacks", "reconnections", "wrong", "ties"), 0)
    facts |= {"tasks": 10, "once": 10, "gap_s": 0.5, "records": None, "said": ()}
    return Outcome(**(facts | changes))


def test_without_trained_weights_there_is_no_right_label(display):
    for name in ("faults.Faults", "soak.Soak"):
        with pytest.raises(ConfigError, match="trained weights"):
            study(name)(Made(trained=False), display)


@pytest.mark.slow
@pytest.mark.socket
def test_faults_of_a_link_are_survived(display):
    faults = ["none", "link stalled", "two clients"]
    found = study("faults.Faults", faults=faults, runs=1, tasks=90, max_s=0.5)(Made(), display)
    assert (found.broken, found.value) == ((), 0.0)
    assert row(found, "none")[1:4] == ["1", "90", "90"]
    assert row(found, "two clients")[2:4] == ["90", "90"]
    data = written(found)
    assert (data["settings"]["runs"], data["broken"]) == (1, [])
    assert data["runs"]["none"][0]["fallbacks"] == 0


@pytest.mark.slow
@pytest.mark.socket
def test_a_short_soak_counts_what_both_processes_take(display):
    given = {"minutes": 0.05, "tasks": 40, "sample_s": 0.1, "pause_s": 0.5, "failure_s": 0.3}
    given |= {"failures": ["trickle"], "stall_s": 5, "connect_s": 10}  # whatever else is busy here
    given |= {"max_kib_per_min": 1e9}  # it is still warming up
    found = study("soak.Soak", **given)(Made(), display)
    assert (found.broken, found.value) == ((), 0.0)
    data = written(found)
    assert data["summary"]["tasks"] == 40 * data["summary"]["streams"] > 0
    assert len(data["samples"]["end_kib"]) > 10
    assert min(data["samples"]["end_threads"]) >= 1
    assert data["failures"]
    assert row(found, "lost") == ["lost", "0"]
    assert len(found.figures["soak"].axes) == 4


def test_several_ends_are_one_line():
    both = together([outcome(gap_s=0.1), outcome(once=9, gap_s=0.4)])
    assert (both.tasks, both.once, both.gap_s) == (20, 19, 0.4)
    assert broken_rules("two clients", both) == ["1 of 20 tasks not answered just once"]


def test_rules_depend_on_what_failed():
    assert broken_rules("cloud killed", outcome(fallbacks=3)) == []
    assert "nothing of its own failed" in broken_rules("none", outcome(fallbacks=3))[0]
    assert "no connection again" in broken_rules("link cut", outcome())[0]
    assert broken_rules("link cut", outcome(reconnections=1, wrong=2)) == ["2 wrong labels"]
    assert len(set(NAMES)) == 10


def test_a_fault_is_told_in_its_row_and_in_a_sentence():
    runs = [outcome(fallbacks=n) for n in (1, 5, 3)]
    runs[0] = replace(runs[0], gap_s=1.25)
    assert row_of("link cut", runs)[:5] == ["link cut", "3", "30", "30", "1 / 3 / 5"]
    words = in_words("link cut", runs)
    assert words.startswith("link cut: runs 3, tasks 30, answered once 30")
    assert words.endswith("longest gap s 1.25")
