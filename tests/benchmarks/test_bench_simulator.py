"""Tasks a second of a timing-only simulation: saturated, bounded in flight, a random-walk link.

python -m pytest tests/benchmarks/test_bench_simulator.py --benchmark-only -o addopts=""
"""

from statistics import median
from time import process_time

import pytest
from helpers.graphs import chain

from coach_exp.network.estimator import Ewma
from coach_exp.network.trace import random_walk
from coach_exp.pipeline.simulator import simulate
from coach_exp.planner.planning import Planner
from coach_exp.types.method import FixedPlans, Link
from coach_exp.types.plan import PlanSet
from coach_exp.types.workload import Workload

TASKS = 200_000


@pytest.mark.parametrize("release", ["per_tensor", "after_decision"])
def test_tasks_a_second(benchmark, release):
    stream = chain(
        [0, 0.02, 0.02, 0.08],
        [0, 0.01, 0.01, 0.03],
        [100, 40, 30, 0],
        link=Link(bandwidth_bps=8e6),
        workload=Workload("saturated", TASKS, in_flight=8),
    )
    plan = Planner(release=release).plan(stream)
    assert len(plan.crossing) == 1
    trace = random_walk(4e6, 16e6, 0.5, 0.2, 600.0, seed=0)

    cpu_s = []

    def run():
        start = process_time()
        records = simulate(stream, FixedPlans(PlanSet((plan,))), trace, Ewma(8e6))
        cpu_s.append(process_time() - start)
        return records

    records = benchmark.pedantic(run, rounds=5, warmup_rounds=1)
    assert len(records) == TASKS
    assert records.finish_s[-1] > 1000  # the link works for every task: none is skipped
    benchmark.extra_info["tasks_per_s"] = TASKS / benchmark.stats.stats.median
    benchmark.extra_info["tasks_per_cpu_s"] = TASKS / median(cpu_s)
