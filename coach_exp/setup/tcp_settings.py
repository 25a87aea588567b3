"""The keys of `conf/transport` that concern sockets, checked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from coach_exp.types.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TcpSettings:
    """The settings of sockets, and of job=serve; see `pipeline.uplink.CloudAddress` and
    `pipeline.cloud.settings.CloudSettings`.

    A single simulated run is repeated over loopback for `replay_s` seconds; of a run over sockets,
    so many tasks are run as the simulator answers in `max_s` seconds.
    """

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
