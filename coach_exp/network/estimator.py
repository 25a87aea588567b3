"""Bandwidth estimators: what the end believes of the link, from the transfers it has seen.

Every method is fed by the same estimator. In: finished transfers. Out: bit/s.
"""

from typing import Protocol

from coach_exp.types.errors import ConfigError
from coach_exp.types.method import Transfer


class Estimator(Protocol):
    """The estimated rate, updated by every finished transfer."""

    bps: float

    def sent(self, transfer: Transfer) -> None:
        """Learn from a finished transfer."""


class Ewma:
    """Exponentially weighted moving average of the rates of past transfers.

    `weight` is that of the newest; `initial_bps` stands until the first transfer.

    >>> estimator = Ewma(initial_bps=8e6, weight=0.5)
    >>> estimator.sent(Transfer(task=0, payload_bytes=500_000, start_s=1, end_s=2))  # 4 Mbps
    >>> estimator.bps
    6000000.0
    """

    def __init__(self, initial_bps: float, weight: float = 0.3) -> None:
        if not 0 < weight <= 1:
            raise ConfigError(f"an EWMA's weight of {weight} must be above 0 and at most 1")
        self.bps = initial_bps
        self._weight = weight

    def sent(self, transfer: Transfer) -> None:
        """Move towards the rate of this transfer; one that took no time says nothing."""
        seconds = transfer.end_s - transfer.start_s
        if seconds > 0:
            rate = 8 * transfer.payload_bytes / seconds
            self.bps += self._weight * (rate - self.bps)
