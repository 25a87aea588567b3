"""The picture of how far simulator and sockets disagree, cell by cell of a table.

In: the metrics of each cell by name. Out: a figure; grey is what is allowed.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from coach_exp.plots.figures import BLACK, BLUE, IDLE, finished, new_figure
from coach_exp.results.agreement import WITHIN_PERCENT, allowed_latency_ms
from coach_exp.results.metrics import Estimate, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def agreement_plot(cells: Mapping[str, Summary], title: str = "") -> "Figure":
    """Draw the differences of throughput and of mean latency with their intervals, one line a cell,
    for the cells that were run on both sides."""
    both = {
        name: found
        for name, found in cells.items()
        if {"diff_throughput_percent", "diff_latency_ms"} <= set(found)
    }
    figure = new_figure(10, 1.4 + 0.2 * len(both))
    rates, latencies = figure.subplots(1, 2, sharey=True)
    found = list(both.values())
    _lines(rates, [each["diff_throughput_percent"] for each in found], [WITHIN_PERCENT] * len(both))
    rates.set_xlabel("throughput, sockets - simulator (%)")
    _lines(
        latencies,
        [each["diff_latency_ms"] for each in found],
        [allowed_latency_ms(each) for each in found],
    )
    latencies.set_xlabel("mean latency, sockets - simulator (ms)")
    latencies.set_xscale("symlog", linthresh=1.0)  # what is allowed grows with the latency
    rates.set_yticks(range(len(both)), list(both), fontsize=8)
    rates.set_ylim(len(both) - 0.5, -0.5)  # the first on top
    if title:
        rates.set_title(title, loc="left", fontsize=11)
    return finished(figure)


def _lines(axes: "Axes", differences: Sequence[Estimate], allowed: Sequence[float]) -> None:
    for line, (each, limit) in enumerate(zip(differences, allowed, strict=True)):
        axes.barh(line, 2 * limit, left=-limit, height=0.8, color=IDLE, zorder=1)
        if each.lo is not None and each.hi is not None:
            axes.plot([each.lo, each.hi], [line, line], color=BLUE, zorder=2)
        axes.plot(each.value, line, "o", markersize=3.5, color=BLUE, zorder=3)
    axes.axvline(0, color=BLACK, linewidth=0.6, zorder=1.5)
