"""The picture of how planning grows: cuts evaluated in one block, seconds for a whole network.

In: efforts by size, each with its law in words. Out: a figure with logarithmic axes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coach_exp.plots.figures import COLOURS, GREY, IDLE, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TWO_MOVES = COLOURS[2]
_SEARCHES = ((COLOURS[0], "o"), (_TWO_MOVES, "s"), (COLOURS[4], "x"))


@dataclass(frozen=True)
class Growth:
    """An effort against layers, and the law it follows (its words, for a legend)."""

    law: str
    layers: Sequence[int]
    effort: Sequence[float]


def growths(
    divided: Sequence[Growth], exhaustive: Growth, branches: Mapping[int, Growth], network: Growth
) -> "Figure":
    """Left: the cuts of one block that each kind of divide and conquer evaluates, as points, and
    the exhaustive search, which has a line for each number of `branches`. Right: seconds against
    the layers of a network, and what would be linear.
    """
    figure = new_figure(10, 4.2)
    left, right = figure.subplots(1, 2)
    _blocks(left, [*divided, exhaustive], branches)
    _networks(right, network)
    for axes in (left, right):
        axes.set(xscale="log", yscale="log")
        axes.grid(color=IDLE, lw=0.8)
        axes.set_axisbelow(True)
        axes.legend(loc="upper left", frameon=False, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _blocks(axes: "Axes", searches: Sequence[Growth], branches: Mapping[int, Growth]) -> None:
    for each, (colour, marker) in zip(searches, _SEARCHES, strict=True):
        axes.plot(each.layers, each.effort, marker, color=colour, ms=5, mfc="none", label=each.law)
    colour = _SEARCHES[-1][0]
    for line in branches.values():
        axes.plot(line.layers, line.effort, color=colour, lw=1)
        axes.annotate(
            line.law,
            (line.layers[-1], line.effort[-1]),
            xytext=(0, 5),
            textcoords="offset points",
            ha="center",
            fontsize=7,
            color=colour,
        )
    axes.set(xlabel="layers of the block, c·n", ylabel="cuts evaluated")
    axes.margins(y=0.08)
    axes.set_title("One block of n branches of c layers", loc="left", fontsize=11)


def _networks(axes: "Axes", network: Growth) -> None:
    x, y = network.layers, network.effort
    axes.plot(x, y, "s-", color=_TWO_MOVES, mfc="none", lw=1.5, label=network.law)
    if x:
        linear = [y[0] * each / x[0] for each in x]
        axes.plot(x, linear, "--", color=GREY, lw=1, label="linear")
    axes.set(xlabel="layers of the network", ylabel="planning time (s)")
    axes.set_title("Blocks in a row", loc="left", fontsize=11)
