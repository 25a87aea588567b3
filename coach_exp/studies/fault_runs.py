"""One stream over real TCP while something fails, and what must hold of it all the same.

In: what works on both sides, a plan, where the cloud is, a script of failures that runs beside the
stream. Out: how many tasks were answered, how often each, how, and whether their labels are right.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Thread

import numpy as np
from numpy.typing import NDArray

from coach_exp.network.estimator import Ewma
from coach_exp.network.trace import Trace
from coach_exp.pipeline.cloud.process import CloudProcess
from coach_exp.pipeline.cloud.settings import CloudSettings
from coach_exp.pipeline.end_work import EndWork
from coach_exp.pipeline.executor import Setting, execute
from coach_exp.pipeline.executor_tasks import Progress
from coach_exp.pipeline.parts import Parts, Sides
from coach_exp.pipeline.trial import Trial
from coach_exp.pipeline.uplink import CloudAddress
from coach_exp.planner.planning import Planner
from coach_exp.studies.unreliable import UnreliableLink
from coach_exp.types.errors import CoachError, ConfigError, LinkError, WireError
from coach_exp.types.method import FixedPlans, Problem
from coach_exp.types.outcomes import Crossing, Outcomes
from coach_exp.types.plan import Plan, PlanSet, Release
from coach_exp.types.task import Records
from coach_exp.types.workload import Workload

Script = Callable[[float], None]  # of failures; given when the run began, of `time.monotonic`


@dataclass(frozen=True)
class Bench:
    """What streams run on. `one_by_one` are the answers of the same model, one sample at a time."""

    problem: Problem
    trace: Trace
    sides: Sides
    plans: tuple[Plan, ...]
    answers: Outcomes
    one_by_one: Outcomes

    @classmethod
    def of(cls, parts: Parts) -> "Bench":
        """From the config. Raises ConfigError where no model answers."""
        if not parts.trained:
            raise ConfigError("this study looks at labels; use a torch model with trained weights")
        trace = parts.trace()
        answers = parts.answers("stream")
        problem = replace(parts.problem(trace), outcomes=answers)
        plans, one_by_one = _plans(problem), parts.reference()
        bench = cls(problem, trace, parts.sides(problem), plans, answers, one_by_one)
        for plan in plans:  # all answers are known before anything is timed
            bench.label(0, plan, True)
        bench.label(0, plans[0], False)
        return bench

    def label(self, sample: int, plan: Plan, sent: bool) -> tuple[int, int]:
        """What a task must be answered with, by the model on one sample and in a batch: where it
        was sent, by what the cloud gets; else by the whole model."""
        if not sent:
            return self.one_by_one.uncut(sample), self.answers.uncut(sample)
        crossing = tuple(Crossing(tensor.layer, tensor.bits) for tensor in plan.crossing)
        found = (each.predict(sample, crossing).label for each in (self.one_by_one, self.answers))
        return next(found), next(found)


def _plans(problem: Problem) -> tuple[Plan, ...]:
    """Cuts near the middle of the model with one crossing tensor, sent when all is decided, and,
    where there are such cuts, with two, each sent when it is ready."""
    found = [_middle(problem, 1, "after_decision"), _middle(problem, 2, "per_tensor")]
    return tuple(plan for plan in found if plan is not None)


def _middle(problem: Problem, tensors: int, release: Release) -> Plan | None:
    names = [layer.name for layer in problem.graph.layers]
    planner = Planner(objective="bottleneck", release=release)
    middle = len(names) // 2
    for size in sorted(range(2, len(names)), key=lambda size: abs(size - middle)):
        plan = planner.plan_for(problem, names[:size])
        if len(plan.crossing) == tensors:
            return plan
    return None


class Tally(FixedPlans):
    """Keeps to one plan, and counts what it is told of answers."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(PlanSet((plan,)))
        self.answers: Counter[int] = Counter()

    def answered(self, task: int, label: int, now_s: float) -> None:
        """Once for every task, it is hoped."""
        self.answers[task] += 1


@dataclass(frozen=True)
class Outcome:
    """What became of the tasks of one stream. `ties`: labels that are the batch's and not the
    single sample's, or the other way round, since two scores were nearly equal."""

    tasks: int
    once: int
    fallbacks: int
    reconnections: int
    wrong: int
    ties: int
    gap_s: float
    records: Records
    said: tuple[str, ...]

    @property
    def broken(self) -> list[str]:
        """The rules that were broken, in words."""
        words = []
        if self.once != self.tasks:
            words.append(f"{self.tasks - self.once} of {self.tasks} tasks not answered just once")
        if self.wrong:
            words.append(f"{self.wrong} wrong labels")
        return words


@dataclass(frozen=True, eq=False)
class Asked:
    """A stream that is to be run. `samples` are those of its tasks; without a `trace` the link is
    the config's."""

    plan: Plan
    workload: Workload
    setting: Setting
    samples: NDArray[np.int64]
    trace: Trace | None = None


def stream(
    bench: Bench, asked: Asked, script: Script | None = None, progress: Progress | None = None
) -> Outcome:
    """Run one stream, the script beside it. Raises what the script raises, LinkError and WireError
    where there is no cloud at the beginning, CoachError for a stream that broke off."""
    problem = replace(bench.problem, workload=asked.workload)
    plans, tally = PlanSet((asked.plan,)), Tally(asked.plan)
    trace = asked.trace or bench.trace
    said: list[str] = []
    failing = _Failing(script)

    def make_end(began_s: float) -> EndWork:
        failing.begin(began_s)
        return bench.sides.end(began_s)

    try:
        records = execute(
            Trial(problem, tally, trace, Ewma(trace.initial_bps), asked.samples),
            plans,
            make_end,
            asked.setting,
            progress=progress,
            say=said.append,
        )
    except (LinkError, WireError) as error:
        if failing.begun:
            raise CoachError(f"a stream broke off: {error}") from error
        raise
    finally:
        failing.join()
    return judged(bench, records, tally, said)


def judged(bench: Bench, records: Records, tally: Tally, said: Sequence[str]) -> Outcome:
    """Count what the records say, against what was told and what the model says."""
    numbers = Counter(records.task.tolist())
    answered = [task for task in range(len(records)) if numbers[task] == tally.answers[task] == 1]
    wrong = ties = 0
    for row in records:
        one, batch = bench.label(row.sample, records.plans[row.plan], row.decision == "send")
        wrong += row.predicted not in (one, batch)
        ties += one != batch and row.predicted in (one, batch)
    return Outcome(
        tasks=len(records),
        once=len(answered),
        fallbacks=int(records.fallback.sum()),
        reconnections=sum(map(_is_again, said)),
        wrong=wrong,
        ties=ties,
        gap_s=float(np.diff(np.sort(records.finish_s)).max(initial=0.0)),
        records=records,
        said=tuple(said),
    )


def _is_again(words: str) -> bool:
    """Whether this is what an end says when its connection stands again."""
    return words.startswith("connected") and words.endswith("again")


class _Failing:
    """A script in its thread, whose error is not lost."""

    def __init__(self, script: Script | None) -> None:
        self._script = script
        self.begun = False
        self._thread: Thread | None = None
        self._error: BaseException | None = None

    def begin(self, began_s: float) -> None:
        self.begun = True
        if self._script is not None:
            self._thread = Thread(target=self._run, args=(self._script, began_s), name="script")
            self._thread.start()

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self, script: Script, began_s: float) -> None:
        try:
            script(began_s)
        except BaseException as error:
            self._error = error


def address(bench: Bench, port: int, *, stall_s: float, connect_s: float) -> CloudAddress:
    """A cloud of this machine, or a relay to it."""
    return CloudAddress(
        "127.0.0.1", port, bench.sides.fingerprint, stall_s=stall_s, connect_s=connect_s
    )


@contextmanager
def cloud_and_link(bench: Bench) -> Iterator[tuple[CloudProcess, UnreliableLink]]:
    """A cloud in a process of its own, and a relay to it that fails when it is told to."""
    settings = CloudSettings(fingerprint=bench.sides.fingerprint)
    with (
        CloudProcess(settings, bench.sides.cloud, _quiet) as cloud,
        UnreliableLink(cloud.port) as link,
    ):
        yield cloud, link


def _quiet(words: str) -> None:
    """Of the cloud's words, none: there would be too many."""
