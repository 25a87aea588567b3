"""What a planner minimises: Eq. 6 of the paper, and three plainer objectives.

In: stage times, overlaps and latency of a cut, in seconds. Out: one number, and a floor under it
for cuts of which only ranges of the stage times are known, which is what pruning needs.
"""

from dataclasses import dataclass
from typing import Protocol

from coach_exp.types.errors import ConfigError
from coach_exp.types.plan import Bubbles, Overlap, StageTimes


@dataclass(frozen=True, slots=True)
class Range:
    """Lower and upper bounds on a stage time, in seconds."""

    low: float
    high: float


class Objective(Protocol):
    """Smaller is better; ties go to the lower T_e + T_t + T_c."""

    @property
    def name(self) -> str:
        """The name in configs and plans."""

    @property
    def needs_schedule(self) -> bool:
        """Whether the value depends on overlaps or latency, not on the stage times alone."""

    def value(self, stage: StageTimes, overlap: Overlap, latency_s: float) -> float:
        """The objective of one cut."""

    def floor(self, end: Range, link: Range, cloud: Range, latency_s: float) -> float:
        """No cut within these ranges, and with at least this latency, has a lower value."""


def bubbles(stage: StageTimes, overlap: Overlap) -> Bubbles:
    """B_c and B_t (Eq. 5).

    >>> bubbles(StageTimes(end_s=4, link_s=6, cloud_s=1), Overlap(link_s=1, cloud_s=0))
    Bubbles(compute_s=3, link_s=1)
    """
    longest = max(stage.end_s, stage.link_s - overlap.link_s, stage.cloud_s - overlap.cloud_s)
    return Bubbles(abs(stage.end_s - stage.cloud_s), abs(stage.link_s - longest))


@dataclass(frozen=True, slots=True)
class Paper:
    """B_c + B_t + max{T_e, T_t, T_c} (Eq. 6), taken literally.

    >>> Paper().value(StageTimes(end_s=2, link_s=0, cloud_s=0), Overlap(0, 0), 2)  # device-only
    6
    """

    name: str = "paper"
    needs_schedule: bool = True

    def value(self, stage: StageTimes, overlap: Overlap, latency_s: float) -> float:
        """Eq. 6."""
        idle = bubbles(stage, overlap)
        return idle.compute_s + idle.link_s + stage.period_s

    def floor(self, end: Range, link: Range, cloud: Range, latency_s: float) -> float:
        """B_t is at least T_e - T_t whatever the overlaps, since its maximum is at least T_e."""
        compute = max(0.0, end.low - cloud.high, cloud.low - end.high)
        return compute + max(0.0, end.low - link.high) + max(end.low, link.low, cloud.low)


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """max{T_e, T_t, T_c}: the period of a full pipeline, the inverse of its throughput."""

    name: str = "bottleneck"
    needs_schedule: bool = False

    def value(self, stage: StageTimes, overlap: Overlap, latency_s: float) -> float:
        """The largest stage."""
        return stage.period_s

    def floor(self, end: Range, link: Range, cloud: Range, latency_s: float) -> float:
        """The largest lower bound."""
        return max(end.low, link.low, cloud.low)


@dataclass(frozen=True, slots=True)
class Latency:
    """The latency of one task alone in the pipeline, by the one-task schedule."""

    name: str = "latency"
    needs_schedule: bool = True

    def value(self, stage: StageTimes, overlap: Overlap, latency_s: float) -> float:
        """The schedule's latency."""
        return latency_s

    def floor(self, end: Range, link: Range, cloud: Range, latency_s: float) -> float:
        """The given floor under the latency."""
        return latency_s


@dataclass(frozen=True, slots=True)
class Weighted:
    """w_e·T_e + w_t·T_t + w_c·T_c."""

    end: float = 1.0
    link: float = 1.0
    cloud: float = 1.0
    name: str = "weighted"
    needs_schedule: bool = False

    def __post_init__(self) -> None:
        if min(self.end, self.link, self.cloud) < 0:
            raise ConfigError(f"planner.weights = {self}: weights must not be negative")

    def value(self, stage: StageTimes, overlap: Overlap, latency_s: float) -> float:
        """The weighted sum."""
        return self.end * stage.end_s + self.link * stage.link_s + self.cloud * stage.cloud_s

    def floor(self, end: Range, link: Range, cloud: Range, latency_s: float) -> float:
        """The weighted sum of the lower bounds."""
        return self.end * end.low + self.link * link.low + self.cloud * cloud.low
