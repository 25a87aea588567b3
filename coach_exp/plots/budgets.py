"""The picture of losses under thresholds: every draw as a point beside the limit that was promised.

In: losses in percentage points. Out: a figure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

import numpy as np

from coach_exp.plots.figures import COLOURS, new_figure
from coach_exp.types.online import Budget

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH = 0.25  # of a column, to either side of its middle


@dataclass(frozen=True)
class Column:
    """A budget and its limit, and what each draw lost under it, in points."""

    budget: Budget
    limit_points: float
    losses: Sequence[float]


def loss_panels(panels: Mapping[str, Sequence[Column]]) -> "Figure":
    """A titled panel for each depth, a column for each budget and limit, the limit a bar across."""
    figure = new_figure(3.4 * len(panels) + 1, 4.2)
    every = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    rng = np.random.default_rng(0)
    for axes, (title, columns) in zip(every, panels.items(), strict=True):
        for k, column in enumerate(columns):
            jitter = k + rng.uniform(-_WIDTH, _WIDTH, len(column.losses))
            colour = COLOURS[get_args(Budget).index(column.budget)]
            axes.plot(jitter, column.losses, ".", color=colour, ms=4, alpha=0.6)
            axes.plot([k - 0.4, k + 0.4], [column.limit_points] * 2, color="black", lw=1.5)
        labels = [f"{column.budget}\n{column.limit_points:g}" for column in columns]
        axes.set_xticks(range(len(columns)), labels, fontsize=8)
        axes.set_title(title, fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    every[0].set_ylabel("accuracy lost on other videos (points)")
    return figure
