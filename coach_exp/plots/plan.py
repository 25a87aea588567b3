"""Pictures of a plan: where it cuts the layer graph, how one task and a full pipeline run by it,
and the front of latency and period.

In: a layer graph, plans, records of a simulated steady state. Out: figures. matplotlib is
imported when the first is drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coach_exp.planner.cost_model import cut_vertices
from coach_exp.planner.pareto import Front
from coach_exp.plots.figures import new_figure
from coach_exp.results.explain import short_cut
from coach_exp.results.metrics import RESOURCES
from coach_exp.types.graph import LayerGraph
from coach_exp.types.method import Problem
from coach_exp.types.plan import Plan
from coach_exp.types.task import Records

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

END, CLOUD, LINK = "#56B4E9", "#E69F00", "#D55E00"  # of Okabe and Ito's palette
TASKS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
_IDLE, _OTHER, _GREY, _INK = "#EFEFEF", "#B4B4B4", "#6A6A6A", "#222222"
_LANE = 0.72  # height of a lane
_CELLS = 10  # of the top chain in a line
_BOX, _TALL = 0.84, 0.46  # width and height of a layer's box; cells are 1 wide
_INCH = (1.32, 0.86)  # of a cell
_LETTERS = 17  # that fit into a box in one line
_MAX_NAMED = 160  # boxes of an expanded block above which only those at the cut are named
_NEAR = 0.04  # of the axes: points of a front that share a label
_MAX_LINES = 24  # of its key
_MAX_TENSORS = 8  # named below a schedule


# --- The layer graph ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Item:
    """A cell of the top chain: a cut vertex, or the virtual block between two."""

    text: str
    layers: tuple[int, ...]
    is_block: bool


def graph_picture(graph: LayerGraph, plan: Plan, title: str = "") -> "Figure":
    """The top chain line by line with its virtual blocks collapsed; the block that is cut is
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
        _box(axes, x, y, item.text, share, dashed=item.is_block, outlined=split)
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
    return {"arrowstyle": "-|>", "color": _GREY, "lw": 0.9, "shrinkA": 0, "shrinkB": 0}


def _note(colour: str) -> dict[str, Any]:
    return {"ha": "center", "va": "top", "color": colour, "fontsize": 7.5, "zorder": 5}


def _box(
    axes: "Axes",
    x: float,
    y: float,
    text: str,
    share: float,
    *,
    dashed: bool = False,
    outlined: bool = False,
) -> None:
    """A layer or block; its left part, as large as its share on the end, has the end's colour."""
    from matplotlib.patches import FancyBboxPatch, Rectangle

    left, low = x - _BOX / 2, y - _TALL / 2
    shape = FancyBboxPatch(
        (left, low), _BOX, _TALL, boxstyle="round,pad=0,rounding_size=0.07", lw=0, fc=CLOUD
    )
    axes.add_patch(shape)
    if share > 0:
        part = Rectangle((left, low), _BOX * share, _TALL, lw=0, fc=END)
        axes.add_patch(part)
        part.set_clip_path(shape)
    edge = LINK if outlined else _INK
    rim = FancyBboxPatch(
        *((left, low), _BOX, _TALL), boxstyle="round,pad=0,rounding_size=0.07", fc="none", ec=edge
    )
    rim.set(lw=2.2 if outlined else 0.7, linestyle=(0, (3, 2)) if dashed and not outlined else "-")
    axes.add_patch(rim)
    style = "italic" if dashed else "normal"
    size = 7.5 if max(map(len, _lines(text).split("\n"))) <= 14 else 6.4
    axes.text(x, y, _lines(text), ha="center", va="center", fontsize=size, color=_INK, style=style)


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

    handles = [Patch(fc=END, ec=_INK, lw=0.7, label="end"), Patch(fc=CLOUD, label="cloud")]
    handles[1].set(ec=_INK, lw=0.7)
    blocks = Patch(fc="none", ec=_INK, lw=0.7, linestyle="--", label="virtual block")
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
        _box(axes, column, -lane, text, float(layer in held), outlined=layer in labels)
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


# --- The schedule ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Bar:
    """A piece of work on a resource, in seconds from the start of its task."""

    lane: int
    start_s: float
    stop_s: float
    text: str
    colour: str


def schedule_picture(
    problem: Problem, plan: Plan, records: Records, title: str = "", tasks: int = 6
) -> "Figure":
    """One task alone above `tasks` tasks of a simulated stream, from its middle on."""
    figure = new_figure(11, 5.8 + 0.1 * min(len(plan.crossing), _MAX_TENSORS))
    above, below = figure.subplots(2, 1)
    bars = _one_task(problem, plan)
    unit, scale = ("ms", 1e3) if plan.latency_s < 10 else ("s", 1.0)
    width = scale * plan.latency_s
    for lane in range(3):
        above.barh(lane, width, height=_LANE, color=_IDLE, zorder=1)
    for bar in bars:
        _draw_bar(above, bar, scale, width)
    _overlaps(above, plan, bars, scale)
    _axes(above, width, unit)
    above.set_xlabel(f"time ({unit})\n{_tensors(plan)}".rstrip(), linespacing=1.3)
    above.set_title(
        f"{title + ', ' if title else ''}one task alone: {width:.3g} {unit}",
        loc="left",
        fontsize=10,
    )
    _steady(below, problem, records, tasks)
    return figure


def _one_task(problem: Problem, plan: Plan) -> list[_Bar]:
    """The one-task schedule again from the plan: each layer on the end, each transfer, and the
    cloud's work by the arrival that releases it."""
    bars, clock_s = [], 0.0
    for k, name in enumerate(name for name in plan.end_layers if problem.end.layer_s[name] > 0):
        done_s = clock_s + problem.end.layer_s[name]
        bars.append(_Bar(0, clock_s, done_s, name, (END, "#8FCDF0")[k % 2]))
        clock_s = done_s
    return bars + _beyond_the_end(problem, plan, 0.0, 0.0, 0.0)


def _beyond_the_end(
    problem: Problem, plan: Plan, begin_s: float, link_s: float, cloud_s: float
) -> list[_Bar]:
    """Transfers and the cloud's work of a task that the end begins at `begin_s`, on a link and a
    cloud that are free from `link_s` and `cloud_s` on."""
    bars = []
    crossing = zip(plan.crossing, plan.ready_s, plan.payload_bytes, plan.cloud_work_s, strict=True)
    for k, (_, ready_s, size, work_s) in enumerate(crossing):
        waits_s = plan.stage_s.end_s if plan.release == "after_decision" else ready_s
        start_s = max(link_s, begin_s + waits_s)
        link_s = start_s + 8 * size / problem.link.bandwidth_bps
        bars.append(_Bar(1, start_s, link_s, _letter(k), (LINK, "#F0A070")[k % 2]))
        start_s = max(cloud_s, link_s + problem.link.rtt_s / 2)
        cloud_s = start_s + work_s
        bars.append(_Bar(2, start_s, cloud_s, _letter(k), (CLOUD, "#F3C766")[k % 2]))
    return bars


def _letter(k: int) -> str:
    return ascii_uppercase[k] if k < len(ascii_uppercase) else str(k + 1)


def _tensors(plan: Plan) -> str:
    """What the letters stand for, two in a line."""
    parts = [
        f"{_letter(k)}: {tensor.layer}, {tensor.bits} bit, {size / 1024:.2f} KiB"
        for k, (tensor, size) in enumerate(zip(plan.crossing, plan.payload_bytes, strict=True))
    ]
    if len(parts) > _MAX_TENSORS:
        parts = [*parts[:_MAX_TENSORS], f"and {len(parts) - _MAX_TENSORS} more"]
    lines = ["      ".join(parts[k : k + 2]) for k in range(0, len(parts), 2)]
    return "\n".join(["sent by the link, and what it lets the cloud do:", *lines] if lines else [])


def _draw_bar(axes: "Axes", bar: _Bar, scale: float, width: float) -> None:
    start, length = scale * bar.start_s, scale * (bar.stop_s - bar.start_s)
    if length <= 0:
        return
    rim: dict[str, Any] = (
        {"edgecolor": "white", "lw": 0.8} if length > 0.012 * width else {"lw": 0.0}
    )
    axes.barh(bar.lane, length, left=start, height=_LANE, color=bar.colour, zorder=2, **rim)
    per_letter = 0.0075 * width  # at this size, over the whole width
    room = int(length / per_letter)
    middle = start + length / 2
    if room >= len(bar.text):
        text = axes.text(middle, bar.lane, bar.text, ha="center", va="center", fontsize=8, zorder=4)
        text.set_bbox({"fc": bar.colour, "ec": "none", "pad": 1})  # readable on hatching
    elif bar.lane == 0 and length > 0.02 * width:
        name = bar.text if len(bar.text) <= 9 else f"{bar.text[:3]}…{bar.text[-5:]}"
        turned: dict[str, Any] = {
            "rotation": 90,
            "ha": "center",
            "va": "center",
            "fontsize": 6.5,
            "zorder": 4,
        }
        axes.text(middle, bar.lane, name, **turned)
    elif bar.lane > 0 and length > 0.004 * width:
        _beside(axes, bar, start, length, width)


def _beside(axes: "Axes", bar: _Bar, start: float, length: float, width: float) -> None:
    """The text next to a bar that is too narrow for it, on the side with more room."""
    left = start > width - start - length
    x, side = (start - 0.006 * width, "right") if left else (start + length + 0.006 * width, "left")
    axes.text(x, bar.lane, bar.text, ha=side, va="center", fontsize=8, zorder=3, color=_GREY)


def _overlaps(axes: "Axes", plan: Plan, bars: Sequence[_Bar], scale: float) -> None:
    """Hatch what runs while an earlier stage of the same task still runs."""
    until = {1: plan.stage_s.end_s, 2: max((b.stop_s for b in bars if b.lane == 1), default=0.0)}
    for bar in bars:
        stop_s = min(bar.stop_s, until.get(bar.lane, 0.0))
        if stop_s > bar.start_s:
            axes.barh(
                bar.lane,
                scale * (stop_s - bar.start_s),
                left=scale * bar.start_s,
                height=_LANE,
                fc="none",
                ec=_INK,
                hatch="////",
                lw=0,
                alpha=0.45,
                zorder=3,
            )
    if plan.overlap_s.link_s > 0 or plan.overlap_s.cloud_s > 0:
        note = "hatched: overlaps an earlier stage of the task"
        axes.text(1, 1.02, note, ha="right", va="bottom", fontsize=8, transform=axes.transAxes)


def _axes(axes: "Axes", width: float, unit: str) -> None:
    axes.set(yticks=range(3), yticklabels=RESOURCES, ylim=(2.5, -0.5), xlim=(0, width))
    axes.set_xlabel(f"time ({unit})")
    axes.spines[["top", "right"]].set_visible(False)


def _steady(axes: "Axes", problem: Problem, records: Records, tasks: int) -> None:
    """`tasks` tasks of the stream's middle, the others grey; idle shares of what is drawn."""
    pieces = simulated_pieces(problem, records)
    first = max(0, len(records) // 2 - tasks // 2)
    chosen = range(first, min(first + tasks, len(records)))
    begin_s = float(records.end_start_s[chosen[0]])
    until_s = float(records.finish_s[chosen[-1]])
    unit, scale = ("ms", 1e3) if until_s - begin_s < 10 else ("s", 1.0)
    width = scale * (until_s - begin_s)
    busy = [0.0, 0.0, 0.0]
    axes.barh(range(3), width, height=_LANE, color=_IDLE, zorder=1)
    for task, bars in enumerate(pieces):
        colour = TASKS[(task - first) % len(TASKS)] if task in chosen else _OTHER
        for bar in bars:
            start, stop = (
                min(max(scale * (instant_s - begin_s), 0.0), width)
                for instant_s in (bar.start_s, bar.stop_s)
            )
            length = stop - start
            if length <= 0:
                continue
            busy[bar.lane] += length
            rim: dict[str, Any] = {"ec": "white", "lw": 0.8} if length > 0.01 * width else {}
            axes.barh(bar.lane, length, left=start, height=_LANE, color=colour, zorder=2, **rim)
            if task in chosen and length > 0.018 * width:
                text: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9, "zorder": 4}
                axes.text(start + length / 2, bar.lane, str(task), **text)
    for lane, held in enumerate(busy):
        idle = f"{100 * (1 - held / width):.0f} % idle"
        axes.text(1.006, lane, idle, va="center", fontsize=9, transform=axes.get_yaxis_transform())
    _axes(axes, width, unit)
    spent_s = records.finish_s[chosen[-1]] - records.finish_s[chosen[0]]
    rate = f"{(len(chosen) - 1) / spent_s:.1f} it/s; " if spent_s > 0 else ""
    axes.set_title(
        f"steady state, simulated, {problem.workload.kind}: {rate}dark grey is other tasks, "
        "pale is idle",
        loc="left",
        fontsize=10,
    )


def simulated_pieces(problem: Problem, records: Records) -> list[list[_Bar]]:
    """What each task of a stream without drops or exits holds, piece by piece: records tell only
    from when to when. The link has the problem's rate."""
    pieces, link_s, cloud_s = [], 0.0, 0.0
    for record in records:
        bars = [_Bar(0, record.end_start_s, record.end_end_s, "", END)]
        plan = records.plans[record.plan]
        bars += _beyond_the_end(problem, plan, record.end_start_s, link_s, cloud_s)
        link_s = max([link_s, *(bar.stop_s for bar in bars if bar.lane == 1)])
        cloud_s = max([cloud_s, *(bar.stop_s for bar in bars if bar.lane == 2)])
        pieces.append(bars)
    return pieces


# --- The front ------------------------------------------------------------------------------------


def front_picture(front: Front, title: str = "") -> "Figure":
    """The non-dominated plans, what they dominate, and the boundary plans as faint dots."""
    figure = new_figure(12, 5.4)
    axes, beside = figure.subplots(1, 2, width_ratios=(3, 1.2))
    x = [1e3 * plan.latency_s for plan in front.plans]
    y = [1e3 * plan.stage_s.period_s for plan in front.plans]
    others = [(1e3 * a, 1e3 * b) for a, b in front.boundaries]
    latencies, periods = zip(*others, strict=True)
    right, top = (_reach(own, seen) for own, seen in ((x, latencies), (y, periods)))
    axes.fill_between(
        [*x, right], [*y, y[-1]], 10 * top, step="post", color=_IDLE, zorder=0, label="dominated"
    )
    axes.step([*x, right], [*y, y[-1]], where="post", color=TASKS[0], lw=1.4, zorder=2)
    axes.plot(x, y, "o", color=TASKS[0], ms=7, zorder=3, label="non-dominated plans")
    shown = [(a, b) for a, b in others if a <= right and b <= top]
    if shown:
        hidden = len(others) - len(shown)
        label = "cuts at a boundary" + (f" ({hidden} outside)" if hidden else "")
        dots: dict[str, Any] = {"color": _GREY, "ms": 4, "alpha": 0.45, "zorder": 1, "label": label}
        axes.plot(*zip(*shown, strict=True), "o", **dots)
    bound = 1e3 * front.min_period_s
    axes.axhline(bound, color=LINK, ls="--", lw=1.2, label="no plan and no mixture is faster")
    left = min(x) - 0.06 * (right - min(x))
    low = min(bound, *y)
    axes.set(xlim=(left, right), ylim=(low - 0.08 * (top - low), top))
    _number_points(axes, x, y)
    _key(beside, front.plans)
    axes.set(xlabel="latency of one task (ms)", ylabel="period: the largest stage (ms)")
    axes.secondary_yaxis("right", functions=(_inverse, _inverse)).set_ylabel("throughput (it/s)")
    axes.legend(loc="upper right", fontsize=8, framealpha=0.9)
    axes.set_title(title, loc="left", fontsize=10)
    axes.spines["top"].set_visible(False)
    return figure


def _reach(front: Sequence[float], others: Sequence[float]) -> float:
    """How far an axis goes: beyond the front, to show what it dominates, and to most of the others
    unless they lie so far off that the front would shrink to a point."""
    low, high = min(front), max(front)
    beyond = high + max(0.45 * (high - low), 0.25 * high)
    return max(beyond, min(float(np.quantile(others, 0.7)), 2 * high))


def _inverse(values: ArrayLike) -> ArrayLike:
    """Period in ms to throughput per second, and back."""
    inverse: NDArray[np.float64] = 1e3 / np.maximum(np.asarray(values, dtype=float), 1e-9)
    return inverse


def _number_points(axes: "Axes", x: Sequence[float], y: Sequence[float]) -> None:
    """Numbers as in the key and the table; points that touch share theirs."""
    (left, right), (low, top) = axes.get_xlim(), axes.get_ylim()
    across, up = (np.array(x) - left) / (right - left), (np.array(y) - low) / (top - low)
    groups = [[0]]
    for k in range(1, len(x)):
        last = groups[-1][-1]
        if abs(across[k] - across[last]) < _NEAR and abs(up[k] - up[last]) < _NEAR:
            groups[-1].append(k)
        else:
            groups.append([k])
    for group in groups:
        first, last = group[0], group[-1]
        number = f"{first + 1}" if first == last else f"{first + 1}–{last + 1}"
        beside: dict[str, Any] = {"textcoords": "offset points", "fontsize": 9, "zorder": 4}
        axes.annotate(number, (x[first], y[first]), (6, 7), **beside)


def _key(axes: "Axes", plans: Sequence[Plan]) -> None:
    """Which cut each number is; of a long front only the first and the last ones."""
    shown = list(range(len(plans)))
    if len(plans) > _MAX_LINES:
        shown = [*shown[: _MAX_LINES // 2], *shown[-_MAX_LINES // 2 :]]
    for line, k in enumerate(shown):
        gap = k > 0 and line > 0 and k - 1 != shown[line - 1]
        text = f"{k + 1}  {_short(short_cut(plans[k]))}" + ("   (others above left out)" * gap)
        axes.text(0, 1 - line / _MAX_LINES, text, va="top", fontsize=8)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.axis("off")
    axes.set_title("cut behind", loc="left", fontsize=10)


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:22]}…{text[-16:]}"
