"""Centres, calibration and stream drawn again and again from the videos that the model was not
trained on: what one division of a few hundred videos happens to give is no finding.

In: the model's answers on the three splits. Out: draws, each with three disjoint sets of videos and
the problem of planning and calibrating on them at a given cut. Draws are made of the same videos,
so they are not independent: intervals over draws say how much the division matters, not more.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from coach_exp.learning.dividing import divide
from coach_exp.learning.streams import Correlation, alike, ordered
from coach_exp.pipeline.outcomes import RescaledOutcomes, SelectedOutcomes
from coach_exp.pipeline.parts import Parts
from coach_exp.planner.cost_model import boundaries
from coach_exp.planner.planning import Planner
from coach_exp.quant.precision import SearchedBits
from coach_exp.types.errors import ConfigError
from coach_exp.types.graph import LayerGraph
from coach_exp.types.method import Calibration, Problem
from coach_exp.types.plan import Plan

SHARES: Mapping[str, float] = {"centres": 0.2, "calib": 0.4, "stream": 0.4}


@dataclass(frozen=True, eq=False)
class Draw:
    """One division of the videos."""

    number: int
    centres: SelectedOutcomes
    calib: SelectedOutcomes
    stream: SelectedOutcomes

    def problem(self, base: Problem) -> Problem:
        """The problem with this draw's answers: its own widths, centres and stream."""
        if not isinstance(base.bits, SearchedBits):
            raise ConfigError("draws of splits search bit-widths anew; use precision=search")
        return replace(
            base,
            bits=replace(base.bits, calibration=lambda: self.calib, found={}, losses={}),
            outcomes=RescaledOutcomes(self.stream, base.graph, base.codec),
            calibration=Calibration(self.centres, self.calib),
            workload=replace(base.workload, tasks=self.stream.samples),
        )

    def order(self, correlation: Correlation, seed: int) -> NDArray[np.int64]:
        """All samples of the stream in one of the three orders."""
        stream = self.stream
        video = np.array([stream.video(i) for i in range(stream.samples)])
        label = np.array([stream.true_label(i) for i in range(stream.samples)])
        return ordered(alike(_groups(video), label), correlation, seed)


@dataclass(frozen=True, eq=False)
class Draws:
    """`count` draws of the pool of all videos that no training has seen."""

    pool: SelectedOutcomes
    count: int
    seed: int

    @staticmethod
    def of(parts: Parts, count: int, seed: int) -> "Draws":
        """Raises ConfigError where the model has no trained weights."""
        if not parts.trained:
            raise ConfigError(
                "the study asks a trained model; use a torch model and weights other than none"
            )
        splits = (parts.answers(name) for name in ("centres", "calib", "stream"))
        return Draws(SelectedOutcomes.all_of(*splits), count, seed)

    def __iter__(self) -> Iterator[Draw]:
        pool = self.pool
        groups = _groups(np.array([pool.video(i) for i in range(pool.samples)]))
        labels = np.array([pool.true_label(int(group[0])) for group in groups])
        for number in range(self.count):
            split = divide(labels, SHARES, self.seed + number)
            parts = (
                pool.of(np.concatenate([groups[k] for k in np.flatnonzero(split == name)]))
                for name in SHARES
            )
            yield Draw(number, *parts)


def _groups(video: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Samples of each video in order of time; videos in the order in which they begin."""
    _, first, which = np.unique(video, return_index=True, return_inverse=True)
    by_video = np.argsort(first[which], kind="stable")
    return np.split(by_video, np.flatnonzero(np.diff(video[by_video])) + 1)


def depths(graph: LayerGraph, count: int) -> dict[str, float]:
    """Layers to cut behind, spread evenly along the model, with the share of layers on the end."""
    places = boundaries(graph, count)
    return {graph.layers[i].name: (i + 1) / len(graph) for i in places}


def planned(problem: Problem, layer: str) -> Plan:
    """The plan that cuts behind `layer` and waits for the decision, at this draw's widths."""
    upto = problem.graph.position(layer) + 1
    end = [each.name for each in problem.graph.layers[:upto]]
    return Planner(release="after_decision").plan_for(problem, end)
