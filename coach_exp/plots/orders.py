"""The picture of the same frames in several orders: exits and losses against the depth of the cut.

In: means with intervals. Out: a figure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from coach_exp.plots.figures import COLOURS, new_figure
from coach_exp.results.metrics import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_APART = 0.8  # percent of depth between the lines, so that their intervals stand side by side


@dataclass(frozen=True, slots=True)
class Place:
    """A cut behind `depth_percent` of the layers: what a stream exits and loses there."""

    depth_percent: float
    exits_percent: Estimate
    drop_points: Estimate


def order_lines(rules: Mapping[str, Mapping[str, Sequence[Place]]]) -> "Figure":
    """Exit ratio above, accuracy drop below, against depth: a panel for each rule by its name, in
    it a line for each order by its name."""
    figure = new_figure(2.6 * len(rules) + 1, 5.2)
    panels = figure.subplots(2, len(rules), sharex=True, sharey="row", squeeze=False)
    for (upper, lower), (name, orders) in zip(panels.T, rules.items(), strict=True):
        for k, (order, places) in enumerate(orders.items()):
            depth = np.array([each.depth_percent for each in places]) + _APART * (k - 1)
            _line(upper, depth, [each.exits_percent for each in places], order, COLOURS[k])
            _line(lower, depth, [each.drop_points for each in places], order, COLOURS[k])
        upper.set_title(name, fontsize=10, loc="left")
        lower.set_xlabel("layers on the end (%)")
    panels[0, 0].set_ylabel("exit ratio (%)")
    panels[1, 0].set_ylabel("accuracy drop (points)")
    panels[0, 0].legend(frameon=False)
    for axes in panels.flat:
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _line(
    axes: "Axes", depth: np.ndarray, means: Sequence[Estimate], order: str, colour: str
) -> None:
    """Means with half their intervals."""
    values = np.array([each.value for each in means])
    half = np.array([0.0 if each.hi is None else each.hi - each.value for each in means])
    axes.errorbar(depth, values, half, color=colour, marker="o", ms=3, lw=1.2, label=order)
