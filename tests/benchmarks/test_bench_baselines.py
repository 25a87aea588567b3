"""Time for a baseline to plan ResNet101 again after the link's rate has changed, cost model
included. The limit is 50 ms.

python -m pytest tests/benchmarks/test_bench_baselines.py --benchmark-only -o addopts=""
"""

from dataclasses import replace

import pytest
from helpers.networks import full_size

from baselines.dyno import Dyno
from baselines.neurosurgeon import Neurosurgeon
from baselines.pipebalance import PipeBalance
from coach_exp.types.method import Link

METHODS = {
    "ns": Neurosurgeon(name="ns"),
    "ns_prefix": Neurosurgeon(name="ns", linearisation="prefix"),
    "ns_regression": Neurosurgeon(name="ns", predictor="regression"),
    "pipebalance": PipeBalance(name="pipebalance"),
    "dyno": Dyno(name="dyno"),
}


@pytest.mark.benchmark(group="another rate")
@pytest.mark.parametrize("name", METHODS)
def test_another_rate(benchmark, name):
    method = METHODS[name]
    given = method.view(full_size("resnet101", 20))
    method.plan(given)
    plans = benchmark(method.plan, replace(given, link=Link(50e6)))
    benchmark.extra_info["cut"] = plans.plans[0].cut_name
    benchmark.extra_info["layers"] = len(given.graph)
