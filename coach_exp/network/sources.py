"""Where a link's rate over time comes from, in the units of a config: Mbps.

In: what `conf/bandwidth` says. Out: a `Trace` in bit/s. Any class with a method `trace` is such a
source.
"""

from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Annotated, Any, Protocol

from pydantic import BeforeValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat

from coach_exp.network import trace as traces
from coach_exp.network.trace import Trace
from coach_exp.network.trace_files import Playback, TraceFormat, load_trace
from coach_exp.types.errors import ConfigError


class TraceSource(Protocol):
    """Yields the true rate of the link over time."""

    def trace(self) -> Trace:
        """The trace. Raises LinkError where it cannot be had."""


def _as_tuple(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else (value,)


Rates = Annotated[tuple[PositiveFloat, ...], BeforeValidator(_as_tuple), Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Steps:
    """The rates `mbps` one after the other, each for `step_s` seconds; the last one stays.

    >>> Steps(mbps=(20.0, 5.0), step_s=2.0).trace().rates_bps
    (20000000.0, 5000000.0)
    """

    mbps: Rates
    step_s: PositiveFloat = 1.0

    def trace(self) -> Trace:
        """The steps as a trace."""
        return traces.steps([1e6 * rate for rate in self.mbps], self.step_s)


@dataclass(frozen=True, slots=True)
class RandomWalk:
    """A geometric random walk between two rates; see `network.trace.random_walk`."""

    low_mbps: PositiveFloat
    high_mbps: PositiveFloat
    step_s: PositiveFloat = 0.1
    volatility: NonNegativeFloat = 0.1
    duration_s: PositiveFloat = 600.0
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        if self.low_mbps > self.high_mbps:
            raise ConfigError(f"low_mbps = {self.low_mbps} exceeds high_mbps = {self.high_mbps}")

    def trace(self) -> Trace:
        """The walk of this seed as a trace."""
        return traces.random_walk(
            1e6 * self.low_mbps,
            1e6 * self.high_mbps,
            self.step_s,
            self.volatility,
            self.duration_s,
            self.seed,
        )


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded link, from a file; see `network.trace_files.load_trace`.

    `begin_s` and `duration_s` choose a part of the recording, `scale` multiplies every rate, and
    `clip_mbps` moves what is outside into the range. `bin_s` is for Mahimahi files: seconds over
    which packets are counted into a rate.
    """

    path: Path
    format: TraceFormat = "auto"
    begin_s: NonNegativeFloat = 0.0
    duration_s: PositiveFloat | None = None
    scale: PositiveFloat = 1.0
    clip_mbps: tuple[NonNegativeFloat, PositiveFloat] | None = None
    loop: bool = True
    bin_s: PositiveFloat = 0.5

    def __post_init__(self) -> None:
        if self.clip_mbps is not None and self.clip_mbps[0] > self.clip_mbps[1]:
            low, high = self.clip_mbps
            raise ConfigError(
                f"clip_mbps = [{low:g}, {high:g}]: the low end {low:g} exceeds the high end "
                f"{high:g}"
            )

    def trace(self) -> Trace:
        """The recording as a trace. Raises LinkError naming the file and what is wrong with it."""
        low_mbps, high_mbps = self.clip_mbps or (0.0, inf)
        playback = Playback(
            begin_s=self.begin_s,
            duration_s=self.duration_s,
            scale=self.scale,
            clip_bps=(1e6 * low_mbps, 1e6 * high_mbps),
            loop=self.loop,
        )
        return load_trace(self.path, self.format, playback, bin_s=self.bin_s)
