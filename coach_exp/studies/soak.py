"""Streams without end over a link that changes and a cloud that fails: is anything lost, does
anything grow?

In: the config's model and link, a seed. Out: memory, threads and file descriptors of both
processes over time, answers per second, every stream and every failure.
"""

import gc
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from math import isnan
from threading import Event, Thread
from time import monotonic, sleep
from typing import Annotated, Any, Final, Literal, get_args

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from coach_exp.network.trace import Trace, random_walk
from coach_exp.pipeline.cloud.process import CloudProcess
from coach_exp.pipeline.executor import Setting
from coach_exp.pipeline.parts import Parts
from coach_exp.plots.soak import Span, held_over_time
from coach_exp.results.findings import Findings, Table
from coach_exp.results.progress import Display
from coach_exp.studies.fault_runs import Asked, Bench, Outcome, address, cloud_and_link, stream
from coach_exp.studies.process_usage import Sample, Watch, need_proc, slope
from coach_exp.studies.unreliable import UnreliableLink
from coach_exp.types.errors import LinkError, WireError
from coach_exp.types.workload import Workload

Failure = Literal["cut", "stall", "kill", "trickle"]
FAILURES: Final[tuple[Failure, ...]] = get_args(Failure)
RETRY_S: Final = 0.5  # before a stream is begun again that met no cloud
STEP_S, VOLATILITY = 0.5, 0.3  # of the link's random walk
SIDES = ("end", "cloud")


@dataclass(frozen=True, slots=True)
class Failed:
    """One failure."""

    at_s: float
    kind: Failure
    lasted_s: float


class Failures:
    """Lets link and cloud fail at random until it is stopped, in a thread of its own."""

    def __init__(
        self, asked: "Soak", link: UnreliableLink, cloud: CloudProcess, began_s: float
    ) -> None:
        self.happened: list[Failed] = []
        self.error: BaseException | None = None
        self.cloud_pid = cloud.pid
        self._asked, self._link, self._cloud, self._began_s = asked, link, cloud, began_s
        self._random = random.Random(asked.seed)
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
        asked = self._asked
        try:
            while not self._over.wait(asked.pause_s * self._random.uniform(0.5, 1.5)):
                kind = self._random.choice(asked.failures)
                at_s = monotonic() - self._began_s
                self._fail(kind, asked.failure_s * self._random.uniform(0.1, 1.0))
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
        return cls(**{field.name: getattr(outcome, field.name) for field in fields(cls)})

    @property
    def in_words(self) -> str:
        """For a line while the soak goes on."""
        return (
            f"{self.tasks} tasks, {self.once} answered once, {self.fallbacks} finished on the "
            f"end, {self.reconnections} reconnections, {self.wrong} wrong labels"
        )


@dataclass(frozen=True, slots=True)
class Soak:
    """`minutes` in streams of `tasks` tasks at `rate_hz`, a failure about every `pause_s`, each of
    `failure_s` at most; a random walk of the link between the two rates. Memory before `warm_s` is
    not judged; it may not grow by more than `max_kib_per_min`."""

    minutes: PositiveFloat = 30.0
    tasks: PositiveInt = 2400
    rate_hz: PositiveFloat = 40.0
    in_flight: PositiveInt = 8
    low_mbps: PositiveFloat = 2.0
    high_mbps: PositiveFloat = 50.0
    pause_s: PositiveFloat = 15.0
    failure_s: PositiveFloat = 3.0
    failures: Annotated[tuple[Failure, ...], Field(min_length=1)] = FAILURES
    stall_s: PositiveFloat = 1.0
    connect_s: PositiveFloat = 1.0
    answer_s: PositiveFloat = 2.0
    sample_s: PositiveFloat = 2.0
    warm_s: PositiveFloat = 300.0
    max_kib_per_min: PositiveFloat = 200.0
    seed: NonNegativeInt = 0

    def __call__(self, parts: Parts, display: Display) -> Findings:
        """The value is the tasks that were lost. Raises ConfigError where there is no /proc or the
        model has no trained weights."""
        need_proc()
        bench = Bench.of(parts)
        with cloud_and_link(bench) as (cloud, link):
            began_s = monotonic()
            failures = Failures(self, link, cloud, began_s)
            watch = Watch(self.sample_s, began_s, lambda: failures.cloud_pid)
            try:
                streams = self._streams(bench, link.port, watch, display)
            finally:
                watch.stop()
                failures.stop()
        return self._findings(streams, watch.samples, failures.happened)

    def _streams(self, bench: Bench, port: int, watch: Watch, display: Display) -> list[Counts]:
        """One stream after the other until the time is over."""
        found: list[Counts] = []
        where = address(bench, port, stall_s=self.stall_s, connect_s=self.connect_s)
        setting = Setting(where, answer_s=self.answer_s)
        random_ = np.random.default_rng(self.seed)
        workload = Workload("periodic", self.tasks, in_flight=self.in_flight, rate_hz=self.rate_hz)
        while watch.elapsed_s < 60 * self.minutes:
            samples = random_.integers(0, bench.answers.samples, self.tasks)
            plan = bench.plans[len(found) % len(bench.plans)]
            asked = Asked(plan, workload, setting, samples, self._walk(len(found)))
            watch.begin()
            try:
                outcome = stream(bench, asked, progress=watch.count)
            except (LinkError, WireError):  # the cloud is down just when a stream begins
                sleep(RETRY_S)
                continue
            found.append(Counts.of(outcome))
            del outcome
            gc.collect()
            display.say(f"{watch.elapsed_s:6.0f} s: {found[-1].in_words}")
        return found

    def _walk(self, number: int) -> Trace:
        """The link during a stream and a minute more."""
        return random_walk(
            1e6 * self.low_mbps,
            1e6 * self.high_mbps,
            STEP_S,
            VOLATILITY,
            self.tasks / self.rate_hz + 60,
            self.seed + number,
        )

    def _findings(
        self, streams: Sequence[Counts], samples: Sequence[Sample], failures: Sequence[Failed]
    ) -> Findings:
        columns = {f.name: [getattr(s, f.name) for s in samples] for f in fields(Sample)}
        summary = self._summary(streams, columns, failures)
        drawn = columns | {"answers_hz": answers_hz(columns)}
        spans = [Span(each.kind, each.at_s, each.at_s + each.lasted_s) for each in failures]
        return Findings(
            name="soak",
            tables=(Table(f"soak of {self.minutes:g} min", ("", ""), _rows(summary)),),
            figures={"soak": held_over_time(drawn, spans, FAILURES, self.rate_hz)},
            data={
                "settings": asdict(self),
                "summary": summary,
                "streams": [asdict(each) for each in streams],
                "failures": [asdict(each) for each in failures],
                "samples": {name: [_known(v) for v in values] for name, values in columns.items()},
            },
            value=float(summary["lost"]),
            broken=tuple(self._broken(summary)),
        )

    def _summary(
        self,
        streams: Sequence[Counts],
        columns: dict[str, list[float]],
        failures: Sequence[Failed],
    ) -> dict[str, Any]:
        """Sums over the streams, and what both sides took once they were warm."""
        warm_s = min(self.warm_s, 20 * self.minutes)
        counted = [f.name for f in fields(Counts) if f.name != "gap_s"]
        summary: dict[str, Any] = {
            name: sum(getattr(each, name) for each in streams) for name in counted
        }
        summary |= {
            "lost": summary["tasks"] - summary["once"],
            "longest_gap_s": max((each.gap_s for each in streams), default=float("nan")),
            "streams": len(streams),
            "failures": {kind: sum(f.kind == kind for f in failures) for kind in self.failures},
            "warm_s": warm_s,
        }
        warm = np.array(columns["at_s"]) >= warm_s
        for side in SIDES:
            kib = columns[f"{side}_kib"]
            summary[f"{side}_kib_per_min"] = list(slope(columns["at_s"], kib, warm_s))
            for name in ("kib", "threads", "files"):
                values = np.array(columns[f"{side}_{name}"])[warm]
                summary[f"{side}_{name}"] = [float(np.nanmin(values)), float(np.nanmax(values))]
        return summary

    def _broken(self, summary: dict[str, Any]) -> list[str]:
        """What must not be: lost tasks, wrong labels, memory that grows."""
        words = []
        if summary["lost"] or summary["wrong"]:
            words.append(
                f"the soak lost {summary['lost']} tasks and has {summary['wrong']} wrong labels"
            )
        growth = max(summary[f"{side}_kib_per_min"][1] for side in SIDES)
        if growth > self.max_kib_per_min:
            words.append(f"memory grows by {growth:.0f} KiB a minute at least; something is kept")
        return words


def answers_hz(columns: dict[str, list[float]]) -> list[float]:
    """Answers per second between each sample and the one before, NaN for the first.

    >>> answers_hz({"at_s": [1.0, 3.0], "answered": [10, 30]})
    [nan, 10.0]
    """
    rate = np.diff(columns["answered"]) / np.diff(columns["at_s"])
    return [float("nan"), *rate.tolist()][: len(columns["at_s"])]


def _rows(summary: dict[str, Any]) -> list[list[str]]:
    rows = []
    for side in SIDES:
        found, low, high = summary[f"{side}_kib_per_min"]
        rows.append([f"memory of the {side}", f"{found:+.0f} [{low:+.0f}, {high:+.0f}] KiB/min"])
        for name in ("kib", "threads", "files"):
            low, high = summary[f"{side}_{name}"]
            rows.append([f"{name} of the {side}", f"{low:.0f} to {high:.0f}"])
    counted = [f.name for f in fields(Counts) if f.name != "gap_s"]
    rows += [[name, str(summary[name])] for name in (*counted, "lost", "failures")]
    return [*rows, ["longest gap between answers", f"{summary['longest_gap_s']:.2f} s"]]


def _known(value: float) -> float | None:
    """None for what is not known, as JSON wants it."""
    return None if isnan(value) else value
