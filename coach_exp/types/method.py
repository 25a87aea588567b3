"""The one protocol behind which COACH and every baseline stand.

Offline, `Method.plan` turns a problem into plans. Online, a `Controller` answers two questions for
each task: which plan does it run (before its end part starts), and at each decision point: exit, go
on, or send at how many bits? It cannot tell whether the simulator or the executor asks.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from coach_exp.types.graph import Layer, LayerGraph
from coach_exp.types.online import SemanticTable
from coach_exp.types.outcomes import BitTable, Codec, Outcomes
from coach_exp.types.plan import DecisionPoint, Plan, PlanSet
from coach_exp.types.profile import DeviceProfile
from coach_exp.types.workload import Workload


@dataclass(frozen=True, slots=True)
class Link:
    """What a planner may assume of the link: its rate, half of `rtt_s` on each delivery, and
    whether answers return.
    """

    bandwidth_bps: float
    rtt_s: float = 0.0
    result_return: bool = False


@dataclass(frozen=True)
class Calibration:
    """The model's answers on the splits from which an online part learns before the first task, and
    the tables made of them so far, which depend on cut and settings alone."""

    centres: Outcomes
    calib: Outcomes
    tables: dict[Hashable, SemanticTable] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """Everything a method may know before the first task.

    `measured_bytes`: payload size by layer at the layer's width in `bits`, where it was measured
    (entropy-coded tensors, a JPEG input); of all others the codec knows the size.
    """

    graph: LayerGraph
    end: DeviceProfile
    cloud: DeviceProfile
    link: Link
    codec: Codec
    bits: BitTable
    workload: Workload
    raw_input_may_cross: bool = True
    t_max_s: float | None = None
    outcomes: Outcomes | None = None
    calibration: Calibration | None = None
    measured_bytes: Mapping[str, int] = field(default_factory=dict)

    def expected_bytes(self, layer: Layer, bits: int) -> int:
        """Size of a layer's payload at `bits`, as far as it is known before the first task."""
        measured = self.measured_bytes.get(layer.name)
        if measured is not None and bits == self.bits.bits(layer.name):
            return measured
        return self.codec.expected_bytes(layer.elements, bits, layer.rows)


@dataclass(slots=True)
class Observation:
    """What a controller sees when it is asked; valid during the call only.

    `backlog` counts the tasks that were started and are not answered yet, this one excluded;
    `bandwidth_bps` is the estimator's value. `outcomes` is None when only times are simulated.
    """

    now_s: float
    backlog: int
    bandwidth_bps: float
    sample: int
    outcomes: Outcomes | None


@dataclass(frozen=True, slots=True)
class Decision:
    """Answer at a decision point. `label` goes with exit; `bits`, one per crossing tensor, with
    send (None: the plan's).
    """

    action: Literal["exit", "go_on", "send"]
    label: int = -1
    bits: tuple[int, ...] | None = None
    separability: float = float("nan")


GO_ON = Decision("go_on")
SEND = Decision("send")


class Transfer(NamedTuple):
    """A finished transfer, told to the controller and to the bandwidth estimator when its last byte
    has left.
    """

    task: int
    payload_bytes: int
    start_s: float
    end_s: float


class Controller(Protocol):
    """The online half of a method: fresh for every run, asked in the order of time."""

    def choose(self, task: int, observation: Observation) -> Plan:
        """The plan of this task, asked before its end part starts."""

    def at_head(
        self, task: int, plan: Plan, head: DecisionPoint, observation: Observation
    ) -> Decision:
        """Exit or go on, at an exit head on the end or on the cloud."""

    def at_cut(self, task: int, plan: Plan, observation: Observation) -> Decision:
        """Exit, or send at how many bits; asked when the last crossing tensor of an
        `after_decision` plan is ready.
        """

    def gave_up(self, task: int, plan: Plan, observation: Observation) -> Decision:
        """Exit with what the end knows, or go on: the end computes the remaining layers. Asked when
        the link has kept the task for longer than the plan's timeout.
        """

    def sent(self, transfer: Transfer) -> None:
        """A transfer has finished; of those that were abandoned nothing is told."""

    def answered(self, task: int, label: int, now_s: float) -> None:
        """The answer of a task is known on the end."""


class Method(Protocol):
    """COACH or a baseline."""

    @property
    def name(self) -> str:
        """The name in configs, tables and records."""

    def view(self, problem: Problem) -> Problem:
        """The problem as this method meets it: with its own payloads, its exit heads, its number of
        tasks in flight. Most methods change nothing. Whatever follows sees this one: the plan, its
        bounds, the run.
        """

    def plan(self, problem: Problem) -> PlanSet:
        """Offline: the plans to choose from, for a problem as viewed. Raises InfeasibleError when
        no cut satisfies the constraints.
        """

    def controller(self, plans: PlanSet) -> Controller:
        """A fresh online half for one run."""


class FixedPlans:
    """The controller of a method that decides nothing online: error diffusion over the plan set's
    weights.
    """

    def __init__(self, plans: PlanSet) -> None:
        self._plans = plans.plans
        self._weights = plans.weights
        self._owed = [0.0] * len(plans.plans)
        self._only = plans.plans[0] if len(plans.plans) == 1 else None

    def choose(self, task: int, observation: Observation) -> Plan:
        """The plan that is furthest behind its share of the tasks."""
        if self._only is not None:
            return self._only
        self._owed = [owed + weight for owed, weight in zip(self._owed, self._weights, strict=True)]
        behind = max(range(len(self._plans)), key=self._owed.__getitem__)
        self._owed[behind] -= 1
        return self._plans[behind]

    def at_head(
        self, task: int, plan: Plan, head: DecisionPoint, observation: Observation
    ) -> Decision:
        """Never exits."""
        return GO_ON

    def at_cut(self, task: int, plan: Plan, observation: Observation) -> Decision:
        """Sends at the plan's bits."""
        return SEND

    def gave_up(self, task: int, plan: Plan, observation: Observation) -> Decision:
        """The end finishes the task."""
        return GO_ON

    def sent(self, transfer: Transfer) -> None:
        """Learns nothing."""

    def answered(self, task: int, label: int, now_s: float) -> None:
        """Learns nothing."""
