"""The picture of bandwidth estimates: what the end believed, over what the link carried.

In: traces, and estimates at the instants of the decisions. Out: a figure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from coach_exp.network.trace import Trace
from coach_exp.plots.figures import COLOURS, IDLE, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRUTH = "oracle"  # its line stands behind the others


@dataclass(frozen=True)
class Believed:
    """A trace until `until_s`, and for each estimator when it was asked and what it said in bit/s:
    [n], [n]."""

    title: str
    trace: Trace
    until_s: float
    estimates: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]


def belief_panels(every: Sequence[Believed]) -> "Figure":
    """One panel below the other: the truth as a grey area, each estimate as a line of steps."""
    figure = new_figure(10, 1.9 * len(every) + 0.5)
    panels = figure.subplots(len(every), squeeze=False)[:, 0]
    for axes, each in zip(panels, every, strict=True):
        _panel(axes, each)
    panels[0].legend(loc="upper right", ncols=4, frameon=False, fontsize=9)
    panels[-1].set_xlabel("time (s)")
    return figure


def _panel(axes: "Axes", each: Believed) -> None:
    starts_s, rates_bps = each.trace.steps(each.until_s)
    edges_s = np.append(starts_s, each.until_s)
    axes.stairs(rates_bps / 1e6, edges_s, fill=True, color=IDLE)
    for k, (name, (decided_s, estimated_bps)) in enumerate(each.estimates.items()):
        axes.step(
            decided_s,
            estimated_bps / 1e6,
            where="post",
            color=COLOURS[k % len(COLOURS)],
            lw=1.3,
            zorder=2 if name == TRUTH else 3,
            label=name,
        )
    axes.set(xlim=(0, each.until_s), ylabel="Mbps")
    axes.set_ylim(0, 1.25 * float(rates_bps.max()) / 1e6)
    axes.set_title(each.title, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
