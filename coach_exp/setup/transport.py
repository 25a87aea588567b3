"""How tasks reach the cloud, as `conf/transport` says it.

In: the settings. Out: what runs a workload over them. `Simulated`, `Loopback` and `Remote` speak
the wire protocol over TCP (`setup.sockets`); any class with the members of `Transport` will do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from coach_exp.pipeline.trial import Trial
from coach_exp.results.progress import Display
from coach_exp.types.errors import ConfigError
from coach_exp.types.method import Problem
from coach_exp.types.plan import PlanSet
from coach_exp.types.task import Records

if TYPE_CHECKING:
    from coach_exp.setup.config import Config
    from coach_exp.setup.sockets import Live, Sockets

Kind = Literal["simulated", "loopback", "remote"]


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

    def runner(self, config: "Config", live: Callable[[], "Live"]) -> Runner:
        """What runs workloads; `live` yields what `compute=live` computes with."""


@dataclass(frozen=True, kw_only=True)
class Tcp:
    """The settings of sockets, and of job=serve; see `pipeline.uplink.CloudAddress` and
    `pipeline.cloud.settings.CloudSettings`.

    A single simulated run is repeated over loopback for `replay_s` seconds.
    """

    kind: ClassVar[Kind]

    replay_s: NonNegativeFloat = 5.0
    max_s: PositiveFloat | None = None
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 7070
    shaped: bool = True
    token_file: Path | None = None
    tls_authority: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    server_name: str | None = None
    connect_s: PositiveFloat = 5.0
    stall_s: PositiveFloat = 5.0
    answer_s: PositiveFloat = 10.0
    send_buffer_kib: PositiveInt | None = None
    max_clients: PositiveInt = 64

    def __post_init__(self) -> None:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ConfigError(
                "a certificate goes with its key: give both transport.tls_certificate and "
                "transport.tls_key, or neither"
            )

    def runner(self, config: "Config", live: Callable[[], "Live"]) -> "Sockets":
        """Runs over real TCP."""
        from coach_exp.setup.sockets import Sockets

        return Sockets(config, self, live)


@dataclass(frozen=True, kw_only=True)
class Simulated(Tcp):
    """No socket: the simulator."""

    kind: ClassVar[Kind] = "simulated"


@dataclass(frozen=True, kw_only=True)
class Loopback(Tcp):
    """Real sockets on this machine, with a cloud in a process of its own."""

    kind: ClassVar[Kind] = "loopback"


@dataclass(frozen=True, kw_only=True)
class Remote(Tcp):
    """A cloud on another machine."""

    kind: ClassVar[Kind] = "remote"
