"""The tasks of an executor's run: started, asked about, answered.

In: what happens to a task on the end, on the link and on the cloud. Out: what the controller is
shown and told, the task log, and a call for whoever waits for something to happen. All of it
belongs to the event loop's thread; seconds named `_s` count from the beginning of the run.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import isnan
from time import monotonic

from coach_exp.network.shaped_link import Hold
from coach_exp.pipeline.end_work import CloudExit, EndTask, Stop, stops
from coach_exp.pipeline.task_log import TaskLog
from coach_exp.pipeline.trial import Trial
from coach_exp.types.method import Observation, Transfer
from coach_exp.types.outcomes import Outcomes
from coach_exp.types.plan import DecisionPoint, Plan
from coach_exp.types.task import Records

Progress = Callable[[int], None]  # called with the number of answers so far


@dataclass(frozen=True)
class Route:
    """A plan as tasks run it; `number` counts the plans that tasks have run so far."""

    number: int
    plan: Plan
    stops: tuple[Stop, ...]
    cloud_heads: tuple[DecisionPoint, ...]

    @property
    def waits(self) -> bool:
        """Whether sending waits for the decision at the cut."""
        return self.plan.release == "after_decision" and bool(self.plan.crossing)


@dataclass(eq=False, slots=True)
class RunningTask:
    """A started task, and how far it is. What becomes its record stands in the task log."""

    number: int
    sample: int
    route: Route
    work: EndTask
    computed: bool = False  # its end part is over
    released: bool = False  # something of it was handed to the link
    left: int = 0  # tensors that have left the end whole
    early: CloudExit | None = None
    carried: asyncio.Task[Hold] | None = None  # the transfer of its tensor that is on the link now
    gave_up: bool = False
    answered: bool = False
    timers: list[asyncio.TimerHandle] = field(default_factory=list)

    @property
    def sent_whole(self) -> bool:
        """Whether all of its crossing tensors have left the end."""
        return self.left == len(self.route.plan.crossing)

    def stop_timers(self) -> None:
        """Wait for nothing that was set with `OpenTasks.later`."""
        for timer in self.timers:
            timer.cancel()


class OpenTasks:
    """All tasks of one run. `began_s` is the run's beginning, of `time.monotonic`; `emulated` says
    that the end's times are those of a profile."""

    def __init__(
        self, trial: Trial, began_s: float, emulated: bool, progress: Progress | None
    ) -> None:
        tasks = trial.problem.workload.tasks
        self.problem = trial.problem
        self.controller = trial.controller
        self.began_s = began_s
        self.emulated = emulated
        self.log = TaskLog(tasks)
        self.open: dict[int, RunningTask] = {}  # started and not answered, by number
        self.free_places_s = deque([0.0] * trial.problem.workload.places)  # since when each is free
        self.changed = asyncio.Event()
        self.observation = Observation(0.0, 0, trial.estimator.rate_bps(0.0), 0, None)
        self._trial = trial
        self._routes: dict[int, Route] = {}
        self._progress = progress
        self._answers = 0

    def now_s(self) -> float:
        """Returns the seconds since the run began."""
        return monotonic() - self.began_s

    def later(
        self, task: RunningTask, instant_s: float, then: Callable[[RunningTask], None]
    ) -> None:
        """Call `then` with the task at an instant, unless its timers are stopped before."""
        loop = asyncio.get_running_loop()
        task.timers.append(loop.call_at(self.began_s + instant_s, then, task))

    def route(self, plan: Plan) -> Route:
        """Returns the route of a plan, which is made when its first task asks for it."""
        route = self._routes.get(id(plan))
        if route is None:
            cloud_heads = tuple(head for head in plan.heads if head.side == "cloud")
            route = Route(len(self._routes), plan, stops(plan), cloud_heads)
            self._routes[id(plan)] = route
        return route

    # --- What the controller is shown and told --------------------------------------------------

    def look_before(self, number: int, sample: int, now_s: float) -> None:
        """Bring the observation up to date before a task is started."""
        self._look(number, sample, now_s, len(self.open), self.problem.outcomes)

    def look_at(self, task: RunningTask, now_s: float) -> None:
        """Bring the observation up to date before the controller is asked about a started task."""
        others = len(self.open) - 1
        self._look(task.number, task.sample, now_s, others, task.work.outcomes)

    def _look(
        self, number: int, sample: int, now_s: float, backlog: int, outcomes: Outcomes | None
    ) -> None:
        observation, rate_bps = self.observation, self._trial.estimator.rate_bps(now_s)
        observation.now_s, observation.sample, observation.backlog = now_s, sample, backlog
        observation.bandwidth_bps, observation.outcomes = rate_bps, outcomes
        self.log.decided_s[number] = now_s
        self.log.estimated_bps[number] = rate_bps

    def sent(self, transfer: Transfer) -> None:
        """Tell estimator and controller of a finished transfer."""
        self._trial.estimator.sent(transfer)
        self.controller.sent(transfer)

    # --- How a task ends ------------------------------------------------------------------------

    def answer(self, task: RunningTask, finish_s: float, decision: int, label: int) -> None:
        """Note the answer of an open task, free its place and tell the controller. `decision` is a
        place in `task_log.DECISIONS`."""
        log, number = self.log, task.number
        del self.open[number]
        task.stop_timers()
        task.answered = True
        if isnan(log.link_start_s[number]):  # nothing was sent
            log.link_start_s[number] = log.link_end_s[number] = log.end_end_s[number]
        if isnan(log.cloud_start_s[number]):
            log.cloud_start_s[number] = log.cloud_end_s[number] = log.link_end_s[number]
        log.finish_s[number] = finish_s
        log.decision[number] = decision
        log.predicted[number] = label
        log.fallback[number] = task.gave_up
        self.free_places_s.append(finish_s if self.emulated else self.now_s())
        self.changed.set()
        self.controller.answered(number, label, finish_s)
        self._answers += 1
        if self._progress is not None:
            self._progress(self._answers)

    def drop(self, number: int, arrival_s: float) -> None:
        """Note a task that found no place when it arrived."""
        self.log.dropped(number, arrival_s, self._trial.estimator.rate_bps(arrival_s))

    def records(self, shaped: bool) -> Records:
        """Returns what happened, task by task; the link's true rate is known where it is shaped."""
        plans = tuple(route.plan for route in self._routes.values())
        trace = self._trial.trace if shaped else None
        samples = self._trial.sample_of_each_task()
        return self.log.records(plans, samples, self.problem.outcomes, trace)
