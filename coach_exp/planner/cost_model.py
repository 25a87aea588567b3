"""What a cut costs (paper, Section III-B, Eqs. 2-5 and Fig. 4).

In: a problem (graph, two profiles, link, bit-widths). Out: for any cut its stage times, its
one-task schedule with the overlaps, its objective, and at last its Plan. Nothing here chooses a
cut.

A cut vertex is a layer through which all data flows: after it only its own output is alive. The cut
vertices are the paper's top chain; what lies between two neighbours is a virtual block, and every
cut lies in one block (`entry` on the end, `exit` on the cloud) or just behind the sink
(device-only).
"""

from itertools import accumulate, chain
from math import inf

from coach_exp.planner.block_cut import BlockCut, CutSchedule
from coach_exp.planner.candidate import TOLERANCE, Candidate, CutCost
from coach_exp.planner.objective import Objective, Range, bubbles
from coach_exp.types.errors import InfeasibleError
from coach_exp.types.graph import LayerGraph
from coach_exp.types.method import Problem
from coach_exp.types.outcomes import Crossing
from coach_exp.types.plan import ObjectiveValue, Overlap, Plan, Release, StageTimes

NO_OVERLAP = Overlap(0.0, 0.0)


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
        return self.rank(CutCost(self.blocks, (), stage, NO_OVERLAP, stage.end_s, False))

    def boundary(self, block: int) -> Candidate:
        """The cut just behind the block's entry: exactly one tensor crosses."""
        entry = self.chain[block]
        end_s = self.end_before[entry] + self.decide_s[entry]
        stage = StageTimes(end_s, self.send_s[entry], self.cloud_from[entry + 1])
        latency_s = stage.total_s + self.half_rtt_s + self.return_s
        return self.rank(CutCost(block, (), stage, NO_OVERLAP, latency_s, entry == 0))

    def rank(self, cost: CutCost) -> Candidate:
        """The candidate with its objective and the constraint it breaks most, if any."""
        value = self.objective.value(cost.stage, cost.overlap, cost.latency_s)
        return Candidate.of(cost, value, *self.violation(cost))

    def violation(self, cost: CutCost) -> tuple[float, str]:
        """By how many seconds a cut breaks which constraint, in words; 0 where it keeps all."""
        stage = cost.stage
        if cost.crosses_input and not self.problem.raw_input_may_cross:
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
        parallel_s = cost.overlap.link_s + cost.overlap.cloud_s
        excess_s = parallel_s - stage.period_s
        if excess_s > TOLERANCE * stage.period_s:
            return excess_s, (
                f"constraint (4): T_t^p + T_c^p = {1e3 * parallel_s:.3f} ms exceeds the largest "
                f"stage by {1e3 * excess_s:.3f} ms"
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

    def of(self, end_set: frozenset[int]) -> tuple[Candidate, CutSchedule]:
        """Cost and schedule of any end set (positions; see LayerGraph.end_set)."""
        if len(end_set) == len(self.graph):
            last = self.device_only()
            return last, CutSchedule((), (), (), (), NO_OVERLAP, last.stage.end_s)
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
