"""What a cut costs (paper, Section III-B, Eqs. 2-5 and Fig. 4).

In: a problem (graph, two profiles, link, bit-widths). Out: for any cut its stage times, its
one-task schedule with the overlaps, its objective, and at last its Plan. Nothing here chooses a
cut.

A cut vertex is a layer through which all data flows: after it only its own output is alive. The cut
vertices are the paper's top chain; what lies between two neighbours is a virtual block, and every
cut lies in one block (`entry` on the end, `exit` on the cloud) or just behind the sink
(device-only).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, chain
from math import inf

from coach_exp.planner.objective import Objective, Range, bubbles
from coach_exp.planner.runs import ENTRY, Runs
from coach_exp.types.errors import InfeasibleError
from coach_exp.types.graph import LayerGraph
from coach_exp.types.method import Problem
from coach_exp.types.outcomes import Crossing
from coach_exp.types.plan import ObjectiveValue, Overlap, Plan, Release, StageTimes

TOLERANCE = 1e-9  # relative; differences below it are rounding, not preference


@dataclass(frozen=True, slots=True)
class Schedule:
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


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cut with its cost: block number, the block's interior layers on the end, and the ranking.

    `violation_s` is 0 for a feasible cut, otherwise the seconds by which it breaks the constraint
    that `broken` names. `rank` orders cuts: less violation, then a lower objective, then a lower
    T_e + T_t + T_c, all rounded: what differs in the tenth digit is rounding, not preference.
    """

    block: int
    interior: tuple[int, ...]
    stage: StageTimes
    value: float
    violation_s: float
    broken: str
    rank: tuple[float, float, float]

    def beats(self, other: "Candidate | None") -> bool:
        """Whether this cut comes before the other."""
        return other is None or self.rank < other.rank


def _rounded(value: float) -> float:
    return float(f"{value:.9e}")


def cut_vertices(graph: LayerGraph) -> tuple[int, ...]:
    """Positions of the layers through which all data flows; the input and the sink are the first
    and the last. Linear: sweep the topological order, counting edges that jump over each layer.
    """
    opened, crossed, result = 0, 0, []
    closing = [0] * len(graph)
    for i, users in enumerate(graph.successors):
        crossed -= closing[i]
        if crossed == 0:
            result.append(i)
        opened = len(users)
        for user in users:
            closing[user] += 1
        crossed += opened
    return tuple(result)


def boundaries(graph: LayerGraph, count: int) -> tuple[int, ...]:
    """Positions of at most `count` cut vertices spread evenly along the model, the input, the sink
    and views left out: where to look when every depth is to be seen."""
    places = [i for i in cut_vertices(graph)[1:-1] if graph.layers[i].kind != "view"]
    last, wanted = len(places) - 1, min(count, len(places))
    spread = {round(k * last / max(wanted - 1, 1)) for k in range(wanted)}
    return tuple(places[k] for k in sorted(spread))


class CostModel:
    """The costs of one problem as arrays over layer positions.

    `end_s`, `cloud_s`: seconds of each layer; `send_s`, `send_bytes`: of its output on the link;
    `decide_s`: end seconds to decide about its output and pack it, which a task spends on every
    crossing tensor once the last is there, 0 where nothing is decided at the cut;
    `overlap_limited`: whether constraint (4), which is COACH's own, binds;
    `end_before[i]`: end seconds of layers 0 … i; `cloud_from[i]`: cloud seconds of layers i … sink.
    """

    def __init__(
        self,
        problem: Problem,
        objective: Objective,
        release: Release,
        *,
        overlap_limited: bool = True,
    ) -> None:
        graph = problem.graph
        self.problem = problem
        self.graph = graph
        self.objective = objective
        self.release = release
        self.overlap_limited = overlap_limited
        self.end_s = problem.end.seconds(graph)
        self.cloud_s = problem.cloud.seconds(graph)
        self.bits = tuple(problem.bits.bits(layer.name) for layer in graph.layers)
        self.send_bytes = tuple(
            problem.expected_bytes(layer, bits)
            for layer, bits in zip(graph.layers, self.bits, strict=True)
        )
        self.send_s = tuple(8 * size / problem.link.bandwidth_bps for size in self.send_bytes)
        self.decide_s = (0.0,) * len(graph)
        if release == "after_decision":
            self.decide_s = problem.end.decision_seconds(graph)
        self.end_before = tuple(accumulate(self.end_s))
        self.cloud_from = tuple(accumulate(reversed(self.cloud_s)))[::-1]
        self.chain = cut_vertices(graph)
        self.half_rtt_s = problem.link.rtt_s / 2
        self.return_s = self.half_rtt_s if problem.link.result_return else 0.0

    @property
    def blocks(self) -> int:
        """Number of virtual blocks, empty ones included."""
        return len(self.chain) - 1

    def span(self, block: int) -> tuple[int, int]:
        """Positions of the block's entry and exit."""
        return self.chain[block], self.chain[block + 1]

    def device_only(self) -> Candidate:
        """Everything on the end: nothing crosses, T_t = T_c = 0."""
        stage = StageTimes(self.end_before[-1], 0.0, 0.0)
        return self.rank(
            self.blocks, (), stage, Overlap(0.0, 0.0), stage.end_s, crosses_input=False
        )

    def boundary(self, block: int) -> Candidate:
        """The cut just behind the block's entry: exactly one tensor crosses."""
        entry = self.chain[block]
        end_s = self.end_before[entry] + self.decide_s[entry]
        stage = StageTimes(end_s, self.send_s[entry], self.cloud_from[entry + 1])
        latency_s = stage.total_s + self.half_rtt_s + self.return_s
        return self.rank(block, (), stage, Overlap(0.0, 0.0), latency_s, crosses_input=entry == 0)

    def rank(
        self,
        block: int,
        interior: tuple[int, ...],
        stage: StageTimes,
        overlap: Overlap,
        latency_s: float,
        *,
        crosses_input: bool,
    ) -> Candidate:
        """The candidate with its objective and the constraint it breaks most, if any."""
        value = self.objective.value(stage, overlap, latency_s)
        violation_s, broken = self._violation(stage, overlap, crosses_input)
        rank = (_rounded(violation_s), _rounded(value), _rounded(stage.total_s))
        return Candidate(block, interior, stage, value, violation_s, broken, rank)

    def _violation(
        self, stage: StageTimes, overlap: Overlap, crosses_input: bool
    ) -> tuple[float, str]:
        if crosses_input and not self.problem.raw_input_may_cross:
            return inf, "input.encoding = forbidden: the raw input would leave the end"
        limit_s = inf if self.problem.t_max_s is None else self.problem.t_max_s
        too_late_s = stage.total_s - limit_s
        if too_late_s > TOLERANCE * stage.total_s:
            limit_ms = 1e3 * limit_s
            return too_late_s, (
                f"constraint (3): T_e + T_t + T_c = {1e3 * stage.total_s:.3f} ms exceeds "
                f"t_max_ms = {limit_ms:g} by {1e3 * too_late_s:.3f} ms"
            )
        if not self.overlap_limited:
            return 0.0, ""
        parallel_s = overlap.link_s + overlap.cloud_s
        excess_s = parallel_s - stage.period_s
        if excess_s > TOLERANCE * stage.period_s:
            return excess_s, (
                f"constraint (4): T_t^p + T_c^p = {1e3 * parallel_s:.3f} ms exceeds the largest "
                "stage "
                f"by {1e3 * excess_s:.3f} ms"
            )
        return 0.0, ""

    def floor(self, block: int) -> float:
        """No cut inside the block has a lower objective."""
        entry, exit_ = self.span(block)
        min_send_s = min(self.send_s[entry:exit_])
        deciding_s = sum(self.decide_s[entry:exit_])
        end = Range(self.end_before[entry], self.end_before[exit_ - 1] + deciding_s)
        cloud = Range(self.cloud_from[exit_], self.cloud_from[entry + 1])
        latency_s = end.low + min_send_s + cloud.low + self.half_rtt_s + self.return_s
        return self.objective.floor(end, Range(min_send_s, inf), cloud, latency_s)

    def of(self, end_set: frozenset[int]) -> tuple[Candidate, Schedule]:
        """Cost and schedule of any end set (positions; see LayerGraph.end_set)."""
        if len(end_set) == len(self.graph):
            last = self.device_only()
            return last, Schedule((), (), (), (), Overlap(0.0, 0.0), last.stage.end_s)
        block = max(k for k in range(self.blocks) if self.chain[k] in end_set)
        cut = BlockCut(self, block)
        for layer in sorted(i for i in end_set if i > self.chain[block]):
            cut.to_end(layer)
        schedule = cut.schedule()
        return cut.candidate(schedule), schedule

    def end_set(self, candidate: Candidate) -> frozenset[int]:
        """All end layers of a candidate, by position."""
        return frozenset(range(self.chain[candidate.block] + 1)) | frozenset(candidate.interior)

    def plan(self, end_set: frozenset[int]) -> Plan:
        """The Plan of an end set. Raises InfeasibleError naming the constraint that it breaks."""
        candidate, schedule = self.of(end_set)
        layers = self.graph.layers
        if candidate.violation_s > 0:
            raise InfeasibleError(
                f"the cut that sends {[layers[i].name for i in schedule.sent] or 'nothing'} breaks "
                f"{candidate.broken}; relax that limit, or change device, cloud or bandwidth"
            )
        prefix = range(self.chain[candidate.block] + 1)
        order = tuple(layers[i].name for i in chain(prefix, *schedule.order))
        return Plan(
            end_layers=order,
            crossing=tuple(Crossing(layers[i].name, self.bits[i]) for i in schedule.sent),
            release=self.release,
            stage_s=candidate.stage,
            overlap_s=schedule.overlap,
            latency_s=schedule.latency_s,
            objective=ObjectiveValue(
                self.objective.name, candidate.value, bubbles(candidate.stage, schedule.overlap)
            ),
            ready_s=schedule.ready_s,
            cloud_work_s=schedule.work_s,
            payload_bytes=tuple(self.send_bytes[i] for i in schedule.sent),
            decision_s=sum(self.decide_s[i] for i in schedule.sent),
            link_bps=self.problem.link.bandwidth_bps,
        )


Held = tuple[int, ...]  # of each run, how many layers are on the end


class BlockCut:
    """A cut inside one block that can be changed a layer at a time, at O(degree) a move, and
    scheduled at one step for each linear run.

    Starts just behind the entry: the block's interior and its exit are on the cloud.
    """

    def __init__(self, model: CostModel, block: int) -> None:
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

    def candidate(self, schedule: Schedule) -> Candidate:
        """The present cut, ranked."""
        return self.model.rank(
            self.block,
            self.interior,
            self.stage,
            schedule.overlap,
            schedule.latency_s,
            crosses_input=self.entry == 0 and self._cloud_users[0] > 0,
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

    def schedule(self) -> Schedule:
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
    ) -> Schedule:
        """Send in order of production, let the cloud work as tensors arrive; measure the overlaps.

        Each arrival releases its share of the cloud's work; whatever ready layer the cloud takes
        next, it is busy whenever something is released, so the shares alone fix its busy times.
        """
        model = self.model
        waits_s = self._end_s if model.release == "after_decision" else 0.0
        link_free = link_overlap = 0.0
        left = []
        for layer, ready in zip(sent, ready_s, strict=True):
            start = max(link_free, ready, waits_s)
            link_free = start + model.send_s[layer]
            link_overlap += max(0.0, min(link_free, self._end_s) - start)
            left.append(link_free)
        cloud_free = cloud_overlap = 0.0
        for departure, work in zip(left, work_s, strict=True):
            start = max(cloud_free, departure + model.half_rtt_s)
            cloud_free = start + work
            cloud_overlap += max(0.0, min(cloud_free, link_free) - start)
        overlap = Overlap(link_overlap, cloud_overlap)
        return Schedule(order, sent, ready_s, work_s, overlap, cloud_free + model.return_s)
