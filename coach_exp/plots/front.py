"""The picture of the plans that are best by latency or period.

In: a front of plans. Out: a figure.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coach_exp.planner.pareto import Front
from coach_exp.plots.figures import BLUE, GREY, IDLE, LINK, new_figure
from coach_exp.results.explain import short_cut
from coach_exp.types.plan import Plan

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NEAR = 0.04  # of the axes: points of a front that share a label
_MAX_LINES = 24  # of its key


def front_picture(front: Front, title: str = "") -> "Figure":
    """Draw the non-dominated plans, what they dominate, and the boundary plans as faint dots."""
    figure = new_figure(12, 5.4)
    axes, beside = figure.subplots(1, 2, width_ratios=(3, 1.2))
    x = [1e3 * plan.latency_s for plan in front.plans]
    y = [1e3 * plan.stage_s.period_s for plan in front.plans]
    others = [(1e3 * a, 1e3 * b) for a, b in front.boundaries]
    latencies, periods = zip(*others, strict=True)
    right, top = (_reach(own, seen) for own, seen in ((x, latencies), (y, periods)))
    axes.fill_between(
        [*x, right], [*y, y[-1]], 10 * top, step="post", color=IDLE, zorder=0, label="dominated"
    )
    axes.step([*x, right], [*y, y[-1]], where="post", color=BLUE, lw=1.4, zorder=2)
    axes.plot(x, y, "o", color=BLUE, ms=7, zorder=3, label="non-dominated plans")
    shown = [(a, b) for a, b in others if a <= right and b <= top]
    if shown:
        hidden = len(others) - len(shown)
        label = "cuts at a boundary" + (f" ({hidden} outside)" if hidden else "")
        dots: dict[str, Any] = {"color": GREY, "ms": 4, "alpha": 0.45, "zorder": 1, "label": label}
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
