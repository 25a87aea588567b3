"""Methods of one cut: what each plans, how a stream of answered samples goes, needed bit-widths."""

from dataclasses import replace

import numpy as np

from baselines.neurosurgeon import Neurosurgeon
from coach_exp.network.estimator import Oracle as TrueRate
from coach_exp.network.trace import constant
from coach_exp.pipeline.simulator import simulate
from coach_exp.quant.precision import SearchedBits
from coach_exp.types.method import Calibration, Problem
from coach_exp.types.workload import Workload
from helpers.answers import Answers, NeedingBits
from helpers.graphs import SameBits, chain


def ns(**settings) -> Neurosurgeon:
    return Neurosurgeon(name="ns", division="same_codec", **settings)


def plan(method, problem: Problem):
    return method.plan(method.view(problem)).plans[0]


def run(method, problem: Problem):
    """A method's plans, and the records of the stream."""
    seen = method.view(problem)
    plans, trace = method.plan(seen), constant(seen.link.bandwidth_bps)
    samples = None if seen.outcomes is None else np.arange(seen.workload.tasks)
    return plans, simulate(seen, method.controller(plans), trace, TrueRate(trace), samples)


def split(videos, seed: int) -> Answers:
    """Two labels a quarter turn apart; 4 bits are always right, fewer only near a centre."""
    rng, label = np.random.default_rng(seed), np.arange(len(videos)) % 2
    spread = rng.normal(0, 0.45, len(videos))
    angle = label * np.pi / 2 + spread
    features = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    wrong = np.where(np.abs(spread) > 0.6, 1 - label, label)
    return Answers(features, label, np.array(videos), 2, {2: wrong, 3: wrong}, payload_bytes=500)


def answered_problem() -> Problem:
    """in → 1 → 2: at 4 bits 1.2 s behind 1, 2.8 s on the cloud, 3.4 s on the end; as float32 4.7 s
    behind 1."""
    problem = chain((0, 0.4, 3), (0, 2, 0.3), (1, 1, 1))
    return replace(
        problem,
        end=replace(problem.end, decision_s={"in": 0.2, "1": 0.1, "2": 0.1}),
        bits=SameBits(4),
        workload=Workload("saturated", tasks=200, in_flight=4),
        outcomes=split(range(1000, 1200), 0),
        calibration=Calibration(split(range(100), 1), split(range(100, 400), 2)),
    )


def searched(problem: Problem, needs: dict[str, int]) -> Problem:
    """Every tensor needs so many bits; with fewer all answers are wrong."""
    table = SearchedBits(lambda: NeedingBits(needs), 0.5, problem.graph.input.name)
    return replace(problem, bits=table)
