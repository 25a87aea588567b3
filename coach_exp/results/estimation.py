"""How far the estimated bandwidth is from the true one, over the moments at which a method decided.

In: the columns `decided_s`, `estimated_bps` and `true_bps` of task records. Out: `EstimateError`.
"""

from dataclasses import dataclass
from math import expm1

import numpy as np
from numpy.typing import NDArray
from scipy.signal import correlate

SAMPLES = 2**15  # instants at which the two series are compared to find the lag
_ROUNDING = 1e-9  # relative difference of two sums of squares that is none

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EstimateError:
    """`bias` is the mean of ln(estimated / true), `spread` that of its absolute value; `lag_s` is
    by how much the truth must be delayed to fit the estimate best. `scored` decisions were looked
    at; `outages` others were not: the true rate was 0, of which no ratio can be taken.
    """

    bias: float
    spread: float
    lag_s: float
    scored: int
    outages: int

    @property
    def bias_percent(self) -> float:
        """By how much the estimate is above the truth, as a geometric mean.

        >>> halved = EstimateError(np.log(0.5), np.log(2), lag_s=0, scored=9, outages=0)
        >>> halved.bias_percent, halved.error_percent
        (-50.0, 100.0)
        """
        return 100 * expm1(self.bias)

    @property
    def error_percent(self) -> float:
        """By how much the larger of estimate and truth exceeds the other, as a geometric mean."""
        return 100 * expm1(self.spread)


def estimate_error(
    decided_s: Floats, estimated_bps: Floats, true_bps: Floats
) -> EstimateError | None:
    """The error over some decisions, in any order; None where the true rate was never above 0."""
    order = np.argsort(decided_s, kind="stable")
    order = order[true_bps[order] > 0]
    if not len(order):
        return None
    estimated, true = np.log(estimated_bps[order]), np.log(true_bps[order])
    return EstimateError(
        bias=float((estimated - true).mean()),
        spread=float(np.abs(estimated - true).mean()),
        lag_s=lag_s(decided_s[order], estimated, true),
        scored=len(order),
        outages=len(true_bps) - len(order),
    )


def lag_s(at_s: Floats, estimated: Floats, true: Floats) -> float:
    """The delay of `true` at which it is nearest to `estimated` in the least-squares sense, both
    held from one time to the next; the least of those that fit equally well.

    Both series are resampled to 2^15 instants between the first and the last time; delays from 0 to
    half of that are tried, with the first true value standing for what was before. Hence the
    limits: the lag is no finer than the resampling, and what the truth does between two decisions
    is not seen; a constant bias hardly matters, but a rate that never changes has no lag, which is
    given as 0; in a trace that repeats, delays far apart may fit almost as well.
    """
    span_s = float(at_s[-1] - at_s[0])
    if span_s <= 0 or np.ptp(true) == 0:
        return 0.0
    instants_s = at_s[0] + span_s / SAMPLES * np.arange(SAMPLES)
    held = np.searchsorted(at_s, instants_s, side="right") - 1
    middle = true.mean()
    late, early = estimated[held] - middle, true[held] - middle
    max_delay = SAMPLES // 2
    before = np.concatenate([np.full(max_delay, early[0]), early])
    # Σ (late - early)² = Σ late² + Σ early² - 2 Σ late · early, for all delays at once.
    squares = np.concatenate([[0.0], np.cumsum(before**2)])
    power = squares[SAMPLES:] - squares[: max_delay + 1]
    misfit = (late @ late + power - 2 * correlate(before, late, "valid", "fft"))[::-1]
    near = misfit <= misfit.min() + _ROUNDING * (late @ late + power.max())
    return float(np.argmax(near)) * span_s / SAMPLES
