"""Pictures of the two localities of task features (the form of the paper's Fig. 1).

In: t-SNE coordinates and what is known of each frame. Out: figures. (a) is a line of coloured
bars, (b) points in the plane.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coach_exp.plots.figures import BLACK, GREY, RED, WHITE, finished, new_figure, write_caption
from coach_exp.results.metrics import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW = 400  # most frames in one row of a colour line
_SCALE = "viridis"  # its lightness alone tells the order: readable without colour vision
_LIGHTEST = 0.92  # the end of the scale would be too pale on white


def colour_lines(
    colours: NDArray[np.floating],
    shuffled: NDArray[np.int64],
    labels: NDArray[np.int64],
    videos: NDArray[np.int64],
    caption: str,
) -> "Figure":
    """Draw one bar per frame, in stream order and below in the order `shuffled`, wrapped into rows
    of equal length; `colours` lie in 0 … 1. A short tick above a bar begins a video, a long one a
    label. [n] each.
    """
    rows = -(-len(colours) // ROW)
    width = -(-len(colours) // rows)
    figure = new_figure(10, 0.62 * rows + 1.9)
    upper, lower = figure.subplots(2)
    image = _line(upper, colours, width)
    _line(lower, colours[shuffled], width)
    begins = np.flatnonzero(np.diff(videos, prepend=videos[0] - 1))
    turns = np.flatnonzero(np.diff(labels, prepend=labels[0] - 1))
    _ticks(upper, begins, width, 0.12)
    _ticks(upper, turns, width, 0.26)
    upper.set_title(
        "In stream order (tick: a video begins; long tick: another label)", loc="left", fontsize=11
    )
    lower.set_title("The same frames in random order", loc="left", fontsize=11)
    lower.set_xlabel("frame of the row")
    bar = figure.colorbar(image, ax=[upper, lower], fraction=0.02, pad=0.015, aspect=40)
    bar.set_label("t-SNE to one dimension (similar colour: similar feature)")
    bar.set_ticks([])
    write_caption(figure, caption)
    return finished(figure)


def _line(axes: "Axes", colours: NDArray[np.floating], width: int) -> Any:
    """Rows of bars, the first at the top, each named by its first frame."""
    firsts = range(0, len(colours), width)
    image = None
    for row, first in enumerate(firsts):
        own = colours[first : first + width]
        image = axes.imshow(
            own[None],
            extent=(0, len(own), row + 0.7, row),
            aspect="auto",
            cmap=_SCALE,
            vmin=0,
            vmax=1,
            interpolation="nearest",
        )
    axes.set(xlim=(0, width), ylim=(len(firsts) - 0.2, -0.32))
    axes.set_yticks([row + 0.35 for row in range(len(firsts))], [str(first) for first in firsts])
    axes.tick_params(axis="y", length=0)
    axes.spines[["left", "right", "bottom"]].set_visible(False)
    return image


def _ticks(axes: "Axes", frames: NDArray[np.int64], width: int, height: float) -> None:
    """Marks above the bars of some frames."""
    row, place = np.divmod(frames, width)
    axes.vlines(place, row - height, row, color=BLACK, lw=0.9, clip_on=False)


@dataclass(frozen=True, eq=False)
class FewestBits:
    """What a precision map shows: frames [n, 2] by their fewest bits [n] (above `max_bits`: no
    width is enough), the semantic centres [labels, 2], and beside them named lists of (bits, mean
    with interval).
    """

    points: NDArray[np.floating]
    bits: NDArray[np.int64]
    max_bits: int
    centres: NDArray[np.floating]
    panels: Sequence[tuple[str, Sequence[tuple[int, Estimate]]]]


def precision_map(shown: FewestBits, caption: str) -> "Figure":
    """Draw the frames coloured by their fewest bits (crosses where no width is enough), and beside
    them one panel for each list.
    """
    bits, panels, max_bits = shown.bits, shown.panels, shown.max_bits
    figure = new_figure(10, 6.0)
    grid = figure.add_gridspec(len(panels), 2, width_ratios=[3.1, 1])
    axes = figure.add_subplot(grid[:, 0])
    present = np.unique(bits)
    palette = _palette(
        {b for _, means in panels for b, _ in means} | set(present.tolist()), max_bits
    )
    for value in present.tolist():
        own = shown.points[bits == value]
        name = f"{bits_name(value, max_bits)} bits ({len(own)})"
        axes.scatter(
            own[:, 0],
            own[:, 1],
            s=_size(value, int(present[0]), max_bits),
            marker="o" if value <= max_bits else "X",
            color=palette[value],
            edgecolor=WHITE,
            lw=0 if value == present[0] else 0.5,
            label=name,
        )
    axes.scatter(
        shown.centres[:, 0],
        shown.centres[:, 1],
        s=110,
        marker="*",
        color=BLACK,
        edgecolor=WHITE,
        lw=0.8,
        label="semantic centres",
    )
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(0, 0),
        ncols=5,
        frameon=False,
        fontsize=9,
        columnspacing=1.2,
        handletextpad=0.3,
    )
    axes.set(xticks=[], yticks=[])
    axes.set_title("t-SNE to two dimensions", loc="left", fontsize=11)
    axes.spines[["left", "right", "bottom"]].set_visible(False)
    for place, (name, means) in enumerate(panels):
        _means(figure.add_subplot(grid[place, 1]), name, means, palette, max_bits)
    write_caption(figure, caption)
    return finished(figure)


def _size(bits: int, fewest: int, max_bits: int) -> int:
    """The many that need little stay in the background; crosses cover less of their square."""
    if bits > max_bits:
        return 60
    return 14 if bits == fewest else 30


def _palette(present: set[int], max_bits: int) -> dict[int, Any]:
    """Colours of the widths there are, the more bits the darker."""
    from matplotlib import colormaps

    widths = sorted(value for value in present if value <= max_bits)
    spread = np.linspace(_LIGHTEST, 0.0, len(widths)) if len(widths) > 1 else np.array([0.5])
    colours = {value: colormaps[_SCALE](x) for value, x in zip(widths, spread, strict=True)}
    return colours | {max_bits + 1: RED}


def _means(
    axes: "Axes",
    name: str,
    means: Sequence[tuple[int, Estimate]],
    palette: dict[int, Any],
    max_bits: int,
) -> None:
    """Mean and interval of each group, side by side; hollow where there is no interval."""
    for place, (bits, each) in enumerate(means):
        colour, marker = palette[bits], "o" if bits <= max_bits else "X"
        if each.lo is None or each.hi is None:
            axes.plot(place, each.value, marker, ms=8, mfc=WHITE, mec=colour, mew=1.8)
            continue
        axes.plot([place, place], [each.lo, each.hi], color=GREY, lw=1.2, zorder=1)
        axes.plot(place, each.value, marker, ms=8, mfc=colour, mec=BLACK, mew=0.6)
    axes.set_xticks(range(len(means)), [bits_name(bits, max_bits) for bits, _ in means])
    axes.margins(x=0.12)
    axes.set_xlabel("fewest bits")
    axes.set_title(name, loc="left", fontsize=10)
    axes.spines[["right"]].set_visible(False)


def bits_name(bits: int, max_bits: int) -> str:
    """The fewest bits in words.

    >>> bits_name(3, 8), bits_name(9, 8)
    ('3', '> 8')
    """
    return str(bits) if bits <= max_bits else f"> {max_bits}"
