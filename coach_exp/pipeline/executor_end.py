"""The executor's end: one task's end part after the other, and what gave up on the link.

In: tasks that may start. Out: tensors released to the link, answers found on the end. Where times
are those of a profile, stages are reckoned by virtual time: one that could begin when another was
over begins then, however late this process woke up.
"""

from coach_exp.network.precise import sleep_until
from coach_exp.pipeline.end_work import EndWork
from coach_exp.pipeline.executor_link import LinkSide
from coach_exp.pipeline.executor_recovery import Recovery
from coach_exp.pipeline.executor_tasks import OpenTasks, RunningTask
from coach_exp.pipeline.task_log import EXIT, LOCAL
from coach_exp.types.method import Decision


class EndSide:
    """The end device at work. One task holds it at a time."""

    def __init__(self, tasks: OpenTasks, recovery: Recovery, link: LinkSide, work: EndWork) -> None:
        self._tasks = tasks
        self._recovery = recovery
        self._link = link
        self._work = work
        self._free_s = 0.0

    def start_s(self, place_s: float, arrival_s: float) -> float:
        """Returns when a task may start that arrived and has a place since these times."""
        return self._not_past(max(place_s, self._free_s, arrival_s))

    async def run(self, number: int, sample: int, arrival_s: float, start_s: float) -> None:
        """Run the end part of a task, from `start_s` on or when the end is free."""
        tasks, log = self._tasks, self._tasks.log
        await sleep_until(tasks.began_s + start_s)
        while self._recovery.unfinished:
            await self._finish(self._recovery.unfinished.popleft())
            start_s = max(start_s, self._free_s)
        tasks.look_before(number, sample, start_s)
        route = tasks.route(tasks.controller.choose(number, tasks.observation))
        log.plan[number] = route.number
        log.arrival_s[number] = arrival_s
        log.end_start_s[number] = start_s
        task = RunningTask(number, sample, route, self._work.begin(sample, route.plan, start_s))
        tasks.open[number] = task
        await self._run_part(task, start_s)
        self._free_s = log.end_end_s[number]
        if task.gave_up and not task.answered:
            self._recovery.decide(task)

    async def finish_given_up(self) -> None:
        """Compute the remaining layers of all tasks that gave up and wait for the end."""
        while self._recovery.unfinished:
            await self._finish(self._recovery.unfinished.popleft())

    async def _run_part(self, task: RunningTask, at_s: float) -> None:
        tasks, number, route, plan = self._tasks, task.number, task.route, task.route.plan
        for stop in route.stops:
            at_s = await task.work.reach(stop)
            if stop.head is not None:
                tasks.look_at(task, at_s)
                found = tasks.controller.at_head(number, plan, stop.head, tasks.observation)
                if found.action == "exit":
                    self._exit(task, found, at_s)
                    return
            elif stop.tensor is not None and not route.waits:
                await self._link.release(task, None, (stop.tensor,), at_s)
        if route.waits:
            tasks.look_at(task, at_s)
            decision = tasks.controller.at_cut(number, plan, tasks.observation)
            if decision.action == "exit":
                self._exit(task, decision, at_s)
                return
            tasks.log.separability[number] = decision.separability
            at_s = await self._link.release(task, decision, range(len(plan.crossing)), at_s)
        self._computed(task, at_s)
        if not plan.crossing:
            _, label = await task.work.finish(at_s)
            tasks.answer(task, at_s, LOCAL, label)

    def _exit(self, task: RunningTask, decision: Decision, at_s: float) -> None:
        """Answer a task by what a head or the cut has decided; nothing more of it is computed."""
        self._computed(task, at_s)
        self._tasks.log.separability[task.number] = decision.separability
        self._tasks.answer(task, at_s, EXIT, decision.label)

    def _computed(self, task: RunningTask, at_s: float) -> None:
        self._tasks.log.end_end_s[task.number] = at_s
        task.computed = True

    async def _finish(self, task: RunningTask) -> None:
        """Compute the remaining layers of a task that gave up."""
        log, number = self._tasks.log, task.number
        from_s = self._not_past(max(self._free_s, log.decided_s[number]))
        done_s, label = await task.work.finish(from_s)
        self._free_s = done_s
        log.fallback_s[number] += done_s - from_s
        self._tasks.answer(task, done_s, LOCAL, label)

    def _not_past(self, instant_s: float) -> float:
        """Returns the instant, or now where an end that computes could not have begun then."""
        return instant_s if self._tasks.emulated else max(instant_s, self._tasks.now_s())
