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
* What the raw input loses on its way is not counted against a split, as for no other method.
* A limit on the latency (`t_max_ms`) binds tasks that no exit answers, and no task whose link is
  lost.
* Without trained weights there is nothing to exit by and nothing to compress: what is left is a
  split at 8 bits.
* In the division `same_codec` its tensors go at COACH's widths; on `same_online` COACH's semantic
  cache takes the place of its exits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise, product, starmap
from math import inf
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from baselines.harness import Baseline, check_choices, costs
from coach_exp.planner.candidate import TOLERANCE, rounded
from coach_exp.planner.cost_model import cut_vertices
from coach_exp.planner.exit_places import exit_places
from coach_exp.quant.bitshuffle import BitshuffleLz4
from coach_exp.quant.precision import FixedBits
from coach_exp.quant.sizes import rescaled_bytes
from coach_exp.types.errors import ConfigError, InfeasibleError
from coach_exp.types.graph import LayerGraph
from coach_exp.types.method import (
    GO_ON,
    Controller,
    Decision,
    FixedPlans,
    Observation,
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
Labels = NDArray[np.int64]
Answers = tuple[Labels, Labels, Floats]  # the last layer's [n], the heads' [heads, n], how sure


@dataclass(frozen=True, kw_only=True)
class Spinn(Baseline):
    """`exits` heads; the pair (split, threshold) of least `target`; a task whose transfer takes
    longer than `timeout_s` is answered on the end."""

    exits: int = 6
    target: Target = "latency"
    limit_points: float = 0.5
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        check_choices(self, target=Target)
        for name, least in (("exits", 0), ("limit_points", 0), ("timeout_s", 1e-9)):
            if getattr(self, name) < least:
                raise ConfigError(f"method.{name} = {getattr(self, name)}: give at least {least}")

    def view(self, problem: Problem) -> Problem:
        """With its own codec as published, exits behind its layers, and sizes as measured."""
        if self.division == "as_published":
            raw = problem.graph.input.name
            bits = FixedBits(BITS, raw, problem.bits.bits(raw))
            problem = replace(
                _through(problem, BitshuffleLz4(problem.codec.header_bytes)), bits=bits
            )
            problem = replace(problem, measured_bytes=_measured(problem))
        return _with_exits(problem, self._heads(problem))

    def _heads(self, problem: Problem) -> tuple[str, ...]:
        if (
            self.division == "same_online"
            or problem.outcomes is None
            or problem.calibration is None
        ):
            return ()
        return exit_places(problem.graph, self.exits)

    def plans_for(self, problem: Problem, release: Release) -> PlanSet:
        """The best pair, and the best that sends nothing for when the link is lost.

        Raises InfeasibleError when no split keeps t_max_ms.
        """
        return Scheduler(problem, release, self._heads(problem), self).plans()

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
    layers = [problem.graph.layers[i] for i in splits(problem.graph)[1:]]
    if problem.calibration is None or not layers:
        return dict(problem.measured_bytes)
    calib = problem.calibration.calib
    sent = calib.sent_bytes(tuple(Crossing(layer.name, BITS) for layer in layers))
    means = {
        layer.name: rescaled_bytes(mean, BITS, problem.codec, calib.tensor_size(layer.name), layer)
        for layer, mean in zip(layers, sent.mean(axis=0).tolist(), strict=True)
    }
    return {**problem.measured_bytes, **means}


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
        self, problem: Problem, release: Release, heads: Sequence[str], settings: Spinn
    ) -> None:
        self._problem = problem
        self._settings = settings
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
        target = self._settings.target
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
        return lost <= self._settings.limit_points + 1e-9

    def _crossing(self, split: int) -> tuple[Crossing, ...]:
        graph, bits = self._problem.graph, self._problem.bits
        if split == len(graph) - 1:
            return ()
        name = graph.layers[split].name
        return (Crossing(name, bits.bits(name)),)

    # --- From a configuration to a plan ---------------------------------------------------------

    def plan(self, each: Configuration) -> Plan:
        """The plan of the split, with the heads' time where they stand."""
        model, timeout_s = self._model, self._settings.timeout_s
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


class Cascade:
    """The exits on the calibration split: who goes on past each, and what they lose together."""

    def __init__(self, calib: Outcomes, heads: tuple[str, ...]) -> None:
        self._calib = calib
        self._heads = heads
        count = range(calib.samples)
        self._truth = np.array([calib.true_label(i) for i in count])
        self._uncut = np.array([calib.uncut(i) for i in count])
        self._labels, self._confidence = self._asked(heads, ())
        self._going_on: dict[float, list[float]] = {}
        self._sent: dict[tuple[Crossing, ...], Answers] = {}
        self._losses: dict[tuple[float, tuple[Crossing, ...]], float] = {}

    def _asked(self, heads: Sequence[str], crossing: tuple[Crossing, ...]) -> tuple[Labels, Floats]:
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
        if threshold not in self._going_on:
            passed = np.logical_and.accumulate(self._confidence < threshold, axis=0)
            self._going_on[threshold] = [1.0, *passed.mean(axis=1).tolist()]
        return self._going_on[threshold]

    def loss_points(self, threshold: float, crossing: tuple[Crossing, ...], on_end: int) -> float:
        """Percentage points of accuracy lost against the uncut model, `on_end` of the heads looking
        at the tensors themselves and the others at what the cloud makes of what crosses."""
        key = (threshold, crossing)
        if key not in self._losses:
            label, labels, confidence = self._answers(crossing, on_end)
            if threshold < NEVER:
                for said, sure in zip(reversed(labels), reversed(confidence), strict=True):
                    label = np.where(sure >= threshold, said, label)
            right = np.mean(self._uncut == self._truth), np.mean(label == self._truth)
            self._losses[key] = 100 * float(right[0] - right[1])
        return self._losses[key]

    def _answers(self, crossing: tuple[Crossing, ...], on_end: int) -> Answers:
        if not crossing:
            return self._uncut, self._labels, self._confidence
        if crossing not in self._sent:
            each = (self._calib.predict(i, crossing).label for i in range(self._calib.samples))
            labels, confidence = self._asked(self._heads[on_end:], crossing)
            self._sent[crossing] = (
                np.fromiter(each, dtype=np.int64),
                np.concatenate([self._labels[:on_end], labels]),
                np.concatenate([self._confidence[:on_end], confidence]),
            )
        return self._sent[crossing]


@lru_cache(maxsize=1)
def cascade(calib: Outcomes, heads: tuple[str, ...]) -> Cascade:
    """The same object for the same answers, so that planning for another rate asks nothing again:
    who exits, and what it loses, does not depend on the rate."""
    return Cascade(calib, heads)


class ExitByConfidence(FixedPlans):
    """Runs the first plan, exits where a head is sure enough, and while the link is lost runs the
    second, which sends nothing; one task in `PROBE_EVERY` then tries the link, and none before the
    last one has lost its patience, or they would take all places in flight."""

    def __init__(self, plans: PlanSet) -> None:
        super().__init__(plans)
        self._best, self._alone = plans.plans
        self._lost = False
        self._silent = 0
        self._next_probe_s = -inf

    def choose(self, task: int, observation: Observation) -> Plan:
        """The best plan, or the one that sends nothing."""
        if not self._lost:
            return self._best
        self._silent += 1
        if self._silent < PROBE_EVERY or observation.now_s < self._next_probe_s:
            return self._alone
        self._silent, self._next_probe_s = 0, observation.now_s + self._best.timeout_s
        return self._best

    def at_head(
        self, task: int, plan: Plan, head: DecisionPoint, observation: Observation
    ) -> Decision:
        """Exits from the threshold on."""
        if observation.outcomes is None:
            return GO_ON
        crossing = plan.crossing if head.side == "cloud" else ()
        answer = observation.outcomes.at_exit(observation.sample, head.layer, crossing)
        if answer.confidence >= head.threshold:
            return Decision("exit", answer.label)
        return GO_ON

    def gave_up(self, task: int, plan: Plan, observation: Observation) -> Decision:
        """The most confident exit on the end; without one the end goes on alone."""
        self._lost = True
        heads = [head.layer for head in plan.heads if head.side == "end"]
        if observation.outcomes is None or not heads:
            return GO_ON
        answers = [observation.outcomes.at_exit(observation.sample, layer) for layer in heads]
        return Decision("exit", max(answers, key=lambda answer: answer.confidence).label)

    def sent(self, transfer: Transfer) -> None:
        """The link is back."""
        self._lost = False
