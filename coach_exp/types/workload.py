"""How tasks arrive: MLPerf's scenarios under our names."""

from dataclasses import dataclass
from typing import Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from coach_exp.types.errors import ConfigError

WorkloadKind = Literal["single_stream", "saturated", "periodic", "poisson"]


@dataclass(frozen=True, slots=True)
class Workload:
    """`tasks` tasks, at most `in_flight` of them started and unanswered at once.

    `single_stream`: the next task starts when the last is answered. `saturated`: all tasks wait
    from the beginning. `periodic`, `poisson`: `rate_hz` tasks a second. `drop`: a task that finds
    the pipeline full is dropped, not queued.
    """

    kind: WorkloadKind
    tasks: int
    in_flight: int = 8
    rate_hz: float | None = None
    drop: bool = False
    seed: int = 0

    @property
    def places(self) -> int:
        """How many tasks may be in flight; a single stream has one."""
        return 1 if self.kind == "single_stream" else self.in_flight


@dataclass(frozen=True, slots=True)
class Arrivals:
    """A workload whose number of tasks may be left open: without `tasks` it is one pass over the
    stream split."""

    kind: WorkloadKind
    tasks: PositiveInt | None = 2000
    in_flight: PositiveInt = 8
    rate_hz: PositiveFloat | None = None
    drop: bool = False
    seed: NonNegativeInt = 0

    def workload(self, split: int | None) -> Workload:
        """The workload of so many tasks; `split` is the number of samples in the stream split, None
        where there is none. Raises ConfigError when that is asked for."""
        tasks = split if self.tasks is None else self.tasks
        if tasks is None:
            raise ConfigError(
                "workload.tasks = null is one pass over the stream split, and without trained "
                "weights there is no stream: give a number"
            )
        return Workload(self.kind, tasks, self.in_flight, self.rate_hz, self.drop, self.seed)
