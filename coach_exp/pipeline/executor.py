"""The executor: the same tasks, methods and records as the simulator's, in real time on a socket.

In: a controller, the connection to a cloud, the end's work. Out: one record per task. One event
loop asks the controller, in the order of time, and waits for end, link and answers, which go on at
once. Where times are those of profiles, stages are reckoned by virtual time: one that could begin
when another was over begins then, however late this process woke up.

A task whose transfer its plan gives up, that the cloud leaves unanswered, or whose connection is
lost is finished on the end; the stream goes on meanwhile. No task is lost, none is answered twice.
"""

import asyncio
import gc
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf, nan
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coach_exp.network.estimator import Estimator
from coach_exp.network.precise import new_loop, sleep_until
from coach_exp.network.shaped_link import Hold, Link, PlainLink, ShapedLink
from coach_exp.network.trace import Trace
from coach_exp.network.wire_messages import Answer
from coach_exp.pipeline.arrivals import arrival_times
from coach_exp.pipeline.end_work import CloudExit, EndTask, EndWork, Stop, stops
from coach_exp.pipeline.payload import crossing_as
from coach_exp.pipeline.task_log import records_of
from coach_exp.pipeline.uplink import CloudAddress, Say, Uplink
from coach_exp.types.method import Controller, Decision, Observation, Problem, Transfer
from coach_exp.types.plan import DecisionPoint, Plan, PlanSet
from coach_exp.types.task import NOT_SIMULATED, Records

Progress = Callable[[int], None]
MakeEnd = Callable[[float], EndWork]  # given when the run began, of `time.monotonic`

AHEAD_S = 0.05  # between the last preparation and the first task


@dataclass(frozen=True)
class Setting:
    """How tasks meet the network. `shaped`: the link follows the trace, on a connection that is
    faster; else it is the connection itself. A task that was sent and is not answered within
    `answer_s`, and the time that a full queue takes the cloud by the plan, is finished on the end.
    """

    address: CloudAddress
    shaped: bool = True
    answer_s: float = 10.0


def execute(
    problem: Problem,
    plans: PlanSet,
    controller: Controller,
    trace: Trace,
    estimator: Estimator,
    make_end: MakeEnd,
    setting: Setting,
    samples: NDArray[np.int64] | None = None,
    progress: Progress | None = None,
    say: Say = print,
) -> Records:
    """Run the problem's workload in real time. `samples[i]` is the data sample of task i.

    Raises LinkError or WireError where the cloud cannot be had at the beginning; whatever happens
    to it later, the tasks are answered.
    """
    if samples is None:
        samples = np.zeros(problem.workload.tasks, dtype=np.int64)
    run = _Run(problem, plans, controller, trace, estimator, setting, say)
    with asyncio.Runner(loop_factory=new_loop) as runner, _without_collections():
        runner.run(run.all_tasks(make_end, samples.tolist(), progress))
    return run.records(samples)


@contextmanager
def _without_collections() -> Iterator[None]:
    """What lives now is not looked through again: a full collection would stop the loop for longer
    than a short stage takes."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@dataclass(frozen=True)
class _Route:
    """A plan as tasks run it."""

    number: int
    plan: Plan
    stops: tuple[Stop, ...]
    cloud_heads: tuple[DecisionPoint, ...]

    @property
    def waits(self) -> bool:
        """Whether sending waits for the decision at the cut."""
        return self.plan.release == "after_decision" and bool(self.plan.crossing)


@dataclass(eq=False, slots=True)
class _Task:
    """A task, what is known of it so far, and what becomes its record."""

    number: int
    sample: int
    arrival_s: float
    start_s: float
    route: _Route
    work: EndTask
    end_s: float = nan
    end_busy_s: float = 0.0
    link_start_s: float = nan
    link_end_s: float = nan
    link_busy_s: float = 0.0
    cloud_start_s: float = nan
    cloud_end_s: float = nan
    cloud_busy_s: float = 0.0
    finish_s: float = nan
    decision: str = ""
    bits: int = 0
    payload_bytes: int = 0
    decided_s: float = nan
    estimated_bps: float = nan
    separability: float = nan
    predicted: int = NOT_SIMULATED
    left: int = 0  # tensors that have left the end whole
    early: CloudExit | None = None
    released: bool = False  # something of it was handed to the link
    gave_up: bool = False
    timers: list[asyncio.TimerHandle] = field(default_factory=list)

    @property
    def computed(self) -> bool:
        """Whether its end part is over."""
        return self.end_s == self.end_s

    @property
    def answered(self) -> bool:
        """Whether its answer is known."""
        return bool(self.decision)


@dataclass(frozen=True)
class _Parcel:
    """A crossing tensor that waits for the link."""

    task: _Task
    part: int
    payload: bytes
    bits: int
    ready_s: float
    latest_s: float


class _Run:
    """The state of one run. All of it belongs to the loop's thread."""

    def __init__(
        self,
        problem: Problem,
        plans: PlanSet,
        controller: Controller,
        trace: Trace,
        estimator: Estimator,
        setting: Setting,
        say: Say,
    ) -> None:
        self._problem = problem
        self._controller = controller
        self._trace = trace
        self._estimator = estimator
        self._setting = setting
        self._say = say
        self._uplink = Uplink(setting.address, plans.every, self, say)
        self._half_rtt_s = problem.link.rtt_s / 2 if setting.shaped else 0.0
        self._observation = Observation(0.0, 0, estimator.rate_bps(0.0), 0, None)
        self._routes: dict[int, _Route] = {}
        self._rows: dict[int, dict[str, Any]] = {}  # of the tasks that are over, by number
        self._open: dict[int, _Task] = {}  # started and not answered
        self._places = deque([0.0] * problem.workload.places)
        self._unfinished: deque[_Task] = deque()  # gave up; wait for the end
        self._parcels: asyncio.Queue[_Parcel] = asyncio.Queue()
        self._carrying: tuple[_Parcel, asyncio.Task[Hold]] | None = None
        self._end_free_s = 0.0
        self._link_free_s = 0.0
        self._wake = asyncio.Event()
        self._progress: Progress | None = None
        self._answers = 0

    async def all_tasks(
        self, make_end: MakeEnd, samples: list[int], progress: Progress | None
    ) -> None:
        """Connect, run, say good-bye."""
        self._progress = progress
        await self._uplink.open()
        self._began_s = monotonic() + AHEAD_S
        self._end = make_end(self._began_s)
        self._link: Link = (
            ShapedLink(self._trace, self._half_rtt_s, self._began_s)
            if self._setting.shaped
            else PlainLink(self._uplink.drained, self._began_s)
        )
        await sleep_until(self._began_s)
        work = [self._run_all(samples), self._uplink.keep(), self._feed_link()]
        going = [asyncio.create_task(each) for each in work]
        try:
            done, _ = await asyncio.wait(going, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                each.result()  # the tasks are over, or one of the three has failed
        finally:
            for each in going:
                each.cancel()
            await asyncio.gather(*going, return_exceptions=True)
            await self._uplink.close()

    def _now_s(self) -> float:
        return monotonic() - self._began_s

    # --- The end --------------------------------------------------------------------------------

    async def _run_all(self, samples: list[int]) -> None:
        workload = self._problem.workload
        closed_loop = workload.kind in ("single_stream", "saturated")
        arrivals = arrival_times(workload).tolist()
        for number, (arrival_s, sample) in enumerate(zip(arrivals, samples, strict=True)):
            if workload.drop and not closed_loop:
                await self._until(arrival_s)
                if not self._places:
                    self._drop(number, arrival_s)
                    continue
            place_s = await self._place(arrival_s)
            start_s = max(place_s, self._end_free_s, arrival_s)
            if not self._end.emulated:
                start_s = max(start_s, self._now_s())
            await self._start(number, sample, place_s if closed_loop else arrival_s, start_s)
        while self._open:
            await self._until(inf)

    async def _place(self, arrival_s: float) -> float:
        """Wait for the task and for a place; since when the place is free."""
        await self._until(arrival_s)
        while not self._places:
            await self._until(-inf, forced=True)
        return self._places.popleft()

    async def _until(self, instant_s: float, forced: bool = False) -> None:
        """Wait until this instant or, if inf or forced, until anything happens; the end finishes
        meanwhile what gave up."""
        while True:
            while self._unfinished:
                await self._finish_locally(self._unfinished.popleft())
            waits_for_event = forced or instant_s == inf
            left_s = instant_s - self._now_s()
            if not waits_for_event and left_s <= 0:
                return
            if waits_for_event and not self._open:
                return
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), None if waits_for_event else left_s)
            except TimeoutError:
                continue
            if waits_for_event and not self._unfinished:
                return

    async def _start(self, number: int, sample: int, arrival_s: float, start_s: float) -> None:
        await sleep_until(self._began_s + start_s)
        while self._unfinished:
            await self._finish_locally(self._unfinished.popleft())
            start_s = max(start_s, self._end_free_s)
        self._look(start_s, sample, len(self._open), self._problem.outcomes)
        plan = self._controller.choose(number, self._observation)
        route = self._route(plan)
        task = _Task(
            number, sample, arrival_s, start_s, route, self._end.begin(sample, plan, start_s)
        )
        self._noted(task)
        self._open[number] = task
        await self._run_end_part(task)
        self._end_free_s = task.end_s
        if task.gave_up and not task.answered:
            self._decide_late(task)

    async def _run_end_part(self, task: _Task) -> None:
        route, plan, at_s = task.route, task.route.plan, task.start_s
        for stop in route.stops:
            at_s = await task.work.reach(stop)
            if stop.head is not None:
                self._look_at(task, at_s)
                found = self._controller.at_head(task.number, plan, stop.head, self._observation)
                if found.action == "exit":
                    self._computed(task, at_s)
                    self._answer(task, at_s, "exit", found.label, found.separability)
                    return
            elif stop.tensor is not None and not route.waits:
                await self._release(task, None, (stop.tensor,), at_s)
        decision = None
        if route.waits:
            self._look_at(task, at_s)
            decision = self._controller.at_cut(task.number, plan, self._observation)
            task.separability = decision.separability
            if decision.action == "exit":
                self._computed(task, at_s)
                self._answer(task, at_s, "exit", decision.label, decision.separability)
                return
            at_s = await self._release(task, decision, range(len(plan.crossing)), at_s)
        self._computed(task, at_s)
        if not plan.crossing:
            _, label = await task.work.finish(at_s)
            self._answer(task, at_s, "local", label, nan)

    def _computed(self, task: _Task, at_s: float) -> None:
        task.end_s, task.end_busy_s = at_s, at_s - task.start_s

    async def _finish_locally(self, task: _Task) -> None:
        """The remaining layers of a task that gave up."""
        from_s = max(self._end_free_s, task.decided_s)
        if not self._end.emulated:
            from_s = max(from_s, self._now_s())
        done_s, label = await task.work.finish(from_s)
        self._end_free_s = done_s
        task.end_busy_s += done_s - from_s
        self._answer(task, done_s, "local", label, task.separability)

    # --- The link -------------------------------------------------------------------------------

    async def _release(
        self, task: _Task, decision: Decision | None, parts: "range | tuple[int, ...]", at_s: float
    ) -> float:
        """Hand crossing tensors to the link; when they were packed."""
        plan = task.route.plan
        crossing = crossing_as(plan, decision)
        if self._end.emulated and not task.released:
            task.early = self._cloud_exit(task, at_s)
        payloads = await task.work.pack(crossing, parts, task.early)
        if not self._end.emulated:
            at_s = self._now_s()
        if not self._uplink.ready:
            self._give_up(task)
        if task.gave_up:
            return at_s
        task.released, latest_s = True, inf
        if plan.timeout_s < inf:
            released_s = at_s if task.route.waits else task.start_s + plan.ready_s[0]
            latest_s = max(task.start_s + plan.stage_s.end_s, released_s + plan.timeout_s)
            self._later(task, latest_s, self._timed_out)
        for part, payload in zip(parts, payloads, strict=True):
            parcel = _Parcel(task, part, payload, crossing[part].bits, at_s, latest_s)
            self._parcels.put_nowait(parcel)
        return at_s

    def _cloud_exit(self, task: _Task, at_s: float) -> CloudExit | None:
        """Which head of a cloud that computes nothing answers."""
        if task.route.cloud_heads:
            self._look_at(task, at_s)
        for place, head in enumerate(task.route.cloud_heads):
            found = self._controller.at_head(task.number, task.route.plan, head, self._observation)
            if found.action == "exit":
                return CloudExit(place, found.label)
        return None

    async def _feed_link(self) -> None:
        """Carry parcel after parcel."""
        while True:
            parcel = await self._parcels.get()
            if parcel.task.gave_up:
                continue
            carried = asyncio.create_task(
                self._link.carry(
                    lambda parcel=parcel: self._write(parcel),  # type: ignore[misc]
                    *(len(parcel.payload), parcel.ready_s, parcel.latest_s),
                )
            )
            self._carrying = (parcel, carried)
            try:
                hold = await carried
            except asyncio.CancelledError:
                current = asyncio.current_task()
                if current is not None and current.cancelling():
                    raise
                continue  # not this loop ends: the parcel's task gave up
            finally:
                self._carrying = None
            self._carried(parcel, hold)

    def _write(self, parcel: _Parcel) -> None:
        """The tensor leaves, if anyone waits for it and there is a connection."""
        task = parcel.task
        if not task.gave_up and self._uplink.ready:
            self._uplink.send(task.number, task.route.plan, parcel.part, parcel.payload)

    def _carried(self, parcel: _Parcel, hold: Hold) -> None:
        task = parcel.task
        end_s = parcel.latest_s if hold.end_s is None else hold.end_s
        if hold.end_s is not None or hold.begin_s < end_s:
            task.link_start_s = hold.begin_s if not task.link_busy_s else task.link_start_s
            task.link_end_s = end_s
            task.link_busy_s += end_s - hold.begin_s
        if hold.end_s is None:
            self._give_up(task)
            return
        task.left += 1
        task.bits = max(task.bits, parcel.bits)
        task.payload_bytes += len(parcel.payload)
        if self._setting.shaped:
            self._sent(Transfer(task.number, len(parcel.payload), hold.begin_s, hold.end_s))
        if task.left == len(task.route.plan.crossing):
            for timer in task.timers:
                timer.cancel()
            self._later(task, hold.end_s + self._longest_answer_s(task), self._unanswered)

    def _longest_answer_s(self, task: _Task) -> float:
        """All that is in flight may be before it on the cloud."""
        queue_s = self._problem.workload.places * task.route.plan.stage_s.cloud_s
        return self._setting.answer_s + queue_s

    def _sent(self, transfer: Transfer) -> None:
        self._estimator.sent(transfer)
        self._controller.sent(transfer)

    def _later(self, task: _Task, instant_s: float, then: Callable[[_Task], None]) -> None:
        loop = asyncio.get_running_loop()
        task.timers.append(loop.call_at(self._began_s + instant_s, then, task))

    # --- The cloud ------------------------------------------------------------------------------

    def answered(self, answer: Answer, now_s: float) -> None:
        """Of UplinkOwner: an answer of the cloud; its way back takes half an RTT, if it counts."""
        back_s = self._half_rtt_s if self._problem.link.result_return else 0.0
        if back_s:
            asyncio.get_running_loop().call_at(now_s + back_s, self._take, answer, now_s + back_s)
        else:
            self._take(answer, now_s)

    def _take(self, answer: Answer, now_s: float) -> None:
        task = self._open.get(answer.task)
        if task is None or task.gave_up:
            return
        here_s = self._began_s + self._uplink.clock.offset_s  # the run's beginning, there
        task.cloud_start_s = answer.start_s - here_s
        task.cloud_end_s = answer.end_s - here_s
        task.cloud_busy_s = answer.busy_s
        if not self._setting.shaped:
            self._measured(task, answer.received_s - here_s)
        came_s = now_s - self._began_s
        finish_s = came_s
        if not self._problem.link.result_return:
            finish_s = min(came_s, task.cloud_end_s)
        timed = self._end.emulated and self._problem.outcomes is None
        label = NOT_SIMULATED if timed else answer.label
        self._answer(
            task, finish_s, "send" if answer.exit is None else "exit", label, task.separability
        )

    def _measured(self, task: _Task, received_s: float) -> None:
        """Where the link is real, a transfer is over half an RTT before its last byte arrives; that
        the kernel had taken it says less."""
        end_s = max(received_s - self._uplink.clock.rtt_s / 2, task.link_start_s)
        begin_s = min(max(task.link_start_s, self._link_free_s), end_s)
        self._link_free_s = task.link_end_s = end_s
        task.link_start_s, task.link_busy_s = begin_s, end_s - begin_s
        self._sent(Transfer(task.number, task.payload_bytes, begin_s, end_s))

    # --- Giving up ------------------------------------------------------------------------------

    def lost(self, reason: str) -> None:
        """Of UplinkOwner: all that is on its way is finished here."""
        late = [task for task in self._open.values() if task.released and not task.gave_up]
        self._say(f"connection lost at {self._now_s():.2f} s ({reason}); {len(late)} tasks are "
                  "finished on the end")  # fmt: skip
        for task in late:
            self._give_up(task)

    def _unanswered(self, task: _Task) -> None:
        if not task.answered and not task.gave_up:
            within_s = self._longest_answer_s(task)
            self._say(f"task {task.number} is not answered within {within_s:.1f} s; it is finished "
                      "on the end")  # fmt: skip
            self._give_up(task)

    def _timed_out(self, task: _Task) -> None:
        on_the_link = self._carrying is not None and self._carrying[0].task is task
        if not on_the_link and task.left < len(task.route.plan.crossing):
            self._give_up(task)  # one that is on the link is abandoned there, at this very moment

    def _give_up(self, task: _Task) -> None:
        """The link or the cloud has failed this task; once is enough."""
        if task.answered or task.gave_up:
            return
        task.gave_up = True
        for timer in task.timers:
            timer.cancel()
        self._uplink.cancel(task.number)
        if self._carrying is not None and self._carrying[0].task is task:
            self._carrying[1].cancel()
        if task.computed:
            self._decide_late(task)

    def _decide_late(self, task: _Task) -> None:
        """What becomes of a task that gave up: an answer by what the end knows, or by the whole
        model."""
        instant_s = max(self._now_s(), task.end_s)
        self._look_at(task, instant_s)
        decision = self._controller.gave_up(task.number, task.route.plan, self._observation)
        if task.link_start_s != task.link_start_s:
            task.link_start_s = task.link_end_s = instant_s
        if not task.left:
            task.bits = task.payload_bytes = 0
        task.cloud_start_s = task.cloud_end_s = max(instant_s, task.link_end_s)
        if decision.action == "exit":
            self._answer(task, instant_s, "exit", decision.label, task.separability)
        else:
            self._unfinished.append(task)
            self._wake.set()

    # --- What both the controller and the records are told --------------------------------------

    def _answer(
        self, task: _Task, finish_s: float, decision: str, label: int, separability: float
    ) -> None:
        del self._open[task.number]
        for timer in task.timers:
            timer.cancel()
        if task.link_start_s != task.link_start_s:  # nothing was sent
            task.link_start_s = task.link_end_s = task.end_s
        if task.cloud_start_s != task.cloud_start_s:
            task.cloud_start_s = task.cloud_end_s = task.link_end_s
        task.finish_s, task.decision = finish_s, decision
        task.predicted, task.separability = label, separability
        self._rows[task.number] = _row(task)
        self._places.append(finish_s if self._end.emulated else self._now_s())
        self._wake.set()
        self._controller.answered(task.number, label, finish_s)
        self._answers += 1
        if self._progress is not None:
            self._progress(self._answers)

    def _look(self, now_s: float, sample: int, backlog: int, outcomes: Any) -> None:
        observation = self._observation
        observation.now_s, observation.sample, observation.backlog = now_s, sample, backlog
        observation.bandwidth_bps, observation.outcomes = self._estimator.rate_bps(now_s), outcomes

    def _look_at(self, task: _Task, now_s: float) -> None:
        """Bring the observation up to date before the controller is asked about a started task."""
        self._look(now_s, task.sample, len(self._open) - 1, task.work.outcomes)
        self._noted(task)

    def _noted(self, task: _Task) -> None:
        task.decided_s, task.estimated_bps = (
            self._observation.now_s,
            self._observation.bandwidth_bps,
        )

    def _route(self, plan: Plan) -> _Route:
        route = self._routes.get(id(plan))
        if route is None:
            cloud_heads = tuple(head for head in plan.heads if head.side == "cloud")
            route = _Route(len(self._routes), plan, stops(plan), cloud_heads)
            self._routes[id(plan)] = route
        return route

    def _drop(self, number: int, arrival_s: float) -> None:
        self._rows[number] = _dropped_row(number, arrival_s, self._estimator.rate_bps(arrival_s))

    # --- Records --------------------------------------------------------------------------------

    def records(self, samples: NDArray[np.int64]) -> Records:
        """What happened, task by task."""
        rows = [self._rows[number] for number in range(len(samples))]
        columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
        decided_s = columns["decided_s"]
        columns["true_bps"] = (
            self._trace.at(decided_s) if self._setting.shaped else np.full(len(rows), nan)
        )
        plans = tuple(route.plan for route in self._routes.values())
        return records_of(columns, plans, samples, self._problem.outcomes)


_TIMES = (
    *("arrival_s", "end_start_s", "end_end_s", "link_start_s", "link_end_s"),
    *("cloud_start_s", "cloud_end_s", "finish_s", "decided_s"),
)


def _row(task: _Task) -> dict[str, Any]:
    return {
        "task": task.number,
        "plan": task.route.number,
        "arrival_s": task.arrival_s,
        "end_start_s": task.start_s,
        "end_end_s": task.end_s,
        "end_busy_s": task.end_busy_s,
        "link_start_s": task.link_start_s,
        "link_end_s": task.link_end_s,
        "link_busy_s": task.link_busy_s,
        "cloud_start_s": task.cloud_start_s,
        "cloud_end_s": task.cloud_end_s,
        "cloud_busy_s": task.cloud_busy_s,
        "finish_s": task.finish_s,
        "decision": task.decision,
        "bits": task.bits,
        "payload_bytes": task.payload_bytes,
        "decided_s": task.decided_s,
        "estimated_bps": task.estimated_bps,
        "separability": task.separability,
        "predicted": task.predicted,
        "dropped": False,
        "fallback": task.gave_up,
    }


def _dropped_row(number: int, arrival_s: float, rate_bps: float) -> dict[str, Any]:
    return {
        **dict.fromkeys(_TIMES, arrival_s),
        **dict.fromkeys(("end_busy_s", "link_busy_s", "cloud_busy_s"), 0.0),
        "task": number,
        "plan": NOT_SIMULATED,
        "decision": "dropped",
        "bits": 0,
        "payload_bytes": 0,
        "estimated_bps": rate_bps,
        "separability": nan,
        "predicted": NOT_SIMULATED,
        "dropped": True,
        "fallback": False,
    }
