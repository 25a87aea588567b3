"""Pictures of the online part: what each threshold admits and costs, and how bits follow the link.

In: the table of a plan, or the records of a run. Out: PNG files, and the curves as JSON.
"""

from collections.abc import Mapping
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coach_exp.network.trace import Trace
from coach_exp.results.figures import COLOURS, new_figure, save_figure, shade_bandwidth
from coach_exp.results.metrics import throughput_over_time
from coach_exp.types.online import SemanticTable
from coach_exp.types.task import Records

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MANY = 3000  # dots above which the picture of bits shows a sample of the tasks


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


def threshold_curves(
    table: SemanticTable, path: Path, limit_points: float, title: str = ""
) -> None:
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
    save_figure(figure, path)


def adaptation_plot(
    runs: Mapping[str, Records],
    trace: Trace,
    path: Path,
    static_its: Mapping[str, list[tuple[float, float, float]]] | None = None,
    bin_s: float | None = None,
) -> None:
    """Draw throughput, bits of each task, and bandwidth over time (the form of Fig. 5).

    `static_its[name]` are (from_s, to_s, it/s): the throughput of the plan made for the rate that
    holds then, as dotted lines. Below the bits, exits are marked at zero.
    """
    until_s = max(float(np.nanmax(records.finish_s)) for records in runs.values())
    figure = new_figure(10, 7.0)
    rates, bits, link = figure.subplots(3, sharex=True, height_ratios=[3, 2, 2])
    shade_bandwidth(rates, trace, until_s)
    for order, (name, records) in enumerate(runs.items()):
        colour = COLOURS[order % len(COLOURS)]
        steps = throughput_over_time(records, bin_s or until_s / 40)
        rates.stairs(steps.values, steps.edges_s, baseline=None, color=colour, lw=2, label=name)
        for start_s, end_s, its in (static_its or {}).get(name, []):
            rates.plot([start_s, end_s], [its, its], color=colour, ls=":", lw=1.5)
        _bits(bits, records, colour, shift=0.12 * order)
        times = records.columns["end_end_s"]
        link.plot(times, records.estimated_bps / 1e6, color=colour, lw=1)
    starts_s, rates_bps = trace.steps(until_s)
    edges_s = np.append(starts_s, until_s)
    link.stairs(rates_bps / 1e6, edges_s, baseline=None, color="black", lw=1.2, label="true")
    link.legend(frameon=False, loc="upper right", title="lines: estimates")
    rates.set(ylabel="throughput (it/s)", xlim=(0, until_s))
    rates.set_ylim(0, 1.08 * rates.get_ylim()[1])
    rates.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=min(5, len(runs)), frameon=False)
    bits.set(ylabel="bits (0: exit)", ylim=(-0.6, None))
    link.set(ylabel="bandwidth (Mbps)", xlabel="time (s)", ylim=(0, None))
    save_figure(figure, path)


def _bits(axes: "Axes", records: Records, colour: str, shift: float) -> None:
    """A dot for each task at the bits it was sent with, 0 for an exit, methods side by side."""
    rows = np.flatnonzero(~records.dropped.astype(bool))
    step = max(1, len(rows) // _MANY)
    rows = rows[::step]
    value = np.where(records.decision[rows] == "exit", 0, records.bits[rows])
    axes.plot(records.end_end_s[rows], value + shift, ".", color=colour, ms=2.5, alpha=0.5)
