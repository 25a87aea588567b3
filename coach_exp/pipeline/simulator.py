"""The simulator: tasks through three FIFO resources - end, link, cloud - under any method.

In: a controller, a bandwidth trace, the workload. Out: one record per task. The link follows the
trace exactly. Tasks pass every resource in the order in which they started, so one task after the
other can be computed; what happened in between (finished transfers, answers) is told to the
controller before it is asked, in the order of time. Same seed, same records.

Only tasks that give up on the link (`Plan.timeout_s`) turn back. What they leave on link and cloud
is known at once; what becomes of them is decided when that time has come, and the end takes up
those that it has to finish before it starts a further task.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf

import numpy as np
from numpy.typing import NDArray

from coach_exp.network.estimator import Estimator
from coach_exp.network.trace import Trace
from coach_exp.pipeline.arrivals import arrival_times
from coach_exp.pipeline.payload import crossing_as, payload
from coach_exp.pipeline.simulator_recovery import LateTask, Recovery, Unanswered
from coach_exp.pipeline.simulator_stages import Leg, LinkAndCloud, legs_of
from coach_exp.pipeline.task_log import EXIT, LOCAL, SEND, TaskLog
from coach_exp.pipeline.trial import Trial
from coach_exp.types.method import Controller, Decision, Observation, Problem
from coach_exp.types.plan import Plan
from coach_exp.types.task import NOT_SIMULATED, Records

Progress = Callable[[int], None]


def simulate(
    problem: Problem,
    controller: Controller,
    trace: Trace,
    estimator: Estimator,
    samples: NDArray[np.int64] | None = None,
    progress: Progress | None = None,
) -> Records:
    """Run the problem's workload and return its records. `samples[i]` is the data sample of task i
    (None: every task has sample 0); `progress` is called with the number of tasks so far."""
    trial = Trial(problem, controller, trace, estimator, samples)
    run = _Run(trial)
    run.all_tasks(progress)
    return run.records()


@dataclass(frozen=True, slots=True)
class _Route:
    """A plan as the inner loop needs it; `number` counts the plans that tasks have run so far."""

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


class _Run:
    """The state of one simulation."""

    def __init__(self, trial: Trial) -> None:
        problem, estimator = trial.problem, trial.estimator
        self._trial = trial
        self._samples = trial.sample_of_each_task()
        self._controller = trial.controller
        self._estimator = estimator
        self._observation = Observation(0.0, 0, estimator.rate_bps(0.0), 0, problem.outcomes)
        self._end_free_s = 0.0  # inf: a task's end part runs, and how long is not decided yet
        self._free_places = deque([0.0] * problem.workload.places)
        self._unanswered: Unanswered = []
        self._log = TaskLog(len(self._samples))
        self._stages = LinkAndCloud(trial.trace, problem.link, self._log)
        self._return_s = problem.link.rtt_s / 2 if problem.link.result_return else 0.0
        self._recovery = Recovery(trial, self._log, self._unanswered)
        self._routes: dict[int, _Route] = {}

    # --- The run in the order of time -----------------------------------------------------------

    def all_tasks(self, progress: Progress | None) -> None:
        """Run all tasks in order."""
        workload, controller = self._trial.problem.workload, self._controller
        closed_loop = workload.kind in ("single_stream", "saturated")
        observation, recovery, estimator = self._observation, self._recovery, self._estimator
        unanswered, free_places = self._unanswered, self._free_places
        arrivals, samples = arrival_times(workload).tolist(), self._samples.tolist()
        for task, (arrival_s, sample) in enumerate(zip(arrivals, samples, strict=True)):
            if workload.drop and not closed_loop:
                self._tell(arrival_s)
                if not free_places or free_places[0] > arrival_s:
                    self._log.dropped(task, arrival_s, estimator.rate_bps(arrival_s))
                    continue
            while not free_places:
                self._tell(recovery.next_s() if recovery.giving_up else unanswered[0][0])
            place_s = free_places.popleft()
            if closed_loop:
                arrival_s = place_s
            end_free_s = self._end_free_s
            start_s = place_s if place_s > end_free_s else end_free_s
            if start_s < arrival_s:
                start_s = arrival_s
            if start_s > place_s or recovery.giving_up:
                self._tell(start_s)
                while start_s < self._end_free_s:  # which finishes tasks that gave up first
                    start_s = self._end_free_s
                    self._tell(start_s)
            observation.sample = sample
            observation.now_s = start_s
            observation.backlog = len(unanswered) + recovery.late
            observation.bandwidth_bps = estimator.rate_bps(start_s)
            plan = controller.choose(task, observation)
            route = self._routes.get(id(plan)) or self._route(plan)
            self._log.arrival_s[task] = arrival_s
            self._end_free_s = self._run_task(task, sample, start_s, route)
            if recovery.unfinished:
                self._end_free_s = recovery.finish(self._end_free_s)
            if progress is not None and task % 1024 == 0:
                progress(task)
        self._tell(inf)
        if progress is not None:
            progress(len(arrivals))

    def _tell(self, now_s: float) -> None:
        """Tell controller and estimator, in order, what happened up to `now_s`; free places."""
        unanswered, in_transit = self._unanswered, self._stages.in_transit
        giving_up = self._recovery.giving_up
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
                    finish_s, task, label = heappop(unanswered)
                    self._free_places.append(finish_s)
                    self._controller.answered(task, label, finish_s)
                else:
                    break
            if not gives_up:
                return
            on_the_end = self._end_free_s == inf
            self._recovery.give_up(others=int(on_the_end))
            if not on_the_end:
                self._end_free_s = self._recovery.finish(self._end_free_s)

    def _look(self, now_s: float) -> None:
        """Bring the observation, and what the controller knows, up to `now_s`, in an end part."""
        self._end_free_s = inf
        self._tell(now_s)
        observation = self._observation
        observation.now_s = now_s
        observation.backlog = len(self._unanswered) + self._recovery.late
        observation.bandwidth_bps = self._estimator.rate_bps(now_s)

    # --- One task -------------------------------------------------------------------------------

    def _route(self, plan: Plan) -> _Route:
        route = _Route(
            number=len(self._routes),
            plan=plan,
            end_s=plan.stage_s.end_s,
            legs=legs_of(plan, plan.payload_bytes),
            bytes=sum(plan.payload_bytes),
            bits=max((c.bits for c in plan.crossing), default=0),
            waits=plan.release == "after_decision" and bool(plan.crossing),
            end_heads=any(h.side == "end" for h in plan.heads),
            cloud_heads=any(h.side == "cloud" for h in plan.heads),
            gives_up=plan.timeout_s < inf,
        )
        self._routes[id(plan)] = route
        return route

    def _run_task(self, task: int, sample: int, start_s: float, route: _Route) -> float:
        """Run one task through all its stages. Returns when the end is free again."""
        log = self._log
        decision = self._at_end_heads(task, start_s, route) if route.end_heads else None
        computed_s = self._observation.now_s if decision else start_s + route.end_s
        if decision is None and route.waits:
            self._look(computed_s)
            decision = self._controller.at_cut(task, route.plan, self._observation)
        log.plan[task] = route.number
        log.end_start_s[task] = start_s
        log.end_end_s[task] = computed_s
        if decision is not None:
            log.separability[task] = decision.separability
            if decision.action == "exit":
                self._answer_on_end(task, computed_s, EXIT, decision.label)
                return computed_s
        if not route.legs:
            label = payload(self._trial.problem, sample, ()).label
            self._answer_on_end(task, computed_s, LOCAL, label)
            return computed_s
        self._send(task, sample, computed_s, route, decision)
        return computed_s

    def _at_end_heads(self, task: int, start_s: float, route: _Route) -> Decision | None:
        """Returns the exit of the first end head that answers, None where none does; the
        observation is made at each head that is asked."""
        for head in route.plan.heads:
            if head.side == "end":
                self._look(start_s + head.at_s)
                decision = self._controller.at_head(task, route.plan, head, self._observation)
                if decision.action == "exit":
                    return decision
        return None

    def _answer_on_end(self, task: int, computed_s: float, decision: int, label: int) -> None:
        """Note an answer on the end: nothing is sent, the end time stays spent."""
        self._log.nothing_sent(task, computed_s)
        self._answer(task, computed_s, decision, label)

    def _send(
        self, task: int, sample: int, computed_s: float, route: _Route, decision: Decision | None
    ) -> None:
        """Send a task's tensors when its end part is over at `computed_s`, at the widths of the
        decision at the cut if one was made there, and let the cloud work on them."""
        log, stages = self._log, self._stages
        start_s = log.end_start_s[task]
        bits, size, legs, label = route.bits, route.bytes, route.legs, NOT_SIMULATED
        if self._trial.problem.outcomes is not None or (
            decision is not None and decision.bits is not None
        ):
            crossing = crossing_as(route.plan, decision)
            bits = max(tensor.bits for tensor in crossing)
            sizes, label = payload(self._trial.problem, sample, crossing)
            size, legs = sum(sizes), legs_of(route.plan, sizes)
        left_s: list[float] = []
        if route.gives_up:
            released_s = computed_s if route.waits else start_s + legs[0][0]
            latest_s = max(computed_s, released_s + route.plan.timeout_s)
            left_s = stages.send_until(latest_s, task, start_s, released_s, legs)
            if len(left_s) < len(legs):
                self._recovery.add(LateTask(latest_s, task, sample, route.plan))
                log.cloud_start_s[task] = log.cloud_end_s[task] = latest_s
                if left_s:
                    stages.work(task, left_s, legs)
                    log.bits[task] = bits
                    log.payload_bytes[task] = sum(size for _, size, _ in legs[: len(left_s)])
                return
        early = None
        if route.cloud_heads:
            legs, early = self._at_cloud_heads(task, route.plan, legs)
        if route.gives_up:
            stages.work(task, left_s, legs)
        else:
            stages.offload(task, start_s, computed_s if route.waits else 0.0, legs)
        log.bits[task] = bits
        log.payload_bytes[task] = size
        finish_s = stages.cloud_free_s + self._return_s
        if early is None:
            self._answer(task, finish_s, SEND, label)
        else:
            log.separability[task] = early.separability
            self._answer(task, finish_s, EXIT, early.label)

    def _at_cloud_heads(
        self, task: int, plan: Plan, legs: tuple[Leg, ...]
    ) -> tuple[tuple[Leg, ...], Decision | None]:
        """Returns the legs with the cloud's work cut short by the first cloud head that answers,
        and its decision; the legs as they are and None where none does.

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

    def _answer(self, task: int, finish_s: float, decision: int, label: int) -> None:
        """Note the answer of a task that does not give up; the observation is still that of its
        last decision."""
        log, observation = self._log, self._observation
        log.finish_s[task] = finish_s
        log.decision[task] = decision
        log.predicted[task] = label
        log.decided_s[task] = observation.now_s
        log.estimated_bps[task] = observation.bandwidth_bps
        heappush(self._unanswered, (finish_s, task, label))

    def records(self) -> Records:
        """Returns what happened, task by task."""
        plans = tuple(route.plan for route in self._routes.values())
        trial = self._trial
        return self._log.records(plans, self._samples, trial.problem.outcomes, trial.trace)
