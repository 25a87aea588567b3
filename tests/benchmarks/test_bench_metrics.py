"""Time to summarise a run of a million tasks, which takes seconds at most.

python -m pytest tests/benchmarks/test_bench_metrics.py --benchmark-only
"""

import numpy as np
from helpers.records import pipelined

from coach_exp.results.metrics import summarise
from coach_exp.types.task import COLUMNS, Records


def test_a_million_tasks(benchmark):
    few = pipelined(1000, 1, 1, 1)
    many = Records({name: np.tile(few.columns[name], 1000) for name in COLUMNS}, few.plans)
    benchmark.pedantic(summarise, (many,), rounds=3)
