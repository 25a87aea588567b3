"""The executor: the same tasks, methods and records as the simulator's, in real time on a socket.

In: a trial, the plans, where the cloud is, the end's work. Out: one record per task. One event loop
asks the controller, in the order of time, and waits for end, link and answers, which go on at once:
`executor_end`, `executor_link`. A task whose transfer its plan gives up, that the cloud leaves
unanswered, or whose connection is lost is finished on the end (`executor_recovery`); the stream
goes on meanwhile.
"""

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from time import monotonic

from coach_exp.network.precise import new_loop, sleep_until
from coach_exp.network.shaped_link import Link, PlainLink, ShapedLink
from coach_exp.network.wire_messages import Answer
from coach_exp.pipeline.arrivals import arrival_times
from coach_exp.pipeline.end_work import EndWork
from coach_exp.pipeline.executor_end import EndSide
from coach_exp.pipeline.executor_link import LinkSide
from coach_exp.pipeline.executor_recovery import Recovery
from coach_exp.pipeline.executor_tasks import OpenTasks, Progress
from coach_exp.pipeline.trial import Trial
from coach_exp.pipeline.uplink import CloudAddress, Say, Uplink
from coach_exp.types.plan import PlanSet
from coach_exp.types.task import Records

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
    trial: Trial,
    plans: PlanSet,
    make_end: MakeEnd,
    setting: Setting,
    *,
    progress: Progress | None = None,
    say: Say = print,
) -> Records:
    """Run the trial's workload in real time and return its records. `plans` are all that tasks may
    run; `say` gets words for people.

    Raises LinkError or WireError where the cloud cannot be had at the beginning; whatever happens
    to it later, the tasks are answered.
    """
    run = _Run(trial, plans, setting, say)
    with asyncio.Runner(loop_factory=new_loop) as runner, _without_collections():
        return runner.run(run.all_tasks(make_end, progress))


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


class _Run:
    """One run: arrivals, places in flight, and the waiting. The owner of the uplink."""

    _tasks: OpenTasks  # these four exist once the connection stands
    _recovery: Recovery
    _link: LinkSide
    _end: EndSide

    def __init__(self, trial: Trial, plans: PlanSet, setting: Setting, say: Say) -> None:
        self._trial = trial
        self._setting = setting
        self._say = say
        self._uplink = Uplink(setting.address, plans.every, self, say)

    async def all_tasks(self, make_end: MakeEnd, progress: Progress | None) -> Records:
        """Connect, run all tasks, say good-bye. Returns the records."""
        await self._uplink.open()
        began_s = monotonic() + AHEAD_S
        self._prepare(make_end(began_s), began_s, progress)
        await sleep_until(began_s)
        work = [self._stream(), self._uplink.keep(), self._link.carry_all()]
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
        return self._tasks.records(self._setting.shaped)

    def _prepare(self, end: EndWork, began_s: float, progress: Progress | None) -> None:
        setting, uplink = self._setting, self._uplink
        link: Link
        if setting.shaped:
            link = ShapedLink(self._trial.trace, self._trial.problem.link.rtt_s / 2, began_s)
        else:
            link = PlainLink(uplink.drained, began_s)
        self._tasks = OpenTasks(self._trial, began_s, end.emulated, progress)
        self._recovery = Recovery(self._tasks, setting.answer_s, uplink.cancel, self._say)
        self._link = LinkSide(self._tasks, self._recovery, uplink, link, setting.shaped)
        self._end = EndSide(self._tasks, self._recovery, self._link, end)

    async def _stream(self) -> None:
        """Start every task when it has arrived and found a place, and wait for the last answer."""
        tasks, workload = self._tasks, self._trial.problem.workload
        closed_loop = workload.kind in ("single_stream", "saturated")
        arrivals = arrival_times(workload).tolist()
        samples = self._trial.sample_of_each_task().tolist()
        for number, (arrival_s, sample) in enumerate(zip(arrivals, samples, strict=True)):
            if workload.drop and not closed_loop:
                await self._until(arrival_s)
                if not tasks.free_places_s:
                    tasks.drop(number, arrival_s)
                    continue
            place_s = await self._place(arrival_s)
            start_s = self._end.start_s(place_s, arrival_s)
            await self._end.run(number, sample, place_s if closed_loop else arrival_s, start_s)
        while tasks.open:
            await self._until(inf)

    async def _place(self, arrival_s: float) -> float:
        """Wait for the task and for a place. Returns since when the place is free."""
        await self._until(arrival_s)
        while not self._tasks.free_places_s:
            await self._until(-inf, forced=True)
        return self._tasks.free_places_s.popleft()

    async def _until(self, instant_s: float, forced: bool = False) -> None:
        """Wait until this instant or, if inf or forced, until anything happens; the end finishes
        meanwhile what gave up."""
        tasks = self._tasks
        while True:
            await self._end.finish_given_up()
            waits_for_event = forced or instant_s == inf
            left_s = instant_s - tasks.now_s()
            if not waits_for_event and left_s <= 0:
                return
            if waits_for_event and not tasks.open:
                return
            tasks.changed.clear()
            try:
                await asyncio.wait_for(tasks.changed.wait(), None if waits_for_event else left_s)
            except TimeoutError:
                continue
            if waits_for_event and not self._recovery.unfinished:
                return

    # --- What the uplink tells its owner --------------------------------------------------------

    def answered(self, answer: Answer, now_s: float) -> None:
        """Of UplinkOwner."""
        self._link.answered(answer, now_s)

    def lost(self, reason: str) -> None:
        """Of UplinkOwner: all that is on its way is finished here."""
        self._recovery.lost(reason)
