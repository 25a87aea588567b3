"""Eq. 11 on cases a person can work out, and the decisions of the wrapped controller."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from helpers.records import plan as made

from coach_exp.online.scheduler import OnlineController, eq11, fill, permitted
from coach_exp.types.method import GO_ON, SEND, Decision, FixedPlans, Observation
from coach_exp.types.online import Centres, Rung, SemanticTable
from coach_exp.types.plan import PlanSet

BPS = 8e6  # a byte takes a microsecond
RUNGS = [  # 2 bits above S = 0.3, 3 bits above 0.1, 4 bits always
    Rung(2, (2,), 5_000, 0.3),
    Rung(3, (3,), 9_900, 0.1),
    Rung(4, (4,), 12_400),
]


def bits(rungs) -> list[int]:
    return [rung.bits for rung in rungs]


def test_the_requirement_is_the_fewest_bits_whose_threshold_is_passed():
    assert bits(permitted(RUNGS, 0.31)) == [2, 3, 4]
    assert bits(permitted(RUNGS, 0.3)) == [3, 4]  # strictly above
    assert bits(permitted(RUNGS, 0.0)) == [4]
    odd = [replace(RUNGS[0], threshold=0.05), *RUNGS[1:]]  # 2 bits easier to have than 3
    assert bits(permitted(odd, 0.06)) == [2, 3, 4]


def test_eq_11_as_printed_overshoots_where_filling_does_not():
    # T_e = 10 ms, T'_t = 5, 9.9 or 12.4 ms: |12.4 − 12.4| = 0 beats |9.9 − 10| = 0.1.
    assert eq11(RUNGS, BPS, 0.010).bits == 4
    assert fill(RUNGS, BPS, 0.010).bits == 3


def test_ties_go_to_the_fewest_bits():
    # T_e = 4 ms: every width outlasts it and gives 0.
    assert eq11(RUNGS, BPS, 0.004).bits == 2
    assert eq11(RUNGS[1:], BPS, 0.004).bits == 3


def test_a_fast_link_takes_the_most_bits():
    assert eq11(RUNGS, 10 * BPS, 0.010).bits == 4
    assert fill(RUNGS, 10 * BPS, 0.010).bits == 4


def test_filling_falls_back_to_the_requirement():
    assert fill(RUNGS, BPS, 0.004).bits == 2
    assert fill(RUNGS[2:], BPS, 0.004).bits == 4


# --- The controller -------------------------------------------------------------------------------


class Features:
    """Outcomes of which only features are asked."""

    def __init__(self, *features) -> None:
        self.features = np.array(features, float)

    def feature(self, sample, layers):
        assert list(layers) == ["cut"]
        return self.features[sample]


def table(exit_threshold: float = 0.5, rungs=tuple(RUNGS)) -> SemanticTable:
    centres = Centres(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1, 1]))
    return SemanticTable("paper", centres, exit_threshold, rungs, (), 0, 0, 0.0, 0.0)


def controller(plan, update: str = "exits", cap: int | None = None) -> OnlineController:
    return OnlineController(FixedPlans(PlanSet((plan,))), "eq11", update, cap)


def observed(outcomes, sample: int) -> Observation:
    return Observation(0.0, 0, BPS, sample, outcomes)


PLAN = replace(made(end_s=0.010, cloud_s=0.001), online=table())
#   t = (1, 0): S = 1/tiny, exits as 0.  t = (0.8, 0.6): S = 0.27, 3 bits permitted.
CLEAR, DOUBTFUL = (2.0, 0.0), (8.0, 6.0)


def test_a_separable_task_exits_with_the_nearest_label():
    decision = controller(PLAN).at_cut(0, PLAN, observed(Features(CLEAR), 0))
    assert (decision.action, decision.label, decision.bits) == ("exit", 0, None)
    assert decision.separability > 0.5


def test_a_doubtful_task_is_sent_with_bits_for_its_link():
    decision = controller(PLAN).at_cut(0, PLAN, observed(Features(DOUBTFUL), 0))
    assert (decision.action, decision.bits) == ("send", (4,))  # the overshoot above
    assert decision.separability == pytest.approx(0.2 * 0.8 / 0.6)
    slow = replace(PLAN, stage_s=replace(PLAN.stage_s, end_s=0.004))
    assert controller(slow).at_cut(0, slow, observed(Features(DOUBTFUL), 0)).bits == (3,)


def test_a_plan_without_a_table_and_a_run_without_a_model_send_as_planned():
    bare = replace(PLAN, online=None)
    assert controller(bare).at_cut(0, bare, observed(Features(CLEAR), 0)) == SEND
    assert controller(PLAN).at_cut(0, PLAN, observed(None, 0)) == SEND


@pytest.mark.parametrize(
    ("update", "after_exit", "after_answer"),
    [("exits", 2, 1), ("results", 2, 2), ("none", 1, 1)],
)
def test_update_rules(update: str, after_exit: int, after_answer: int):
    """Counts of label 0 after an exit with it, and of label 1 after the cloud answered 1."""
    online = controller(PLAN, update)
    outcomes = Features(CLEAR, DOUBTFUL)
    online.at_cut(0, PLAN, observed(outcomes, 0))
    online.answered(0, 0, 1.0)  # the exit's own answer teaches nothing more
    online.at_cut(1, PLAN, observed(outcomes, 1))
    cache = online._cache(PLAN.online)
    assert cache.count.tolist() == [after_exit, 1]
    online.answered(1, 1, 2.0)
    online.answered(1, 1, 2.0)  # told twice, learnt once
    assert cache.count.tolist() == [after_exit, after_answer]


class LateExits(FixedPlans):
    def gave_up(self, task, plan, observation):
        return Decision("exit", label=1) if task == 0 else GO_ON


def test_an_answer_without_the_model_teaches_no_cache():
    """Counts of label 1 after two tasks gave up on the link: one exits, one the end finishes."""
    online = OnlineController(LateExits(PlanSet((PLAN,))), "eq11", "results", None)
    late = observed(Features(DOUBTFUL), 0)
    counts = []
    for task in (0, 1):
        online.at_cut(task, PLAN, late)
        assert online.gave_up(task, PLAN, late) == (Decision("exit", label=1), GO_ON)[task]
        online.answered(task, 1, 1.0)
        counts.append(online._cache(PLAN.online).count[1])
    assert counts == [1, 2]


def test_exits_off_means_no_task_exits():
    plan = replace(PLAN, online=table(exit_threshold=inf))
    assert controller(plan).at_cut(0, plan, observed(Features(CLEAR), 0)).action == "send"


def test_each_plan_has_a_cache_of_its_own():
    other = replace(PLAN, online=table())
    online = controller(PLAN)
    online.at_cut(0, PLAN, observed(Features(CLEAR), 0))
    assert online._cache(PLAN.online).count[0] == 2
    assert online._cache(other.online).count[0] == 1


def test_a_long_stream_leaves_nothing_behind():
    online = controller(PLAN, "results")
    outcomes = Features(CLEAR, DOUBTFUL)
    for task in range(2000):
        online.at_cut(task, PLAN, observed(outcomes, task % 2))
        online.answered(task, 1, float(task))
    assert not online._sent
