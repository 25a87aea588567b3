"""Streams without end over a link that changes and a cloud that fails: is anything lost, does
anything grow?

In: the config's model and link, a seed. Out: `soak.json`, the samples in `soak.csv`, `soak.png`:
memory, threads and file descriptors of both processes, answers per second, and every failure.
"""

import csv
import gc
import json
import os
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from threading import Event, Thread
from time import monotonic, sleep
from typing import Any, Final, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from coach_exp.network.trace import random_walk
from coach_exp.pipeline.cloud.process import CloudProcess
from coach_exp.pipeline.cloud.settings import CloudSettings
from coach_exp.pipeline.executor import Setting
from coach_exp.pipeline.parts import Parts
from coach_exp.plots.figures import COLOURS, new_figure, save_figure
from coach_exp.results.progress import Display
from coach_exp.results.tables import text_table
from coach_exp.studies.fault_runs import Bench, Outcome, address, stream
from coach_exp.studies.settings import StudySettings
from coach_exp.studies.unreliable import UnreliableLink
from coach_exp.types.errors import CoachError, ConfigError, LinkError, WireError
from coach_exp.types.workload import Workload

Failure = Literal["cut", "stall", "kill", "trickle"]

PROC: Final = Path("/proc")
RETRY_S: Final = 0.5  # before a stream is begun again that met no cloud
FAILURE_COLOURS: Final = dict(zip(("cut", "stall", "kill", "trickle"), COLOURS, strict=False))


class Settings(StudySettings):
    """`minutes` in streams of `tasks` tasks at `rate_hz`, a failure about every `pause_s`, each of
    `failure_s` at most; a random walk of the link between the two rates. Memory before `warm_s` is
    not judged; it may not grow by more than `max_kib_per_min`."""

    kind: Literal["soak"] = "soak"
    minutes: PositiveFloat = 30.0
    tasks: PositiveInt = 2400
    rate_hz: PositiveFloat = 40.0
    in_flight: PositiveInt = 8
    low_mbps: PositiveFloat = 2.0
    high_mbps: PositiveFloat = 50.0
    pause_s: PositiveFloat = 15.0
    failure_s: PositiveFloat = 3.0
    failures: tuple[Failure, ...] = Field(("cut", "stall", "kill", "trickle"), min_length=1)
    stall_s: PositiveFloat = 1.0
    connect_s: PositiveFloat = 1.0
    answer_s: PositiveFloat = 2.0
    sample_s: PositiveFloat = 2.0
    warm_s: PositiveFloat = 300.0
    max_kib_per_min: PositiveFloat = 200.0
    seed: NonNegativeInt = 0


@dataclass(frozen=True, slots=True)
class Sample:
    """What /proc says at one moment; NaN for a cloud that does not run. `answered` counts from the
    beginning of the soak, whole streams and the one at hand."""

    at_s: float
    end_kib: float
    end_threads: float
    end_files: float
    cloud_kib: float
    cloud_threads: float
    cloud_files: float
    answered: int


@dataclass(frozen=True, slots=True)
class Failed:
    """One failure."""

    at_s: float
    kind: Failure
    lasted_s: float


def usage(pid: int) -> tuple[float, float, float]:
    """Resident KiB, threads and open files of a process; NaN for one that is gone."""
    try:
        status = (PROC / str(pid) / "status").read_text()
        files = len(os.listdir(PROC / str(pid) / "fd"))
        said = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        return float(said["VmRSS"].split()[0]), float(said["Threads"]), float(files)
    except (OSError, KeyError):
        return (float("nan"),) * 3


class Watch:
    """Samples both processes in a thread of its own."""

    def __init__(self, pause_s: float, began_s: float, cloud: Callable[[], int]) -> None:
        self.samples: list[Sample] = []
        self.answered = 0
        self._pause_s, self._began_s, self._cloud = pause_s, began_s, cloud
        self._over = Event()
        self._thread = Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def count(self, answered: int) -> None:
        """So many tasks are answered by now."""
        self.answered = answered

    def stop(self) -> None:
        """Sample no more."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._pause_s):
            at_s = monotonic() - self._began_s
            self.samples.append(
                Sample(at_s, *usage(os.getpid()), *usage(self._cloud()), self.answered)
            )


class Failures:
    """Lets link and cloud fail at random until it is stopped, in a thread of its own."""

    def __init__(
        self, settings: Settings, link: UnreliableLink, cloud: CloudProcess, began_s: float
    ) -> None:
        self.happened: list[Failed] = []
        self.error: BaseException | None = None
        self.cloud_pid = cloud.pid
        self._settings, self._link, self._cloud, self._began_s = settings, link, cloud, began_s
        self._random = random.Random(settings.seed)
        self._over = Event()
        self._thread = Thread(target=self._run, name="failures", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let nothing fail any more. Raises what failed without being asked to."""
        self._over.set()
        self._thread.join()
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        settings = self._settings
        try:
            while not self._over.wait(settings.pause_s * self._random.uniform(0.5, 1.5)):
                kind = self._random.choice(settings.failures)
                at_s = monotonic() - self._began_s
                self._fail(kind, settings.failure_s * self._random.uniform(0.1, 1.0))
                self.happened.append(Failed(at_s, kind, monotonic() - self._began_s - at_s))
        except BaseException as error:
            self.error = error

    def _fail(self, kind: Failure, seconds: float) -> None:
        if kind == "kill":
            self.cloud_pid = 0
            self._cloud.kill()
            sleep(seconds)
            self._cloud.start()
            self.cloud_pid = self._cloud.pid
            return
        {"cut": self._link.cut, "stall": self._link.stall, "trickle": self._link.trickle}[kind]()
        sleep(seconds)
        self._link.restore()


def study(settings: Mapping[str, Any], directory: Path, display: Display, parts: Parts) -> float:
    """Soak; returns the tasks that were lost. Raises ConfigError naming wrong settings or where
    there is no /proc, CoachError where a rule was broken."""
    checked = Settings.read(settings)
    if not PROC.joinpath("self", "status").exists():
        raise ConfigError(
            f"experiment=soak reads memory, threads and files from /proc, and {sys.platform} has "
            "none; run it on Linux"
        )
    bench = Bench.of(parts)
    cloud_settings = CloudSettings(fingerprint=bench.sides.fingerprint)
    with (
        CloudProcess(cloud_settings, bench.sides.cloud, _quiet) as cloud,
        UnreliableLink(cloud.port) as link,
    ):
        began_s = monotonic()
        failures = Failures(checked, link, cloud, began_s)
        watch = Watch(checked.sample_s, began_s, lambda: failures.cloud_pid)
        try:
            outcomes = _streams(checked, bench, link, watch, began_s, display)
        finally:
            watch.stop()
            failures.stop()
    return _report(checked, outcomes, watch.samples, failures.happened, directory, display)


def _quiet(words: str) -> None:
    """Of the cloud's words, none: there would be too many."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one stream; its records are not kept."""

    tasks: int
    once: int
    fallbacks: int
    reconnections: int
    wrong: int
    gap_s: float

    @classmethod
    def of(cls, outcome: Outcome) -> "Counts":
        """The numbers alone."""
        return cls(*(getattr(outcome, field.name) for field in fields(cls)))


def _streams(
    settings: Settings, bench: Bench, link: UnreliableLink, watch: Watch, began_s: float,
    display: Display,
) -> list[Counts]:  # fmt: skip
    """One stream after the other until the time is over."""
    found: list[Counts] = []
    where = address(bench, link.port, stall_s=settings.stall_s, connect_s=settings.connect_s)
    shaped = Setting(where, answer_s=settings.answer_s)
    random_ = np.random.default_rng(settings.seed)
    workload = Workload(
        "periodic", settings.tasks, in_flight=settings.in_flight, rate_hz=settings.rate_hz
    )
    while monotonic() - began_s < 60 * settings.minutes:
        samples = random_.integers(0, bench.answers.samples, settings.tasks)
        plan = bench.plans[len(found) % len(bench.plans)]
        trace = random_walk(
            *(1e6 * settings.low_mbps, 1e6 * settings.high_mbps, 0.5, 0.3),
            *(settings.tasks / settings.rate_hz + 60, settings.seed + len(found)),
        )
        before = watch.answered
        try:
            outcome = stream(
                *(bench, plan, workload, shaped, samples),
                trace=trace,
                progress=lambda done, before=before: watch.count(before + done),  # type: ignore[misc]
            )
        except (LinkError, WireError):  # the cloud is down just when a stream begins
            sleep(RETRY_S)
            continue
        found.append(Counts.of(outcome))
        del outcome
        gc.collect()
        last, at_s = found[-1], monotonic() - began_s
        display.say(
            f"{at_s:6.0f} s: {last.tasks} tasks, {last.once} answered once, {last.fallbacks} "
            f"finished on the end, {last.reconnections} reconnections, {last.wrong} wrong labels"
        )
    return found


def slope(at_s: Sequence[float], kib: Sequence[float], warm_s: float) -> tuple[float, float, float]:
    """KiB a minute after `warm_s`, by Theil and Sen, and the 95 % interval of it by 200 bootstraps
    of blocks of a minute; what a cloud that does not run takes is not asked."""
    at, taken = np.asarray(at_s), np.asarray(kib)
    kept = (at >= warm_s) & np.isfinite(taken)
    minutes, values = at[kept] / 60, taken[kept]
    if len(values) < 10:
        return (float("nan"),) * 3
    found = _theil_sen(minutes, values)
    blocks = [np.flatnonzero(minutes.astype(int) == k) for k in np.unique(minutes.astype(int))]
    random_ = np.random.default_rng(0)
    drawn = []
    for _ in range(200):
        rows = np.concatenate([blocks[k] for k in random_.integers(0, len(blocks), len(blocks))])
        drawn.append(_theil_sen(minutes[rows], values[rows]))
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return found, float(low), float(high)


def _theil_sen(x: np.ndarray, y: np.ndarray) -> float:
    step = max(1, len(x) // 300)
    x, y = x[::step], y[::step]
    dx = x[:, None] - x[None, :]
    with np.errstate(invalid="ignore", divide="ignore"):
        slopes = (y[:, None] - y[None, :]) / dx
    return float(np.median(slopes[dx > 0]))


def _report(
    settings: Settings, counts: Sequence[Counts], samples: Sequence[Sample],
    failures: Sequence[Failed], directory: Path, display: Display,
) -> float:  # fmt: skip
    columns = {f.name: [getattr(s, f.name) for s in samples] for f in fields(Sample)}
    warm_s = min(settings.warm_s, 20 * settings.minutes)
    totals = {
        f.name: sum(getattr(c, f.name) for c in counts) for f in fields(Counts) if f.name != "gap_s"
    }
    lost = totals["tasks"] - totals["once"]
    summary: dict[str, Any] = totals | {
        "lost": lost,
        "longest_gap_s": max((c.gap_s for c in counts), default=float("nan")),
        "streams": len(counts),
        "failures": {kind: sum(f.kind == kind for f in failures) for kind in settings.failures},
        "warm_s": warm_s,
    }
    rows = []
    for side in ("end", "cloud"):
        found, low, high = slope(columns["at_s"], columns[f"{side}_kib"], warm_s)
        summary[f"{side}_kib_per_min"] = [found, low, high]
        rows.append([f"memory of the {side}", f"{found:+.0f} [{low:+.0f}, {high:+.0f}] KiB/min"])
        for name in ("kib", "threads", "files"):
            values = np.array(columns[f"{side}_{name}"])[np.array(columns["at_s"]) >= warm_s]
            least, most = (float(np.nanmin(values)), float(np.nanmax(values)))
            summary[f"{side}_{name}"] = [least, most]
            rows.append([f"{name} of the {side}", f"{least:.0f} to {most:.0f}"])
    rows += [[name.replace("_", " "), str(summary[name])] for name in (*totals, "lost", "failures")]
    rows.append(["longest gap between answers", f"{summary['longest_gap_s']:.2f} s"])
    display.say(text_table(f"soak of {settings.minutes:g} min", ["", ""], rows))
    written = {
        "settings": settings.model_dump(mode="json"), "summary": summary,
        "streams": [asdict(c) for c in counts], "failures": [asdict(f) for f in failures],
    }  # fmt: skip
    (directory / "soak.json").write_text(json.dumps(written, indent=2) + "\n")
    with (directory / "soak.csv").open("w", newline="") as file:
        csv.writer(file).writerows([list(columns), *zip(*columns.values(), strict=True)])
    draw(columns, failures, settings.rate_hz, directory / "soak.png")
    if lost or totals["wrong"]:
        raise CoachError(f"the soak lost {lost} tasks and has {totals['wrong']} wrong labels")
    growth = max(summary[f"{side}_kib_per_min"][1] for side in ("end", "cloud"))
    if growth > settings.max_kib_per_min:
        raise CoachError(f"memory grows by {growth:.0f} KiB a minute at least; something is kept")
    return float(lost)


def draw(
    columns: Mapping[str, Sequence[float]], failures: Sequence[Failed], rate_hz: float, path: Path
) -> None:
    """Four panels over time; a line wherever something failed."""
    figure = new_figure(10, 8.0)
    panels = figure.subplots(4, sharex=True)
    minutes = np.array(columns["at_s"]) / 60
    for axes, (name, unit, label) in zip(
        panels,
        (
            ("kib", 1024.0, "memory (MiB)"),
            ("threads", 1.0, "threads"),
            ("files", 1.0, "open files"),
        ),
        strict=False,
    ):
        for colour, side in zip(("#0072B2", "#000000"), ("end", "cloud"), strict=True):
            axes.plot(minutes, np.array(columns[f"{side}_{name}"]) / unit, color=colour, lw=1.2,
                      label=side)  # fmt: skip
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
    rate = np.diff(columns["answered"]) / np.diff(columns["at_s"])
    panels[3].step(minutes[1:], rate, color="#0072B2", lw=1.0)
    panels[3].set(ylabel="answers per s", xlabel="time (min)", ylim=(0, 2 * rate_hz))
    for axes in panels:
        for failed in failures:
            axes.axvspan(failed.at_s / 60, (failed.at_s + failed.lasted_s) / 60, lw=0.8,
                         color=FAILURE_COLOURS[failed.kind], alpha=0.45, zorder=0)  # fmt: skip
        axes.spines[["top", "right"]].set_visible(False)
    for kind, colour in FAILURE_COLOURS.items():
        panels[1].plot([], [], color=colour, lw=4, alpha=0.45, label=kind)
    panels[0].legend(loc="lower right", frameon=False, fontsize=9, ncols=2)
    handles, labels = panels[1].get_legend_handles_labels()
    panels[1].legend(handles[2:], labels[2:], loc="lower right", frameon=False, fontsize=9, ncols=4)
    save_figure(figure, path)
