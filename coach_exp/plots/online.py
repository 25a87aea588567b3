"""Pictures of the online part: what each threshold admits and costs, and how throughput and bits
follow the link.

In: the table of a plan, or the records of a run. Out: figures.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from coach_exp.network.trace import Trace
from coach_exp.plots.figures import (
    BLACK,
    BLUE,
    COLOURS,
    GREY,
    ORANGE,
    OTHER,
    RED,
    WHITE,
    finished,
    new_figure,
)
from coach_exp.plots.throughput import shade_bandwidth
from coach_exp.results.adaptation import AdaptedStep
from coach_exp.results.metrics import throughput_over_time
from coach_exp.results.ways import EXIT, LOCAL, way_shares, ways
from coach_exp.types.online import SemanticTable
from coach_exp.types.task import Records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

_UNSENT = {EXIT: ORANGE, LOCAL: OTHER}


def threshold_curves(table: SemanticTable, limit_points: float | None, title: str = "") -> "Figure":
    """Draw, against the threshold on separability, the share of calibration tasks above it and what
    admitting them loses; one colour for exits and for each width, a dot at the chosen threshold.
    """
    figure = new_figure(10, 5.2)
    upper, lower = figure.subplots(2, sharex=True)
    for order, curve in enumerate(table.curves):
        colour = COLOURS[order % len(COLOURS)]
        shown = curve.threshold > 0
        upper.plot(curve.threshold[shown], 100 * curve.share[shown], color=colour, label=curve.name)
        lower.plot(curve.threshold[shown], curve.loss_points[shown], color=colour)
        inside = np.flatnonzero(shown & (curve.threshold > curve.chosen))
        if curve.chosen < inf and len(inside):
            at = inside[-1]
            upper.plot(curve.threshold[at], 100 * curve.share[at], "o", color=colour)
            lower.plot(curve.threshold[at], curve.loss_points[at], "o", color=colour)
    if limit_points is not None:
        lower.axhline(limit_points, color=BLACK, lw=0.8, ls=":")
        lower.text(1.005, limit_points, "ε", transform=lower.get_yaxis_transform(), va="center")
    lower.set(xlabel="threshold on separability S", ylabel="accuracy lost (points)", xscale="log")
    upper.set(ylabel="tasks above it (%)", ylim=(0, 103))
    if table.curves:
        upper.legend(frameon=False, ncols=min(7, len(table.curves)))
    note = (
        f"{table.samples} calibration tasks of {table.videos} videos; dots: the chosen thresholds"
    )
    upper.set_title(f"{title}: {note}" if title else note, loc="left", fontsize=11)
    return finished(figure)


def adaptation_plot(
    runs: Mapping[str, Records],
    trace: Trace | None,
    steps: Mapping[str, Sequence[AdaptedStep]] | None = None,
) -> "Figure":
    """Draw for each method, one below the other: throughput over the shaded bandwidth and its
    estimate (the form of Fig. 5), and beside it how its tasks were answered, by width. Without a
    trace the true bandwidth is not known.

    `steps[method]` adds dotted lines, the throughput of the plan made for each step's rate, and by
    how much the method falls short of it; the time axis then ends with the last step.
    """
    longest_s = max(float(np.nanmax(records.finish_s)) for records in runs.values())
    ends_s = [step.window.to_s for each in (steps or {}).values() for step in each]
    until_s = max(ends_s, default=longest_s)
    bin_s = min((steps or {}).values(), key=len)[0].window.to_s / 12 if steps else until_s / 40
    figure = new_figure(11, 1.6 + 1.4 * len(runs))
    grid = figure.subplots(len(runs), 2, sharex=True, sharey="col", squeeze=False)
    keys = _keys(runs.values())
    for (rates, shares), (name, records) in zip(grid, runs.items(), strict=True):
        _throughput(rates, records, trace, until_s, bin_s)
        for step in (steps or {}).get(name, ()):
            _static(rates, step)
        _shares(shares, records, keys, until_s, bin_s)
        rates.set_title(name, loc="left", fontsize=11, fontweight="bold")
        rates.set_ylabel("it/s")
        shares.set_ylabel("tasks, %")
    grid[0, 0].set(xlim=(0, until_s), ylim=(0, None))
    grid[0, 0].set_ylim(0, (1.25 if steps else 1.08) * grid[0, 0].get_ylim()[1])
    for axes in grid[-1]:
        axes.set_xlabel("time (s)")
    figure.legend(
        handles=[*_line_keys(bool(steps)), *keys.values()],
        loc="outside upper center",
        ncols=8,
        frameon=False,
        fontsize=9,
    )
    return finished(figure)


def _throughput(
    axes: "Axes", records: Records, trace: Trace | None, until_s: float, bin_s: float
) -> None:
    """Answers per second as a line, the link and what was thought of it on the right axis."""
    link = axes.twinx() if trace is None else shade_bandwidth(axes, trace, until_s)
    sent = records.payload_bytes > 0
    link.plot(records.decided_s[sent], records.estimated_bps[sent] / 1e6, color=GREY, lw=1)
    link.set_ylabel("Mbps")
    its = throughput_over_time(records, bin_s)
    axes.stairs(its.values, its.edges_s, baseline=None, color=BLUE, lw=2)


def _static(axes: "Axes", step: AdaptedStep) -> None:
    """The dotted line of a step, and the reduction above it."""
    window, lost = step.window, round(step.reduction_percent)
    axes.plot([window.from_s, window.to_s], [step.static_its] * 2, color=RED, ls=":", lw=2)
    axes.text(
        (window.from_s + window.to_s) / 2,
        0.97,
        f"{-lost:+d} %".replace("-", "−") if lost else "0 %",
        transform=axes.get_xaxis_transform(),
        ha="center",
        va="top",
        fontsize=9,
        bbox={"boxstyle": "round,pad=0.2", "facecolor": WHITE, "edgecolor": "none"},
    )


def _keys(runs: Iterable[Records]) -> dict[str, "Patch"]:
    """How tasks of any run were answered, in the order of the stack, with the colour of each."""
    from matplotlib import colormaps
    from matplotlib.patches import Patch

    names = ways(runs)
    widths = [name for name in names if name not in _UNSENT]
    shades = colormaps["Blues"](np.linspace(0.3, 0.95, len(widths)))
    colours = {**dict(zip(widths, shades, strict=True)), **_UNSENT}
    return {name: Patch(color=colours[name], label=name) for name in names}


def _shares(
    axes: "Axes", records: Records, keys: Mapping[str, "Patch"], until_s: float, bin_s: float
) -> None:
    """Of the tasks answered in each bin, how many in which way: areas that add up to 100 %."""
    edges_s = np.arange(0, until_s + bin_s / 2, bin_s)
    below = np.zeros(len(edges_s) - 1)
    for share, patch in zip(way_shares(records, list(keys), edges_s), keys.values(), strict=True):
        above = below + share
        axes.stairs(above, edges_s, baseline=below, fill=True, color=patch.get_facecolor())
        below = above
    axes.set(ylim=(0, 100), yticks=(0, 50, 100))


def _line_keys(static: bool) -> list["Line2D"]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=BLUE, lw=2, label="throughput"),
        *([Line2D([], [], color=RED, ls=":", lw=2, label="static")] if static else []),
        Line2D([], [], color=GREY, lw=1, label="estimated Mbps"),
    ]
