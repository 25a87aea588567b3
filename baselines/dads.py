"""DADS: cut the layer graph by a minimum cut, for one task or for a stream of them.

Hu, Bao, Wang, Liu, "Dynamic Adaptive DNN Surgery for Inference Acceleration on the Edge", INFOCOM
2019. Section and equation numbers are the paper's.

What it decides, and when: the end set, each time the measured rate has changed (Algorithm 3). DSL,
for a light load, takes the cut of least T_e + T_t + T_c, exactly. If its largest stage is shorter
than 1/Q, the time between two tasks, it stands. Otherwise the load is heavy, and DSH looks for the
least max{T_e, T_t, T_c} among the minimum cuts of α·T_e + T_t + γ·T_c for many (α, γ). With
(1, 1) among them it is at most 3 times the optimum. If even DSH cannot keep up, DADS asks for a
lower sampling rate. A saturated stream counts as Q = ∞, a single stream as Q = 0.

What it cannot do: change the precision or compress (its payloads are float32, uncompressed), exit
early, mix two cuts, overlap the stages of one task when it plans. On a chain at a light load its
cut is Neurosurgeon's, so there it cannot be faster for a task that waits for no other.

Where we depart from it:
- Eq. (4) has no arcs from consumer to producer, so it may place a layer on the end whose input is
  on the cloud, a download that it takes to be free. We add these arcs, of infinite capacity.
- The published grid for (α, γ) is linear with the step 1 up to ΣT/min T_t, which a last layer of
  a few hundred bytes makes endless. Ours is geometric, from 2^-8 to 2^8, and is refined by half
  steps, in exponents, so no weight falls below 0. We refine around the best plan, as published,
  and around the best bound as well, until neither gains `EPSILON`.
- We add device-only and the cuts behind every cut vertex, which costs nothing: a weighted minimum
  cut finds corners of the convex hull only, and the best largest stage may lie inside. Ties go to
  the lower T_e + T_t + T_c.
- Every weighted minimum cut, over the sum of its weights, bounds the largest stage of all cuts from
  below; the best is the plan's lower bound.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from math import floor, inf, log10
from typing import Literal

from baselines.harness import Baseline, Choice, chosen
from coach_exp.planner.candidate import Candidate
from coach_exp.planner.cost_model import CostModel
from coach_exp.planner.min_cut import MinCuts, Weights, weighted_min_cut
from coach_exp.types.method import Problem
from coach_exp.types.plan import PlanSet, Release
from coach_exp.types.workload import Workload

Mode = Literal["auto", "light", "heavy"]
Exponents = tuple[float, float]  # of 2, for α and γ

GRID = tuple((float(end), float(cloud)) for end, cloud in product(range(-8, 9), repeat=2))
EPSILON = 1e-3
MAX_CUTS = 500  # weighted minimum cuts, after which a search is not refined further


@dataclass(frozen=True, kw_only=True)
class Dads(Baseline):
    """DADS. `mode`: `auto` as in Algorithm 3, or `light` (DSL) or `heavy` (DSH) whatever the load.
    A light plan's objective is `sum`, a heavy one's is `bottleneck`."""

    name: str = "dads"
    mode: Mode = "auto"

    def plans_for(self, problem: Problem, release: Release) -> PlanSet:
        """DSL's plan, or DSH's where the load is heavy."""
        every_s = _seconds_between(problem.workload)
        if self.mode == "light" or (self.mode == "auto" and every_s > 0):
            light = chosen(problem, "sum", release, dsl)
            if self.mode == "light" or light.plans[0].stage_s.period_s < every_s:
                return light
        return _warned(chosen(problem, "bottleneck", release, dsh), every_s)


def _seconds_between(workload: Workload) -> float:
    """1/Q: 0 where all tasks wait from the beginning, infinite where each waits for the last."""
    if workload.kind in ("saturated", "single_stream"):
        return 0.0 if workload.kind == "saturated" else inf
    assert workload.rate_hz is not None
    return 1 / workload.rate_hz


def _warned(heavy: PlanSet, every_s: float) -> PlanSet:
    """With the paper's signal where tasks come faster than the plan answers."""
    period_s = heavy.plans[0].stage_s.period_s
    if every_s == 0 or period_s <= every_s:
        return heavy
    remark = (
        f"at {heavy.link_bps / 1e6:g} Mbps the plan for a heavy load answers every "
        f"{1e3 * period_s:.2f} ms but tasks come every {1e3 * every_s:.2f} ms; "
        f"lower the sampling rate to {_rounded_down(1 / period_s):g} per second"
    )
    return replace(heavy, remarks=(*heavy.remarks, remark))


def _rounded_down(rate: float) -> float:
    """To three digits.

    >>> _rounded_down(19.99)
    19.9
    """
    unit = 10.0 ** (2 - floor(log10(rate)))
    return floor(rate * unit) / unit


def dsl(model: CostModel) -> Choice:
    """The cut of least T_e + T_t + T_c (ECDI-L): exact. Whatever is sent is under way for half the
    round trip, which only tells against sending at all."""
    found, alone = weighted_min_cut(model, Weights()), model.device_only()
    away_s = model.half_rtt_s + model.return_s
    if alone.stage.total_s < found.value + away_s:
        return Choice((model.end_set(alone),), lower_bound=found.value)
    return Choice((found.end_set,), lower_bound=found.value)


def dsh(model: CostModel) -> Choice:
    """The cut of least max{T_e, T_t, T_c} that is found (ECDI-H), with a bound on that of all."""
    weighted, bound_s, tried = _weighted_search(model)
    outer = [model.device_only(), *(model.boundary(block) for block in range(model.blocks))]
    best = min([weighted, *outer], key=lambda candidate: candidate.rank)
    return Choice((model.end_set(best),), evaluations=tried + len(outer), lower_bound=bound_s)


@dataclass(frozen=True, slots=True)
class _Tried:
    """What one choice of weights gave: its minimum cut, a lower bound, and where it lies."""

    cut: Candidate
    bound_s: float
    at: Exponents

    @property
    def order(self) -> tuple[tuple[float, float, float], float]:
        """The better cut first; of the weights that give the same cut, those of the best bound."""
        return self.cut.rank, -self.bound_s


def _weighted_search(model: CostModel) -> tuple[Candidate, float, int]:
    """The best of the weighted minimum cuts, the best bound, and how many were tried."""
    minimum = MinCuts(model)
    ranked = cache(lambda end_set: model.of(end_set)[0])

    def at(places: Sequence[Exponents]) -> Iterator[_Tried]:
        weights = [Weights(end=2.0**end, cloud=2.0**cloud) for end, cloud in places]
        for place, w, cut in zip(places, weights, minimum.least(weights), strict=True):
            yield _Tried(ranked(cut.end_set), cut.value / (w.end + w.link + w.cloud), place)

    tried = list(at(GRID))
    best, bounding = _leaders(tried)
    step, gained = 1.0, True
    while gained and len(tried) < MAX_CUTS:
        step /= 2
        tried += at(sorted({*_around(best.at, step), *_around(bounding.at, step)}))
        before = best.cut.value, bounding.bound_s
        best, bounding = _leaders(tried)
        fell = best.cut.value < before[0] * (1 - EPSILON)
        gained = fell or bounding.bound_s > before[1] * (1 + EPSILON)
    return best.cut, bounding.bound_s, len(tried)


def _leaders(tried: Sequence[_Tried]) -> tuple[_Tried, _Tried]:
    """That of the best cut, and that of the best bound."""
    return min(tried, key=lambda each: each.order), max(tried, key=lambda each: each.bound_s)


def _around(centre: Exponents, step: float) -> list[Exponents]:
    """The eight neighbours of a place in the grid."""
    shifts = [shift for shift in product((-step, 0.0, step), repeat=2) if any(shift)]
    return [(centre[0] + end, centre[1] + cloud) for end, cloud in shifts]
