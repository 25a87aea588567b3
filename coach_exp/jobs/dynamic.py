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

from omegaconf import DictConfig

from coach_exp.jobs.nested import Nested, Outcome, Parent
from coach_exp.jobs.single_run import plain, write_json
from coach_exp.plots.online import adaptation_plot
from coach_exp.results.adaptation import HEADS, AdaptedStep, Window, adapted, step_rows, windows
from coach_exp.results.progress import Display
from coach_exp.results.tables import markdown, text_table
from coach_exp.setup.builder import Builder
from coach_exp.setup.config import Config, Steps
from coach_exp.setup.invocation import Invocation
from coach_exp.tracking import tracker as tracking
from coach_exp.types.errors import CoachError, ConfigError
from coach_exp.types.task import Records


class TooShortError(ConfigError):
    """A run that ends before the steps do, or steps without an answer."""


@dataclass(frozen=True)
class _Runs:
    """What is to be made of one method: its run through the steps, and one at each rate."""

    moving: Nested
    fixed: Mapping[float, Nested]

    @staticmethod
    def of(call: Invocation, name: str, overrides: Sequence[str], steps: Steps) -> "_Runs":
        """Composed and checked before any runs; rates are those of the config, in Mbps."""
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


def dynamic(raw: DictConfig, config: Config, call: Invocation, display: Display) -> float:
    """`job=dynamic`; returns the number of methods measured."""
    if config.dynamic is None:
        raise ConfigError("job=dynamic needs dynamic.methods; give names and their overrides")
    if not isinstance(config.bandwidth, Steps) or config.workload.drop:
        raise ConfigError(
            "job=dynamic compares the steps of a trace, answer by answer; use bandwidth=steps, "
            "fig5a or fig5b, and workload.drop=false"
        )
    steps = windows([1e6 * rate for rate in config.bandwidth.mbps], config.bandwidth.step_s)
    methods = {
        name: _Runs.of(call, name, overrides, config.bandwidth)
        for name, overrides in config.dynamic.methods.items()
    }
    tracker = tracking.open_tracker(config.output.root, **config.tracking.model_dump())
    done: dict[str, _Measured] = {}
    title = " → ".join(f"{rate:g}" for rate in config.bandwidth.mbps)
    title = f"{title} Mbps, {config.bandwidth.step_s:g} s each"
    with tracker.run(title, params=plain(raw), tags={"coach.job": "dynamic"}) as run:
        parent = Parent(call, tracker, run.id, display)
        for name, runs in methods.items():
            try:
                done[name] = _measured(name, runs, steps, parent)
            except TooShortError:
                raise
            except CoachError as error:
                display.say(f"{name} is left out: {error}")
        if not done:
            raise ConfigError("no method could run; the reasons stand above")
        _report(title, done, call, display)
        adaptation_plot(
            {name: each.records for name, each in done.items()},
            Builder(config, display.progress).trace(),
            call.directory / "dynamic.png",
            {name: each.steps for name, each in done.items()},
        )
        run.log_files(call.directory / f"dynamic.{kind}" for kind in ("md", "json", "png"))
    display.say(f"files: {call.directory}")
    return float(len(done))


def _measured(name: str, runs: _Runs, steps: Sequence[Window], parent: Parent) -> _Measured:
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


def _report(title: str, done: Mapping[str, _Measured], call: Invocation, display: Display) -> None:
    """The tables of throughputs and of plans, on the screen and as files."""
    cells = [step_rows(name, step) for name, each in done.items() for step in each.steps]
    heads, plans = _plans(done)
    display.say(text_table(title, HEADS, cells))
    display.say(
        text_table("cuts: of all tasks through the steps; of each static run", heads, plans)
    )
    (call.directory / "dynamic.md").write_text(
        f"## {title}\n\n{markdown(HEADS, cells)}\n{markdown(heads, plans)}"
    )
    write_json(
        call.directory / "dynamic.json",
        {"title": title, "methods": {name: each.as_json() for name, each in done.items()}},
    )


def _plans(done: Mapping[str, _Measured]) -> tuple[list[str], list[list[str]]]:
    rates = next(iter(done.values())).fixed
    heads = ["method", "through the steps", *(f"{rate:g} Mbps" for rate in rates)]
    rows = [
        [name, each.moving.cut, *(outcome.cut for outcome in each.fixed.values())]
        for name, each in done.items()
    ]
    return heads, rows
