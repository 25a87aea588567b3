"""When tasks arrive under each workload (MLPerf's scenarios)."""

import numpy as np
from numpy.typing import NDArray

from coach_exp.types.workload import Workload


def arrival_times(workload: Workload) -> NDArray[np.float64]:
    """Returns when each task arrives, in seconds since the run began: [tasks].

    In the closed loops (`single_stream`, `saturated`) every task is there from the beginning and
    counts as arrived when a place in flight is free for it.
    """
    if workload.kind in ("single_stream", "saturated"):
        return np.zeros(workload.tasks)
    assert workload.rate_hz is not None
    if workload.kind == "periodic":
        return np.arange(workload.tasks) / workload.rate_hz
    gaps = np.random.default_rng(workload.seed).exponential(1 / workload.rate_hz, workload.tasks)
    return np.cumsum(gaps)
