"""The picture of early exits: where they answer, and what that loses.

In: shares in percent, losses in percentage points. Out: a figure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coach_exp.plots.figures import COLOURS, GREY, new_figure
from coach_exp.results.metrics import Estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Cascade:
    """All heads under one threshold: the depth of each in percent of the layers, the share of the
    tasks answered by then, and what all of them exit and lose."""

    threshold: float
    depths_percent: Sequence[float]
    answered_percent: Sequence[float]
    exits_percent: float
    drop_points: Estimate


def cascades(every: Sequence[Cascade]) -> "Figure":
    """Left: the share of the tasks answered up to each head, a line for each threshold; right: what
    the cascade loses against what it exits."""
    figure = new_figure(9.5, 3.6)
    left, right = figure.subplots(1, 2)
    for k, each in enumerate(every):
        colour = COLOURS[k % len(COLOURS)]
        left.plot(
            each.depths_percent,
            each.answered_percent,
            "o-",
            ms=3,
            lw=1.2,
            color=colour,
            label=f"{each.threshold:g}",
        )
        lost = each.drop_points
        low = lost.value if lost.lo is None else lost.lo
        high = lost.value if lost.hi is None else lost.hi
        bars = [[lost.value - low], [high - lost.value]]
        right.errorbar(each.exits_percent, lost.value, bars, fmt="o", ms=4, color=colour)
    left.set_xlabel("layers before the head (%)")
    left.set_ylabel("tasks answered by then (%)")
    left.legend(title="threshold", frameon=False)
    right.set_xlabel("tasks that exit (%)")
    right.set_ylabel("accuracy drop (points)")
    right.axhline(0, color=GREY, lw=0.8, zorder=0)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure
