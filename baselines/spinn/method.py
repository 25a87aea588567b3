"""SPINN as a method: its codec and exits, the settings, and what a plan is made of.

In: a problem. Out: the same as SPINN meets it, and its plans.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat

from baselines.harness import Baseline
from baselines.spinn.controller import ExitByConfidence
from baselines.spinn.scheduler import Goal, Scheduler, Target, splits
from coach_exp.planner.exit_places import exit_places
from coach_exp.quant.bitshuffle import BitshuffleLz4
from coach_exp.quant.precision import FixedBits
from coach_exp.quant.sizes import rescaled_bytes
from coach_exp.types.method import Controller, Problem
from coach_exp.types.outcomes import Codec, Crossing
from coach_exp.types.plan import PlanSet, Release

BITS = 8


@dataclass(frozen=True, kw_only=True)
class Spinn(Baseline):
    """`exits` heads; the pair (split, threshold) of least `target` that loses at most
    `limit_points`; a task whose transfer takes longer than `timeout_s` is answered on the end."""

    name: str = "spinn"
    exits: NonNegativeInt = 6
    target: Target = "latency"
    limit_points: NonNegativeFloat = 0.5
    timeout_s: PositiveFloat = 5.0

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

    @property
    def goal(self) -> Goal:
        """What the scheduler is to reach."""
        return Goal(self.target, self.limit_points, self.timeout_s)

    def plans_for(self, problem: Problem, release: Release) -> PlanSet:
        """The best pair, and the best that sends nothing for when the link is lost.

        Raises InfeasibleError when no split keeps t_max_ms.
        """
        return Scheduler(problem, release, self._heads(problem), self.goal).plans()

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
