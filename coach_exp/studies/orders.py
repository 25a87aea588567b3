"""Does a stream exit more whose tasks resemble their neighbours (Table II)? The same frames in
three orders, at several depths, under every rule that moves the centres (Eq. 7).

In: a trained model and its data. Out: exit ratio and accuracy drop for each depth, rule and order,
as means over draws of the splits with the interval of the mean, and a picture of both. With
`update = none` the centres stay, a task's separability does not depend on the tasks before it, and
the three orders must give the same: what an order changes, Eq. 7 changes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Annotated, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt
from scipy.special import stdtrit

from coach_exp.learning.streams import Correlation
from coach_exp.network.estimator import Oracle
from coach_exp.network.trace import constant
from coach_exp.online.method import Online
from coach_exp.pipeline.parts import Parts
from coach_exp.pipeline.simulator import simulate
from coach_exp.plots.orders import Place, order_lines
from coach_exp.results.findings import Findings, Table
from coach_exp.results.metrics import Estimate, summarise
from coach_exp.results.progress import Display
from coach_exp.studies.split_draws import Draw, Draws, depths, planned
from coach_exp.types.method import FixedPlans, Problem
from coach_exp.types.online import Update
from coach_exp.types.plan import Plan, PlanSet

ORDERS: tuple[Correlation, ...] = get_args(Correlation)


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


@dataclass(frozen=True, slots=True)
class Orders:
    """How much is tried: `depths` cuts spread along the model, `draws` divisions of the videos;
    `count_caps` bound m_j of Eq. 7 (null: no bound)."""

    depths: PositiveInt = 4
    draws: Annotated[int, Field(ge=2)] = 5
    count_caps: tuple[PositiveInt | None, ...] = (None, 100, 10)
    budget: Literal["paper", "joint"] = "paper"
    limit_points: Annotated[float, Field(gt=0)] = 0.5
    seed: int = 0

    def __call__(self, parts: Parts, display: Display) -> Findings:
        """The value is the largest rise of the exit ratio from low to high, in points."""
        rows = list(self._rows(parts, display))
        title = f"the same frames in three orders, {self.draws} draws"
        return Findings(
            name="orders",
            tables=(Table(title, HEADS, [_cells(row) for row in rows]),),
            figures={"orders": order_lines(_panels(rows))},
            data={"rows": [_json(row) for row in rows]},
            notes=tuple(claims(rows)),
            value=100 * max(row.rise().value for row in rows),
        )

    def _rows(self, parts: Parts, display: Display) -> Iterator[Row]:
        base, tried = parts.problem(parts.trace()), list(rules(self.count_caps))
        places = depths(base.graph, self.depths)
        draws = list(Draws.of(parts, self.draws, self.seed))
        done, total = 0, len(places) * len(draws) * len(tried)
        for layer, depth in places.items():
            runs: dict[Rule, dict[Correlation, list[Measured]]] = {
                rule: {order: [] for order in ORDERS} for rule in tried
            }
            for each in draws:
                problem = each.problem(base)
                plan = planned(problem, layer)
                for rule in tried:
                    for order, found in self._one_rule(each, problem, plan, rule).items():
                        runs[rule][order].append(found)
                    done += 1
                    display.progress(f"cut behind {layer}", done, total)
            for rule in tried:
                yield Row(layer, depth, rule, runs[rule])

    def _one_rule(
        self, each: Draw, problem: Problem, plan: Plan, rule: Rule
    ) -> dict[Correlation, Measured]:
        """One draw under one rule, in every order."""
        online = Online(
            update=rule.update,
            count_cap=rule.cap,
            budget=self.budget,
            limit_points=self.limit_points,
        )
        plans = online.calibrated(problem, PlanSet((plan,)))
        return {
            order: _measured(problem, plans, online, each.order(order, self.seed + each.number))
            for order in ORDERS
        }


def rules(caps: Sequence[int | None]) -> Iterator[Rule]:
    """No update, then both sources of labels under every cap."""
    yield Rule("none", None)
    for update in ("exits", "results"):
        for cap in caps:
            yield Rule(update, cap)


def _measured(
    problem: Problem, plans: PlanSet, online: Online, samples: NDArray[np.int64]
) -> Measured:
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
    "cut behind",
    "depth %",
    "centres move by",
    *(f"exits % {order}" for order in ORDERS),
    "high − low",
    *(f"drop {order}" for order in ORDERS),
    "wrong exits % high",
)


def _cells(row: Row) -> list[str]:
    wrong = row.mean("high", "wrong_exits")
    return [
        row.layer,
        f"{100 * row.depth:.0f}",
        row.rule.name,
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


def claims(rows: Sequence[Row]) -> list[str]:
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


def _panels(rows: Sequence[Row]) -> dict[str, dict[str, list[Place]]]:
    """Of each rule, in each order, every depth."""
    panels: dict[str, dict[str, list[Place]]] = {}
    for row in rows:
        lines = panels.setdefault(row.rule.name, {order: [] for order in ORDERS})
        for order in ORDERS:
            exits = row.mean(order, "exit_ratio") or Estimate(0.0)
            lost = row.mean(order, "drop_points") or Estimate(0.0)
            lines[order].append(Place(100 * row.depth, exits.scaled(100), lost))
    return panels
