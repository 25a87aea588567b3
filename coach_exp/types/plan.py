"""A plan: which layers the end runs, what crosses the link at how many bits, and the times that
follow.

All times in seconds. A plan is complete: the simulator and the executor need nothing else to run a
task by it.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from math import inf, isclose
from typing import Any, Literal

from coach_exp.types.errors import ConfigError
from coach_exp.types.online import SemanticTable
from coach_exp.types.outcomes import Crossing

Release = Literal["per_tensor", "after_decision"]
Side = Literal["end", "cloud"]


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Seconds one task holds each resource of the pipeline: T_e, T_t, T_c (Eq. 2)."""

    end_s: float
    link_s: float
    cloud_s: float

    @property
    def period_s(self) -> float:
        """Seconds between two answers of a full pipeline: the largest stage.

        >>> StageTimes(end_s=2, link_s=3, cloud_s=1).period_s
        3
        """
        return max(self.end_s, self.link_s, self.cloud_s)

    @property
    def total_s(self) -> float:
        """T_e + T_t + T_c, the service latency without overlap (left side of Eq. 3)."""
        return self.end_s + self.link_s + self.cloud_s

    @property
    def idle_ratios(self) -> "StageTimes":
        """Fraction of a full pipeline's period in which each resource idles.

        >>> StageTimes(end_s=2, link_s=4, cloud_s=1).idle_ratios
        StageTimes(end_s=0.5, link_s=0.0, cloud_s=0.75)
        """
        period = self.period_s or 1.0
        return StageTimes(
            1 - self.end_s / period, 1 - self.link_s / period, 1 - self.cloud_s / period
        )


@dataclass(frozen=True, slots=True)
class Overlap:
    """T_t^p: link seconds while the same task still computes on the end; T_c^p: cloud seconds while
    it still sends.
    """

    link_s: float
    cloud_s: float


@dataclass(frozen=True, slots=True)
class Bubbles:
    """B_c and B_t of Eq. 5, in seconds."""

    compute_s: float
    link_s: float


@dataclass(frozen=True, slots=True)
class ObjectiveValue:
    """What the planner minimised, its value, and the bubbles of the plan whatever the objective."""

    name: str
    value: float
    bubbles: Bubbles


@dataclass(frozen=True, slots=True)
class DecisionPoint:
    """An exit head: after `layer`, when `side` has computed `at_s` seconds of this task, its own
    included. Where a method decides by confidence, a task of at least `threshold` is answered here.
    """

    side: Side
    layer: str
    at_s: float
    threshold: float = inf


@dataclass(frozen=True)
class Plan:
    """How one task is run.

    `end_layers` are in execution order and `crossing` in sending order. The k-th crossing tensor is
    ready `ready_s[k]` seconds after the end starts the task; its arrival lets the cloud work
    `cloud_work_s[k]` seconds more. `release` says whether sending waits for the decision at the
    cut. `lower_bound` bounds the objective of every plan, where known. `online` is what is decided
    at the cut, None where every task is sent as planned; deciding and packing take `decision_s`,
    which `stage_s.end_s` includes. The plan was made for a link of `link_bps`.

    A task whose last byte has not left the end `timeout_s` seconds after its first tensor could
    be sent gives up, though not before its end part is over. If the end then has to compute the
    remaining layers itself, that takes `local_s` seconds more.
    """

    end_layers: tuple[str, ...]
    crossing: tuple[Crossing, ...]
    release: Release
    stage_s: StageTimes
    overlap_s: Overlap
    latency_s: float
    objective: ObjectiveValue
    ready_s: tuple[float, ...]
    cloud_work_s: tuple[float, ...]
    payload_bytes: tuple[int, ...]
    heads: tuple[DecisionPoint, ...] = ()
    decision_s: float = 0.0
    link_bps: float = 0.0
    timeout_s: float = inf
    local_s: float = 0.0
    evaluations: int = 0
    lower_bound: float | None = None
    online: SemanticTable | None = field(default=None, compare=False, repr=False)

    @property
    def cut_name(self) -> str:
        """The crossing tensors' layers, for tables; 'device-only' when nothing crosses."""
        return "+".join(c.layer for c in self.crossing) or "device-only"

    @property
    def gap(self) -> float | None:
        """By which share the objective exceeds its lower bound, where one is known."""
        if not self.lower_bound:
            return None
        return self.objective.value / self.lower_bound - 1

    def as_json(self, weight: float) -> dict[str, Any]:
        """The entry of `plan.json` for this plan, used for the fraction `weight` of the tasks."""
        return {
            "weight": weight,
            "end_layers": sorted(self.end_layers),
            "crossing": [asdict(c) for c in self.crossing],
            "order": list(self.end_layers),
            "release": self.release,
            "stage_s": {
                "end": self.stage_s.end_s,
                "link": self.stage_s.link_s,
                "cloud": self.stage_s.cloud_s,
            },
            "overlap_s": {"link": self.overlap_s.link_s, "cloud": self.overlap_s.cloud_s},
            "decision_s": self.decision_s,
            "link_bps": self.link_bps,
            "timeout_s": self.timeout_s if self.timeout_s < inf else None,
            "local_s": self.local_s,
            "latency_s": self.latency_s,
            "objective": {
                "name": self.objective.name,
                "value": self.objective.value,
                "bubbles": {
                    "compute": self.objective.bubbles.compute_s,
                    "link": self.objective.bubbles.link_s,
                },
            },
            "payload_bytes": list(self.payload_bytes),
            "evaluations": self.evaluations,
            "lower_bound": self.lower_bound,
            "gap": self.gap,
            "online": None if self.online is None else self.online.as_json(),
        }


@dataclass(frozen=True)
class PlanSet:
    """Plans with the fraction of tasks each should run; `bounds` is what no plan can beat.

    `prepared`: what takes their place when the link has another rate, where the method re-plans.
    `remarks`: what the method has to say about its plans, for people.
    """

    plans: tuple[Plan, ...]
    weights: tuple[float, ...] = (1.0,)
    bounds: Mapping[str, float] = field(default_factory=dict)
    prepared: "tuple[PlanSet, ...]" = ()
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.plans) != len(self.weights) or not isclose(sum(self.weights), 1.0):
            raise ConfigError(
                f"{len(self.plans)} plans need as many weights that sum to 1, not {self.weights}"
            )

    @property
    def link_bps(self) -> float:
        """The rate that the plans were made for."""
        return self.plans[0].link_bps

    @property
    def every(self) -> tuple[Plan, ...]:
        """All plans that tasks may run, the prepared ones as well."""
        return (*self.plans, *(plan for other in self.prepared for plan in other.every))

    def each(self, change: Callable[[Plan], Plan]) -> "PlanSet":
        """The same set with every plan changed, the prepared ones as well."""
        return replace(
            self,
            plans=tuple(change(plan) for plan in self.plans),
            prepared=tuple(other.each(change) for other in self.prepared),
        )

    def as_json(self) -> dict[str, Any]:
        """The whole `plan.json`; prepared plans follow with the weight 0."""
        plans = [p.as_json(w) for p, w in zip(self.plans, self.weights, strict=True)]
        plans += [plan.as_json(0.0) for other in self.prepared for plan in other.plans]
        return {"plans": plans, "bounds": dict(self.bounds), "remarks": list(self.remarks)}
