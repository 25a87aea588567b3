"""Transports over TCP, and the simulator, whose runs are repeated over loopback: `conf/transport`.

In: the keys of the group. Out: a runner that speaks the wire protocol.
"""

from dataclasses import dataclass
from typing import ClassVar

from coach_exp.setup.sockets import Sockets
from coach_exp.setup.tcp_settings import TcpSettings
from coach_exp.setup.transport import Kind, Sites


@dataclass(frozen=True, kw_only=True)
class Tcp(TcpSettings):
    """What the transports over TCP share."""

    kind: ClassVar[Kind]

    def runner(self, sites: Sites) -> Sockets:
        """Runs over real TCP."""
        return Sockets(self.kind, self, sites)


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
