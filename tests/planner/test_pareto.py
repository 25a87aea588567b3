"""The front of latency and period: by hand, and against every closed end set played alone."""

import pytest
from helpers.graphs import chain, random_problem
from helpers.reference import closed_end_sets, one_task
from numpy.random import default_rng

from coach_exp.planner.pareto import Point, nine_digits, non_dominated, pareto_front
from coach_exp.planner.planning import Planner
from coach_exp.types.errors import InfeasibleError

#   in ─ 1 ─ 2 ─ 3       end 0, 2, 2, 8 s; cloud 0, 1, 1, 3 s; tensors 4, 5, 3, 0 s
#   sent         T_e T_t T_c   latency  period
#   in             0   4   5         9       5
#   1              2   5   4        11       5   as slow as in, and later
#   2              4   3   3        10       4
#   device-only   12   0   0        12      12
CHAIN = dict(end_s=(0, 2, 2, 8), cloud_s=(0, 1, 1, 3), tensor_s=(4, 5, 3, 0))


def test_the_front_of_a_chain_by_hand():
    front = pareto_front(Planner(), chain(**CHAIN))
    found = [(plan.cut_name, plan.latency_s, plan.stage_s.period_s) for plan in front.plans]
    assert found == [("in", 9, 5), ("2", 10, 4)]
    assert sorted(front.boundaries) == [(9, 5), (10, 4), (11, 5), (12, 12)]
    assert front.exact
    assert front.evaluations == 4
    # A sixth of the tasks by `in`, the others by `2`: the end 20/6 s, the link 19/6, the cloud
    # 20/6. No mixture is better: with weights 1/3 on the end and 2/3 on the cloud every cut costs
    # at least 10/3.
    assert front.min_period_s == pytest.approx(10 / 3)


def test_a_constraint_shortens_the_front():
    front = pareto_front(Planner(), chain(**CHAIN, raw_input_may_cross=False))
    assert [plan.cut_name for plan in front.plans] == ["2"]
    with pytest.raises(InfeasibleError, match="none of the 4 cuts"):
        pareto_front(Planner(), chain(**CHAIN, t_max_s=1.0))


def test_of_equal_points_one_stays():
    points = [Point(2, 2, 4, 1, ()), Point(2, 2, 4, 0, ()), Point(2, 3, 5, 2, ())]
    assert non_dominated(points) == [points[1]]


@pytest.mark.parametrize("release", ["per_tensor", "after_decision"])
@pytest.mark.parametrize("shape", ["chain", "one_level", "nested", "any"])
def test_the_front_is_that_of_all_closed_end_sets(shape, release):
    for seed in range(8):
        problem = random_problem(default_rng(seed), shape, size=9)
        planner = Planner(release=release)
        costs = set()
        for end_set in closed_end_sets(problem):
            try:
                order = planner.plan_for(problem, end_set).end_layers
            except InfeasibleError:
                continue
            task = one_task(problem, order, release)
            costs.add((nine_digits(task.latency_s), nine_digits(task.stage.period_s)))
        best = {
            a for a in costs if not any(b[0] <= a[0] and b[1] <= a[1] and a != b for b in costs)
        }
        front = pareto_front(planner, problem)
        found = {(nine_digits(p.latency_s), nine_digits(p.stage_s.period_s)) for p in front.plans}
        assert found == best, seed
        assert len(front.plans) == len(found)
        assert front.min_period_s <= min(period for _, period in best) * (1 + 1e-9)


def test_above_the_limit_divide_and_conquer_finds_both_ends_of_the_front():
    for seed in range(12):
        problem = random_problem(default_rng(seed), "nested", size=12)
        front = pareto_front(Planner(limit=1), problem)
        assert not front.exact
        assert "not certified" in front.source
        ends = [
            Planner(objective=name).plan(problem).objective.value
            for name in ("latency", "bottleneck")
        ]
        assert front.plans[0].latency_s == pytest.approx(ends[0])
        assert front.plans[-1].stage_s.period_s == pytest.approx(ends[1])
