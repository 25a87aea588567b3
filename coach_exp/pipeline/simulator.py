"""The simulator: tasks through three FIFO resources - end, link, cloud - under any method.

In: a controller, a bandwidth trace, the workload. Out: one record per task. The link follows the
trace exactly. Tasks pass every resource in the order in which they started, so one task after the
other can be computed; what happened in between (finished transfers, answers) is told to the
controller before it is asked, in the order of time. Same seed, same records.

Only tasks that give up on the link (`Plan.timeout_s`) turn back. What they leave on link and cloud
is known at once; what becomes of them is decided when that time has come, and the end takes up
those that it has to finish before it starts a further task.
"""

from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf, nan
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from coach_exp.network.estimator import Estimator
from coach_exp.network.trace import Trace, TraceCursor
from coach_exp.pipeline.arrivals import arrival_times
from coach_exp.pipeline.payload import crossing_as, payload
from coach_exp.pipeline.task_log import records_of
from coach_exp.types.method import Controller, Decision, Observation, Problem, Transfer
from coach_exp.types.plan import Plan
from coach_exp.types.task import NOT_SIMULATED, Records

DECISIONS = np.array(["local", "exit", "send", "dropped"])
LOCAL, EXIT, SENT, DROPPED = range(4)

_LOGGED = (  # one row per task; the other columns follow from these
    *("task", "plan", "arrival_s", "end_start_s", "end_end_s", "link_start_s"),
    *("link_end_s", "link_busy_s", "cloud_start_s", "cloud_end_s", "cloud_busy_s", "finish_s"),
    *("decision", "bits", "payload_bytes", "decided_s", "estimated_bps"),
    *("separability", "predicted"),
)
_AT = {name: place for place, name in enumerate(_LOGGED)}
_WHOLE = ("task", "plan", "bits", "payload_bytes", "predicted")

Progress = Callable[[int], None]
Leg = tuple[float, int, float]


@dataclass(frozen=True, slots=True)
class _Route:
    """A plan as the inner loop needs it. `legs`: (ready_s, bytes, cloud seconds) of each tensor."""

    number: int
    plan: Plan
    end_s: float
    legs: tuple[Leg, ...]
    bytes: int
    bits: int
    waits: bool
    end_heads: bool
    cloud_heads: bool
    gives_up: bool


class _Sending(NamedTuple):
    """What a task with patience did on the link: first second, seconds held, when each tensor that
    left whole had left; fewer than it has: the task gives up."""

    start_s: float
    busy_s: float
    left_s: list[float]


class _Late(NamedTuple):
    """A task that gives up at `instant_s`."""

    instant_s: float
    task: int
    sample: int
    plan: Plan


def simulate(
    problem: Problem,
    controller: Controller,
    trace: Trace,
    estimator: Estimator,
    samples: NDArray[np.int64] | None = None,
    progress: Progress | None = None,
) -> Records:
    """Run the problem's workload. `samples[i]` is the data sample of task i (none: all zero)."""
    if samples is None:
        samples = np.zeros(problem.workload.tasks, dtype=np.int64)
    run = _Run(problem, controller, trace, estimator)
    run.tasks(arrival_times(problem.workload).tolist(), samples.tolist(), progress)
    return run.records(trace, samples)


def _legs(plan: Plan, sizes: Sequence[int], works: Sequence[float]) -> tuple[Leg, ...]:
    return tuple(zip(plan.ready_s, sizes, works, strict=True))


class _Run:
    """The state of one simulation."""

    def __init__(
        self, problem: Problem, controller: Controller, trace: Trace, estimator: Estimator
    ) -> None:
        self._problem = problem
        self._controller = controller
        self._estimator = estimator
        self._outcomes = problem.outcomes
        self._cursor = TraceCursor(trace)
        self._half_rtt_s = problem.link.rtt_s / 2
        self._return_s = self._half_rtt_s if problem.link.result_return else 0.0
        self._observation = Observation(0.0, 0, estimator.rate_bps(0.0), 0, problem.outcomes)
        self._end_free = 0.0  # inf: a task's end part runs, and how long is not decided yet
        self._link_free = self._cloud_free = 0.0
        self._unanswered: list[tuple[float, int, int]] = []  # (finish, task, label): a heap
        self._free_places = deque([0.0] * problem.workload.places)
        self._in_transit: deque[Transfer] = deque()
        self._giving_up: list[_Late] = []  # a heap
        self._unfinished: deque[_Late] = deque()  # gave up; wait for the end
        self._late = 0  # tasks in these two
        self._fallback: dict[int, float] = {}  # seconds on the end after giving up, by task
        self._routes: dict[int, _Route] = {}
        self._log = array("d")

    def tasks(self, arrivals: list[float], samples: list[int], progress: Progress | None) -> None:
        """Run all tasks in order."""
        workload, controller, observation = (
            self._problem.workload,
            self._controller,
            self._observation,
        )
        closed_loop = workload.kind in ("single_stream", "saturated")
        unanswered, free_places = self._unanswered, self._free_places
        giving_up, unfinished = self._giving_up, self._unfinished
        for task, (arrival, sample) in enumerate(zip(arrivals, samples, strict=True)):
            if workload.drop and not closed_loop:
                self._tell(arrival)
                if not free_places or free_places[0] > arrival:
                    self._log_dropped(task, arrival)
                    continue
            while not free_places:
                self._tell(self._next_s() if giving_up else unanswered[0][0])
            place = free_places.popleft()
            if closed_loop:
                arrival = place
            end_free = self._end_free
            start = place if place > end_free else end_free
            if start < arrival:
                start = arrival
            if start > place or giving_up:
                self._tell(start)
                while start < self._end_free:  # which finishes tasks that gave up first
                    start = self._end_free
                    self._tell(start)
            observation.sample = sample
            observation.now_s = start
            observation.backlog = len(unanswered) + self._late
            observation.bandwidth_bps = self._estimator.rate_bps(start)
            plan = controller.choose(task, observation)
            route = self._routes.get(id(plan)) or self._route(plan)
            self._end_free = self._run_task(task, sample, arrival, start, route)
            if unfinished:
                self._finish_locally()
            if progress is not None and task % 1024 == 0:
                progress(task)
        self._tell(inf)
        if progress is not None:
            progress(len(arrivals))

    def _tell(self, now_s: float) -> None:
        """Tell controller and estimator, in order, what happened up to `now_s`; free places."""
        unanswered, in_transit = self._unanswered, self._in_transit
        giving_up = self._giving_up
        while True:
            gives_up = giving_up and giving_up[0].instant_s <= now_s
            until_s = giving_up[0].instant_s if gives_up else now_s
            while True:
                answer_s = unanswered[0][0] if unanswered else inf
                if in_transit and (sent_s := in_transit[0].end_s) <= answer_s:
                    if sent_s > until_s:
                        break
                    transfer = in_transit.popleft()
                    self._estimator.sent(transfer)
                    self._controller.sent(transfer)
                elif unanswered and answer_s <= until_s:
                    finish, task, label = heappop(unanswered)
                    self._free_places.append(finish)
                    self._controller.answered(task, label, finish)
                else:
                    break
            if not gives_up:
                return
            self._give_up(heappop(giving_up))

    def _next_s(self) -> float:
        """When the next task is answered or gives up."""
        gives_up_s = self._giving_up[0].instant_s
        return min(self._unanswered[0][0], gives_up_s) if self._unanswered else gives_up_s

    def _give_up(self, late: _Late) -> None:
        """Ask what becomes of a task that gives up now; all that happened before has been told."""
        runs = self._end_free == inf  # a task is on the end
        backlog = len(self._unanswered) + self._late - 1 + runs
        rate_bps = self._estimator.rate_bps(late.instant_s)
        observation = Observation(late.instant_s, backlog, rate_bps, late.sample, self._outcomes)
        decision = self._controller.gave_up(late.task, late.plan, observation)
        self._amend(late.task, decided_s=late.instant_s, estimated_bps=rate_bps)
        if decision.action == "exit":
            self._fallback[late.task] = 0.0
            self._answer_late(late, late.instant_s, EXIT, decision.label)
        else:
            self._unfinished.append(late)
            if self._end_free < inf:
                self._finish_locally()

    def _finish_locally(self) -> None:
        """The end computes the remaining layers of the tasks that wait for it."""
        while self._unfinished:
            late = self._unfinished.popleft()
            self._end_free = max(self._end_free, late.instant_s) + late.plan.local_s
            self._fallback[late.task] = late.plan.local_s
            self._answer_late(late, self._end_free, LOCAL, self._uncut(late.sample))

    def _answer_late(self, late: _Late, finish: float, decision: int, label: int) -> None:
        self._late -= 1
        heappush(self._unanswered, (finish, late.task, label))
        self._amend(late.task, finish_s=finish, decision=decision, predicted=label)

    def _amend(self, task: int, **values: float) -> None:
        """Change what the log, which has one row for each task, says of a task."""
        for name, value in values.items():
            self._log[task * len(_LOGGED) + _AT[name]] = value

    def _uncut(self, sample: int) -> int:
        return self._outcomes.predict(sample, ()).label if self._outcomes else NOT_SIMULATED

    def _route(self, plan: Plan) -> _Route:
        route = _Route(
            number=len(self._routes),
            plan=plan,
            end_s=plan.stage_s.end_s,
            legs=_legs(plan, plan.payload_bytes, plan.cloud_work_s),
            bytes=sum(plan.payload_bytes),
            bits=max((c.bits for c in plan.crossing), default=0),
            waits=plan.release == "after_decision" and bool(plan.crossing),
            end_heads=any(h.side == "end" for h in plan.heads),
            cloud_heads=any(h.side == "cloud" for h in plan.heads),
            gives_up=plan.timeout_s < inf,
        )
        self._routes[id(plan)] = route
        return route

    def _run_task(
        self, task: int, sample: int, arrival: float, start: float, route: _Route
    ) -> float:
        """One task through all its stages; returns when the end is free again."""
        decision = self._at_end_heads(task, start, route) if route.end_heads else None
        computed = self._observation.now_s if decision else start + route.end_s
        if decision is None and route.waits:
            self._look(computed)
            decision = self._controller.at_cut(task, route.plan, self._observation)
        if decision is not None and decision.action == "exit":
            self._answer(
                *(task, route, arrival, start, computed, EXIT),
                *(decision.label, decision.separability),
            )
            return computed
        if not route.legs:
            label = self._uncut(sample)
            self._answer(task, route, arrival, start, computed, LOCAL, label, nan)
            return computed
        bits, size, legs, label, early = route.bits, route.bytes, route.legs, NOT_SIMULATED, None
        if self._outcomes is not None or (decision is not None and decision.bits is not None):
            crossing = crossing_as(route.plan, decision)
            bits = max(tensor.bits for tensor in crossing)
            sizes, label = payload(self._problem, sample, crossing)
            size, legs = sum(sizes), _legs(route.plan, sizes, route.plan.cloud_work_s)
        if route.gives_up:
            released = computed if route.waits else start + legs[0][0]
            latest = max(computed, released + route.plan.timeout_s)
            sending = self._send_until(latest, task, start, released, legs)
            if len(sending.left_s) < len(legs):
                self._log_late(
                    *(_Late(latest, task, sample, route.plan), route, arrival, start, computed),
                    *(bits, sending, legs, decision.separability if decision else nan),
                )
                return computed
        if route.cloud_heads:
            legs, early = self._at_cloud_heads(task, route.plan, legs)
        if early is not None:
            decision, label = early, early.label
        if route.gives_up:
            link_start, link_busy, left_s = sending
            cloud_start, cloud_busy = self._work(left_s, legs)
        else:
            link_start, link_busy, cloud_start, cloud_busy = self._offload(
                task, start, computed if route.waits else 0.0, legs
            )
        finish = self._cloud_free + self._return_s
        heappush(self._unanswered, (finish, task, label))
        observation = self._observation  # that of the last decision
        self._log.extend(
            [task, route.number, arrival, start, computed, link_start, self._link_free, link_busy,
             cloud_start, self._cloud_free, cloud_busy, finish, EXIT if early else SENT, bits,
             size, observation.now_s, observation.bandwidth_bps,
             decision.separability if decision else nan, label]
        )  # fmt: skip
        return computed

    def _look(self, now_s: float) -> None:
        """Bring the observation, and what the controller knows, up to `now_s`, in an end part."""
        self._end_free = inf
        self._tell(now_s)
        observation = self._observation
        observation.now_s = now_s
        observation.backlog = len(self._unanswered) + self._late
        observation.bandwidth_bps = self._estimator.rate_bps(now_s)

    def _at_end_heads(self, task: int, start: float, route: _Route) -> Decision | None:
        """The first end head that answers, the observation being made there."""
        for head in route.plan.heads:
            if head.side == "end":
                self._look(start + head.at_s)
                decision = self._controller.at_head(task, route.plan, head, self._observation)
                if decision.action == "exit":
                    return decision
        return None

    def _offload(
        self, task: int, start: float, released: float, legs: tuple[Leg, ...]
    ) -> tuple[float, float, float, float]:
        """Link and cloud, tensor by tensor, none before `released`: start of the first transfer,
        seconds of link held, start of the cloud's work, seconds of cloud held."""
        link_free, cloud_free = self._link_free, self._cloud_free
        link_busy, cloud_busy, link_start, cloud_start = 0.0, 0.0, -1.0, -1.0
        half_rtt_s, finish, in_transit = self._half_rtt_s, self._cursor.finish, self._in_transit
        for ready_s, size, work in legs:
            begin = start + ready_s
            if begin < released:
                begin = released
            if begin < link_free:
                begin = link_free
            link_free = finish(begin, size)
            link_busy += link_free - begin
            in_transit.append(Transfer(task, size, begin, link_free))
            if cloud_free < link_free + half_rtt_s:
                cloud_free = link_free + half_rtt_s
            if link_start < 0:
                link_start, cloud_start = begin, cloud_free
            cloud_free += work
            cloud_busy += work
        self._link_free, self._cloud_free = link_free, cloud_free
        return link_start, link_busy, cloud_start, cloud_busy

    def _send_until(
        self, latest: float, task: int, start: float, released: float, legs: tuple[Leg, ...]
    ) -> _Sending:
        """The link alone, as in `_offload`, up to `latest`: the transfer that would outlast it is
        abandoned there, and one that could begin only then never has the link."""
        link_start, link_busy = -1.0, 0.0
        left: list[float] = []
        for ready_s, size, _ in legs:
            begin = max(start + ready_s, released, self._link_free)
            end = self._cursor.finish(begin, size, latest) if begin <= latest else inf
            if end > latest:
                if begin < latest:
                    link_start = link_start if left else begin
                    link_busy += latest - begin
                    self._link_free = latest
                break
            link_start = link_start if left else begin
            link_busy += end - begin
            self._link_free = end
            self._in_transit.append(Transfer(task, size, begin, end))
            left.append(end)
        return _Sending(link_start, link_busy, left)

    def _work(self, left_s: Sequence[float], legs: tuple[Leg, ...]) -> tuple[float, float]:
        """The cloud's work on the tensors that have left: its start and its seconds."""
        cloud_start, cloud_busy = -1.0, 0.0
        for left, (_, _, work) in zip(left_s, legs, strict=False):
            self._cloud_free = max(self._cloud_free, left + self._half_rtt_s)
            cloud_start = self._cloud_free if cloud_start < 0 else cloud_start
            self._cloud_free += work
            cloud_busy += work
        return cloud_start, cloud_busy

    def _at_cloud_heads(
        self, task: int, plan: Plan, legs: tuple[Leg, ...]
    ) -> tuple[tuple[Leg, ...], Decision | None]:
        """The legs with the cloud's work cut short by the first cloud head that answers.

        Heads look at one task only; what they observe is of when the task left the end.
        """
        for head in plan.heads:
            if head.side == "cloud":
                decision = self._controller.at_head(task, plan, head, self._observation)
                if decision.action == "exit":
                    left, cut = head.at_s, []
                    for ready_s, size, work in legs:
                        cut.append((ready_s, size, min(work, left)))
                        left -= cut[-1][2]
                    return tuple(cut), decision
        return legs, None

    def _answer(
        self,
        task: int,
        route: _Route,
        arrival: float,
        start: float,
        computed: float,
        decision: int,
        label: int,
        separability: float,
    ) -> None:
        """An answer on the end: nothing is sent, the end time stays spent."""
        heappush(self._unanswered, (computed, task, label))
        observation = self._observation
        self._log.extend(
            [task, route.number, arrival, start, computed, computed, computed, 0.0,
             computed, computed, 0.0, computed, decision, 0, 0,
             observation.now_s, observation.bandwidth_bps, separability, label]
        )  # fmt: skip

    def _log_late(
        self,
        late: _Late,
        route: _Route,
        arrival: float,
        start: float,
        computed: float,
        bits: int,
        sending: _Sending,
        legs: tuple[Leg, ...],
        separability: float,
    ) -> None:
        """A task that will give up. What it was sent for is spent; the rest is filled in then."""
        instant_s, task, _, _ = late
        heappush(self._giving_up, late)
        self._late += 1
        link_start = link_end = cloud_start = cloud_end = instant_s
        cloud_busy, size = 0.0, 0
        if sending.busy_s > 0 or sending.left_s:
            link_start, link_end = sending.start_s, self._link_free
        if sending.left_s:
            cloud_start, cloud_busy = self._work(sending.left_s, legs)
            cloud_end = self._cloud_free
            size = sum(leg[1] for leg in legs[: len(sending.left_s)])
        self._log.extend(
            [task, route.number, arrival, start, computed, link_start, link_end, sending.busy_s,
             cloud_start, cloud_end, cloud_busy, nan, NOT_SIMULATED, bits if sending.left_s else 0,
             size, nan, nan, separability, NOT_SIMULATED]
        )  # fmt: skip

    def _log_dropped(self, task: int, arrival: float) -> None:
        self._log.extend(
            [task, NOT_SIMULATED, *[arrival] * 5, 0.0, arrival, arrival, 0.0, arrival,
             DROPPED, 0, 0, arrival, self._estimator.rate_bps(arrival), nan, NOT_SIMULATED]
        )  # fmt: skip

    def records(self, trace: Trace, samples: NDArray[np.int64]) -> Records:
        """The log as records."""
        table = np.frombuffer(self._log, dtype=np.float64).reshape(-1, len(_LOGGED))
        columns: dict[str, NDArray[Any]] = {name: table[:, k] for k, name in enumerate(_LOGGED)}
        for name in _WHOLE:
            columns[name] = columns[name].astype(np.int64)
        decision = columns["decision"].astype(np.int8)
        columns["decision"] = DECISIONS[decision]
        columns["end_busy_s"] = columns["end_end_s"] - columns["end_start_s"]
        columns["dropped"] = decision == DROPPED
        columns["fallback"] = np.zeros(len(decision), dtype=bool)
        gave_up = list(self._fallback)
        columns["fallback"][gave_up] = True
        columns["end_busy_s"][gave_up] += list(self._fallback.values())
        columns["true_bps"] = trace.at(columns["decided_s"])
        plans = tuple(route.plan for route in self._routes.values())
        return records_of(columns, plans, samples, self._outcomes)
