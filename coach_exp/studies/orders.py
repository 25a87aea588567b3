"""Does a stream exit more whose tasks resemble their neighbours (Table II)? The same frames in
three orders, at several depths, under every rule that moves the centres (Eq. 7).

In: a trained model and its data. Out: exit ratio and accuracy drop for each depth, rule and order,
as means over draws of the splits with the interval of the mean, `orders.json`, `orders.md`, and
`orders.png`. With `update = none` the centres stay, a task's separability does not depend on the
tasks before it, and the three orders must give the same: what an order changes, Eq. 7 changes.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from pydantic import Field, PositiveInt
from scipy.special import stdtrit

from coach_exp.learning.streams import Correlation
from coach_exp.network.estimator import Oracle
from coach_exp.network.trace import constant
from coach_exp.online.method import Online
from coach_exp.pipeline.parts import Parts
from coach_exp.pipeline.simulator import simulate
from coach_exp.plots.figures import COLOURS, new_figure, save_figure
from coach_exp.results.metrics import Estimate, summarise
from coach_exp.results.progress import Display
from coach_exp.results.tables import markdown, text_table
from coach_exp.studies.settings import StudySettings
from coach_exp.studies.split_draws import Draws, depths, planned
from coach_exp.types.method import FixedPlans, Problem
from coach_exp.types.online import Update
from coach_exp.types.plan import PlanSet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ORDERS: tuple[Correlation, ...] = get_args(Correlation)


class Settings(StudySettings):
    """How much is tried. `depths` cuts spread along the model, `draws` divisions of the videos;
    `count_caps` bound m_j of Eq. 7 (null: no bound)."""

    kind: Literal["orders"] = "orders"
    depths: PositiveInt = 4
    draws: PositiveInt = Field(5, ge=2)
    count_caps: tuple[PositiveInt | None, ...] = (None, 100, 10)
    budget: Literal["paper", "joint"] = "paper"
    limit_points: float = Field(0.5, gt=0)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Rule:
    """What moves the centres, and how far."""

    update: Update
    cap: int | None

    @property
    def name(self) -> str:
        """For tables."""
        return self.update if self.cap is None else f"{self.update}, m ≤ {self.cap}"


@dataclass(frozen=True, slots=True)
class Measured:
    """One run: exit ratio, share of the exits that are wrong (None without exits), points lost."""

    exit_ratio: float
    wrong_exits: float | None
    drop_points: float
    bits: float | None


@dataclass(frozen=True)
class Row:
    """A depth and a rule: for each order, a value from each draw."""

    layer: str
    depth: float
    rule: Rule
    runs: Mapping[Correlation, Sequence[Measured]]

    def mean(self, order: Correlation, what: str) -> Estimate | None:
        """Mean over draws with Student's interval."""
        values = [getattr(run, what) for run in self.runs[order]]
        return _mean([value for value in values if value is not None])

    def rise(self) -> Estimate:
        """Exit ratio in whole videos less that in random order, draw by draw: mean and interval."""
        pairs = zip(self.runs["high"], self.runs["low"], strict=True)
        found = _mean([high.exit_ratio - low.exit_ratio for high, low in pairs])
        assert found is not None
        return found


def study(settings: Mapping[str, Any], directory: Path, display: Display, parts: Parts) -> float:
    """Run the study; returns the largest rise of the exit ratio from low to high, in points."""
    wanted = Settings.read(settings)
    rows = list(_rows(wanted, parts, display))
    (directory / "orders.json").write_text(
        json.dumps([_json(row) for row in rows], indent=1) + "\n"
    )
    cells = [_cells(row) for row in rows]
    (directory / "orders.md").write_text(markdown(HEADS, cells))
    draw(rows, directory / "orders.png")
    display.say(text_table(f"the same frames in three orders, {wanted.draws} draws", HEADS, cells))
    for sentence in findings(rows):
        display.say(sentence)
    return 100 * max(row.rise().value for row in rows)


def rules(caps: Sequence[int | None]) -> Iterator[Rule]:
    """No update, then both sources of labels under every cap."""
    yield Rule("none", None)
    for update in ("exits", "results"):
        for cap in caps:
            yield Rule(update, cap)


def _rows(wanted: Settings, parts: Parts, display: Display) -> Iterator[Row]:
    base, tried = parts.problem(parts.trace()), list(rules(wanted.count_caps))
    places = depths(base.graph, wanted.depths)
    draws = list(Draws.of(parts, wanted.draws, wanted.seed))
    done, total = 0, len(places) * len(draws) * len(tried) * len(ORDERS)
    for layer, depth in places.items():
        runs: dict[Rule, dict[Correlation, list[Measured]]] = {
            rule: {order: [] for order in ORDERS} for rule in tried
        }
        for each in draws:
            problem = each.problem(base)
            plan = planned(problem, layer)
            for rule in tried:
                online = Online(
                    update=rule.update,
                    count_cap=rule.cap,
                    budget=wanted.budget,
                    limit_points=wanted.limit_points,
                )
                plans = online.calibrated(problem, PlanSet((plan,)))
                for order in ORDERS:
                    samples = each.order(order, wanted.seed + each.number)
                    runs[rule][order].append(_measured(problem, plans, online, samples))
                    done += 1
                    display.progress(f"cut behind {layer}", done, total)
        for rule in tried:
            yield Row(layer, depth, rule, runs[rule])


def _measured(problem: Problem, plans: PlanSet, online: Online, samples: Any) -> Measured:
    """One run on a link that keeps the initial rate, which the end knows."""
    trace = constant(problem.link.bandwidth_bps)
    controller = online.controller(FixedPlans(plans))
    records = simulate(problem, controller, trace, Oracle(trace), samples)
    summary = summarise(records)
    exits = records.decision == "exit"
    wrong = float((records.predicted != records.label)[exits].mean()) if exits.any() else None
    bits = summary.get("bits_mean")
    return Measured(
        summary["exit_ratio"].value,
        wrong,
        summary["accuracy_drop_points"].value,
        None if bits is None else bits.value,
    )


def _mean(values: Sequence[float]) -> Estimate | None:
    if not values:
        return None
    value, count = float(np.mean(values)), len(values)
    if count < 2:
        return Estimate(value)
    half = float(stdtrit(count - 1, 0.975)) * float(np.std(values, ddof=1)) / sqrt(count)
    return Estimate(value, value - half, value + half)


# --- What is shown --------------------------------------------------------------------------------

HEADS = (
    *("cut behind", "depth %", "centres move by"),
    *(f"exits % {order}" for order in ORDERS),
    "high − low",
    *(f"drop {order}" for order in ORDERS),
    "wrong exits % high",
)


def _cells(row: Row) -> list[str]:
    wrong = row.mean("high", "wrong_exits")
    return [
        *(row.layer, f"{100 * row.depth:.0f}", row.rule.name),
        *(_interval(row.mean(order, "exit_ratio"), 100, 1) for order in ORDERS),
        _interval(row.rise(), 100, 1),
        *(_interval(row.mean(order, "drop_points"), 1, 2) for order in ORDERS),
        "–" if wrong is None else f"{100 * wrong.value:.1f}",
    ]


def _interval(estimate: Estimate | None, scale: float, decimals: int) -> str:
    """The mean and half the interval.

    >>> _interval(Estimate(0.5, 0.4, 0.6), 100, 1)
    '50.0 ± 10.0'
    """
    if estimate is None or estimate.hi is None:
        return "–"
    half = scale * (estimate.hi - estimate.value)
    return f"{scale * estimate.value:z.{decimals}f} ± {half:.{decimals}f}"


def findings(rows: Sequence[Row]) -> list[str]:
    """What the table says of the paper's rise, in sentences."""
    still = [row for row in rows if row.rule.update == "none"]
    same = all(
        row.runs["low"][k].exit_ratio == row.runs["high"][k].exit_ratio
        for row in still
        for k in range(len(row.runs["low"]))
    )
    moving = [row for row in rows if row.rule.update != "none"]
    rising = [row for row in moving if (row.rise().lo or 0) > 0]
    falling = [row for row in moving if (row.rise().hi or 0) < 0]
    return [
        "centres that stay: the exit ratio is the same in all orders, in every draw"
        if same
        else "centres that stay: the exit ratio depends on the order, which must not be",
        f"of {len(moving)} pairs of depth and moving rule, the exit ratio rises from low to high "
        f"in {len(rising)} and falls in {len(falling)}; in the others the interval over draws of "
        "the same videos holds 0 (no correction for so many comparisons)",
    ]


def _json(row: Row) -> dict[str, Any]:
    return {
        "layer": row.layer,
        "depth": row.depth,
        "rule": asdict(row.rule),
        "runs": {order: [asdict(run) for run in runs] for order, runs in row.runs.items()},
    }


def draw(rows: Sequence[Row], path: Path) -> None:
    """Exit ratio above, accuracy drop below, against depth: a panel for each rule, a line for each
    order."""
    names = list(dict.fromkeys(row.rule.name for row in rows))
    figure = new_figure(2.6 * len(names) + 1, 5.2)
    panels = figure.subplots(2, len(names), sharex=True, sharey="row", squeeze=False)
    for column, name in enumerate(names):
        own = [row for row in rows if row.rule.name == name]
        for panel, what, scale in ((0, "exit_ratio", 100.0), (1, "drop_points", 1.0)):
            _lines(panels[panel, column], own, what, scale)
        panels[0, column].set_title(name, fontsize=10, loc="left")
        panels[1, column].set_xlabel("layers on the end (%)")
    panels[0, 0].set_ylabel("exit ratio (%)")
    panels[1, 0].set_ylabel("accuracy drop (points)")
    panels[0, 0].legend(frameon=False)
    save_figure(figure, path)


def _lines(axes: "Axes", rows: Sequence[Row], what: str, scale: float) -> None:
    depth = np.array([100 * row.depth for row in rows])
    for k, order in enumerate(ORDERS):
        found = [row.mean(order, what) or Estimate(0.0) for row in rows]
        value = scale * np.array([each.value for each in found])
        half = scale * np.array([(each.hi or each.value) - each.value for each in found])
        axes.errorbar(
            depth + 0.8 * (k - 1),
            value,
            half,
            color=COLOURS[k],
            marker="o",
            ms=3,
            lw=1.2,
            label=order,
        )
    axes.spines[["right"]].set_visible(False)
