"""A cut with its cost, and which of two comes first.

In: what a cut costs, its objective, the constraint that it breaks most. Out: a `Candidate`, which a
search compares with others.
"""

from dataclasses import dataclass

from coach_exp.types.plan import Overlap, StageTimes

TOLERANCE = 1e-9  # relative; differences below it are rounding, not preference


def rounded(value: float) -> float:
    """Ten digits: what differs behind them is rounding, not preference."""
    return float(f"{value:.9e}")


@dataclass(frozen=True, slots=True)
class CutCost:
    """What a cut costs: the number of its block, the block's interior layers on the end, its stage
    times, overlaps and latency by the one-task schedule, and whether the raw input crosses.
    """

    block: int
    interior: tuple[int, ...]
    stage: StageTimes
    overlap: Overlap
    latency_s: float
    crosses_input: bool


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cut as it is ranked: block number, the block's interior layers on the end, the ranking.

    `violation_s` is 0 for a feasible cut, otherwise the seconds by which it breaks the constraint
    that `broken` names. `rank` orders cuts: less violation, then a lower objective, then a lower
    T_e + T_t + T_c, all rounded.
    """

    block: int
    interior: tuple[int, ...]
    stage: StageTimes
    value: float
    violation_s: float
    broken: str
    rank: tuple[float, float, float]

    @staticmethod
    def of(cost: CutCost, value: float, violation_s: float, broken: str) -> "Candidate":
        """The cut with its objective and the constraint it breaks most, if any."""
        rank = (rounded(violation_s), rounded(value), rounded(cost.stage.total_s))
        return Candidate(cost.block, cost.interior, cost.stage, value, violation_s, broken, rank)

    def beats(self, other: "Candidate | None") -> bool:
        """Whether this cut comes before the other."""
        return other is None or self.rank < other.rank
