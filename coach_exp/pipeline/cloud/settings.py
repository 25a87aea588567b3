"""Where a cloud listens, whom it lets in, and how much it bears from one client."""

import ssl
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from coach_exp.network.wire import DEFAULT_LIMITS, Limits
from coach_exp.types.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudSettings:
    """`fingerprint` names the model that ends must have as well; port 0 is any that is free.

    A connection is closed when its handshake takes longer than `handshake_s`, when nothing came for
    `idle_s` (an end pings every second), and when one frame takes longer than `frame_s` to come. Of
    one client at most `queue_bytes` wait to be computed, before it is read no further, and at most
    `unsent_bytes` to be read by it, before it is closed.

    Raises ConfigError for a host that other machines can reach where there is no token, and for TLS
    files that do not go together.
    """

    fingerprint: str
    host: str = "127.0.0.1"
    port: int = 0
    name: str = "cloud"
    token: str | None = field(default=None, repr=False)
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None  # ends then need a certificate that it signed
    limits: Limits = DEFAULT_LIMITS
    max_clients: int = 64
    handshake_s: float = 5.0
    idle_s: float = 10.0
    frame_s: float = 60.0
    queue_bytes: int = 64 * 2**20
    unsent_bytes: int = 2**20

    def __post_init__(self) -> None:
        if self.token is None and not is_loopback(self.host):
            raise ConfigError(
                f"transport.host={self.host}: without a token the cloud listens on loopback alone, "
                "where no other machine reaches it; set the same token on both sides "
                "(transport.token_file, or the environment's COACH_TOKEN), or "
                "transport.host=127.0.0.1"
            )
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ConfigError(
                "TLS takes a certificate and its key: give both transport.tls_certificate and "
                "transport.tls_key, or neither"
            )
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ConfigError(
                "certificates of ends (transport.tls_authority) are asked for by TLS alone; give "
                "the cloud transport.tls_certificate and transport.tls_key as well"
            )
        if self.max_clients < 1:
            raise ConfigError(f"max_clients is {self.max_clients}; a cloud has one at least")

    def tls(self) -> ssl.SSLContext | None:
        """Returns what TLS needs, None without a certificate. Raises ConfigError for files that
        cannot be used."""
        if self.tls_certificate is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.tls_certificate, self.tls_key)
            if self.tls_client_ca is not None:
                context.load_verify_locations(self.tls_client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except OSError as error:  # ssl's errors are of this kind as well
            files = ", ".join(
                str(path)
                for path in (self.tls_certificate, self.tls_key, self.tls_client_ca)
                if path is not None
            )
            raise ConfigError(
                f"the TLS files {files} cannot be used: {error}; each is to be there, in PEM, and "
                "the key that of the certificate, without a password"
            ) from None
        return context


def is_loopback(host: str) -> bool:
    """Returns whether a host is this machine's own, which no other reaches.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0"), is_loopback("")
    (True, True, False, False)
    """
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
