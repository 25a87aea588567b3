"""Methods on a link that changes step by step (the paper's Section IV-C, Fig. 5).

In: named methods and a step trace. Out: a table, `dynamic.md`, `dynamic.json` and `dynamic.png`,
which set the throughput in each step beside the static one: that of the plan which the same method
makes for this rate, on a link that keeps it. Each of these is a run under one parent. A method that
cannot run is left out, aloud.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from coach_exp.jobs.job import Job
from coach_exp.jobs.keep import Work, keep
from coach_exp.jobs.nested import Named, Nested, Outcome, Parent
from coach_exp.network.sources import Steps
from coach_exp.plots.online import adaptation_plot
from coach_exp.results.adaptation import HEADS, AdaptedStep, Window, adapted, step_rows, windows
from coach_exp.results.findings import Findings, Table
from coach_exp.setup.invocation import Invocation
from coach_exp.types.errors import CoachError, ConfigError
from coach_exp.types.task import Records


class TooShortError(ConfigError):
    """A run that ends before the steps do, or steps without an answer."""


@dataclass(frozen=True)
class Dynamic:
    """`methods` are sent through the steps of the trace: names with the overrides they mean."""

    methods: Named

    def __call__(self, job: Job) -> float | None:
        """Returns the number of methods measured."""
        trace = _steps(job)
        runs = {
            name: _Runs.of(job.call, name, overrides, trace)
            for name, overrides in self.methods.items()
        }
        title = " → ".join(f"{rate:g}" for rate in trace.mbps)
        title = f"{title} Mbps, {trace.step_s:g} s each"
        steps = windows([1e6 * rate for rate in trace.mbps], trace.step_s)

        def find(work: Work) -> Findings:
            done = _measured(runs, steps, Parent(job, work.run.id))
            return _findings(title, done, job)

        return keep(job, "dynamic", find, title)


def _steps(job: Job) -> Steps:
    """The trace. Raises ConfigError where there are no steps, or not every task is answered."""
    given = job.config
    if not isinstance(given.bandwidth, Steps) or given.workload.drop:
        raise ConfigError(
            "job=dynamic compares the steps of a trace, answer by answer; use bandwidth=steps, "
            "fig5a or fig5b, and workload.drop=false"
        )
    return given.bandwidth


# --- The runs -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Runs:
    """What is to be made of one method: its run through the steps, and one at each rate."""

    moving: Nested
    fixed: Mapping[float, Nested]

    @staticmethod
    def of(call: Invocation, name: str, overrides: Sequence[str], steps: Steps) -> "_Runs":
        """Config and checked before any runs; rates are those of the config, in Mbps."""
        fixed = {
            rate: Nested.of(call, f"{name}/static {rate:g} Mbps", [*overrides, _keeps(rate)])
            for rate in steps.mbps
        }
        return _Runs(Nested.of(call, f"{name}/dynamic", overrides), fixed)


def _keeps(mbps: float) -> str:
    return f"bandwidth.mbps=[{mbps!r}]"


@dataclass(frozen=True)
class _Measured:
    """What came of it."""

    moving: Outcome
    fixed: Mapping[float, Outcome]
    records: Records
    steps: tuple[AdaptedStep, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "cut": self.moving.cut,
            "static": [
                {
                    "mbps": rate,
                    "cut": outcome.cut,
                    "throughput_its": outcome.summary["throughput_its"].value,
                }
                for rate, outcome in self.fixed.items()
            ],
            "steps": [step.as_json() for step in self.steps],
        }


def _measured(
    methods: Mapping[str, _Runs], steps: Sequence[Window], parent: Parent
) -> dict[str, _Measured]:
    """Every method that can run. Raises TooShortError, and ConfigError where none can."""
    done: dict[str, _Measured] = {}
    for name, runs in methods.items():
        try:
            done[name] = _of_method(name, runs, steps, parent)
        except TooShortError:
            raise
        except CoachError as error:
            parent.job.display.say(f"{name} is left out: {error}")
    if not done:
        raise ConfigError("no method could run; the reasons stand above")
    return done


def _of_method(name: str, runs: _Runs, steps: Sequence[Window], parent: Parent) -> _Measured:
    moving = parent.outcome(runs.moving)
    records = moving.records()
    _refuse_too_short(name, records, steps)
    fixed = {rate: parent.outcome(nested) for rate, nested in runs.fixed.items()}
    static = {1e6 * rate: outcome.records() for rate, outcome in fixed.items()}
    return _Measured(moving, fixed, records, tuple(adapted(records, static, steps)))


def _refuse_too_short(name: str, records: Records, steps: Sequence[Window]) -> None:
    """Raises TooShortError."""
    ends_s, needed_s = float(records.finish_s.max()), steps[-1].to_s
    if ends_s < needed_s:
        enough = ceil(1.1 * len(records) * needed_s / ends_s)
        raise TooShortError(
            f"{name}: {len(records)} tasks are answered in {ends_s:.2f} s, but the steps last "
            f"until {needed_s:g} s; use workload.tasks={enough} or a shorter bandwidth.step_s"
        )
    for step in steps:
        if not ((records.finish_s >= step.from_s) & (records.finish_s < step.to_s)).any():
            raise TooShortError(
                f"{name}: no task is answered from {step.from_s:g} to {step.to_s:g} s, at "
                f"{step.mbps:g} Mbps; use a longer bandwidth.step_s"
            )


# --- What they show -------------------------------------------------------------------------------


def _findings(title: str, done: Mapping[str, _Measured], job: Job) -> Findings:
    rows = [step_rows(name, step) for name, each in done.items() for step in each.steps]
    heads, plans = _plans(done)
    picture = adaptation_plot(
        {name: each.records for name, each in done.items()},
        job.builder().trace(),
        {name: each.steps for name, each in done.items()},
    )
    return Findings(
        name="dynamic",
        tables=(
            Table(title, HEADS, rows),
            Table("cuts: of all tasks through the steps; of each static run", heads, plans),
        ),
        figures={"dynamic": picture},
        data={"title": title, "methods": {name: each.as_json() for name, each in done.items()}},
        metrics={"methods": float(len(done))},
        value=float(len(done)),
    )


def _plans(done: Mapping[str, _Measured]) -> tuple[list[str], list[list[str]]]:
    rates = next(iter(done.values())).fixed
    heads = ["method", "through the steps", *(f"{rate:g} Mbps" for rate in rates)]
    rows = [
        [name, each.moving.cut, *(outcome.cut for outcome in each.fixed.values())]
        for name, each in done.items()
    ]
    return heads, rows
