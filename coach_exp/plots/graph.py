"""The picture of a cut: the layer graph, what runs on the end, what on the cloud, what crosses.

In: a layer graph and a plan. Out: a figure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

from coach_exp.planner.cost_model import cut_vertices
from coach_exp.plots.figures import CLOUD, END, GREY, INK, LINK, new_figure
from coach_exp.results.explain import short_cut
from coach_exp.types.graph import LayerGraph
from coach_exp.types.plan import Plan

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CELLS = 10  # of the top chain in a line
_BOX, _TALL = 0.84, 0.46  # width and height of a layer's box; cells are 1 wide
_ROUND = "round,pad=0,rounding_size=0.07"
_INCH = (1.32, 0.86)  # of a cell
_LETTERS = 17  # that fit into a box in one line
_MAX_NAMED = 160  # boxes of an expanded block above which only those at the cut are named


@dataclass(frozen=True)
class _Item:
    """A cell of the top chain: a cut vertex, or the virtual block between two."""

    text: str
    layers: tuple[int, ...]
    is_block: bool


def graph_picture(graph: LayerGraph, plan: Plan, title: str = "") -> "Figure":
    """Draw the top chain line by line with its virtual blocks collapsed; the block that is cut is
    drawn below, layer by layer."""
    held = graph.end_set(plan.end_layers)
    labels = {
        graph.position(tensor.layer): f"{tensor.layer}: {tensor.bits} bit, {size / 1024:.2f} KiB"
        for tensor, size in zip(plan.crossing, plan.payload_bytes, strict=True)
    }
    items = _items(graph)
    cut = [item for item in items if item.is_block and 0 < _share(item, held) < 1]
    lines = ceil(len(items) / _CELLS)
    columns = min(len(items), _CELLS)
    expanded = _Expanded.of(graph, cut[0].layers) if cut else None
    width, heights = max(columns, 5), [lines + 0.3]
    if expanded is not None:
        width, heights = max(width, min(expanded.columns, 20)), [lines + 0.3, expanded.rows + 0.4]
    figure = new_figure(_INCH[0] * width, _INCH[1] * sum(heights) + 0.6)
    panels = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    _chain(panels[0], items, held, labels, width)
    _legend(panels[0], plan, title)
    if expanded is not None:
        _block(panels[1], graph, expanded, held, labels, width)
    return figure


def _items(graph: LayerGraph) -> list[_Item]:
    """The top chain, each virtual block that is not empty after its entry."""
    chain = cut_vertices(graph)
    items = []
    for vertex, following in zip(chain, (*chain[1:], len(graph)), strict=True):
        items.append(_Item(graph.layers[vertex].name, (vertex,), is_block=False))
        inner = tuple(range(vertex + 1, following))
        if inner:
            items.append(_Item(f"{len(inner)} layers", inner, is_block=True))
    return items


def _share(item: _Item, held: frozenset[int]) -> float:
    """Of a block's layers on the end."""
    return sum(layer in held for layer in item.layers) / len(item.layers)


def _chain(
    axes: "Axes",
    items: Sequence[_Item],
    held: frozenset[int],
    labels: dict[int, str],
    width: float,
) -> None:
    """Lines of cells from left to right, each line continued by the next."""
    for k, item in enumerate(items):
        x, y = k % _CELLS + 0.5, -(k // _CELLS)
        share = _share(item, held)
        split = item.is_block and 0 < share < 1
        _box(axes, (x, y), item.text, share, dashed=item.is_block, outlined=split)
        if split:
            axes.text(x, y - 0.36, "cut inside: drawn below", **_note(LINK))
        if k + 1 == len(items):
            continue
        last = item.layers[-1]
        crosses = not item.is_block and last in labels and items[k + 1].layers[0] not in held
        crosses = crosses and _share(items[k + 1], held) == 0
        _onward(axes, x, y, crosses=crosses, wraps=(k + 1) % _CELLS == 0)
        if crosses:
            side = "left" if x < 1 else "right" if x > width - 1 else "center"
            at = {"left": x - _BOX / 2, "right": x + _BOX / 2, "center": x + 0.5}[side]
            axes.text(at, y - 0.27, labels[last], **_note(LINK) | {"ha": side, "weight": "bold"})
    lines = ceil(len(items) / _CELLS)
    axes.set(xlim=(-0.1, width + 0.1), ylim=(-lines + 0.4, 0.45))
    axes.axis("off")


def _onward(axes: "Axes", x: float, y: float, *, crosses: bool, wraps: bool) -> None:
    """The edge to the next cell, thick where a tensor crosses; at the end of a line it goes on at
    the beginning of the next."""
    style = _edge(crosses)
    begin, stop = x + _BOX / 2, x + 1 - _BOX / 2
    if not wraps:
        axes.annotate("", (stop, y), (begin, y), arrowprops=style)
        return
    corner = (x + 0.5, y - 0.5), (0.0, y - 0.5), (0.0, y - 1)
    xs, ys = [begin, x + 0.5, *(p[0] for p in corner)], [y, y, *(p[1] for p in corner)]
    axes.plot(xs, ys, color=style["color"], lw=style["lw"], solid_joinstyle="round", zorder=0)
    axes.annotate("", (0.5 - _BOX / 2, y - 1), (0.0, y - 1), arrowprops=style)


def _edge(crosses: bool) -> dict[str, Any]:
    if crosses:
        return {"arrowstyle": "-|>", "color": LINK, "lw": 2.6, "shrinkA": 0, "shrinkB": 0}
    return {"arrowstyle": "-|>", "color": GREY, "lw": 0.9, "shrinkA": 0, "shrinkB": 0}


def _note(colour: str) -> dict[str, Any]:
    return {"ha": "center", "va": "top", "color": colour, "fontsize": 7.5, "zorder": 5}


def _box(
    axes: "Axes",
    at: tuple[float, float],
    text: str,
    share: float,
    *,
    dashed: bool = False,
    outlined: bool = False,
) -> None:
    """A layer or block; its left part, as large as its share on the end, has the end's colour."""
    from matplotlib.patches import FancyBboxPatch, Rectangle

    x, y = at
    left, low = x - _BOX / 2, y - _TALL / 2
    shape = FancyBboxPatch((left, low), _BOX, _TALL, boxstyle=_ROUND, lw=0, fc=CLOUD)
    axes.add_patch(shape)
    if share > 0:
        part = Rectangle((left, low), _BOX * share, _TALL, lw=0, fc=END)
        axes.add_patch(part)
        part.set_clip_path(shape)
    edge = LINK if outlined else INK
    rim = FancyBboxPatch((left, low), _BOX, _TALL, boxstyle=_ROUND, fc="none", ec=edge)
    rim.set(lw=2.2 if outlined else 0.7, linestyle=(0, (3, 2)) if dashed and not outlined else "-")
    axes.add_patch(rim)
    style = "italic" if dashed else "normal"
    size = 7.5 if max(map(len, _lines(text).split("\n"))) <= 14 else 6.4
    axes.text(x, y, _lines(text), ha="center", va="center", fontsize=size, color=INK, style=style)


def _lines(name: str) -> str:
    """A name in at most two lines that fit into a box, broken behind a dot where there is one."""
    if len(name) <= _LETTERS:
        return name
    breaks = [k + 1 for k, letter in enumerate(name) if letter in "._/ "]
    inside = [k for k in breaks if k <= _LETTERS and len(name) - k <= _LETTERS]
    if inside:
        place = min(inside, key=lambda k: abs(k - len(name) / 2))
        return f"{name[:place]}\n{name[place:]}"
    return f"{name[: _LETTERS - 1]}…\n{name[-_LETTERS:]}"


def _legend(axes: "Axes", plan: Plan, title: str) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = [Patch(fc=END, ec=INK, lw=0.7, label="end"), Patch(fc=CLOUD, label="cloud")]
    handles[1].set(ec=INK, lw=0.7)
    blocks = Patch(fc="none", ec=INK, lw=0.7, linestyle="--", label="virtual block")
    crossing = Line2D([], [], color=LINK, lw=2.6, label="crosses the link")
    axes.legend(
        handles=[*handles, blocks, crossing],
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=4,
        frameon=False,
        fontsize=8,
        borderaxespad=0,
    )
    what = f"cut behind {short_cut(plan)}" if plan.crossing else "device-only: nothing crosses"
    if len(plan.crossing) > 2:
        what = f"cut through {len(plan.crossing)} tensors"
    axes.set_title(f"{title}: {what}" if title else what, loc="left", fontsize=10, pad=22)


@dataclass(frozen=True)
class _Expanded:
    """A block with its entry and exit as a grid: `place[layer]` is its column and its lane."""

    place: dict[int, tuple[int, float]]
    columns: int
    rows: int
    entry: int
    exit: int

    @staticmethod
    def of(graph: LayerGraph, inner: Sequence[int]) -> "_Expanded":
        """Columns by the longest way from the entry; a lane is a path that is handed on from a
        layer to its first consumer."""
        entry, exit_ = inner[0] - 1, inner[-1] + 1
        column = {entry: 0}
        lane: dict[int, int] = {}
        continued: set[int] = set()
        lanes = 0
        for layer in inner:
            sources = graph.predecessors[layer]
            column[layer] = 1 + max(column[source] for source in sources)
            heirs = [s for s in sources if s != entry and s not in continued]
            if heirs:
                lane[layer] = lane[heirs[0]]
                continued.add(heirs[0])
            else:
                lane[layer], lanes = lanes, lanes + 1
        column[exit_] = 1 + max(column.values())
        middle = (lanes - 1) / 2
        place = {layer: (column[layer], float(lane[layer])) for layer in inner}
        place[entry], place[exit_] = (0, middle), (column[exit_], middle)
        return _Expanded(place, column[exit_] + 1, max(lanes, 1), entry, exit_)


def _block(
    axes: "Axes",
    graph: LayerGraph,
    block: _Expanded,
    held: frozenset[int],
    labels: dict[int, str],
    width: float,
) -> None:
    """The layers of the cut block with all their edges."""
    edges = [
        (source, layer)
        for layer in block.place
        if layer != block.entry
        for source in graph.predecessors[layer]
        if source in block.place
    ]
    at_cut = [edge for edge in edges if edge[0] in held and edge[1] not in held]
    for edge in sorted(edges, key=at_cut.__contains__):  # thick ones above the others
        _wire(axes, block, *edge, crosses=edge in at_cut)
    named = len(block.place) <= _MAX_NAMED
    touched = {layer for edge in at_cut for layer in edge}
    for layer, (column, lane) in block.place.items():
        text = graph.layers[layer].name if named or layer in touched else ""
        _box(axes, (column, -lane), text, float(layer in held), outlined=layer in labels)
        if layer in labels:
            label = labels[layer].rpartition(": ")[2]
            axes.text(column, -lane - 0.27, label, **_note(LINK) | {"weight": "bold"})
    span = max(width, block.columns)
    axes.set(xlim=(-0.6, span - 0.4), ylim=(-block.rows + 0.5, 0.4))
    axes.set_title("the block that is cut", loc="left", fontsize=9, color=LINK)
    axes.axis("off")


def _wire(axes: "Axes", block: _Expanded, source: int, layer: int, *, crosses: bool) -> None:
    """An edge along one lane, that of the later layer for edges from the entry; past layers of the
    same lane in an arc."""
    (x0, lane0), (x1, lane1) = block.place[source], block.place[layer]
    style = _edge(crosses)
    begin, stop = x0 + _BOX / 2, x1 - _BOX / 2
    along = lane1 if source == block.entry else lane0
    between = any(
        lane == along and x0 < column < x1 and other not in (source, layer)
        for other, (column, lane) in block.place.items()
    )
    if between:
        arc = style | {"connectionstyle": "arc3,rad=-0.25"}
        axes.annotate("", (x1, -lane1 + _TALL / 2), (x0, -lane0 + _TALL / 2), arrowprops=arc)
        return
    turn = begin + 0.07 if source == block.entry else stop - 0.07
    way = [(begin, -lane0), (turn, -lane0), (turn, -lane1), (stop, -lane1)]
    axes.plot(*zip(*way, strict=True), color=style["color"], lw=style["lw"], zorder=0)
    axes.annotate("", way[-1], (stop - 0.08, -lane1), arrowprops=style)
