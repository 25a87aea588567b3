"""Runs within a run: each has a config of its own, and none is made twice.

In: the parent's command line and what each run changes of it. Out: the run's metrics and records,
made now or taken from a finished run of the same config, weights, data and code.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from coach_exp.jobs.single_run import keep, measured, method_of, plain
from coach_exp.results import report
from coach_exp.results.metrics import Summary
from coach_exp.results.progress import Display
from coach_exp.setup.builder import Builder
from coach_exp.setup.config import validated
from coach_exp.setup.invocation import Invocation
from coach_exp.tracking import tracker as tracking
from coach_exp.tracking.storage import load_tasks
from coach_exp.types.task import Records

_ALONE = (
    "job=run",
    "table=null",
    "dynamic=null",
    "orderings=null",
)  # what made the parent a parent


@dataclass(frozen=True)
class Nested:
    """One run to be made, its config checked; `name` is also where its files go."""

    name: str
    config: DictConfig

    @staticmethod
    def of(call: Invocation, name: str, overrides: Sequence[str]) -> "Nested":
        """The parent's command line with further overrides, composed and checked.

        Raises ConfigError when one does not fit.
        """
        raw = call.with_overrides([*overrides, *_ALONE])
        validated(raw)
        return Nested(name, raw)


@dataclass(frozen=True)
class Outcome:
    """What came of it. `cut` says where and how deep it cut; the records are read when asked for,
    without plans where they were found again."""

    summary: Summary
    cut: str
    records: Callable[[], Records]


@dataclass(frozen=True)
class Parent:
    """The run that holds the others: its command line, its place in the tracker, the screen."""

    call: Invocation
    tracker: tracking.Tracker
    id: str
    display: Display

    def outcome(self, nested: Nested) -> Outcome:
        """Of a finished run of the same config, or of one made now.

        Raises CoachError when it cannot run.
        """
        directory = self.call.directory / nested.name
        world = Builder(validated(nested.config), self.display.progress).world()
        params = plain(nested.config)
        digest = tracking.config_hash(params, **world.identity)
        found = self.tracker.finished_run(digest)
        if found is not None and "coach.cut" in found.tags:
            self.display.say(f"{nested.name}: finished before as run {found.id}, not run again")
            kept = partial(_fetched, self.tracker, found, directory)
            return Outcome(Summary.of(found.metrics), found.tags["coach.cut"], kept)
        method = method_of(nested.config)
        tags = {"coach.method": method.name, "coach.job": "run", "coach.cell": nested.name}
        with self.tracker.run(
            nested.name, config_hash=digest, params=params, tags=tags, parent=self.id
        ) as run:
            result = measured(method, nested.config, world, self.display)
            keep(result, world, directory, run)
            cut = report.cut(result.records)
            run.log_tags({"coach.cut": cut})
        return Outcome(Summary.of(result.metrics()), cut, lambda: result.records)


def _fetched(tracker: tracking.Tracker, found: tracking.Finished, directory: Path) -> Records:
    return load_tasks(tracker.fetch(found, "tasks.parquet", directory))
