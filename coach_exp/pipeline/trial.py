"""One trial: an online half, the link it meets and the samples it is asked about."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coach_exp.network.estimator import Estimator
from coach_exp.network.trace import Trace
from coach_exp.types.method import Controller, Problem


@dataclass(frozen=True)
class Trial:
    """All that the simulator needs to run a workload; the executor needs a cloud as well.

    `controller` is the fresh online half of a method for `problem`, `trace` the true rate of the
    link, `estimator` what the end believes of it. `samples[i]` is the data sample of task i;
    without samples every task has sample 0.
    """

    problem: Problem
    controller: Controller
    trace: Trace
    estimator: Estimator
    samples: NDArray[np.int64] | None = None

    def sample_of_each_task(self) -> NDArray[np.int64]:
        """Returns the data sample of every task: [tasks]."""
        if self.samples is None:
            return np.zeros(self.problem.workload.tasks, dtype=np.int64)
        return self.samples
