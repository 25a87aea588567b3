"""What all methods of a run share, so that none has a private path."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coach_exp.network.estimator import Estimator
from coach_exp.network.trace import Trace
from coach_exp.setup.config import Config
from coach_exp.setup.transport import Runner
from coach_exp.types.method import Problem


@dataclass(frozen=True)
class World:
    """What all methods of a run share; `samples` is the stream, None when only times count."""

    config: Config
    problem: Problem
    trace: Trace
    samples: NDArray[np.int64] | None
    identity: dict[str, str | None]
    runner: Runner

    def estimator(self) -> Estimator:
        """A fresh bandwidth estimator; the link's initial rate stands until the first transfer."""
        facts = {"initial_bps": self.problem.link.bandwidth_bps, "trace": self.trace}
        estimator: Estimator = self.config.estimator(Estimator, **facts)
        return estimator

    @property
    def true_trace(self) -> Trace | None:
        """The link's true rate over time, where it is known."""
        transport = self.config.transport
        return self.trace if transport.shaped or transport.kind == "simulated" else None

    @property
    def measures_accuracy(self) -> bool:
        """Whether the real model answers."""
        return self.problem.outcomes is not None
