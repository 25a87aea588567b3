"""Bandwidth traces: the true rate of the link over time, piecewise constant, outages included.

In: segments (start in seconds, rate in bit/s). Out: when a transfer that starts at t is finished,
by exact integration.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import inf, isclose, isfinite

import numpy as np
from numpy.typing import NDArray

from coach_exp.types.errors import LinkError


@dataclass(frozen=True)
class Trace:
    """`rates_bps[k]` holds from `starts_s[k]` to the next start. After `period_s` the trace begins
    again; with an infinite period the last rate holds for ever. A rate of 0 is an outage, which
    never ends if it is the last rate of an infinite period."""

    starts_s: tuple[float, ...]
    rates_bps: tuple[float, ...]
    period_s: float = inf

    def __post_init__(self) -> None:
        starts, rates = self.starts_s, self.rates_bps
        if not starts or len(starts) != len(rates) or starts[0] != 0:
            raise LinkError("a trace needs as many rates as starts, and its first start at 0 s")
        if any(later <= earlier for earlier, later in pairwise(starts)):
            raise LinkError("the starts of a trace's segments must increase")
        if self.period_s <= starts[-1]:
            raise LinkError(f"a trace's period of {self.period_s} s ends before its last segment")
        if not all(isfinite(rate) and rate >= 0 for rate in rates):
            raise LinkError("the rates of a trace must be finite and ≥ 0 bit/s")
        if max(rates) == 0:
            raise LinkError("the trace carries nothing: every rate is 0; one must be above it")

    @property
    def initial_bps(self) -> float:
        """The first rate above 0: what may be assumed of the link before the first transfer.

        >>> Trace((0, 1, 2), (0, 8e6, 4e6)).initial_bps
        8000000.0
        """
        return next(rate for rate in self.rates_bps if rate > 0)

    def carried_bits(self, until_s: float) -> float:
        """Returns the bits that the link can carry from 0 to `until_s`.

        >>> Trace((0, 1), (8e6, 4e6), period_s=3).carried_bits(until_s=4)  # 8 + 2·4 + 8 Mbit
        24000000.0
        """
        starts_s, rates_bps = self.steps(until_s)
        return float(rates_bps @ np.diff(starts_s, append=until_s))

    @cached_property
    def _edges(self) -> NDArray[np.float64]:
        return np.asarray(self.starts_s)

    def at(self, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the rates in bit/s at some times: [n] seconds -> [n]."""
        within = np.mod(times_s, self.period_s) if isfinite(self.period_s) else times_s
        segment = np.searchsorted(self._edges, within, side="right") - 1
        return np.asarray(self.rates_bps)[segment]

    def steps(self, until_s: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Returns starts and rates of the segments up to `until_s`, loops unrolled."""
        loops = int(until_s // self.period_s) + 1 if isfinite(self.period_s) else 1
        offsets = np.arange(loops)[:, None] * (self.period_s if loops > 1 else 0.0)
        starts = (offsets + self._edges).ravel()
        keep = starts <= until_s
        return starts[keep], np.tile(self.rates_bps, loops)[keep]


class TraceCursor:
    """Reads a trace forward: transfers must be asked for in the order of their starts, and none may
    start before the end, or the `latest_s`, of the one before."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._segment = -1
        self._lap_s = 0.0
        self._until_s = 0.0
        self._rate = 0.0
        self._advance()

    def _advance(self) -> None:
        trace = self._trace
        self._segment += 1
        if self._segment == len(trace.starts_s):
            self._segment = 0
            self._lap_s += trace.period_s
        self._rate = trace.rates_bps[self._segment]
        following = self._segment + 1
        last = following == len(trace.starts_s)
        self._until_s = self._lap_s + (trace.period_s if last else trace.starts_s[following])

    def finish(self, start_s: float, payload_bytes: float, latest_s: float = inf) -> float:
        """Returns when the last bit of a payload has left the link, if it has the link from
        `start_s` on; any later time if that is after `latest_s`. Raises LinkError if the link stays
        down for ever and `latest_s` is not finite.

        >>> TraceCursor(Trace((0, 1), (8e6, 4e6))).finish(0.5, 1_000_000)  # half at each rate
        2.0
        """
        bits = 8 * payload_bytes
        while True:
            until_s, rate = self._until_s, self._rate
            if start_s < until_s:
                if rate > 0:
                    end_s = start_s + bits / rate
                    if end_s <= until_s:
                        return end_s
                    bits -= rate * (until_s - start_s)
                start_s = until_s
            if until_s >= latest_s:
                if until_s == latest_s == inf:
                    raise LinkError(
                        f"{payload_bytes:g} bytes never leave: the trace ends in an outage that"
                        " never ends; loop it, end above 0, or use a method that gives up on a link"
                    )
                return inf
            self._advance()


def excerpt(trace: Trace, begin_s: float, duration_s: float | None) -> Trace:
    """Returns a part of a looped trace's lap, which loops in its turn; without a duration it is all
    that is left.

    Raises LinkError for a part that is not within the lap, or carries nothing.
    """
    end_s = trace.period_s if duration_s is None else begin_s + duration_s
    if isclose(end_s, trace.period_s):
        end_s = trace.period_s
    if not 0 <= begin_s < end_s <= trace.period_s:
        raise LinkError(
            f"no part from {begin_s:g} to {end_s:g} s is in a trace of {trace.period_s:g} s"
        )
    first = bisect_right(trace.starts_s, begin_s) - 1
    after = bisect_left(trace.starts_s, end_s)
    starts_s = (0.0, *(start - begin_s for start in trace.starts_s[first + 1 : after]))
    return Trace(starts_s, trace.rates_bps[first:after], end_s - begin_s)


def rescaled(trace: Trace, factor: float, clip_bps: tuple[float, float] = (0.0, inf)) -> Trace:
    """Returns the trace with every rate multiplied, then moved into a range: one that begins at 0
    leaves outages as they are, a higher one turns them into its lower end.

    >>> rescaled(Trace((0, 1, 2), (0, 4, 40)), 2, clip_bps=(0, 50)).rates_bps
    (0, 8, 50)
    >>> rescaled(Trace((0, 1, 2), (0, 4, 40)), 1, clip_bps=(1, 50)).rates_bps
    (1, 4, 40)
    """
    low, high = clip_bps
    rates_bps = tuple(min(max(factor * rate, low), high) for rate in trace.rates_bps)
    return Trace(trace.starts_s, rates_bps, trace.period_s)


def constant(rate_bps: float) -> Trace:
    """Returns a trace of the same rate for ever."""
    return Trace((0.0,), (rate_bps,))


def steps(rates_bps: Sequence[float], step_s: float) -> Trace:
    """Returns a trace of each rate for `step_s` seconds; the last one stays (Fig. 5 of the
    paper)."""
    return Trace(tuple(k * step_s for k in range(len(rates_bps))), tuple(rates_bps))


def random_walk(
    low_bps: float, high_bps: float, step_s: float, volatility: float, duration_s: float, seed: int
) -> Trace:
    """Returns a geometric random walk between two rates, reflected at both; it repeats after
    `duration_s`.

    `volatility` is the standard deviation of the step in the logarithm of the rate.
    """
    rng = np.random.default_rng(seed)
    width = np.log(high_bps / low_bps)
    count = max(1, round(duration_s / step_s))
    walk = width * rng.random() + np.cumsum(rng.normal(0, volatility, count))
    folded = np.abs((walk + width) % (2 * width) - width) if width > 0 else np.zeros(count)
    rates = low_bps * np.exp(folded)
    return Trace(tuple(k * step_s for k in range(count)), tuple(rates.tolist()), count * step_s)
