"""How tasks arrive: MLPerf's scenarios under our names."""

from dataclasses import dataclass
from typing import Literal

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
