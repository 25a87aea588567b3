"""The config's method on one stream, and others beside it.

Plans, simulates or runs over sockets, and reports. Out: the files of `run_files` for every method
(the others' below `references`), `gantt.png`, `throughput.png`. A sweep's child that was finished
before is not run again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from coach_exp.jobs.job import Job
from coach_exp.jobs.keep import under_sweep
from coach_exp.jobs.result import Result, measured, replayed
from coach_exp.jobs.run_files import keep_pictures, keep_result
from coach_exp.jobs.run_report import USUAL_REFERENCES, say_results
from coach_exp.setup.config import Config, validated
from coach_exp.setup.world import World
from coach_exp.tracking.params import config_hash
from coach_exp.tracking.tracker import Run as TrackedRun
from coach_exp.types.errors import CoachError
from coach_exp.types.method import Method


@dataclass(frozen=True)
class Run:
    """Everything it needs to know is in the other groups."""

    def __call__(self, job: Job) -> float | None:
        """Returns the throughput in answers per second."""
        config, call, tracker = job.config, job.call, job.tracker
        with under_sweep(job) as parent:
            method = config.built_method()
            references = _references(method, job)
            world = job.builder().world()
            digest = config_hash(config.plain, **world.identity)
            done = tracker.finished_run(digest) if call.sweep else None
            if done is not None:
                job.display.say(f"{call.name}: finished before as run {done.id}, not run again")
                return done.metrics.get("throughput_its")
            tags = {"coach.method": method.name, "coach.job": "run"}
            with tracker.run(
                call.name, config_hash=digest, params=config.plain, tags=tags, parent=parent
            ) as run:
                result = measured(method, config, world, job.display)
                if call.sweep is None and config.replay_s > 0:
                    result = _beside_sockets(result, method, world, job)
                keep_result(result, world, job.directory, run)
                results = [result, *_run_references(references, world, job, run)]
                keep_pictures(results, world, job.directory, run)
        say_results(results, world, job)
        return result.summary["throughput_its"].value


def _beside_sockets(result: Result, method: Method, world: World, job: Job) -> Result:
    """With the disagreement of simulator and sockets; without, aloud, where there are none."""
    try:
        return replace(result, agreement=replayed(result, method, world, job.display))
    except CoachError as error:
        job.display.say(f"not repeated over loopback: {error}")
        return result


def _references(method: Method, job: Job) -> dict[str, Config]:
    """The configs of the methods to be shown beside the main one."""
    given, call = job.config, job.call
    usual = () if call.sweep or given.transport.kind != "simulated" else USUAL_REFERENCES
    names = usual if given.references is None else given.references
    others = [name for name in dict.fromkeys(names) if name != method.name]
    return {name: validated(call.with_method(name)) for name in others}


def _run_references(
    configs: Mapping[str, Config], world: World, job: Job, run: TrackedRun
) -> Iterator[Result]:
    """Each reference as a run nested in the main one; what cannot run is left out, aloud."""
    for name, config in configs.items():
        try:
            result = measured(config.built_method(), config, world, job.display)
        except CoachError as error:
            job.display.say(f"{name} is left out: {error}")
            continue
        tags = {"coach.method": name, "coach.job": "run"}
        with job.tracker.run(name, params=config.plain, tags=tags, parent=run.id) as nested:
            keep_result(result, world, job.directory / "references" / name, nested)
        yield result
