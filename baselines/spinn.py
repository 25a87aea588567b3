"""SPINN (Laskaridis et al., MobiCom 2020): a split and a confidence threshold, chosen together.

What it decides: offline, early exits are placed at equal shares of the model's work and trained on
the frozen backbone. At run time, for the link's rate, the split and the confidence from which an
exit answers: the pair of least expected latency (or longest stage) among those that lose at most
`limit_points` of accuracy on the calibration split, measured through the real codec. Every task
then decides for itself at each exit, on the end and on the cloud. Crossing tensors go at 8 bits,
bit-shuffled and compressed by LZ4; sizes are measured.

What it cannot do: change the bit-width, schedule the pipeline, or cut where several tensors cross.

Where we depart, and why:
* The backbone is frozen, so that the last exit answers as every other method's model does.
* Splits are cut vertices with non-negative outputs (ReLU outputs, block outputs), the raw input,
  and none at all.
* Times of the two devices come from their profiles, as for every method, so the load of either is
  known and not tracked.
* Quantising and compressing cost no device time, for SPINN as for all methods without an online
  part.
* A task that would answer by no exit gets the last layer's answer.
* Without trained weights there is nothing to exit by and nothing to compress: what is left is a
  split at 8 bits.
* On the track `same_codec` its tensors go at COACH's widths; on `same_online` COACH's semantic
  cache takes the place of its exits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from math import inf
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from baselines.harness import Baseline, costs
from coach_exp.planner.cost_model import cut_vertices
from coach_exp.planner.exit_places import exit_places
from coach_exp.planner.planning import settled
from coach_exp.quant.bitshuffle import BitshuffleLz4
from coach_exp.quant.precision import FixedBits
from coach_exp.quant.sizes import rescaled_bytes
from coach_exp.types.errors import ConfigError
from coach_exp.types.graph import LayerGraph
from coach_exp.types.method import (
    GO_ON,
    Controller,
    Decision,
    FixedPlans,
    Moment,
    Problem,
    Transfer,
)
from coach_exp.types.outcomes import Codec, Crossing, Outcomes
from coach_exp.types.plan import DecisionPoint, ObjectiveValue, Plan, PlanSet, Release

Target = Literal["latency", "throughput"]
BITS = 8
NEVER = inf
THRESHOLDS = (*(round(0.3 + 0.05 * k, 2) for k in range(14)), NEVER)  # 0.30, 0.35 … 0.95, never
PROBE_EVERY = 20  # tasks answered on the end alone between two that try a link that was lost

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Spinn(Baseline):
    """`exits` heads; the pair (split, threshold) of least `target`; a task whose transfer takes
    longer than `patience_s` is answered on the end."""

    exits: int = 6
    target: Target = "latency"
    limit_points: float = 0.5
    patience_s: float = 5.0

    def __post_init__(self) -> None:
        if self.target not in ("latency", "throughput"):
            raise ConfigError(f"method.target = {self.target}: give latency or throughput")
        for name, least in (("exits", 0), ("limit_points", 0), ("patience_s", 1e-9)):
            if getattr(self, name) < least:
                raise ConfigError(f"method.{name} = {getattr(self, name)}: give at least {least}")

    def view(self, problem: Problem) -> Problem:
        """With its own codec as published, exits behind its layers, and sizes as measured."""
        if self.track == "as_published":
            raw = problem.graph.input.name
            bits = FixedBits(BITS, raw, problem.bits.bits(raw))
            problem = replace(
                _through(problem, BitshuffleLz4(problem.codec.header_bytes)), bits=bits
            )
            problem = replace(problem, measured_bytes=_measured(problem))
        return (
            problem if self.track == "same_online" else _with_exits(problem, self._heads(problem))
        )

    def _heads(self, problem: Problem) -> tuple[str, ...]:
        return exit_places(problem.graph, self.exits) if problem.outcomes is not None else ()

    def plans_for(self, problem: Problem, release: Release) -> PlanSet:
        """The best pair, and the best that sends nothing for when the link is lost."""
        heads = () if release == "after_decision" else self._heads(problem)
        make = partial(_Scheduler, problem, release, heads, self)
        return settled(problem, lambda: make().plans())

    def dispatch(self, plans: PlanSet) -> Controller:
        """Exits by confidence, and goes on alone while the link is lost."""
        return ExitByConfidence(plans)


def _through(problem: Problem, codec: Codec) -> Problem:
    """The same problem with every answer through another codec."""
    outcomes, learned = problem.outcomes, problem.calibration
    return replace(
        problem,
        codec=codec,
        outcomes=None if outcomes is None else outcomes.through(codec),
        calibration=None
        if learned is None
        else replace(
            learned,
            centres=learned.centres.through(codec),
            calib=learned.calib.through(codec),
            tables={},
        ),
    )


def _with_exits(problem: Problem, heads: Sequence[str]) -> Problem:
    outcomes, learned = problem.outcomes, problem.calibration
    if not heads or outcomes is None or learned is None:
        return problem
    return replace(
        problem,
        outcomes=outcomes.with_exits(heads),
        calibration=replace(learned, calib=learned.calib.with_exits(heads)),
    )


def splits(graph: LayerGraph) -> tuple[int, ...]:
    """Positions where SPINN may cut: the raw input, and cut vertices whose outputs are never
    negative."""
    inner = cut_vertices(graph)[1:-1]
    layers = graph.layers
    return (0, *(i for i in inner if layers[i].non_negative and layers[i].kind != "view"))


def _measured(problem: Problem) -> dict[str, int]:
    """Mean size of every split's tensor over the calibration split, beside what is known."""
    if problem.calibration is None:
        return dict(problem.measured_bytes)
    graph, calib = problem.graph, problem.calibration.calib
    layers = [graph.layers[i] for i in splits(graph)[1:]]
    sent = calib.sent_bytes(tuple(Crossing(layer.name, BITS) for layer in layers))
    means = {
        layer.name: rescaled_bytes(mean, BITS, problem.codec, calib.tensor_size(layer.name), layer)
        for layer, mean in zip(layers, sent.mean(axis=0).tolist(), strict=True)
    }
    return {**problem.measured_bytes, **means}


@dataclass(frozen=True, slots=True)
class Configuration:
    """A split (a position in the graph; the sink: nothing is sent) with a threshold, by what it is
    expected to cost: seconds per task on end, link and cloud, exits counted."""

    split: int
    threshold: float
    end_s: float
    link_s: float
    cloud_s: float

    def value(self, target: Target) -> float:
        """What the scheduler minimises."""
        stages = (self.end_s, self.link_s, self.cloud_s)
        return sum(stages) if target == "latency" else max(stages)

    def rank(self, target: Target) -> tuple[float, float]:
        """The order of preference: the target, then less work for the server."""
        return float(f"{self.value(target):.9e}"), self.cloud_s


class _Scheduler:
    """SPINN's choice for one rate and the widths known so far."""

    def __init__(
        self, problem: Problem, release: Release, heads: Sequence[str], settings: Spinn
    ) -> None:
        self._problem = problem
        self._settings = settings
        self._model = costs(problem, "sum", release)
        graph = problem.graph
        self._heads = tuple(sorted(graph.position(layer) for layer in heads))
        names = [graph.layers[i].name for i in self._heads]
        self._end_head_s = [problem.end.exit_s.get(name, 0.0) for name in names]
        self._cloud_head_s = [problem.cloud.exit_s.get(name, 0.0) for name in names]
        self._cascade = None
        if problem.calibration is not None:
            self._cascade = Cascade(problem.calibration.calib, tuple(names))

    def plans(self) -> PlanSet:
        sink = len(self._problem.graph) - 1
        everything = list(self._configurations())
        best = self._first_accurate(everything)
        alone = self._first_accurate([c for c in everything if c.split == sink])
        remark = (
            f"exits answer from a confidence of {best.threshold:g}"
            if best.threshold < NEVER
            else "no early exit is worth its cost"
        )
        plans = (replace(self._plan(best), evaluations=len(everything)), self._plan(alone))
        return PlanSet(plans, (1.0, 0.0), remarks=(remark,))

    def _configurations(self) -> Iterator[Configuration]:
        """Every pair, with its expected cost."""
        may = self._problem.raw_input_may_cross
        places = [i for i in splits(self._problem.graph) if i > 0 or may]
        thresholds = THRESHOLDS if self._cascade and self._heads else (NEVER,)
        for threshold in thresholds:
            going_on = [1.0] * (len(self._heads) + 1)
            if threshold < NEVER and self._cascade is not None:
                going_on = self._cascade.going_on(threshold)
            for split in (*places, len(self._problem.graph) - 1):
                yield self._expected(split, threshold, going_on)

    def _expected(self, split: int, threshold: float, going_on: Sequence[float]) -> Configuration:
        """Expected seconds: a layer counts with the share of the tasks that reach it."""
        model = self._model
        exits = list(self._heads) if threshold < NEVER else []
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
        return Configuration(split, threshold, end_s, left * model.send_s[split], cloud_s)

    def _cloud_s(self, low: int, high: int) -> float:
        """Cloud seconds of the layers behind `low`, up to `high`."""
        total = self._model.cloud_from
        rest = total[high + 1] if high + 1 < len(total) else 0.0
        return total[low + 1] - rest

    def _first_accurate(self, configurations: Sequence[Configuration]) -> Configuration:
        """The best that keeps the accuracy limit; the widths of what is looked at are settled."""
        target = self._settings.target
        for each in sorted(configurations, key=lambda c: c.rank(target)):
            if self._accurate(each):
                return each
        raise AssertionError("to send nothing and never to exit loses nothing")

    def _accurate(self, each: Configuration) -> bool:
        if self._cascade is None:
            return True
        crossing = self._crossing(each.split)
        self._problem.bits.settle([tensor.layer for tensor in crossing])
        crossing = self._crossing(each.split)
        on_end = sum(place <= each.split for place in self._heads)
        lost = self._cascade.loss_points(each.threshold, crossing, on_end)
        return lost <= self._settings.limit_points + 1e-9

    def _crossing(self, split: int) -> tuple[Crossing, ...]:
        graph, bits = self._problem.graph, self._problem.bits
        if split == len(graph) - 1:
            return ()
        name = graph.layers[split].name
        return (Crossing(name, bits.bits(name)),)

    # --- From a configuration to a plan ---------------------------------------------------------

    def _plan(self, each: Configuration) -> Plan:
        """The plan of the split, with the heads' time where they stand."""
        model, patience_s = self._model, self._settings.patience_s
        bare = model.plan(frozenset(range(each.split + 1)))
        heads = list(self._points(each)) if each.threshold < NEVER else []
        on_end = sum(head.side == "end" for head in heads)
        end_s = sum(self._end_head_s[:on_end]) if heads else 0.0
        cloud_s = sum(self._cloud_head_s[on_end:]) if heads else 0.0
        stage = replace(
            bare.stage_s,
            end_s=bare.stage_s.end_s + end_s,
            cloud_s=bare.stage_s.cloud_s + (cloud_s if bare.crossing else 0.0),
        )
        value = each.value(self._settings.target)
        name = f"expected_{self._settings.target}"
        return replace(
            bare,
            stage_s=stage,
            latency_s=bare.latency_s + stage.total_s - bare.stage_s.total_s,
            objective=ObjectiveValue(name, value, bare.objective.bubbles),
            ready_s=tuple(ready + end_s for ready in bare.ready_s),
            cloud_work_s=tuple(work + cloud_s for work in bare.cloud_work_s),
            heads=tuple(heads),
            patience_s=patience_s if bare.crossing else inf,
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


class Cascade:
    """The exits on the calibration split: who goes on past each, and what they lose together."""

    def __init__(self, calib: Outcomes, heads: tuple[str, ...]) -> None:
        self._calib = calib
        self._heads = heads
        count = range(calib.samples)
        self._truth = np.array([calib.true_label(i) for i in count])
        self._uncut = np.array([calib.uncut(i) for i in count])
        self._labels, self._confidence = self._asked(heads, ())

    def _asked(
        self, heads: Sequence[str], crossing: tuple[Crossing, ...]
    ) -> tuple[NDArray[np.int64], Floats]:
        """Labels and confidences of some heads: [heads, n] each."""
        asked = [
            [self._calib.at_exit(i, layer, crossing) for i in range(self._calib.samples)]
            for layer in heads
        ]
        shape = (len(heads), self._calib.samples)
        labels = np.array([[answer.label for answer in head] for head in asked], dtype=np.int64)
        confidence = np.array([[answer.confidence for answer in head] for head in asked])
        return labels.reshape(shape), confidence.reshape(shape)

    def going_on(self, threshold: float) -> list[float]:
        """P_k: the share of the samples that has not exited after k heads, k = 0 … heads."""
        passed = np.logical_and.accumulate(self._confidence < threshold, axis=0)
        return [1.0, *passed.mean(axis=1).tolist()]

    def loss_points(self, threshold: float, crossing: tuple[Crossing, ...], on_end: int) -> float:
        """Percentage points of accuracy lost against the uncut model, `on_end` of the heads looking
        at the tensors themselves and the others at what the cloud makes of what crosses."""
        if crossing:
            each = (self._calib.predict(i, crossing).label for i in range(self._calib.samples))
            label = np.fromiter(each, dtype=np.int64)
        else:
            label = self._uncut.copy()
        if threshold < NEVER and self._heads:
            labels, confidence = self._labels, self._confidence
            if crossing and on_end < len(self._heads):
                late = self._asked(self._heads[on_end:], crossing)
                labels = np.concatenate([labels[:on_end], late[0]])
                confidence = np.concatenate([confidence[:on_end], late[1]])
            for k in reversed(range(len(self._heads))):
                label = np.where(confidence[k] >= threshold, labels[k], label)
        return 100 * float(np.mean(self._uncut == self._truth) - np.mean(label == self._truth))


class ExitByConfidence(FixedPlans):
    """Runs the first plan, exits where a head is sure enough, and while the link is lost runs the
    second, which sends nothing; one task in `PROBE_EVERY` then tries the link."""

    def __init__(self, plans: PlanSet) -> None:
        super().__init__(plans)
        self._best, self._alone = plans.plans
        self._lost = False
        self._silent = 0

    def choose(self, task: int, moment: Moment) -> Plan:
        """The best plan, or the one that sends nothing."""
        if not self._lost:
            return self._best
        self._silent = (self._silent + 1) % PROBE_EVERY
        return self._alone if self._silent else self._best

    def at_head(self, task: int, plan: Plan, head: DecisionPoint, moment: Moment) -> Decision:
        """Exits from the threshold on."""
        if moment.outcomes is None:
            return GO_ON
        crossing = plan.crossing if head.side == "cloud" else ()
        answer = moment.outcomes.at_exit(moment.sample, head.layer, crossing)
        if answer.confidence >= head.threshold:
            return Decision("exit", answer.label)
        return GO_ON

    def gave_up(self, task: int, plan: Plan, moment: Moment) -> Decision:
        """The most confident exit on the end; without one the end goes on alone."""
        self._lost = True
        heads = [head.layer for head in plan.heads if head.side == "end"]
        if moment.outcomes is None or not heads:
            return GO_ON
        answers = [moment.outcomes.at_exit(moment.sample, layer) for layer in heads]
        return Decision("exit", max(answers, key=lambda answer: answer.confidence).label)

    def sent(self, transfer: Transfer) -> None:
        """The link is back."""
        self._lost = False
