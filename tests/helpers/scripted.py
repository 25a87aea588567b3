"""Plans made by hand and a method that follows a script, for the simulator and the executor."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, nan

from coach_exp.types.method import GO_ON, SEND, Observation, Problem, Transfer
from coach_exp.types.outcomes import Crossing
from coach_exp.types.plan import (
    Bubbles,
    DecisionPoint,
    ObjectiveValue,
    Overlap,
    Plan,
    StageTimes,
)
from coach_exp.types.workload import Workload
from helpers.graphs import PlainCodec, chain


def made(
    end_s: float,
    *tensors: tuple[float, int, float],
    release: str = "per_tensor",
    heads: tuple[DecisionPoint, ...] = (),
    timeout_s: float = inf,
    local_s: float = 0.0,
) -> Plan:
    """A plan by hand: end seconds, then (ready_s, bytes, cloud_s) of each tensor."""
    ready, sizes, work = zip(*tensors, strict=True) if tensors else ((), (), ())
    return Plan(
        end_layers=tuple(map(str, range(len(tensors)))),
        crossing=tuple(Crossing(str(k), 8) for k in range(len(tensors))),
        release=release,
        stage_s=StageTimes(end_s, sum(sizes) / 1000, sum(work)),
        overlap_s=Overlap(0, 0),
        latency_s=nan,
        objective=ObjectiveValue("bottleneck", nan, Bubbles(nan, nan)),
        ready_s=ready,
        cloud_work_s=work,
        payload_bytes=sizes,
        heads=heads,
        timeout_s=timeout_s,
        local_s=local_s,
    )


def single(end_s: float, link_s: float, cloud_s: float, **changes) -> Plan:
    """One tensor of `link_s` kilobytes at the end of the end's work."""
    return made(end_s, (end_s, round(1000 * link_s), cloud_s), **changes)


def world(workload: Workload, **changes) -> Problem:
    """A problem for the simulator: the graph only gives the tensors their elements."""
    return replace(
        chain([0] * 4, [0] * 4, [1, 2, 3, 4]),
        workload=workload,
        codec=PlainCodec(header_bytes=16),
        **changes,
    )


@dataclass
class Told:
    """One call of the controller: what it was asked, or what it was told."""

    call: str
    task: int
    time_s: float
    backlog: int = -1
    bandwidth_bps: float = nan
    sample: int = -1
    transfer: Transfer | None = None
    label: int = -1


class Scripted:
    """Runs the given plan and takes the given decisions of each task; keeps a diary of all calls.

    `decide(call, task)` answers at heads (`call` is the head's layer), at the cut and when a task
    gives up.
    """

    def __init__(self, plans: Sequence[Plan], decide=lambda call, task: None) -> None:
        self.plans, self.decide = plans, decide
        self.diary: list[Told] = []

    def _ask(self, call: str, task: int, observation: Observation) -> None:
        self.diary.append(
            Told(
                call,
                task,
                observation.now_s,
                observation.backlog,
                observation.bandwidth_bps,
                observation.sample,
            )
        )

    def choose(self, task, observation):
        self._ask("choose", task, observation)
        return self.plans[task % len(self.plans)]

    def at_head(self, task, plan, head, observation):
        self._ask(head.layer, task, observation)
        return self.decide(head.layer, task) or GO_ON

    def at_cut(self, task, plan, observation):
        self._ask("cut", task, observation)
        return self.decide("cut", task) or SEND

    def gave_up(self, task, plan, observation):
        self._ask("gave up", task, observation)
        return self.decide("gave up", task) or GO_ON

    def sent(self, transfer):
        self.diary.append(Told("sent", transfer.task, transfer.end_s, transfer=transfer))

    def answered(self, task, label, now_s):
        self.diary.append(Told("answered", task, now_s, label=label))
