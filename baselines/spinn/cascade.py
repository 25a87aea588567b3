"""SPINN's exits on the calibration split: who goes on past each, and what they lose together.

In: the answers of the last layer and of every exit. Out: shares of the samples, and percentage
points of accuracy.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import inf

import numpy as np
from numpy.typing import NDArray

from coach_exp.types.outcomes import Crossing, Outcomes

NEVER = inf  # the threshold at which no exit answers

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Answers = tuple[Labels, Labels, Floats]  # the last layer's [n], the heads' [heads, n], how sure


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
