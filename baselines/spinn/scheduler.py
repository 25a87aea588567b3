"""SPINN's choice for one rate: where the model is split, and from which confidence exits answer.

In: a problem, the layers behind which exits stand, what is to be reached. Out: two plans, the best,
and the best that sends nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product, starmap
from math import inf
from typing import Literal

from baselines.harness import costs
from baselines.spinn.cascade import NEVER, cascade
from coach_exp.planner.candidate import TOLERANCE, rounded
from coach_exp.planner.cost_model import cut_vertices
from coach_exp.types.errors import InfeasibleError
from coach_exp.types.graph import LayerGraph
from coach_exp.types.method import Problem
from coach_exp.types.outcomes import Crossing
from coach_exp.types.plan import DecisionPoint, ObjectiveValue, Plan, PlanSet, Release

Target = Literal["latency", "throughput"]
THRESHOLDS = (*(round(0.3 + 0.05 * k, 2) for k in range(14)), NEVER)  # 0.30, 0.35 … 0.95, never


@dataclass(frozen=True, slots=True)
class Goal:
    """What is minimised, the percentage points of accuracy that it may cost, and the seconds after
    which a transfer is given up.
    """

    target: Target
    limit_points: float
    timeout_s: float


def splits(graph: LayerGraph) -> tuple[int, ...]:
    """Positions where SPINN may cut: the raw input, and cut vertices whose outputs are never
    negative."""
    inner = cut_vertices(graph)[1:-1]
    layers = graph.layers
    return (0, *(i for i in inner if layers[i].non_negative and layers[i].kind != "view"))


@dataclass(frozen=True, slots=True)
class Configuration:
    """A split (a position in the graph; the sink: nothing is sent) with a threshold, by what it is
    expected to cost: seconds per task on end, link and cloud, and `way_s` that no resource is held,
    exits counted."""

    split: int
    threshold: float
    end_s: float
    link_s: float
    cloud_s: float
    way_s: float = 0.0

    def value(self, target: Target) -> float:
        """What the scheduler minimises."""
        stages = (self.end_s, self.link_s, self.cloud_s)
        return sum(stages) + self.way_s if target == "latency" else max(stages)

    def rank(self, target: Target) -> tuple[float, float, float]:
        """The order of preference: the target, then less work for the server, then fewer exits.
        What differs in the tenth digit is rounding, not preference."""
        value, cloud_s = (rounded(x) for x in (self.value(target), self.cloud_s))
        return value, cloud_s, -self.threshold


class Scheduler:
    """SPINN's choice for one rate."""

    def __init__(
        self, problem: Problem, release: Release, heads: Sequence[str], goal: Goal
    ) -> None:
        self._problem = problem
        self._goal = goal
        self._release = release
        self._evaluations = 0
        self._count_costs()
        graph = problem.graph
        self._heads = tuple(sorted(graph.position(layer) for layer in heads))
        names = [graph.layers[i].name for i in self._heads]
        self._end_head_s = [problem.end.exit_s.get(name, 0.0) for name in names]
        self._cloud_head_s = [problem.cloud.exit_s.get(name, 0.0) for name in names]
        self._cascade = None
        if problem.calibration is not None:
            calib = problem.calibration.calib  # told apart by identity
            self._cascade = cascade(calib, tuple(names))  # type: ignore[arg-type]

    def _count_costs(self) -> None:
        """With the widths known so far. The limit on the latency is this scheduler's to keep: the
        plan for a lost link has to break it."""
        unlimited = replace(self._problem, t_max_s=None)
        self._model = costs(unlimited, "sum", self._release)

    def plans(self) -> PlanSet:
        """The best pair and the best that sends nothing, as plans."""
        sink = len(self._problem.graph) - 1
        may = self._problem.raw_input_may_cross
        places = [i for i in splits(self._problem.graph) if i > 0 or may]
        best = self.plan(self._best([*places, sink], self._problem.t_max_s))
        best = replace(best, evaluations=self._evaluations)
        alone = self.plan(self._best([sink]))
        return PlanSet((best, alone), (1.0, 0.0), remarks=self._remarks(best))

    def _remarks(self, best: Plan) -> tuple[str, ...]:
        if not self._heads:
            return ()
        if not best.heads:
            return ("no early exit is worth its cost",)
        return (f"exits answer from a confidence of {best.heads[0].threshold:g}",)

    def configurations(self, places: Sequence[int]) -> Iterator[Configuration]:
        """Every threshold at each of these splits, with the expected cost."""
        thresholds = THRESHOLDS if self._cascade and self._heads else (NEVER,)
        return starmap(self.expected, product(places, thresholds))

    def expected(self, split: int, threshold: float) -> Configuration:
        """Expected seconds: a layer counts with the share of the tasks that reach it."""
        model = self._model
        exits: tuple[int, ...] = ()
        going_on = [1.0]
        if threshold < NEVER and self._cascade is not None:
            exits, going_on = self._heads, self._cascade.going_on(threshold)
        before = sum(place <= split for place in exits)  # heads on the end
        end_edges = [0, *exits[:before], split]
        end_s = model.end_s[0] + model.decide_s[split] * (split < len(model.graph) - 1)
        for share, (low, high) in zip(going_on, pairwise(end_edges), strict=False):
            end_s += share * (model.end_before[high] - model.end_before[low])
        end_s += sum(p * s for p, s in zip(going_on, self._end_head_s[:before], strict=False))
        if split == len(model.graph) - 1:
            return Configuration(split, threshold, end_s, 0.0, 0.0)
        left = going_on[before]
        edges = [split, *exits[before:], len(model.graph) - 1]
        cloud_s = 0.0
        for share, (low, high) in zip(going_on[before:], pairwise(edges), strict=False):
            cloud_s += share * self._cloud_s(low, high)
        if exits:
            late = zip(going_on[before:], self._cloud_head_s[before:], strict=False)
            cloud_s += sum(share * seconds for share, seconds in late)
        way_s = left * (model.half_rtt_s + model.return_s)
        return Configuration(split, threshold, end_s, left * model.send_s[split], cloud_s, way_s)

    def _cloud_s(self, low: int, high: int) -> float:
        """Cloud seconds of the layers behind `low`, up to `high`."""
        total = self._model.cloud_from
        rest = total[high + 1] if high + 1 < len(total) else 0.0
        return total[low + 1] - rest

    def _best(self, places: Sequence[int], limit_s: float | None = None) -> Configuration:
        """The best that keeps the limits. Where the width of its tensor was not known, it gets
        known, and all are ranked again: the tensor may take longer than thought."""
        target = self._goal.target
        found = list(self.configurations(places))
        self._evaluations += len(found)
        for each in sorted(found, key=lambda c: c.rank(target)):
            if limit_s is not None and not self._in_time(each, limit_s):
                continue
            if self._problem.bits.settle([tensor.layer for tensor in self._crossing(each.split)]):
                self._count_costs()
                return self._best(places, limit_s)
            if self._accurate(each):
                return each
        raise InfeasibleError(
            f"none of {len(places)} splits keeps t_max_ms = {1e3 * (limit_s or inf):g} for a task "
            "that no exit answers; relax that limit, or change device, cloud or bandwidth"
        )

    def _in_time(self, each: Configuration, limit_s: float) -> bool:
        return self.plan(each).stage_s.total_s <= limit_s * (1 + TOLERANCE)

    def _accurate(self, each: Configuration) -> bool:
        if self._cascade is None:
            return True
        sent = self._crossing(each.split) if each.split > 0 else ()
        on_end = sum(place <= each.split for place in self._heads)
        lost = self._cascade.loss_points(each.threshold, sent, on_end)
        return lost <= self._goal.limit_points + 1e-9

    def _crossing(self, split: int) -> tuple[Crossing, ...]:
        graph, bits = self._problem.graph, self._problem.bits
        if split == len(graph) - 1:
            return ()
        name = graph.layers[split].name
        return (Crossing(name, bits.bits(name)),)

    # --- From a configuration to a plan ---------------------------------------------------------

    def plan(self, each: Configuration) -> Plan:
        """The plan of the split, with the heads' time where they stand."""
        model, timeout_s = self._model, self._goal.timeout_s
        bare = model.plan(frozenset(range(each.split + 1)))
        heads = list(self._points(each)) if each.threshold < NEVER else []
        on_end = sum(head.side == "end" for head in heads)
        end_s = sum(self._end_head_s[:on_end]) if heads else 0.0
        cloud_s = sum(self._cloud_head_s[on_end:]) if heads else 0.0
        stage = replace(
            bare.stage_s,
            end_s=bare.stage_s.end_s + end_s,
            cloud_s=bare.stage_s.cloud_s + cloud_s,
        )
        value = each.value(self._goal.target)
        name = f"expected_{self._goal.target}"
        return replace(
            bare,
            stage_s=stage,
            latency_s=bare.latency_s + stage.total_s - bare.stage_s.total_s,
            objective=ObjectiveValue(name, value, bare.objective.bubbles),
            ready_s=tuple(ready + end_s for ready in bare.ready_s),
            cloud_work_s=tuple(work + cloud_s for work in bare.cloud_work_s),
            heads=tuple(heads),
            timeout_s=timeout_s if bare.crossing else inf,
            local_s=model.end_before[-1] - bare.stage_s.end_s + bare.decision_s,
        )

    def _points(self, each: Configuration) -> Iterator[DecisionPoint]:
        end_s = cloud_s = 0.0
        for k, place in enumerate(self._heads):
            layer = self._problem.graph.layers[place].name
            if place <= each.split:
                end_s += self._end_head_s[k]
                at_s = self._model.end_before[place] + end_s
                yield DecisionPoint("end", layer, at_s, each.threshold)
            else:
                cloud_s += self._cloud_head_s[k]
                at_s = self._cloud_s(each.split, place) + cloud_s
                yield DecisionPoint("cloud", layer, at_s, each.threshold)
