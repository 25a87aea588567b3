"""Time to plan by JPS for one rate: ResNet101 and GoogLeNet.

python -m pytest tests/benchmarks/test_bench_jps.py --benchmark-only -o addopts=""
"""

from dataclasses import replace

import pytest

from baselines.jps import Jps
from coach_exp.types.method import Link
from coach_exp.types.workload import Workload


@pytest.mark.benchmark(group="jps")
@pytest.mark.parametrize("mbps", [5, 20, 80])
@pytest.mark.parametrize("granularity", ["block", "path"])
def test_replanning(benchmark, captured, granularity, mbps):
    method = Jps(name="jps", granularity=granularity)
    stream = Workload("saturated", tasks=2000)
    given = method.view(replace(captured, link=Link(1e6 * mbps), workload=stream))
    plans = benchmark(method.plan, given)
    benchmark.extra_info["cuts"] = "; ".join(plan.cut_name for plan in plans.plans)
