"""One method with its plans on one stream: simulated, or run over sockets.

In: a method and the World it meets. Out: task records. Simulator and sockets are given the same
problem, plans, trace and samples, and each run a fresh controller and estimator.
"""

from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from coach_exp.pipeline.simulator import Progress, simulate
from coach_exp.pipeline.trial import Trial
from coach_exp.results.progress import Display
from coach_exp.setup.sockets import Sockets
from coach_exp.setup.world import World
from coach_exp.types.method import Method, Problem
from coach_exp.types.plan import PlanSet
from coach_exp.types.task import Records


@dataclass(frozen=True)
class Entry:
    """A method with its plans, entered for a stream: `problem` is as the method views it;
    `samples` [tasks] is the stream, None when only times count."""

    world: World
    method: Method
    problem: Problem
    plans: PlanSet
    samples: NDArray[np.int64] | None

    def begun(self, records: Records, seconds: float) -> "Entry":
        """Returns it with as many tasks as were answered in the first seconds of `records`."""
        tasks = max(1, int((records.finish_s <= seconds).sum()))
        shorter = replace(self.problem, workload=replace(self.problem.workload, tasks=tasks))
        samples = None if self.samples is None else self.samples[:tasks]
        return replace(self, problem=shorter, samples=samples)

    def simulated(self, progress: Progress | None = None) -> Records:
        """Returns the records of the simulator."""
        trial = self._trial()
        return simulate(
            trial.problem,
            trial.controller,
            trial.trace,
            trial.estimator,
            trial.samples,
            progress=progress,
        )

    def transported(self, display: Display) -> Records:
        """Returns the records of a run over the config's transport. Raises LinkError, WireError,
        ConfigError before the first task where the cloud cannot be had."""
        return self.world.runner.run(self._trial(), self.plans, display)

    def over_loopback(self, sockets: Sockets, display: Display) -> Records:
        """Returns the records over TCP with a cloud of its own on this machine, stages emulated
        from their profiles. Raises LinkError where this machine has no loopback to use."""
        return sockets.replay(self._trial(), self.plans, display)

    def _trial(self) -> Trial:
        """With a fresh controller and a fresh estimator."""
        controller = self.method.controller(self.plans)
        world = self.world
        return Trial(self.problem, controller, world.trace, world.estimator(), self.samples)


def own_view(method: Method, problem: Problem) -> Problem:
    """The problem as the method views it, with bit-widths that nobody has searched yet."""
    return method.view(replace(problem, bits=problem.bits.fresh()))


def planned(method: Method, problem: Problem) -> tuple[PlanSet, float]:
    """A method's plans, and the seconds to make them once the bit-widths they need are known."""
    method.plan(problem)  # searches widths, which may take minutes the first time
    began = perf_counter()
    plans = method.plan(problem)
    return plans, perf_counter() - began
