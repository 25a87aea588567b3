"""The token's proof: that a side knows the token, said without saying the token.

In: the token, the nonces of both sides, the model's fingerprint. Out: HMAC-SHA256 of them and of
the side that proves, so that neither a proof of another session nor the other side's own serves.
"""

import hmac
import secrets
from dataclasses import dataclass, field

from coach_exp.network.wire_messages import NONCE_BYTES
from coach_exp.types.errors import ConfigError
from coach_exp.types.plan import Side


def fresh_nonce() -> bytes:
    """Returns random bytes that no other session has."""
    return secrets.token_bytes(NONCE_BYTES)


@dataclass(frozen=True, slots=True)
class Prover:
    """Makes and judges proofs with one token; None: there is none, and proofs are empty."""

    token: str | None = field(repr=False)

    def __post_init__(self) -> None:
        if self.token == "":
            raise ConfigError("an empty token proves nothing; set one, or none at all")

    def proof(self, side: Side, end_nonce: bytes, cloud_nonce: bytes, fingerprint: str) -> bytes:
        """Returns the proof that `side` gives in the session of these nonces."""
        if self.token is None:
            return b""
        text = b"coach wire " + side.encode() + b"\0" + end_nonce + cloud_nonce
        return hmac.digest(self.token.encode(), text + fingerprint.encode(), "sha256")

    def holds(
        self, given: bytes, side: Side, end_nonce: bytes, cloud_nonce: bytes, fingerprint: str
    ) -> bool:
        """Returns whether `given` is that proof; takes as long for a wrong one as for the right
        one."""
        expected = self.proof(side, end_nonce, cloud_nonce, fingerprint)
        return hmac.compare_digest(given, expected)
