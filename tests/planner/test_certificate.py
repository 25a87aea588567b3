"""Bounds against brute force."""

import numpy as np
import pytest
from helpers.graphs import SHAPES, diamond, problem, random_problem
from helpers.looped import looped
from helpers.reference import closed_end_sets
from scipy.optimize import linprog

from coach_exp.planner.certificate import certified, min_total_s, mixture_bound
from coach_exp.planner.min_cut import Weights, weighted_min_cut
from coach_exp.planner.planning import Planner
from coach_exp.types.errors import InfeasibleError
from coach_exp.types.plan import PlanSet


def model_of(given, release="per_tensor"):
    return Planner(objective="bottleneck", release=release).cost_model(given)


def exhaustive(given, objective, weights=(1.0, 1.0, 1.0), release="per_tensor"):
    planner = Planner("exhaustive", objective, release, weights=weights)
    return planner.plan(given)


def test_a_tensor_with_several_consumers_is_paid_once():
    #   in ─┬ b ┐   Behind a: a's tensor crosses once, 4 s, for b, c and d together; all else on
    #   a ──┼ c ┼ e the cloud is free.
    #       └ d ┘
    inputs = {"in": [], "a": ["in"], "b": ["a"], "c": ["a"], "d": ["a"], "e": ["b", "c", "d"]}
    given = problem(
        inputs,
        dict.fromkeys(inputs, 9) | {"in": 0, "a": 1},
        dict.fromkeys(inputs, 0),
        dict.fromkeys(inputs, 50) | {"a": 4},
    )
    assert weighted_min_cut(model_of(given), Weights()).value == 5


def test_mixing_two_cuts_can_beat_every_single_one():
    # in → out, nothing between: device-only T = (4, 0, 0), cloud-only T = (0, 4, 0). Half of the
    # tasks each: every resource is held 2 s a task on average.
    given = problem({"in": [], "out": ["in"]}, {"in": 0, "out": 4}, {"in": 0, "out": 0}, {"in": 4})
    found = mixture_bound(model_of(given))
    assert found.period_s == pytest.approx(2)
    assert sorted(found.shares) == pytest.approx([0.5, 0.5])
    assert exhaustive(given, "bottleneck").objective.value == 4


def test_the_input_that_may_not_leave_bounds_too():
    given = diamond((0, 1, 1, 1), 0, 1, raw_input_may_cross=False)
    assert min_total_s(model_of(given)) == exhaustive(given, "weighted").objective.value
    with pytest.raises(InfeasibleError, match="raw input would leave"):
        Planner().plan_for(given, ["in"])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("release", ["per_tensor", "after_decision"])
@looped("seed", range(25))
def test_minimum_cut_is_the_best_weighted_sum_of_all_cuts(shape, release, seed):
    rng = np.random.default_rng([seed, 7])
    given = random_problem(rng, shape, int(rng.integers(3, 12)))
    weights = tuple(rng.random(3) * (rng.random(3) > 0.2))
    best = exhaustive(given, "weighted", weights, release).objective.value
    found = weighted_min_cut(model_of(given, release), Weights(*weights))
    assert found.value == pytest.approx(best, rel=1e-9, abs=1e-12)
    assert found.end_set == given.graph.end_set(given.graph.layers[i].name for i in found.end_set)


@pytest.mark.parametrize("shape", SHAPES)
@looped("seed", range(10))
def test_the_mixture_bound_is_the_best_mixture_of_all_cuts(shape, seed):
    rng = np.random.default_rng([seed, 8])
    given = random_problem(rng, shape, int(rng.integers(3, 9)))
    model = model_of(given)
    stages = [
        model.of(frozenset(given.graph.position(name) for name in names))[0].stage
        for names in closed_end_sets(given)
    ]
    times = np.array([[s.end_s, s.link_s, s.cloud_s] for s in stages]).T
    answer = linprog(
        [*[0] * len(stages), 1],
        A_ub=np.hstack([times, -np.ones((3, 1))]),
        b_ub=np.zeros(3),
        A_eq=[[*[1] * len(stages), 0]],
        b_eq=[1],
    )
    assert mixture_bound(model).period_s == pytest.approx(answer.fun, rel=1e-6, abs=1e-12)


def test_a_bottleneck_plan_carries_its_bound_and_others_keep_theirs():
    given = diamond((1, 1, 9, 9), 1, 1)
    planner = Planner(objective="bottleneck")
    plans = certified(planner, given, PlanSet((planner.plan(given),)))
    assert plans.plans[0].lower_bound == plans.bounds["min_period_s"] <= 2
    assert plans.bounds["min_total_s"] == exhaustive(given, "weighted").objective.value
    exact = exhaustive(given, "paper")
    assert certified(planner, given, PlanSet((exact,))).plans[0] == exact
