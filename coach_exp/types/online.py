"""What the online part of a plan knows before the first task (paper, Section III-C).

Frozen values: where the semantic centres start, from which separability on a task may exit or be
sent with fewer bits, and what those thresholds cost on the calibration split.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Budget = Literal["paper", "joint", "guarantee"]
Rule = Literal["eq11", "fill"]
Update = Literal["exits", "results", "none"]


@dataclass(frozen=True, eq=False)
class Centres:
    """Semantic centres: `feature[j]` is T_j, the mean task feature of label j, over `count[j]`
    tasks (m_j of Eq. 7); a label of count 0 has no centre. [labels, channels], [labels]."""

    feature: NDArray[np.float64]
    count: NDArray[np.int64]

    @staticmethod
    def of(features: NDArray[Any], labels: NDArray[np.int64], classes: int) -> "Centres":
        """Means by label: [n, channels], [n] -> centres of `classes` labels."""
        count = np.bincount(labels, minlength=classes)
        total = np.zeros((classes, features.shape[1]))
        np.add.at(total, labels, features)
        return Centres(total / np.maximum(count, 1)[:, None], count)


@dataclass(frozen=True, slots=True)
class Rung:
    """A width a task may be sent with. `widths` are the crossing tensors', `bits` the widest of
    those that may change; `payload_bytes` is their size together. Only a task of separability above
    `threshold` (S_adj) may be sent so; -inf: any task."""

    bits: int
    widths: tuple[int, ...]
    payload_bytes: int
    threshold: float = -inf


@dataclass(frozen=True, eq=False)
class Curve:
    """What a threshold admits on the calibration split: `share[k]` of the tasks are above
    `threshold[k]`, and admitting them loses `loss_points[k]` percentage points of all. `chosen` is
    the threshold taken (inf: none is admitted)."""

    name: str
    threshold: NDArray[np.float64]
    share: NDArray[np.float64]
    loss_points: NDArray[np.float64]
    chosen: float


@dataclass(frozen=True, slots=True)
class Certified:
    """Shares of the calibration tasks that exit, and that are sent with fewer bits, when an
    accuracy loss of at most `limit_points` is certified."""

    limit_points: float
    exit_share: float
    adjusted_share: float


@dataclass(frozen=True, eq=False)
class SemanticTable:
    """The online part of one plan, as calibrated: nothing here changes during a run.

    A task of separability above `exit_threshold` (S_ext) is answered from the cache. `rungs` are in
    the order of growing bits, and the plan's own width, which any task may have, is among them.
    `videos` and `samples` count the calibration split; `loss_points` is what all exits and the
    fewest permitted bits lose on it together, against the plan without an online part.
    `certified` (by limit) and `min_certified`, the smallest limit that can be, are filled under
    `budget = guarantee` alone.
    """

    budget: Budget
    centres: Centres
    exit_threshold: float
    rungs: tuple[Rung, ...]
    curves: tuple[Curve, ...]
    samples: int
    videos: int
    exit_share: float
    loss_points: float
    certified: tuple[Certified, ...] = ()
    min_certified: Certified | None = None

    def as_json(self) -> dict[str, Any]:
        """For `plan.json`; thresholds that admit nothing or everything are null."""
        return {
            "budget": self.budget,
            "exit_threshold": _finite(self.exit_threshold),
            "rungs": [
                {
                    "bits": rung.bits,
                    "widths": list(rung.widths),
                    "payload_bytes": rung.payload_bytes,
                    "threshold": _finite(rung.threshold),
                }
                for rung in self.rungs
            ],
            "labels_with_a_centre": int((self.centres.count > 0).sum()),
            "calibration": {
                "samples": self.samples,
                "videos": self.videos,
                "exit_share": self.exit_share,
                "loss_points": self.loss_points,
            },
            "certified": [_certified(each) for each in self.certified],
            "min_certified": _certified(self.min_certified) if self.min_certified else None,
        }


def _finite(value: float) -> float | None:
    return value if abs(value) < inf else None


def _certified(each: Certified) -> Mapping[str, float]:
    return {
        "limit_points": each.limit_points,
        "exit_share": each.exit_share,
        "adjusted_share": each.adjusted_share,
    }
