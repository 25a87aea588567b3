"""Bandwidth estimators: what the end believes of the link, from the transfers it has seen.

Every method of a run is fed by the same estimator. In: finished transfers. Out: bit/s, always above
0. How far an estimator is from the truth: `coach_exp.results.estimation`.
"""

from bisect import bisect_right
from collections import deque
from math import inf
from typing import Annotated, Protocol

from pydantic import Field, PositiveInt

from coach_exp.network.trace import Trace
from coach_exp.types.errors import ConfigError
from coach_exp.types.method import Transfer


class Estimator(Protocol):
    """The estimated rate, updated by every finished transfer."""

    def rate_bps(self, now_s: float) -> float:
        """Returns the estimate at a time, seconds since the run began; it is above 0, so that a
        method may divide by it.
        """

    def sent(self, transfer: Transfer) -> None:
        """Learn from a finished transfer; one without bytes, or that took no time, says nothing."""


class Ewma:
    """Exponentially weighted moving average of the rates of past transfers.

    `weight` is that of the newest; `initial_bps` stands until the first transfer.

    >>> estimator = Ewma(initial_bps=8e6, weight=0.5)
    >>> estimator.sent(Transfer(task=0, payload_bytes=500_000, start_s=1, end_s=2))  # 4 Mbps
    >>> estimator.rate_bps(now_s=2)
    6000000.0
    """

    def __init__(
        self, initial_bps: float, weight: Annotated[float, Field(gt=0, le=1)] = 0.3
    ) -> None:
        if not 0 < weight <= 1:
            raise ConfigError(f"an EWMA's weight of {weight} must be above 0 and at most 1")
        self._bps = initial_bps
        self._weight = weight

    def rate_bps(self, now_s: float) -> float:
        """Returns the average, whatever the time."""
        return self._bps

    def sent(self, transfer: Transfer) -> None:
        """Move towards the rate of this transfer."""
        seconds = transfer.end_s - transfer.start_s
        if seconds > 0 and transfer.payload_bytes > 0:
            rate = 8 * transfer.payload_bytes / seconds
            self._bps += self._weight * (rate - self._bps)


class HarmonicMean:
    """Harmonic mean of the rates of the last `transfers` transfers: one outlier upwards moves it
    little (Jiang et al., FESTIVE, CoNEXT 2012). `initial_bps` stands until the first transfer.

    >>> estimator = HarmonicMean(initial_bps=1e6, transfers=2)
    >>> for seconds in (1, 1, 0.5):  # 4, 4 and 8 Mbps; the last two count: 2 / (1/4 + 1/8)
    ...     estimator.sent(Transfer(task=0, payload_bytes=500_000, start_s=0, end_s=seconds))
    >>> round(estimator.rate_bps(now_s=2))
    5333333
    """

    def __init__(self, initial_bps: float, transfers: PositiveInt = 5) -> None:
        if transfers < 1:
            raise ConfigError(f"a harmonic mean of {transfers} transfers must be of at least 1")
        self._bps = initial_bps
        self._seconds_per_bit: deque[float] = deque(maxlen=transfers)

    def rate_bps(self, now_s: float) -> float:
        """Returns the mean, whatever the time."""
        return self._bps

    def sent(self, transfer: Transfer) -> None:
        """Take this transfer in and let the oldest go."""
        seconds = transfer.end_s - transfer.start_s
        if seconds > 0 and transfer.payload_bytes > 0:
            self._seconds_per_bit.append(seconds / (8 * transfer.payload_bytes))
            self._bps = len(self._seconds_per_bit) / sum(self._seconds_per_bit)


class Oracle:
    """Knows the true rate; in an outage, the one at which the link will go on, or did last if the
    outage never ends. For comparison: what a method would do if it estimated without error. It does
    not foresee: the rate may change while the payload is sent.

    >>> oracle = Oracle(Trace((0, 1, 2), (8e6, 0, 4e6), period_s=3))
    >>> [oracle.rate_bps(now_s) for now_s in (0.5, 1.5, 2.5, 3.5)]
    [8000000.0, 4000000.0, 4000000.0, 8000000.0]
    """

    def __init__(self, trace: Trace) -> None:
        self._starts_s = trace.starts_s
        self._period_s = trace.period_s
        self._rates_bps = _without_outages(trace)

    def rate_bps(self, now_s: float) -> float:
        """Returns the rate of the trace now."""
        return self._rates_bps[bisect_right(self._starts_s, now_s % self._period_s) - 1]

    def sent(self, transfer: Transfer) -> None:
        """There is nothing to learn."""


def _without_outages(trace: Trace) -> list[float]:
    """Returns the rates, each outage given the rate that follows it, if need be in the next lap."""
    last_bps = next(rate for rate in reversed(trace.rates_bps) if rate > 0)
    filled, following = [], trace.initial_bps if trace.period_s < inf else last_bps
    for rate in reversed(trace.rates_bps):
        following = rate or following
        filled.append(following)
    return filled[::-1]
