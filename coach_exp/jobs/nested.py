"""Runs within a job: each has a config of its own, and none is made twice.

In: the parent's command line and what each run changes of it. Out: the run's metrics and records,
made now or taken from a finished run of the same config, weights, data and code.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from coach_exp.jobs.composed import composed_run
from coach_exp.jobs.job import Job
from coach_exp.jobs.result import measured
from coach_exp.jobs.run_files import keep_result
from coach_exp.results import report
from coach_exp.results.metrics import Summary
from coach_exp.setup.config import Config
from coach_exp.setup.invocation import Invocation
from coach_exp.tracking.params import config_hash
from coach_exp.tracking.storage import load_tasks
from coach_exp.tracking.tracker import Finished, Tracker
from coach_exp.types.task import Records


def _given(names: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
    if not names:
        raise ValueError("nothing is named here; choose one with experiment=NAME")
    return names


# Such names are those of folders and of parameters in MLflow.
Name = Annotated[str, Field(pattern=r"^[\w .-]+$")]
Named = Annotated[Mapping[Name, tuple[str, ...]], AfterValidator(_given)]  # the overrides they mean


@dataclass(frozen=True)
class Nested:
    """One run to be made, its config checked; `name` is also where its files go."""

    name: str
    config: Config

    @staticmethod
    def of(call: Invocation, name: str, overrides: Sequence[str]) -> "Nested":
        """Config and checked. Raises ConfigError when an override does not fit."""
        return Nested(name, composed_run(call, overrides))


@dataclass(frozen=True)
class Outcome:
    """What came of it. `cut` says where and how deep it cut; the records are read when asked for,
    without plans where they were found again."""

    summary: Summary
    cut: str
    records: Callable[[], Records]


@dataclass(frozen=True)
class Parent:
    """The job that holds the others, and its run."""

    job: Job
    run_id: str

    def outcome(self, nested: Nested) -> Outcome:
        """Of a finished run of the same config, or of one made now.

        Raises CoachError when it cannot run.
        """
        tracker, display = self.job.tracker, self.job.display
        directory = self.job.directory / nested.name
        world = replace(self.job, config=nested.config).builder().world()
        params = nested.config.plain
        digest = config_hash(params, **world.identity)
        found = tracker.finished_run(digest)
        if found is not None and "coach.cut" in found.tags:
            display.say(f"{nested.name}: finished before as run {found.id}, not run again")
            kept = partial(_fetched, tracker, found, directory)
            return Outcome(Summary.of(found.metrics), found.tags["coach.cut"], kept)
        method = nested.config.built_method()
        tags = {"coach.method": method.name, "coach.job": "run", "coach.cell": nested.name}
        with tracker.run(
            nested.name, config_hash=digest, params=params, tags=tags, parent=self.run_id
        ) as run:
            result = measured(method, nested.config, world, display)
            keep_result(result, world, directory, run)
            cut = report.cut(result.records)
            run.log_tags({"coach.cut": cut})
        return Outcome(Summary.of(result.metrics()), cut, lambda: result.records)


def _fetched(tracker: Tracker, found: Finished, directory: Path) -> Records:
    return load_tasks(tracker.fetch(found, "tasks.parquet", directory))
