"""Tasks of the simulator that give up on the link, and what becomes of them.

In: tasks that will give up, known as soon as they are sent. Out: in the order of time, the
controller's word on each; then an answer at once, or one after the end has computed the rest.
"""

from collections import deque
from heapq import heappop, heappush
from typing import NamedTuple

from coach_exp.pipeline.payload import payload
from coach_exp.pipeline.task_log import EXIT, LOCAL, TaskLog
from coach_exp.pipeline.trial import Trial
from coach_exp.types.method import Observation
from coach_exp.types.plan import Plan

Unanswered = list[tuple[float, int, int]]  # (finish_s, task, label) of each: a heap


class LateTask(NamedTuple):
    """A task that gives up at `instant_s`."""

    instant_s: float
    task: int
    sample: int
    plan: Plan


class Recovery:
    """The late tasks of one run. Answers are added to `unanswered`, the run's own heap."""

    def __init__(self, trial: Trial, log: TaskLog, unanswered: Unanswered) -> None:
        self.giving_up: list[LateTask] = []  # a heap
        self.unfinished: deque[LateTask] = deque()  # gave up; wait for the end
        self.late = 0  # tasks in these two
        self._trial = trial
        self._log = log
        self._unanswered = unanswered

    def add(self, late: LateTask) -> None:
        """Take in a task that will give up."""
        heappush(self.giving_up, late)
        self.late += 1
        self._log.fallback[late.task] = True

    def next_s(self) -> float:
        """Returns when the next task is answered or gives up; at least one will give up."""
        gives_up_s = self.giving_up[0].instant_s
        return min(self._unanswered[0][0], gives_up_s) if self._unanswered else gives_up_s

    def give_up(self, others: int) -> None:
        """Ask what becomes of the next task that gives up, when all that happened before has been
        told. `others` counts the tasks under way that are neither late nor in `unanswered`."""
        late = heappop(self.giving_up)
        trial, outcomes = self._trial, self._trial.problem.outcomes
        backlog = len(self._unanswered) + self.late - 1 + others
        rate_bps = trial.estimator.rate_bps(late.instant_s)
        observation = Observation(late.instant_s, backlog, rate_bps, late.sample, outcomes)
        decision = trial.controller.gave_up(late.task, late.plan, observation)
        self._log.decided_s[late.task] = late.instant_s
        self._log.estimated_bps[late.task] = rate_bps
        if decision.action == "exit":
            self._answer(late.task, late.instant_s, EXIT, decision.label)
        else:
            self.unfinished.append(late)

    def finish(self, end_free_s: float) -> float:
        """Let the end, which is free from `end_free_s` on, compute the remaining layers of the
        tasks that wait for it. Returns when it is free again."""
        problem = self._trial.problem
        while self.unfinished:
            late = self.unfinished.popleft()
            end_free_s = max(end_free_s, late.instant_s) + late.plan.local_s
            self._log.fallback_s[late.task] = late.plan.local_s
            self._answer(late.task, end_free_s, LOCAL, payload(problem, late.sample, ()).label)
        return end_free_s

    def _answer(self, task: int, finish_s: float, decision: int, label: int) -> None:
        self.late -= 1
        heappush(self._unanswered, (finish_s, task, label))
        self._log.finish_s[task] = finish_s
        self._log.decision[task] = decision
        self._log.predicted[task] = label
