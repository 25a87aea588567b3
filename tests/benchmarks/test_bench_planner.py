"""Time to plan: chains of 1,000 and 10,000 layers, a graph of nine inception-like
blocks, and blocks nested 200 deep.

python -m pytest tests/benchmarks/test_bench_planner.py --benchmark-only -o addopts=""
"""

from statistics import median
from time import perf_counter

import numpy as np
import pytest
from helpers.graphs import chain, nested, problem

from coach_exp.planner.planning import Planner

BRANCHES = (3, 6, 6, 4)  # layers: 1×1; 1×1 and 3×3; 1×1 and 5×5; pooling and 1×1
BLOCKS = 9


def long_chain(layers):
    """Every layer twice as fast on the cloud; tensors shrink with depth, as in a classifier."""
    depth = np.linspace(0, 1, layers + 1)
    sizes = 0.3 * layers * np.exp(-2 * depth) * np.random.default_rng(0).uniform(1, 2, layers + 1)
    return chain([0.0] + [1.0] * layers, [0.0] + [0.5] * layers, sizes.tolist())


def inception(blocks=BLOCKS, branches=BRANCHES):
    """Blocks in a row, each of parallel chains that are concatenated."""
    inputs, last = {"in": []}, "in"
    for block in range(blocks):
        ends = []
        for branch, length in enumerate(branches):
            here = last
            for layer in range(length):
                name = f"{block}.{branch}.{layer}"
                inputs[name], here = [here], name
            ends.append(here)
        last = f"{block}.concat"
        inputs[last] = ends
    rng = np.random.default_rng(1)
    end, cloud, tensor = (
        dict(zip(inputs, rng.uniform(0.5, 1.5, len(inputs)).tolist(), strict=True))
        for _ in range(3)
    )
    return problem(inputs, end, cloud, {name: 12 * seconds for name, seconds in tensor.items()})


@pytest.mark.benchmark(group="chain")
@pytest.mark.parametrize("layers", [1_000, 10_000])
def test_chain(benchmark, layers):
    plan = benchmark(Planner().plan, long_chain(layers))
    benchmark.extra_info["evaluations"] = plan.evaluations


@pytest.mark.benchmark(group="chain")
def test_ten_thousand_layers_over_one_thousand(benchmark):
    graphs = {layers: long_chain(layers) for layers in (1_000, 10_000)}
    taken_s = {layers: [] for layers in graphs}

    def one_round():  # both in turn, so that a busy machine slows them alike
        for layers, graph in graphs.items():
            start = perf_counter()
            Planner().plan(graph)
            taken_s[layers].append(perf_counter() - start)

    benchmark.pedantic(one_round, rounds=15, warmup_rounds=1)
    benchmark.extra_info["ratio"] = median(taken_s[10_000]) / median(taken_s[1_000])


@pytest.mark.benchmark(group="inception")
@pytest.mark.parametrize("search", ["divide_conquer", "exhaustive"])
def test_inception(benchmark, search):
    graph = inception()
    plan = benchmark(Planner(search=search).plan, graph)
    best = Planner(search="exhaustive").plan(graph)
    benchmark.extra_info["evaluations"] = plan.evaluations
    benchmark.extra_info["gap"] = plan.objective.value / best.objective.value - 1
    assert plan.objective.value == pytest.approx(best.objective.value, rel=1e-9)


@pytest.mark.benchmark(group="nested")
def test_nested(benchmark):
    plan = benchmark(Planner().plan, nested(200))
    benchmark.extra_info["evaluations"] = plan.evaluations


@pytest.mark.benchmark(group="captured")
@pytest.mark.parametrize("objective", ["paper", "bottleneck", "latency"])
@pytest.mark.parametrize("search", ["divide_conquer", "exhaustive"])
def test_captured(benchmark, captured, objective, search):
    plan = benchmark(Planner(search=search, objective=objective).plan, captured)
    best = Planner(search="exhaustive", objective=objective).plan(captured)
    benchmark.extra_info["layers"] = len(captured.graph)
    benchmark.extra_info["evaluations"] = plan.evaluations
    benchmark.extra_info["gap"] = plan.objective.value / best.objective.value - 1
