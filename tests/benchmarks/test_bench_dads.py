"""Time in which DADS plans again when the bandwidth has changed.

python -m pytest tests/benchmarks/test_bench_dads.py --benchmark-only -o addopts=""
"""

from dataclasses import replace
from itertools import cycle

import pytest
from helpers.networks import full_size

from baselines.dads import Dads
from coach_exp.types.method import Link

MBPS = (5, 10, 20, 40, 80)


@pytest.mark.benchmark(group="replanning")
@pytest.mark.parametrize("division", ["as_published", "same_codec"])
@pytest.mark.parametrize(
    ("network", "mode"), [("resnet101", "light"), ("resnet101", "heavy"), ("googlenet", "heavy")]
)
def test_planning_again(benchmark, network, mode, division):
    method = Dads(mode=mode, division=division)
    given = method.view(full_size(network))
    links = cycle([Link(1e6 * mbps) for mbps in MBPS])
    method.plan(given)

    def again():
        return method.plan(replace(given, link=next(links)))

    (plan,) = benchmark(again).plans
    benchmark.extra_info["layers"] = len(given.graph)
    benchmark.extra_info["evaluations"] = plan.evaluations
