"""Calibrating the online part of a plan (Algorithm 1, lines 18 and 19).

In: a plan, and the model's answers on two splits: `centres`, where the semantic centres start, and
`calib`, on which the thresholds are chosen. Out: the plan with its SemanticTable. The two splits
and the stream must not share a video: thresholds calibrated on the videos of the centres promise
far more than they keep.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from math import inf

import numpy as np
from numpy.typing import NDArray

from coach_exp.online.budgets import (
    Evidence,
    Limits,
    Thresholds,
    answers_right,
    certificates,
    curves,
    min_certificate,
    thresholds,
)
from coach_exp.online.semantic_cache import SemanticCache
from coach_exp.quant.precision import MAX_BITS, MIN_BITS
from coach_exp.types.errors import DataError
from coach_exp.types.method import Calibration, Problem
from coach_exp.types.online import Centres, Rung, SemanticTable
from coach_exp.types.outcomes import Crossing, Outcomes
from coach_exp.types.plan import Plan

WIDTHS = (*range(MIN_BITS, MAX_BITS + 1), 16, 32)


@dataclass(frozen=True, slots=True)
class Ladder:
    """The widths a plan's tasks may be sent with: for each number of bits, what crosses."""

    own: int
    crossings: Mapping[int, tuple[Crossing, ...]]

    @staticmethod
    def of(plan: Plan, input_layer: str, most: int | None) -> "Ladder":
        """Every width from 2 bits to the plan's own, and on to `most`.

        b bits cap the wider of several tensors and, above the plan's own width, widen them all. The
        raw input keeps its encoding, which is the same for every method.
        """
        free = [tensor.bits for tensor in plan.crossing if tensor.layer != input_layer]
        own = max(free, default=max(tensor.bits for tensor in plan.crossing))
        if not free:
            return Ladder(own, {own: plan.crossing})

        def width(tensor: Crossing, bits: int) -> int:
            if tensor.layer == input_layer:
                return tensor.bits
            return min(tensor.bits, bits) if bits <= own else bits

        steps = {own, *(b for b in WIDTHS if b < own or (most is not None and b <= most))}
        return Ladder(
            own,
            {
                bits: tuple(Crossing(t.layer, width(t, bits)) for t in plan.crossing)
                for bits in sorted(steps)
            },
        )


def calibrated(problem: Problem, plan: Plan, limits: Limits, max_bits: int | None = None) -> Plan:
    """The plan with centres and thresholds; a plan that sends nothing is left as it is, and so is
    every plan where the model has no answers.

    Raises DataError when the splits or the stream share a video.
    """
    learned = problem.calibration
    if learned is None or not plan.crossing:
        return plan
    key = (plan.crossing, limits, max_bits)
    if key not in learned.tables:
        learned.tables[key] = _table(problem, learned, plan, limits, max_bits)
    return replace(plan, online=learned.tables[key])


def refuse_shared_videos(splits: Mapping[str, Outcomes]) -> None:
    """Raises DataError when two splits share a video."""
    videos = {name: _videos(answers) for name, answers in splits.items()}
    for (one, a), (other, b) in combinations(videos.items(), 2):
        both = np.intersect1d(a, b)
        if len(both):
            raise DataError(
                f"splits {one!r} and {other!r} share {len(both)} videos, such as video {both[0]}; "
                "centres, calibration and stream must be disjoint by video: divide them anew"
            )


def centres_of(answers: Outcomes, plan: Plan) -> Centres:
    """Mean features by true label; a label without a sample has no centre."""
    return Centres.of(features(answers, plan), labels(answers), answers.classes)


def features(answers: Outcomes, plan: Plan) -> NDArray[np.float64]:
    """Task features of all samples at the plan's cut: [n, channels]."""
    layers = [tensor.layer for tensor in plan.crossing]
    return np.stack([answers.feature(i, layers) for i in range(answers.samples)]).astype(float)


def labels(answers: Outcomes) -> NDArray[np.int64]:
    """True labels of all samples: [n]."""
    return np.array([answers.true_label(i) for i in range(answers.samples)])


def evidence_of(
    calib: Outcomes, plan: Plan, steps: Ladder, centres: Centres, reference: Outcomes
) -> Evidence:
    """How every calibration task would be answered. Widths above the plan's need no evidence."""
    truth, count = labels(calib), calib.samples
    cache = SemanticCache(centres)
    nearest, separability = cache.match_all(features(calib, plan))

    def right(crossing: tuple[Crossing, ...]) -> NDArray[np.bool_]:
        predicted = np.array([calib.predict(i, crossing).label for i in range(count)])
        hits: NDArray[np.bool_] = truth == predicted
        return hits

    return Evidence(
        separability=separability,
        exit_right=nearest == truth,
        sent={bits: right(c) for bits, c in steps.crossings.items() if bits <= steps.own},
        bits=steps.own,
        uncut_right=truth == np.array([calib.uncut(i) for i in range(count)]),
        video=_all_videos(calib),
        reference=cache.match_all(features(reference, plan))[1],
    )


def _table(
    problem: Problem, learned: Calibration, plan: Plan, limits: Limits, max_bits: int | None
) -> SemanticTable:
    shared = {"centres": learned.centres, "calib": learned.calib}
    if problem.outcomes is not None:
        shared["stream"] = problem.outcomes
    refuse_shared_videos(shared)
    steps = Ladder.of(plan, problem.graph.input.name, max_bits)
    centres = centres_of(learned.centres, plan)
    evidence = evidence_of(learned.calib, plan, steps, centres, learned.centres)
    chosen = thresholds(evidence, limits)
    after = answers_right(evidence, chosen)
    guaranteed = limits.budget == "guarantee"
    return SemanticTable(
        budget=limits.budget,
        centres=centres,
        exit_threshold=chosen.exit,
        rungs=_rungs(problem, steps, chosen),
        curves=curves(evidence, chosen, limits),
        samples=len(after),
        videos=len(np.unique(evidence.video)),
        exit_share=float((evidence.separability > chosen.exit).mean()),
        loss_points=100 * float(evidence.plain.mean() - after.mean()),
        certified=certificates(evidence, limits) if guaranteed else (),
        min_certified=min_certificate(evidence, limits) if guaranteed else None,
    )


def _rungs(problem: Problem, steps: Ladder, chosen: Thresholds) -> tuple[Rung, ...]:
    def size(crossing: tuple[Crossing, ...]) -> int:
        return sum(problem.expected_bytes(problem.graph[t.layer], t.bits) for t in crossing)

    return tuple(
        Rung(bits, tuple(t.bits for t in crossing), size(crossing), chosen.adjust.get(bits, -inf))
        for bits, crossing in steps.crossings.items()
        if bits >= steps.own or bits in chosen.adjust
    )


def _all_videos(answers: Outcomes) -> NDArray[np.int64]:
    return np.array([answers.video(i) for i in range(answers.samples)])


def _videos(answers: Outcomes) -> NDArray[np.int64]:
    return np.unique(_all_videos(answers))
