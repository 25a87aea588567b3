"""Pictures of the online part: what each threshold admits and costs, and how throughput and bits
follow the link.

In: the table of a plan, or the records of a run. Out: figures, and the curves as JSON.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import inf, isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coach_exp.network.trace import Trace
from coach_exp.plots.figures import COLOURS, new_figure, shade_bandwidth
from coach_exp.results.adaptation import AdaptedStep
from coach_exp.results.metrics import throughput_over_time
from coach_exp.types.online import SemanticTable
from coach_exp.types.task import Records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

_EXIT, _LOCAL = "exit", "on the end"
_UNSENT = {_EXIT: COLOURS[1], _LOCAL: "#DDDDDD"}
_STATIC, _ESTIMATE = COLOURS[4], "#555555"


def curves_json(table: SemanticTable) -> dict[str, Any]:
    """The curves as lists; thresholds that admit nothing or all are null."""
    return {
        "budget": table.budget,
        "samples": table.samples,
        "videos": table.videos,
        "curves": [
            {
                "name": curve.name,
                "chosen": curve.chosen if isfinite(curve.chosen) else None,
                "threshold": curve.threshold.tolist(),
                "share": curve.share.tolist(),
                "loss_points": curve.loss_points.tolist(),
            }
            for curve in table.curves
        ],
    }


def threshold_curves(table: SemanticTable, limit_points: float | None, title: str = "") -> "Figure":
    """Against the threshold on separability, the share of calibration tasks above it and what
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
        lower.axhline(limit_points, color="black", lw=0.8, ls=":")
        lower.text(1.005, limit_points, "ε", transform=lower.get_yaxis_transform(), va="center")
    lower.set(xlabel="threshold on separability S", ylabel="accuracy lost (points)", xscale="log")
    upper.set(ylabel="tasks above it (%)", ylim=(0, 103))
    if table.curves:
        upper.legend(frameon=False, ncols=min(7, len(table.curves)))
    note = (
        f"{table.samples} calibration tasks of {table.videos} videos; dots: the chosen thresholds"
    )
    upper.set_title(f"{title}: {note}" if title else note, loc="left", fontsize=11)
    for axes in (upper, lower):
        axes.spines[["top"]].set_visible(False)
    upper.spines[["right"]].set_visible(False)
    return figure


def adaptation_plot(
    runs: Mapping[str, Records],
    trace: Trace | None,
    steps: Mapping[str, Sequence[AdaptedStep]] | None = None,
) -> "Figure":
    """For each method, one below the other: throughput over the shaded bandwidth and its
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
    ways = _ways(runs.values())
    for (rates, shares), (name, records) in zip(grid, runs.items(), strict=True):
        _throughput(rates, records, trace, until_s, bin_s)
        for step in (steps or {}).get(name, ()):
            _static(rates, step)
        _shares(shares, records, ways, until_s, bin_s)
        rates.set_title(name, loc="left", fontsize=11, fontweight="bold")
        rates.set_ylabel("it/s")
        shares.set_ylabel("tasks, %")
    grid[0, 0].set(xlim=(0, until_s), ylim=(0, None))
    grid[0, 0].set_ylim(0, (1.25 if steps else 1.08) * grid[0, 0].get_ylim()[1])
    for axes in grid[-1]:
        axes.set_xlabel("time (s)")
    figure.legend(
        handles=[*_line_keys(bool(steps)), *ways.values()],
        loc="outside upper center",
        ncols=8,
        frameon=False,
        fontsize=9,
    )
    for axes in figure.axes:
        axes.spines[["top"]].set_visible(False)
    figure.axes[0].spines[["right"]].set_visible(False)
    return figure


def _throughput(
    axes: "Axes", records: Records, trace: Trace | None, until_s: float, bin_s: float
) -> None:
    """Answers per second as a line, the link and what was thought of it on the right axis."""
    link = axes.twinx() if trace is None else shade_bandwidth(axes, trace, until_s)
    sent = records.payload_bytes > 0
    link.plot(records.decided_s[sent], records.estimated_bps[sent] / 1e6, color=_ESTIMATE, lw=1)
    link.set_ylabel("Mbps")
    its = throughput_over_time(records, bin_s)
    axes.stairs(its.values, its.edges_s, baseline=None, color=COLOURS[0], lw=2)


def _static(axes: "Axes", step: AdaptedStep) -> None:
    """The dotted line of a step, and the reduction above it."""
    window, lost = step.window, round(step.reduction_percent)
    axes.plot([window.from_s, window.to_s], [step.static_its] * 2, color=_STATIC, ls=":", lw=2)
    axes.text(
        (window.from_s + window.to_s) / 2,
        0.97,
        f"{-lost:+d} %".replace("-", "−") if lost else "0 %",
        transform=axes.get_xaxis_transform(),
        ha="center",
        va="top",
        fontsize=9,
        bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none"},
    )


def _ways(runs: Iterable[Records]) -> dict[str, "Patch"]:
    """How tasks of any run were answered, in the order of the stack, with the colour of each."""
    from matplotlib import colormaps
    from matplotlib.patches import Patch

    found = set().union(*(np.unique(_way(records)).tolist() for records in runs))
    bits = sorted(int(way.split()[0]) for way in found - {_EXIT, _LOCAL})
    shades = colormaps["Blues"](np.linspace(0.3, 0.95, len(bits)))
    colours = {f"{b} bits": shade for b, shade in zip(bits, shades, strict=True)}
    colours |= {way: colour for way, colour in _UNSENT.items() if way in found}
    return {way: Patch(color=colour, label=way) for way, colour in colours.items()}


def _way(records: Records) -> NDArray[np.str_]:
    """How each task was answered: by the cache, by the end, or by the cloud at some bits."""
    sent = np.char.add(records.bits.astype(np.str_), " bits")
    early = records.decision == "exit"
    unsent = np.where(early, _EXIT, _LOCAL)
    way: NDArray[np.str_] = np.where(early | (records.bits == 0), unsent, sent)
    return way


def _shares(
    axes: "Axes", records: Records, ways: Mapping[str, "Patch"], until_s: float, bin_s: float
) -> None:
    """Of the tasks answered in each bin, how many in which way: areas that add up to 100 %."""
    edges_s = np.arange(0, until_s + bin_s / 2, bin_s)
    way, finish_s = _way(records), records.finish_s
    answers = np.maximum(np.histogram(finish_s, edges_s)[0], 1)
    below = np.zeros(len(answers))
    for name, patch in ways.items():
        above = below + 100 * np.histogram(finish_s[way == name], edges_s)[0] / answers
        axes.stairs(above, edges_s, baseline=below, fill=True, color=patch.get_facecolor())
        below = above
    axes.set(ylim=(0, 100), yticks=(0, 50, 100))


def _line_keys(static: bool) -> list["Line2D"]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=COLOURS[0], lw=2, label="throughput"),
        *([Line2D([], [], color=_STATIC, ls=":", lw=2, label="static")] if static else []),
        Line2D([], [], color=_ESTIMATE, lw=1, label="estimated Mbps"),
    ]
