"""The planner's and the simulator's arithmetic done a second time, slowly and plainly (paper,
Section III-B, Eqs. 2-6, Fig. 4).

In: a problem, or jobs with known stage times. Out: what a right planner and a right simulator must
find. Nothing here uses either of them: every closed end set is tried, every event is played.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from itertools import count
from math import inf, nan
from typing import Any

from coach_exp.types.method import Problem
from coach_exp.types.plan import Overlap, Plan, StageTimes

MAX_LAYERS = 14


def closed_end_sets(problem: Problem) -> Iterator[frozenset[str]]:
    """Every set of layers that holds the input and, with a layer, all that the layer needs."""
    layers = problem.graph.layers
    assert len(layers) <= MAX_LAYERS, f"{len(layers)} layers have too many subsets to try"
    needed = [sum(1 << p for p in sources) for sources in problem.graph.predecessors]
    for subset in range(1, 1 << len(layers), 2):  # odd: the input is layer 0
        held = [i for i in range(len(layers)) if subset >> i & 1]
        if all(subset & needed[i] == needed[i] for i in held):
            yield frozenset(layers[i].name for i in held)


@dataclass(frozen=True)
class OneTask:
    """The schedule of one task alone in the pipeline, and the sums that follow from it."""

    stage: StageTimes
    overlap: Overlap
    latency_s: float
    sent: tuple[tuple[str, float, float], ...] = ()
    worked: tuple[tuple[str, float, float], ...] = ()


def one_task(problem: Problem, order: Sequence[str], release: str) -> OneTask:
    """Play one task whose end layers run in `order`; what is not in `order` runs on the cloud."""
    needs = {layer.name: set(layer.inputs) for layer in problem.graph.layers}
    ended = _end_times(problem, order, needs)
    end_s = ended[order[-1]]
    rest = [layer.name for layer in problem.graph.layers if layer.name not in ended]
    if not rest:
        return OneTask(StageTimes(end_s, 0.0, 0.0), Overlap(0.0, 0.0), end_s)
    crossing = [name for name in order if any(name in needs[other] for other in rest)]
    if release == "after_decision":
        end_s += sum(problem.end.decision_s.get(name, 0.0) for name in crossing)

    sent, link_free = [], 0.0
    for name in crossing:
        joins = ended[name] if release == "per_tensor" else end_s
        starts = max(joins, link_free)
        link_free = starts + send_s(problem, name)
        sent.append((name, starts, link_free))
    arrived = {name: left + problem.link.rtt_s / 2 for name, _, left in sent}

    worked, now = [], 0.0
    while rest:
        ready = [n for n in rest if all(arrived.get(need, inf) <= now for need in needs[n])]
        if not ready:
            now = min(moment for moment in arrived.values() if moment > now)
            continue
        name = ready[0]
        rest.remove(name)
        worked.append((name, now, now + problem.cloud.layer_s[name]))
        now = arrived[name] = worked[-1][2]

    return OneTask(
        StageTimes(end_s, sum(b - a for _, a, b in sent), sum(b - a for _, a, b in worked)),
        Overlap(
            link_s=sum(max(0.0, min(b, end_s) - a) for _, a, b in sent),
            cloud_s=sum(max(0.0, min(b, link_free) - a) for _, a, b in worked),
        ),
        now + (problem.link.rtt_s / 2 if problem.link.result_return else 0.0),
        tuple(sent),
        tuple(worked),
    )


def _end_times(
    problem: Problem, order: Sequence[str], needs: dict[str, set[str]]
) -> dict[str, float]:
    """When each end layer is done."""
    ended: dict[str, float] = {}
    clock = 0.0
    for name in order:
        assert needs[name] <= ended.keys(), f"{name} runs before its inputs {needs[name]}"
        clock += problem.end.layer_s[name]
        ended[name] = clock
    return ended


def send_s(problem: Problem, layer: str) -> float:
    """Seconds that the output of `layer` holds the link."""
    size = problem.codec.expected_bytes(problem.graph[layer].elements, problem.bits.bits(layer))
    return 8 * size / problem.link.bandwidth_bps


def value(
    objective: str, task: OneTask, weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> float:
    """What a planner minimises."""
    end, link, cloud = task.stage.end_s, task.stage.link_s, task.stage.cloud_s
    if objective == "paper":
        compute_bubble = abs(end - cloud)
        link_bubble = abs(link - max(end, link - task.overlap.link_s, cloud - task.overlap.cloud_s))
        return compute_bubble + link_bubble + max(end, link, cloud)
    if objective == "bottleneck":
        return max(end, link, cloud)
    if objective == "latency":
        return task.latency_s
    assert objective == "weighted"
    return weights[0] * end + weights[1] * link + weights[2] * cloud


def feasible(problem: Problem, end_set: frozenset[str], task: OneTask) -> bool:
    """Constraints (3) and (4), and whether the raw input may leave."""
    stage, overlap = task.stage, task.overlap
    total = stage.end_s + stage.link_s + stage.cloud_s
    largest = max(stage.end_s, stage.link_s, stage.cloud_s)
    in_time = problem.t_max_s is None or total <= problem.t_max_s
    overlaps_fit = overlap.link_s + overlap.cloud_s <= largest * (1 + 1e-12)
    leaves = any(name == problem.graph.input.name for name, _, _ in task.sent)
    return in_time and overlaps_fit and (problem.raw_input_may_cross or not leaves)


@dataclass(frozen=True)
class Optimum:
    """The best value, and the lowest T_e + T_t + T_c among the cuts that reach it."""

    value: float
    total_s: float
    end_set: frozenset[str]


def optimum(
    problem: Problem,
    objective: str,
    tasks: dict[frozenset[str], OneTask],
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Optimum | None:
    """The best feasible of the scheduled end sets `tasks`; None where none is feasible."""
    candidates = [
        Optimum(value(objective, task, weights), task.stage.total_s, end_set)
        for end_set, task in tasks.items()
        if feasible(problem, end_set, task)
    ]
    if not candidates:
        return None
    least = min(c.value for c in candidates)
    equal = [c for c in candidates if c.value <= least * (1 + 1e-12) + 1e-15]
    return min(equal, key=lambda c: c.total_s)


@dataclass(frozen=True)
class Job:
    """One task as the pipeline sees it: seconds on the end, then (ready_s, bytes, cloud_s) of each
    tensor it sends; none sent: answered on the end. It gives up `timeout_s` after its first tensor
    was released, if the last byte has not left by then and its end part is over, or else with it.
    """

    end_s: float
    tensors: tuple[tuple[float, float, float], ...] = ()
    after_decision: bool = False
    timeout_s: float = inf
    local_s: float = 0.0
    exits_late: bool = False  # when it gives up; otherwise the end finishes it

    @staticmethod
    def of(plan: Plan) -> "Job":
        """A task that does what its plan says."""
        tensors = zip(plan.ready_s, plan.payload_bytes, plan.cloud_work_s, strict=True)
        sent = tuple(tensors) if plan.crossing else ()
        waits = plan.release == "after_decision"
        return Job(plan.stage_s.end_s, sent, waits, plan.timeout_s, plan.local_s)


@dataclass
class Story:
    """What happened to one job."""

    arrival_s: float
    dropped: bool = False
    end: tuple[float, float] = (0.0, 0.0)
    sends: list[tuple[float, float]] = field(default_factory=list)
    works: list[tuple[float, float]] = field(default_factory=list)
    abandoned: list[tuple[float, float]] = field(default_factory=list)  # on the link, one at most
    gave_up_s: float = nan
    local: tuple[float, float] = (0.0, 0.0)
    finish_s: float = inf


def simulate_naive(
    jobs: Sequence[Job],
    starts_s: Sequence[float],
    rates_bps: Sequence[float],
    period_s: float = inf,
    *,
    in_flight: int,
    arrivals_s: Sequence[float] | None = None,
    drop: bool = False,
    rtt_s: float = 0.0,
    result_return: bool = False,
) -> list[Story]:
    """Play every event of the jobs in order. Without `arrivals_s` the loop is closed: a job arrives
    when a place in flight is free for it. The link has `rates_bps[k]` from `starts_s[k]` on, again
    and again every `period_s`.
    """
    pipeline = _Pipeline(jobs, partial(sent_by, starts_s, rates_bps, period_s))
    pipeline.places, pipeline.drop = in_flight, drop
    pipeline.delivery_s, pipeline.answer_s = rtt_s / 2, rtt_s / 2 * result_return
    if arrivals_s is None:
        pipeline.closed_loop(range(len(jobs)))
    else:
        for job, moment in enumerate(arrivals_s):
            pipeline.at(moment, partial(pipeline.arrive, job), ARRIVES)
    pipeline.play()
    return [pipeline.stories[job] for job in range(len(jobs))]


def sent_by(
    starts_s: Sequence[float],
    rates_bps: Sequence[float],
    period_s: float,
    moment: float,
    payload_bytes: float,
) -> float:
    """When the last bit of a payload is sent, if the first is sent at `moment`; inf: never."""
    bits = 8 * payload_bytes
    for lap in count():
        begins = lap * period_s if lap else 0.0
        edges = [*(begins + start for start in starts_s), begins + period_s]
        for rate, opens, closes in zip(rates_bps, edges[:-1], edges[1:], strict=True):
            opens = max(opens, moment)
            if rate and opens < closes:
                if opens + bits / rate <= closes:
                    return opens + bits / rate
                bits -= rate * (closes - opens)
        if period_s == inf:
            return inf
    raise AssertionError("a trace has no end")


# What comes first of the events of one moment. Arrivals find what the moment frees, and the end
# looks last for what it could take up.
ENDS, GIVES_UP, ARRIVES, STARTS = range(4)

Item = tuple[Any, ...]  # (job, ready_s, bytes, cloud_s) of a tensor, or (job,) for the end
Done = Callable[[float, float], None]


class _Resource:
    """Serves one item at a time, first come, first served, but the urgent before all others."""

    def __init__(self, pipeline: "_Pipeline", duration: Callable[[float, Item], float]) -> None:
        self.pipeline, self.ends = pipeline, duration
        self.queue: deque[tuple[Item, Done]] = deque()
        self.urgent: deque[tuple[Item, Done]] = deque()
        self.serving: tuple[Item, float] | None = None

    def join(self, item: Item, done: Done, urgent: bool = False) -> None:
        (self.urgent if urgent else self.queue).append((item, done))
        self.look()

    def look(self) -> None:
        self.serve()

    def serve(self) -> None:
        queue = self.urgent or self.queue
        if queue and self.serving is None:
            item, done = queue.popleft()
            self.serving = (item, self.pipeline.now)
            ends = self.ends(self.pipeline.now, item)
            self.pipeline.at(ends, partial(self.leave, self.serving, done))

    def leave(self, served: tuple[Item, float], done: Done) -> None:
        if self.serving is served:
            self.serving = None
            done(served[1], self.pipeline.now)
            self.look()

    def abandon(self, job: int) -> list[tuple[float, float]]:
        """Forget what waits for a job, and what is being served; since when that was, till now."""
        self.queue = deque(entry for entry in self.queue if entry[0][0] != job)
        if self.serving is None or self.serving[0][0] != job:
            return []
        held = (self.serving[1], self.pipeline.now)
        self.serving = None
        self.look()
        return [held] if held[0] < held[1] else []  # taken up and dropped at once: never had it


class _End(_Resource):
    def look(self) -> None:
        self.pipeline.at(self.pipeline.now, self.serve, STARTS)


class _Pipeline:
    places: int
    drop: bool
    delivery_s: float
    answer_s: float

    def __init__(self, jobs: Sequence[Job], sent_by: Callable[[float, float], float]) -> None:
        self.jobs = jobs
        self.now = 0.0
        self.events: list[tuple[float, int, int, Callable[[], None]]] = []
        self.scheduled = count()
        self.stories: dict[int, Story] = {}
        self.inside = 0
        self.outside: deque[int] = deque()
        self.unborn: deque[int] = deque()
        self.released: set[int] = set()
        self.overdue: set[int] = set()
        self.computed: set[int] = set()
        self.end = _End(self, self.end_ends)
        self.link = _Resource(self, lambda starts, item: sent_by(starts, item[2]))
        self.cloud = _Resource(self, lambda starts, item: starts + item[3])

    def at(self, moment: float, event: Callable[[], None], rank: int = ENDS) -> None:
        heappush(self.events, (moment, rank, next(self.scheduled), event))

    def play(self) -> None:
        while self.events:
            self.now, _, _, event = heappop(self.events)
            event()

    def closed_loop(self, jobs: range) -> None:
        self.unborn.extend(jobs)
        for _ in range(min(self.places, len(jobs))):
            self.arrive(self.unborn.popleft())

    def arrive(self, job: int) -> None:
        self.stories[job] = Story(self.now)
        if self.inside < self.places:
            self.enter(job)
        elif self.drop:
            self.stories[job].dropped = True
        else:
            self.outside.append(job)

    def enter(self, job: int) -> None:
        self.inside += 1
        self.end.join((job,), partial(self.ended, job))

    def end_ends(self, starts: float, item: Item) -> float:
        """The end takes a job up; tensors that wait for no decision leave it on the way."""
        (job,) = item
        work = self.jobs[job]
        if job in self.computed:
            return starts + work.local_s
        if not work.after_decision:
            for tensor in work.tensors:
                self.at(starts + tensor[0], partial(self.send, job, tensor))
        return starts + work.end_s

    def ended(self, job: int, starts: float, ends: float) -> None:
        work = self.jobs[job]
        self.stories[job].end = (starts, ends)
        self.computed.add(job)
        if job in self.overdue:
            self.at(ends, partial(self.times_out, job), GIVES_UP)
        if not work.tensors:
            self.answer(job)
        elif work.after_decision:
            for tensor in work.tensors:
                self.send(job, tensor)

    def send(self, job: int, tensor: Item) -> None:
        if job not in self.released and self.jobs[job].timeout_s < inf:
            moment = self.now + self.jobs[job].timeout_s
            self.at(moment, partial(self.times_out, job), GIVES_UP)
        self.released.add(job)
        self.link.join((job, *tensor), partial(self.left, job, tensor))

    def times_out(self, job: int) -> None:
        story, work = self.stories[job], self.jobs[job]
        if job not in self.computed:
            self.overdue.add(job)
        elif len(story.sends) < len(work.tensors):
            story.gave_up_s = self.now
            story.abandoned = self.link.abandon(job)
            if work.exits_late:
                self.answer(job)
            else:
                self.end.join((job,), partial(self.finished, job), urgent=True)

    def finished(self, job: int, starts: float, ends: float) -> None:
        self.stories[job].local = (starts, ends)
        self.answer(job)

    def left(self, job: int, tensor: Item, starts: float, ends: float) -> None:
        self.stories[job].sends.append((starts, ends))
        self.at(ends + self.delivery_s, partial(self.delivered, job, tensor))

    def delivered(self, job: int, tensor: Item) -> None:
        self.cloud.join((job, *tensor), partial(self.worked, job))

    def worked(self, job: int, starts: float, ends: float) -> None:
        self.stories[job].works.append((starts, ends))
        if len(self.stories[job].works) == len(self.jobs[job].tensors):
            if self.answer_s:
                self.at(ends + self.answer_s, partial(self.answer, job))
            else:
                self.answer(job)

    def answer(self, job: int) -> None:
        self.stories[job].finish_s = self.now
        self.inside -= 1
        if self.unborn:
            self.arrive(self.unborn.popleft())
        elif self.outside:
            self.enter(self.outside.popleft())
