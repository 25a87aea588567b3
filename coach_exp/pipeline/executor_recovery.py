"""Tasks of the executor that link or cloud have failed.

In: transfers that outlast the timeout of their plan, answers that do not come, connections that are
lost. Out: for each such task, once, the controller's word: an answer by what the end knows, or a
place among those that the end finishes itself. No task is lost, none is answered twice.
"""

from collections import deque
from collections.abc import Callable
from math import isnan

from coach_exp.pipeline.executor_tasks import OpenTasks, RunningTask
from coach_exp.pipeline.task_log import EXIT
from coach_exp.pipeline.uplink import Say

Withdraw = Callable[[int], None]  # tells the cloud that a task is not waited for


class Recovery:
    """Watches over tasks on their way. One that was sent is given up when it is not answered within
    `answer_s` and the time that a full queue takes the cloud by the plan."""

    def __init__(self, tasks: OpenTasks, answer_s: float, withdraw: Withdraw, say: Say) -> None:
        self.unfinished: deque[RunningTask] = deque()  # gave up; wait for the end
        self._tasks = tasks
        self._answer_s = answer_s
        self._withdraw = withdraw
        self._say = say

    def watch_link(self, task: RunningTask, latest_s: float) -> None:
        """Give a task up that has not left the end whole at `latest_s`."""
        self._tasks.later(task, latest_s, self._timed_out)

    def watch_cloud(self, task: RunningTask, sent_s: float) -> None:
        """Give a task up that left the end at `sent_s` and is not answered in time."""
        task.stop_timers()
        self._tasks.later(task, sent_s + self._max_answer_s(task), self._unanswered)

    def lost(self, reason: str) -> None:
        """Give all tasks up that are on their way: the connection is gone."""
        late = [task for task in self._tasks.open.values() if task.released and not task.gave_up]
        self._say(
            f"connection lost at {self._tasks.now_s():.2f} s ({reason}); {len(late)} tasks are "
            "finished on the end"
        )
        for task in late:
            self.give_up(task)

    def give_up(self, task: RunningTask) -> None:
        """Wait for link and cloud no longer; a second call for the same task does nothing. What
        becomes of it is decided at once, or when its end part is over."""
        if task.answered or task.gave_up:
            return
        task.gave_up = True
        task.stop_timers()
        self._withdraw(task.number)
        if task.carried is not None:
            task.carried.cancel()
        if task.computed:
            self.decide(task)

    def decide(self, task: RunningTask) -> None:
        """Ask what becomes of a task that gave up, whose end part is over."""
        tasks, log, number = self._tasks, self._tasks.log, task.number
        instant_s = max(tasks.now_s(), log.end_end_s[number])
        tasks.look_at(task, instant_s)
        decision = tasks.controller.gave_up(number, task.route.plan, tasks.observation)
        if isnan(log.link_start_s[number]):
            log.link_start_s[number] = log.link_end_s[number] = instant_s
        cloud_s = max(instant_s, log.link_end_s[number])
        log.cloud_start_s[number] = log.cloud_end_s[number] = cloud_s
        if decision.action == "exit":
            tasks.answer(task, instant_s, EXIT, decision.label)
        else:
            self.unfinished.append(task)
            tasks.changed.set()

    def _timed_out(self, task: RunningTask) -> None:
        # One that is on the link is abandoned there, at this very time.
        if task.carried is None and not task.sent_whole:
            self.give_up(task)

    def _unanswered(self, task: RunningTask) -> None:
        if not task.answered and not task.gave_up:
            within_s = self._max_answer_s(task)
            self._say(
                f"task {task.number} is not answered within {within_s:.1f} s; it is finished "
                "on the end"
            )
            self.give_up(task)

    def _max_answer_s(self, task: RunningTask) -> float:
        """Returns how long an answer may take: all that is in flight may be before it on the
        cloud."""
        places = self._tasks.problem.workload.places
        return self._answer_s + places * task.route.plan.stage_s.cloud_s
