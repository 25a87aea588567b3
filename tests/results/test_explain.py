"""Why a plan was chosen, by hand on graphs small enough to draw."""

from dataclasses import replace

import pytest
from helpers.graphs import chain, random_problem
from helpers.reference import closed_end_sets
from numpy.random import default_rng

from coach_exp.planner.alternatives import alternatives, refused, runner_up
from coach_exp.planner.planning import Planner
from coach_exp.results.explain import explain, why_not
from coach_exp.types.errors import InfeasibleError
from coach_exp.types.plan import PlanSet
from coach_exp.types.workload import Workload

#   in ─ 1 ─ 2 ─ 3       end 0, 2, 2, 8 s; cloud 0, 1, 1, 3 s; tensors 4, 5, 3, 0 s
#   sent         T_e T_t T_c   B_c B_t max  paper   latency
#   in             0   4   5     5   1   5     11         9
#   1              2   5   4     2   0   5      7        11
#   2              4   3   3     1   1   4      6        10
#   device-only   12   0   0    12  12  12     36        12
CHAIN = dict(end_s=(0, 2, 2, 8), cloud_s=(0, 1, 1, 3), tensor_s=(4, 5, 3, 0))


def told(planner, problem):
    plan = planner.plan(problem)
    return why_not("coach", plan, alternatives(planner, problem, plan))


@pytest.mark.parametrize("search", ["exhaustive", "divide_conquer"])
def test_the_runner_up_of_a_chain_and_why_it_lost(search):
    problem = chain(**CHAIN)
    assert told(Planner(search), problem) == (
        "Runner-up: 1 (2 layers on the end) costs 7000.000 ms against 6000.000 ms (1000.000 ms, "
        "16.7 % more), because B_c is 2000.000 ms against 1000.000 ms."
    )
    assert told(Planner(search, "bottleneck"), problem) == (
        "Runner-up: in (1 layer on the end) costs 5000.000 ms against 4000.000 ms (1000.000 ms, "
        "25.0 % more), because its largest stage is T_c = 5000.000 ms, the plan's is "
        "T_e = 4000.000 ms."
    )
    assert told(Planner(search, "latency"), problem) == (
        "Runner-up: 2 (3 layers on the end) costs 10000.000 ms against 9000.000 ms (1000.000 ms, "
        "11.1 % more), because T_e is 4000.000 ms against 0.000 ms; its other terms are "
        "3000.000 ms lower."
    )


def test_a_tie_is_told_as_one():
    # Behind in: 0, 4, 3; behind 1: 1, 4, 2, device-only 13. Both have the largest stage 4.
    problem = chain((0, 1, 12), (0, 2, 2), (4, 4, 0))
    assert (
        "has the same bottleneck objective, 4000.000 ms, and lost the tie: its T_e + T_t + T_c "
        "is 8000.000 ms against 7000.000 ms" in told(Planner(objective="bottleneck"), problem)
    )


def test_what_a_constraint_refuses_is_named():
    problem = chain(**CHAIN, t_max_s=9.5)  # the paper's objective wants 10 s behind layer 2
    planner = Planner()
    plan = planner.plan(problem)
    assert plan.cut_name == "in"
    found = refused(planner, problem, plan)
    assert (found.cut_name, found.value_s) == ("2", 6)
    assert "t_max_ms = 9500 by 500.000 ms" in found.broken
    assert runner_up(planner, problem, plan) is None
    others = alternatives(planner, problem, plan)
    assert others.device_only is None
    assert others.cloud_only.end_layers == plan.end_layers
    text = " ".join(explain("coach", PlanSet((plan,)), others, problem.workload, 0.001))
    assert "every other cut breaks a constraint" in text
    assert "2 would cost 6000.000 ms" in text
    assert refused(planner, chain(**CHAIN), planner.plan(chain(**CHAIN))) is None


def test_a_method_that_does_not_search_is_told_of_better_cuts():
    problem, planner = chain(**CHAIN), Planner()
    plan = planner.plan_for(problem, ["in"])
    text = why_not("cloud_only", plan, alternatives(planner, problem, plan))
    assert "2 (3 layers on the end) would cost 6000.000 ms against 11000.000 ms" in text
    assert "cloud_only did not find it" in text


@pytest.mark.parametrize("shape", ["chain", "one_level", "nested", "any"])
def test_the_exhaustive_runner_up_is_the_second_of_all_closed_end_sets(shape):
    for seed in range(6):
        problem = random_problem(default_rng(seed), shape, size=5)
        for objective in ("paper", "bottleneck", "latency"):
            planner = Planner("exhaustive", objective)
            best = planner.plan(problem)
            values = []
            for end_set in closed_end_sets(problem):
                if end_set != set(best.end_layers):
                    try:
                        values.append(planner.plan_for(problem, end_set).objective.value)
                    except InfeasibleError:
                        continue
            second = runner_up(planner, problem, best)
            assert second.objective.value == pytest.approx(min(values), rel=1e-9)
            assert second.crossing != best.crossing


@pytest.mark.parametrize(
    ("workload", "cause", "end"),
    [
        # T = (4, 3, 3) s, latency 10 s; with 1 or 2 in flight an answer every 10 or 5 s.
        (Workload("saturated", 9), "the end is the bottleneck, one answer every 4000", "never"),
        (Workload("single_stream", 9), "only 1 task in flight, one answer every 10000", "6000"),
        (Workload("saturated", 9, in_flight=2), "only 2 tasks in flight, one answer ever", "1000"),
        (Workload("periodic", 9, rate_hz=0.1), "tasks come at 0.1 a second, one answer", "6000"),
    ],
)
def test_bubbles_have_a_cause(workload, cause, end):
    problem = chain(**CHAIN, workload=workload)
    plan = Planner().plan(problem)
    others = alternatives(Planner(), problem, plan)
    _, bubbles, *_ = explain("coach", PlanSet((plan,)), others, workload, 0.001)
    assert cause in bubbles
    told = "the end is never idle" if end == "never" else f"the end idles {end}.000 ms"
    assert told in bubbles


def test_values_of_different_objectives_are_not_compared():
    problem, planner = chain(**CHAIN), Planner()
    plan = planner.plan(problem)
    own = replace(plan, objective=replace(plan.objective, name="expected_latency"))
    text = why_not("spinn", own, alternatives(planner, problem, own))
    assert "by the planner's paper objective; spinn chose by expected_latency, so" in text
