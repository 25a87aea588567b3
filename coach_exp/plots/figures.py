"""What all pictures share: one palette, one line style for each method, figures and their files.

matplotlib is imported when the first picture is drawn.
"""

from textwrap import fill
from typing import TYPE_CHECKING, Any
from zlib import crc32

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette: told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442")
BLUE, ORANGE, GREEN, PINK, RED, SKY, YELLOW = COLOURS
BLACK, WHITE = "#000000", "#FFFFFF"
IDLE, OTHER, GREY, INK = "#E4E4E4", "#B4B4B4", "#6A6A6A", "#222222"  # from the palest on
LIGHT = {ORANGE, SKY, YELLOW}  # what black text is read on

END, LINK, CLOUD = SKY, RED, ORANGE
RESOURCE_SHADES = {  # by turns, so that neighbours are told apart
    "end": (END, "#8FCDF0"),
    "link": (LINK, "#F0A070"),
    "cloud": (CLOUD, "#F3C766"),
}

LANE = 0.72  # height of a lane of a Gantt chart

# Yellow is too pale for a line. Variants of a method share its colour.
_METHOD_LINES = {
    "coach": (BLUE, "-"),
    "coach_offline": (BLUE, "--"),
    "coach_bottleneck": (BLUE, "-."),
    "coach_fill": (BLUE, ":"),
    "jps": (ORANGE, "-"),
    "spinn": (GREEN, "-"),
    "dyno": (GREEN, "--"),
    "dads": (PINK, "-"),
    "pipebalance": (PINK, "--"),
    "ns": (RED, "-"),
    "ns_sequential": (RED, "--"),
    "cloud_only": (SKY, "-"),
    "device_only": (BLACK, "-"),
    "oracle_latency": (GREY, "-"),
    "oracle_bottleneck": (GREY, "--"),
}


def method_colour(name: str) -> str:
    """The colour of a method, in every picture the same; of one that is not known here, one of the
    palette's by its name.

    >>> method_colour("coach") == method_colour("coach_offline") == BLUE
    True
    """
    known = _METHOD_LINES.get(name)
    return COLOURS[crc32(name.encode()) % 6] if known is None else known[0]


def method_line(name: str) -> dict[str, Any]:
    """Colour and dashes of a method's line, for matplotlib."""
    _, dashes = _METHOD_LINES.get(name, ("", (0, (5, 1, 1, 1, 1, 1))))
    return {"color": method_colour(name), "ls": dashes}


def time_unit(seconds: float) -> tuple[str, float]:
    """The unit of a time axis of this length, and how many of it a second has.

    >>> time_unit(0.5), time_unit(60)
    (('ms', 1000.0), ('s', 1.0))
    """
    return ("ms", 1e3) if seconds < 10 else ("s", 1.0)


def new_figure(width: float, height: float) -> "Figure":
    """A figure that needs no display, in inches; unlike pyplot's it is forgotten once saved."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=150)


def finished(figure: "Figure") -> "Figure":
    """Returns the figure, its axes open at the top, and the first open on the right."""
    for axes in figure.axes:
        axes.spines[["top"]].set_visible(False)
    figure.axes[0].spines[["right"]].set_visible(False)
    return figure


def write_caption(figure: "Figure", caption: str) -> None:
    """Small grey lines below a picture, wrapped; a line of the caption begins a line."""
    wrapped = "\n".join(fill(line, 140) for line in caption.splitlines())
    figure.supxlabel(wrapped, x=0.01, ha="left", fontsize=9, color=GREY)
