"""Time in which SPINN plans again when the bandwidth has changed: ResNet101, without a model's
answers and with those on 1000 calibration samples.

python -m pytest tests/benchmarks/test_bench_spinn.py --benchmark-only -o addopts=""
"""

from dataclasses import replace
from itertools import cycle

import numpy as np
import pytest
from helpers.answers import Answers
from helpers.networks import full_size

from baselines.spinn import Spinn
from coach_exp.planner.exit_places import exit_places
from coach_exp.types.method import Calibration, Link, Problem
from coach_exp.types.outcomes import ExitAnswer

MBPS = (5, 10, 20, 40, 80)
SAMPLES, CLASSES = 1000, 100


def answered(problem: Problem, right: float) -> Problem:
    """With answers of heads that are right about this share at any confidence."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, CLASSES, SAMPLES)
    heads = {}
    for layer in exit_places(problem.graph, 6):
        said = np.where(rng.random(SAMPLES) < right, label, -1).tolist()
        heads[layer] = list(map(ExitAnswer, said, rng.uniform(0.2, 1, SAMPLES).tolist()))
    features = np.zeros((SAMPLES, 1), np.float32)
    calib = Answers(features, label, np.arange(SAMPLES), CLASSES, heads=heads)
    return replace(problem, outcomes=calib, calibration=Calibration(calib, calib))


@pytest.mark.benchmark(group="replanning")
@pytest.mark.parametrize("answers", ["none", "good", "bad"])
def test_planning_again(benchmark, answers):
    method, given = Spinn(name="spinn"), full_size("resnet101")
    if answers != "none":  # bad heads: pair after pair is refused
        given = answered(given, right=1.0 if answers == "good" else 0.6)
    given = method.view(given)
    links = cycle([Link(1e6 * mbps) for mbps in MBPS])
    for _ in MBPS:
        method.plan(replace(given, link=next(links)))

    def again():
        return method.plan(replace(given, link=next(links)))

    plan, _ = benchmark(again).plans
    benchmark.extra_info["layers"] = len(given.graph)
    benchmark.extra_info["evaluations"] = plan.evaluations
    assert plan.evaluations > 30
