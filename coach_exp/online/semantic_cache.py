"""The semantic cache: one centre for each label, and how far a task stands apart (Eqs. 7-10).

In: a task feature F, the channel means of the crossing tensors. Out: the label whose centre is
nearest and the separability S of the task. The centres follow the stream by Eq. 7.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from coach_exp.types.online import Centres

TINY = 1e-12  # in place of a second-highest similarity of zero


class Match(NamedTuple):
    """The nearest label (Eq. 10; -1 where there is none) and the separability S (Eq. 9)."""

    label: int
    separability: float


def similarities(
    features: NDArray[np.floating], directions: NDArray[np.float64]
) -> NDArray[np.float64]:
    """t_j = max(0, cos(F, T_j)) (Eq. 8): [n, channels], [labels, channels] of length 1 or 0 ->
    [n, labels]. A feature or centre of length zero resembles nothing.

    >>> similarities(np.array([[3.0, 4.0]]), np.array([[1.0, 0.0], [0.0, -1.0]])).tolist()
    [[0.6, 0.0]]
    """
    features = features.astype(np.float64, copy=False)  # float32 rounds, and its squares overflow
    length = np.linalg.norm(features, axis=1, keepdims=True)
    cosines = features @ directions.T / np.where(length > 0, length, 1.0)
    return np.clip(cosines, 0.0, 1.0)  # rounding may exceed 1


def separabilities(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """S = ‖t‖₂ · (t_H − t_SH) · t_H / t_SH (Eq. 9) for each row: [n, labels] -> [n].

    A tie of the two highest gives 0. With fewer than two labels there is no rival to stand apart
    from, so nothing is separable: S = 0.

    >>> separabilities(np.array([[0.8, 0.6, 0.0]])).round(9).tolist()  # 1 · 0.2 · 0.8 / 0.6
    [0.266666667]
    >>> separabilities(np.array([[0.8, 0.8], [0.0, 0.0]])).tolist()
    [0.0, 0.0]
    """
    if t.shape[1] < 2:
        return np.zeros(len(t))
    second, highest = np.partition(t, -2, axis=1)[:, -2:].T
    norm = np.sqrt(np.einsum("ij,ij->i", t, t))
    s: NDArray[np.float64] = norm * (highest - second) * highest / np.maximum(second, TINY)
    return s


class SemanticCache:
    """The centres of one plan during one run.

    `count_cap` bounds m_j in Eq. 7, so that old tasks fade; None: the mean of all tasks so far.
    """

    def __init__(self, centres: Centres, count_cap: int | None = None) -> None:
        self.feature = centres.feature.copy()
        self.count = centres.count.copy()
        self._cap = count_cap
        self._known = np.flatnonzero(self.count)  # labels with a centre
        self._row = {int(label): row for row, label in enumerate(self._known)}
        self._directions = unit_rows(self.feature[self._known])

    def match(self, feature: NDArray[np.floating]) -> Match:
        """The nearest label and the separability of one task: [channels]."""
        (label,), (separability,) = self.match_all(feature[None])
        return Match(int(label), float(separability))

    def match_all(
        self, features: NDArray[np.floating]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Nearest labels and separabilities, by the present centres: [n, channels] -> [n], [n].

        Labels without a centre take no part; of equally near ones the lowest wins.
        """
        if not len(self._known):
            return np.full(len(features), -1), np.zeros(len(features))
        t = similarities(features, self._directions)
        return self._known[t.argmax(axis=1)], separabilities(t)

    def learn(self, label: int, feature: NDArray[np.floating]) -> None:
        """Move the centre of `label` towards a task that was given this label (Eq. 7):
        T_j ← (m_j T_j + F) / (m_j + 1)."""
        count = int(self.count[label])
        weight = count if self._cap is None else min(count, self._cap)
        self.feature[label] = (weight * self.feature[label] + feature) / (weight + 1)
        self.count[label] = count + 1
        if label in self._row:
            row = self._row[label]
            self._directions[row] = unit_rows(self.feature[label][None])[0]
        else:  # a label that the stream has brought
            self._known = np.flatnonzero(self.count)
            self._row = {int(known): row for row, known in enumerate(self._known)}
            self._directions = unit_rows(self.feature[self._known])


def unit_rows(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows at length 1, zeros stay: [n, channels] -> the same."""
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.where(length > 0, length, 1.0)
