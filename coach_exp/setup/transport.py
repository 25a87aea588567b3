"""How tasks reach the cloud, as `conf/transport` says it.

In: the settings. Out: what runs a workload over them. `Simulated`, `Loopback` and `Remote` speak
the wire protocol over TCP (`setup.tcp`); any class with the members of `Transport` will do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from coach_exp.pipeline.trial import Trial
from coach_exp.profiling.devices import Device
from coach_exp.results.progress import Display
from coach_exp.types.method import Problem
from coach_exp.types.plan import PlanSet
from coach_exp.types.task import Records

if TYPE_CHECKING:
    from coach_exp.learning.jpeg import Jpeg
    from coach_exp.learning.video import VideoDataset
    from coach_exp.learning.weights import Weights
    from coach_exp.live.exit_training import ExitTraining

Kind = Literal["simulated", "loopback", "remote"]


@dataclass(frozen=True)
class Live:
    """What `compute=live` computes with, on both sides."""

    weights: "Weights"
    data: "VideoDataset"
    jpeg: "Jpeg | None"
    exit_training: "ExitTraining"
    cache: Path


@dataclass(frozen=True)
class Sites:
    """What a transport must know of the rest of a config: what stands at either end of it.

    `compute`: stages are emulated from their profiles, or really computed; `live` yields what they
    are computed with. `serves`: this process is the cloud.
    """

    end: Device
    cloud: Device
    compute: Literal["profile", "live"]
    live: Callable[[], Live]
    serves: bool = False


class Runner(Protocol):
    """Runs workloads where a transport leads."""

    @property
    def threads(self) -> int | None:
        """Torch's threads on either side; None: its own choice."""

    def reach(self) -> None:
        """Raises LinkError or ConfigError for what can be known to fail before anything long."""

    def handshake(self, problem: Problem, plans: PlanSet | None = None) -> None:
        """Raises WireError if the other side refuses this one, or one of its plans."""

    def run(self, trial: Trial, plans: PlanSet, display: Display) -> Records:
        """The records of the trial, whose tasks run `plans`. Raises CoachError before the first
        task where it cannot be run."""


class Transport(Protocol):
    """How tasks reach the cloud. `kind = simulated` stands for the simulator; with any other,
    records are those of the runner. `shaped`: the link follows the trace, so that the simulator can
    be set beside it; `max_s`: only so many tasks are run as it answers in these seconds."""

    @property
    def kind(self) -> str:
        """What it is called in reports."""

    @property
    def shaped(self) -> bool:
        """Whether the link follows the bandwidth trace."""

    @property
    def max_s(self) -> float | None:
        """Seconds of the workload that are run; None: all."""

    def runner(self, sites: Sites) -> Runner:
        """What runs workloads between these sites."""
