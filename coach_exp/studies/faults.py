"""Everything that fails between an end and a cloud, many times over: is a task lost, answered
twice, or wrongly?

In: the config's model, whose answers are known, over real TCP to a cloud in another process. Out: a
table with a line for each fault, and every run. A rule that is broken is said, and fails the job in
the end.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import median
from time import monotonic
from typing import Annotated, Any, Final

from pydantic import Field, PositiveInt

from coach_exp.pipeline.parts import Parts
from coach_exp.results.findings import Findings, Table
from coach_exp.results.progress import Display
from coach_exp.studies.fault_kinds import FAULTS, NAMES, Conditions, Name, Place
from coach_exp.studies.fault_runs import Bench, Outcome, cloud_and_link
from coach_exp.types.errors import CoachError
from coach_exp.types.plan import Plan


@dataclass(frozen=True)
class Faults(Conditions):
    """Each of `faults` `runs` times, under the conditions."""

    faults: Annotated[tuple[Name, ...], Field(min_length=1)] = NAMES
    runs: PositiveInt = 20

    def __call__(self, parts: Parts, display: Display) -> Findings:
        """Let everything fail. The value is the tasks that were not answered just once. Raises
        ConfigError where the model has no trained weights."""
        bench = Bench.of(parts)
        every: dict[Name, list[Outcome]] = {}
        broken: list[str] = []
        begun_s = monotonic()
        with cloud_and_link(bench) as (cloud, link):
            load_s = monotonic() - begun_s
            place = Place(self, bench, cloud, link, random.Random(self.seed), load_s)
            for name in self.faults:
                every[name] = []
                for run in range(self.runs):
                    plan = bench.plans[run % len(bench.plans)]
                    for words in _run(place, name, plan, every[name]):
                        broken.append(f"{name}, run {run}: {words}")
                        display.say(broken[-1])
                    display.progress(name, run + 1, self.runs)
                if every[name]:
                    display.say(in_words(name, every[name]))
        lost = sum(run.tasks - run.once for runs in every.values() for run in runs)
        return Findings(
            name="faults",
            tables=(
                Table(
                    "faults", HEADS, [row_of(name, runs) for name, runs in every.items() if runs]
                ),
            ),
            data={
                "settings": asdict(self),
                "broken": broken,
                "runs": {name: [_json(run) for run in runs] for name, runs in every.items()},
            },
            value=float(lost),
            broken=tuple(broken),
        )


def _run(place: Place, name: Name, plan: Plan, found: list[Outcome]) -> list[str]:
    """Add one run to those of its fault: the rules that it broke. One that fails altogether breaks
    the first of them."""
    try:
        found.append(FAULTS[name](place, plan))
    except CoachError as error:
        return [str(error)]
    return broken_rules(name, found[-1])


def broken_rules(name: Name, found: Outcome) -> list[str]:
    """Those of every stream, and: where nothing of its own failed, an end finishes nothing."""
    words = found.broken
    calm = ("none", "bytes one by one", "another client killed", "two clients", "eight clients")
    if name in calm and found.fallbacks:
        words.append(f"{found.fallbacks} tasks finished on the end, and nothing of its own failed")
    if name in ("cloud restarted", "link cut") and not found.reconnections:
        words.append("no connection again, though there was something to connect to")
    return words


HEADS: Final = (
    "fault",
    "runs",
    "tasks",
    "answered once",
    "finished on the end",
    "connected again",
    "wrong labels",
    "near ties",
    "longest gap s",
)


def row_of(name: str, runs: Sequence[Outcome]) -> list[str]:
    """One line of the table; three numbers are least / median / most of a run."""

    def spread(of: str) -> str:
        values = [getattr(run, of) for run in runs]
        return f"{min(values)} / {median(values):g} / {max(values)}"

    def total(of: str) -> str:
        return str(sum(getattr(run, of) for run in runs))

    gap_s = max(run.gap_s for run in runs)
    return [
        name,
        str(len(runs)),
        total("tasks"),
        total("once"),
        spread("fallbacks"),
        spread("reconnections"),
        total("wrong"),
        total("ties"),
        f"{gap_s:.2f}",
    ]


def in_words(name: str, runs: Sequence[Outcome]) -> str:
    """The line of the table as a sentence."""
    said = zip(HEADS[1:], row_of(name, runs)[1:], strict=True)
    return f"{name}: " + ", ".join(f"{head} {cell}" for head, cell in said)


def _json(run: Outcome) -> Mapping[str, Any]:
    """All but the records."""
    names = [field.name for field in fields(Outcome) if field.name != "records"]
    return {name: getattr(run, name) for name in names}
