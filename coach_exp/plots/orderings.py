"""The picture of many methods at many settings: answers per second against the link's rate.

In: rates and answers per second by setting and method. Out: a figure.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from coach_exp.plots.figures import COLOURS, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curve = Sequence[tuple[float, float]]  # link's rate in Mbps, answers per second

_DASHES = ("-", "--", ":")


def rates_figure(settings: Mapping[str, Mapping[str, Curve]]) -> "Figure":
    """A panel for each setting, a line for each method by name; the legend is the first panel's."""
    columns = min(4, len(settings))
    rows = -(-len(settings) // columns)
    figure = new_figure(3.6 * columns + 1.5, 2.8 * rows)
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat[len(settings) :]:
        panel.set_axis_off()
    for panel, (setting, curves) in zip(panels.flat, settings.items(), strict=False):
        for k, (method, curve) in enumerate(curves.items()):
            style = _DASHES[k // len(COLOURS) % len(_DASHES)]
            colour = COLOURS[k % len(COLOURS)]
            panel.plot(*zip(*curve, strict=True), style, color=colour, lw=1.2, label=method)
        panel.set_xscale("log")
        panel.set_title(setting, fontsize=9, loc="left")
        panel.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("link (Mbps)", fontsize=9)
    figure.supylabel("answers per second", fontsize=9)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
    return figure
