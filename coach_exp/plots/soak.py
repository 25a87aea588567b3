"""The picture of a long run: what both processes hold over time, answers, and what failed when.

In: samples over time, failures. Out: a figure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from coach_exp.plots.figures import COLOURS, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIDES = {"end": COLOURS[0], "cloud": "black"}
_HELD = (("kib", 1024.0, "memory (MiB)"), ("threads", 1.0, "threads"), ("files", 1.0, "open files"))
_LEGEND = {"loc": "lower right", "frameon": False, "fontsize": 9}


@dataclass(frozen=True, slots=True)
class Span:
    """Something that failed from `from_s` to `until_s`."""

    kind: str
    from_s: float
    until_s: float


def held_over_time(
    columns: Mapping[str, Sequence[float]],
    failures: Sequence[Span],
    kinds: Sequence[str],
    rate_hz: float,
) -> "Figure":
    """Four panels over time: KiB, threads and files of end and cloud, then answers per second, of
    which `rate_hz` are asked for. `columns` are `at_s`, `answers_hz`, and `end_kib`, `cloud_files`
    and so on; behind all of them each failure in the colour of its kind.
    """
    figure = new_figure(10, 8.0)
    panels = figure.subplots(4, sharex=True)
    minutes = np.array(columns["at_s"]) / 60
    for axes, (name, unit, label) in zip(panels, _HELD, strict=False):
        for side, colour in _SIDES.items():
            values = np.array(columns[f"{side}_{name}"]) / unit
            axes.plot(minutes, values, color=colour, lw=1.2, label=side)
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
    panels[3].step(minutes, columns["answers_hz"], color=COLOURS[0], lw=1.0)
    panels[3].set(ylabel="answers per s", xlabel="time (min)", ylim=(0, 2 * rate_hz))
    colours = dict(zip(kinds, COLOURS, strict=False))
    for axes in panels:
        _failures(axes, failures, colours)
        axes.spines[["top", "right"]].set_visible(False)
    for kind, colour in colours.items():
        panels[1].plot([], [], color=colour, lw=4, alpha=0.45, label=kind)
    panels[0].legend(ncols=2, **_LEGEND)
    handles, labels = panels[1].get_legend_handles_labels()
    panels[1].legend(handles[2:], labels[2:], ncols=4, **_LEGEND)
    return figure


def _failures(axes: "Axes", failures: Sequence[Span], colours: Mapping[str, str]) -> None:
    for each in failures:
        axes.axvspan(
            each.from_s / 60,
            each.until_s / 60,
            lw=0.8,
            color=colours[each.kind],
            alpha=0.45,
            zorder=0,
        )
