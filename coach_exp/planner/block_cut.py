"""A cut inside one virtual block that changes a layer at a time.

In: the costs of a problem and the number of a block. Out: for the present cut its stage times, its
one-task schedule and its rank, at little more than what a move changes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

from coach_exp.planner.candidate import TOLERANCE, Candidate, CutCost
from coach_exp.planner.objective import Objective, Range
from coach_exp.planner.runs import ENTRY, Runs
from coach_exp.planner.schedule import seconds_before, served
from coach_exp.types.graph import LayerGraph
from coach_exp.types.plan import Overlap, Release, StageTimes

Held = tuple[int, ...]  # of each run, how many layers are on the end


@dataclass(frozen=True, slots=True)
class CutSchedule:
    """The one-task schedule of a cut (Fig. 4). Positions count through the graph's layers.

    `order`: the block's end layers as executed, run by run; `sent`: crossing tensors as sent;
    `ready_s[k]`: when the k-th is produced; `work_s[k]`: the cloud seconds that its arrival
    releases.
    """

    order: tuple[tuple[int, ...], ...]
    sent: tuple[int, ...]
    ready_s: tuple[float, ...]
    work_s: tuple[float, ...]
    overlap: Overlap
    latency_s: float


class Costs(Protocol):
    """What a cut is reckoned from. `planner.cost_model.CostModel` says what each member means."""

    graph: LayerGraph
    objective: Objective
    release: Release
    end_s: tuple[float, ...]
    cloud_s: tuple[float, ...]
    send_s: tuple[float, ...]
    decide_s: tuple[float, ...]
    end_before: tuple[float, ...]
    cloud_from: tuple[float, ...]
    half_rtt_s: float
    return_s: float

    def span(self, block: int) -> tuple[int, int]:
        """Positions of the block's entry and exit."""

    def rank(self, cost: CutCost) -> Candidate:
        """The candidate with its objective and the constraint it breaks most, if any."""


class BlockCut:
    """A cut inside one block that can be changed a layer at a time, at O(degree) a move, and
    scheduled at one step for each linear run.

    Starts just behind the entry: the block's interior and its exit are on the cloud.
    """

    def __init__(self, model: Costs, block: int) -> None:
        self.model = model
        self.block = block
        self.entry, self.exit = model.span(block)
        self.runs = Runs.of(model.graph, self.entry, self.exit, model.end_s, model.cloud_s)
        self._held = [0] * len(self.runs)
        users = model.graph.successors[self.entry : self.exit]
        self._cloud_users = [len(u) for u in users]
        self._on_end = bytearray(self.exit - self.entry + 1)
        self._on_end[0] = True
        self._end_s = model.end_before[self.entry] + model.decide_s[self.entry]
        self._link_s = model.send_s[self.entry]
        self._cloud_s = model.cloud_from[self.entry + 1]

    def __contains__(self, layer: int) -> bool:
        """Whether an interior layer is on the end."""
        return bool(self._on_end[layer - self.entry])

    @property
    def held(self) -> Held:
        """The cut as a value."""
        return tuple(self._held)

    def move_to(self, held: Held) -> None:
        """Change this cut into that one."""
        for layers, here, there in zip(self.runs.layers, self.held, held, strict=True):
            for layer in layers[here:there]:
                self.to_end(layer)
            for layer in reversed(layers[there:here]):
                self.to_cloud(layer)

    @property
    def interior(self) -> tuple[int, ...]:
        """The interior layers on the end, run by run."""
        return tuple(chain.from_iterable(self._parts()))

    def _parts(self, runs: Iterable[int] | None = None) -> Iterator[tuple[int, ...]]:
        """What the end holds of each run."""
        of, held = self.runs.layers, self._held
        return (of[run][: held[run]] for run in (range(len(of)) if runs is None else runs))

    @property
    def stage(self) -> StageTimes:
        """T_e, T_t, T_c of the present cut."""
        return StageTimes(self._end_s, self._link_s, self._cloud_s)

    def to_end(self, layer: int) -> None:
        """Move a layer whose predecessors are all on the end."""
        model, offset = self.model, layer - self.entry
        self._on_end[offset] = True
        self._held[self.runs.run_of[offset]] += 1
        self._end_s += model.end_s[layer] + model.decide_s[layer]
        self._cloud_s -= model.cloud_s[layer]
        self._link_s += model.send_s[layer]
        for source in model.graph.predecessors[layer]:
            self._cloud_users[source - self.entry] -= 1
            if self._cloud_users[source - self.entry] == 0:
                self._link_s -= model.send_s[source]
                self._end_s -= model.decide_s[source]

    def to_cloud(self, layer: int) -> None:
        """Move a layer whose successors are all on the cloud back."""
        model, offset = self.model, layer - self.entry
        self._on_end[offset] = False
        self._held[self.runs.run_of[offset]] -= 1
        self._end_s -= model.end_s[layer] + model.decide_s[layer]
        self._cloud_s += model.cloud_s[layer]
        self._link_s -= model.send_s[layer]
        for source in model.graph.predecessors[layer]:
            if self._cloud_users[source - self.entry] == 0:
                self._link_s += model.send_s[source]
                self._end_s += model.decide_s[source]
            self._cloud_users[source - self.entry] += 1

    def floor(self) -> float:
        """A bound on the objective of this very cut that needs no schedule."""
        stage, model = self.stage, self.model
        rest_s, before_s = model.cloud_from[self.exit], model.end_before[self.entry]
        latency_s = model.half_rtt_s + model.return_s
        latency_s += max(stage.end_s + rest_s, before_s + max(stage.link_s + rest_s, stage.cloud_s))
        return model.objective.floor(
            Range(stage.end_s, stage.end_s),
            Range(stage.link_s, stage.link_s),
            Range(stage.cloud_s, stage.cloud_s),
            latency_s,
        )

    def candidate(self, schedule: CutSchedule) -> Candidate:
        """The present cut, ranked."""
        crosses_input = self.entry == 0 and self._cloud_users[0] > 0
        overlap, latency_s = schedule.overlap, schedule.latency_s
        return self.model.rank(
            CutCost(self.block, self.interior, self.stage, overlap, latency_s, crosses_input)
        )

    def evaluate(self, best: Candidate | None) -> Candidate | None:
        """The present cut, ranked; None when it cannot beat `best` whatever its schedule, which is
        then not run."""
        if best is not None and best.violation_s == 0:
            floor, slack = self.floor(), TOLERANCE * abs(best.value)
            if floor > best.value + slack:
                return None
            if floor > best.value - slack and self.stage.total_s >= best.stage.total_s:
                return None
        return self.candidate(self.schedule())

    def schedule(self) -> CutSchedule:
        """Run one task through the present cut: end, link and cloud one item at a time (Fig. 4)."""
        order, ready = self._end_order()
        work_s = self._cloud_work(tuple(ready))
        sent = tuple(self.entry if run == ENTRY else self._last(run) for run in ready)
        return self._play(tuple(self._parts(order)), sent, tuple(ready.values()), work_s)

    def _last(self, run: int) -> int:
        """The last layer of a run that is on the end: no other's output can cross."""
        return self.runs.layers[run][self._held[run] - 1]

    def _crossing(self) -> list[int]:
        """Runs whose last end layer has an output that some cloud layer needs."""
        entry, users = self.entry, self._cloud_users
        return [
            run for run, held in enumerate(self._held) if held and users[self._last(run) - entry]
        ]

    def _end_order(self) -> tuple[tuple[int, ...], dict[int, float]]:
        """Execution order of the runs, and when the crossing tensor of each is ready.

        Johnson's rule for two machines: a crossing tensor is a job of (end seconds to produce it,
        link seconds); it is optimal for branches that share nothing, and large early tensors go
        first.
        """
        model, held, end_s = self.model, self._held, self.runs.end_s
        needs = {run: self.runs.needed(run) for run in self._crossing()}
        jobs = []
        for run, needed in needs.items():
            work = sum([end_s[each][held[each]] for each in needed])
            send = model.send_s[self._last(run)]
            jobs.append((0, work, run) if work < send else (1, -send, run))
        clock = model.end_before[self.entry]
        ready = {ENTRY: clock} if self._cloud_users[0] else {}
        order: dict[int, None] = {}
        for *_, target in sorted(jobs):
            for run in needs[target]:
                if run not in order:
                    order[run] = None
                    clock += end_s[run][held[run]]
                    if run in needs:
                        ready[run] = clock
        return tuple(order), ready

    def _cloud_work(self, sent: tuple[int, ...]) -> tuple[float, ...]:
        """Cloud seconds that each arrival releases, by the runs that send: what the cloud holds of
        a run is released by the run's own tensor, or else by the last input of its first layer."""
        runs = self.runs
        released = {run: k for k, run in enumerate(sent)}
        work = [0.0] * len(sent)
        for run, held in enumerate(self._held):
            if not held:
                released[run] = max([released[source] for source in runs.sources[run]])
            if held < len(runs.layers[run]):
                work[released[run]] += runs.cloud_s[run][held]
        work[-1] += self.model.cloud_from[self.exit]
        return tuple(work)

    def _play(
        self,
        order: tuple[tuple[int, ...], ...],
        sent: tuple[int, ...],
        ready_s: tuple[float, ...],
        work_s: tuple[float, ...],
    ) -> CutSchedule:
        """Send in order of production, let the cloud work as tensors arrive; measure overlaps."""
        model = self.model
        waits_s = self._end_s if model.release == "after_decision" else 0.0
        released_s = [max(ready, waits_s) for ready in ready_s]
        link = served(released_s, [model.send_s[layer] for layer in sent])
        cloud = served([left_s + model.half_rtt_s for _, left_s in link], work_s)
        (_, link_end_s), (_, cloud_end_s) = link[-1], cloud[-1]
        overlap = Overlap(seconds_before(link, self._end_s), seconds_before(cloud, link_end_s))
        return CutSchedule(order, sent, ready_s, work_s, overlap, cloud_end_s + model.return_s)
