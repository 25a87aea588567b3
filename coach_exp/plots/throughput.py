"""Throughput over time above the link's bandwidth (the form of the paper's Fig. 5).

In: `Records` of each method, a bandwidth trace. Out: a figure.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from coach_exp.network.trace import Trace
from coach_exp.plots.figures import GREY, IDLE, finished, method_line, new_figure
from coach_exp.results.metrics import throughput_over_time
from coach_exp.types.task import Records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def throughput_plot(
    runs: Mapping[str, Records], trace: Trace | None, bin_s: float | None = None
) -> "Figure":
    """Draw answers per second of each method over the shaded bandwidth (right axis). A dot marks
    where a run ends; the bins are a fortieth of the longest run unless given.
    """
    until_s = max(float(np.nanmax(records.finish_s)) for records in runs.values())
    bin_s = bin_s or until_s / 40
    figure = new_figure(10, 4.4)
    axes = figure.add_subplot()
    if trace is not None:
        shade_bandwidth(axes, trace, until_s)
    for name, records in runs.items():
        steps = throughput_over_time(records, bin_s)
        line = method_line(name)
        axes.stairs(steps.values, steps.edges_s, baseline=None, label=name, lw=2.2, **line)
        dot = {"color": line["color"], "ms": 6, "clip_on": False}
        axes.plot(steps.edges_s[-1], steps.values[-1], "o", **dot)
    axes.set(xlabel="time (s)", ylabel="throughput (it/s)", xlim=(0, until_s))
    axes.set_ylim(0, 1.06 * axes.get_ylim()[1])
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=min(5, len(runs)), frameon=False)
    return finished(figure)


def shade_bandwidth(axes: "Axes", trace: Trace, until_s: float) -> "Axes":
    """The trace as a grey step area behind the lines; returns the axes it is drawn on."""
    right = axes.twinx()
    starts_s, rates_bps = trace.steps(until_s)
    edges_s = np.append(starts_s, until_s)
    right.stairs(rates_bps / 1e6, edges_s, fill=True, color=IDLE)
    right.set_ylabel("bandwidth (Mbps)", color=GREY)
    right.tick_params(axis="y", colors=GREY)
    right.set_ylim(0, 1.1 * float(rates_bps.max()) / 1e6)
    levels = np.unique(rates_bps) / 1e6
    if len(levels) <= 6:
        right.set_yticks(levels)
    right.spines[["top", "left"]].set_visible(False)
    axes.set_zorder(right.get_zorder() + 1)  # the lines above the area
    axes.patch.set_visible(False)
    return right
