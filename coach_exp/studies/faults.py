"""Everything that fails between an end and a cloud, many times over: is a task lost, answered
twice, or wrongly?

In: the config's model, whose answers are known, over real TCP to a cloud in another process. Out: a
table with a line for each fault, `faults.md` and `faults.json` with every run. A rule that is
broken is said, and fails the job in the end.
"""

import asyncio
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from time import monotonic, sleep
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from coach_exp.network.precise import new_loop
from coach_exp.network.wire_messages import Answer
from coach_exp.pipeline.cloud.process import CloudProcess
from coach_exp.pipeline.cloud.settings import CloudSettings
from coach_exp.pipeline.end_work import stops
from coach_exp.pipeline.executor import Setting
from coach_exp.pipeline.parts import Parts
from coach_exp.pipeline.uplink import CloudAddress, Uplink
from coach_exp.results.progress import Display
from coach_exp.results.tables import markdown, text_table
from coach_exp.studies.fault_runs import Bench, Outcome, Script, address, stream
from coach_exp.studies.settings import StudySettings
from coach_exp.studies.unreliable import UnreliableLink
from coach_exp.types.errors import CoachError, LinkError, WireError
from coach_exp.types.outcomes import Crossing
from coach_exp.types.plan import Plan
from coach_exp.types.workload import Workload

Name = Literal[
    "none",
    "cloud killed",
    "cloud restarted",
    "cloud stalled",
    "link cut",
    "link stalled",
    "bytes one by one",
    "another client killed",
    "two clients",
    "eight clients",
]
NAMES: Final[tuple[Name, ...]] = Name.__args__  # type: ignore[attr-defined]
PATIENT_S: Final = 10.0
PATIENCE, RETRY_S = 5, 0.5  # attempts to begin a stream, and the pause between them
AT_HAND: Final = 4  # tasks that the client to be killed has at the cloud at any time


class Settings(StudySettings):
    """Each fault `runs` times, in streams of `tasks` tasks at `rate_hz`; with several clients each
    has its share of both. A fault begins `from_s` to `until_s` into the stream and lasts for
    `min_s` to `max_s`. The three times at the end are those of `transport`, but shorter."""

    kind: Literal["faults"] = "faults"
    faults: tuple[Name, ...] = Field(NAMES, min_length=1)
    runs: PositiveInt = 20
    tasks: PositiveInt = 120
    rate_hz: PositiveFloat = 60.0
    in_flight: PositiveInt = 8
    from_s: PositiveFloat = 0.3
    until_s: PositiveFloat = 0.6
    min_s: PositiveFloat = 0.2
    max_s: PositiveFloat = 0.8
    stall_s: PositiveFloat = 0.4
    connect_s: PositiveFloat = 2.0
    answer_s: PositiveFloat = 1.0
    seed: NonNegativeInt = 0


@dataclass
class Place:
    """Where the runs take place: a cloud, a relay to it, a source of chance."""

    settings: Settings
    bench: Bench
    cloud: CloudProcess
    link: UnreliableLink
    random: random.Random
    load_s: float  # that the cloud took until it listened

    def one(self, plan: Plan, script: Script | None, port: int, min_s: float = 0.0) -> Outcome:
        """One end, for `min_s` at least."""
        tasks = max(self.settings.tasks, round(min_s * self.settings.rate_hz))
        return self._stream(plan, script, port, tasks, self.settings.rate_hz, self._seed())

    def several(self, plan: Plan, clients: int) -> Outcome:
        """Several ends at once."""
        given = self.settings
        tasks, rate_hz = max(20, given.tasks // clients), given.rate_hz / clients
        seeds = [self._seed() for _ in range(clients)]
        with ThreadPoolExecutor(clients) as threads:
            found = list(
                threads.map(
                    lambda seed: self._stream(plan, None, self.cloud.port, tasks, rate_hz, seed),
                    seeds,
                )
            )
        return together(found)

    def patient(self, **changes: float) -> "Place":
        """For streams to which nothing happens: an end that waits, however busy the machine is."""
        times = dict.fromkeys(("stall_s", "connect_s", "answer_s"), PATIENT_S)
        return replace(self, settings=self.settings.model_copy(update=times | changes))

    def _seed(self) -> int:
        return self.random.randrange(2**32)

    def _stream(
        self, plan: Plan, script: Script | None, port: int, tasks: int, rate_hz: float, seed: int
    ) -> Outcome:
        given = self.settings
        where = address(self.bench, port, stall_s=given.stall_s, connect_s=given.connect_s)
        workload = Workload("periodic", tasks, in_flight=given.in_flight, rate_hz=rate_hz)
        setting = Setting(where, answer_s=given.answer_s)
        samples = self.samples(seed, tasks)
        for _ in range(PATIENCE):
            try:
                return stream(self.bench, plan, workload, setting, samples, script)
            except (LinkError, WireError):  # a cloud that was killed before has plans to load
                sleep(RETRY_S)
        return stream(self.bench, plan, workload, setting, samples, script)

    def samples(self, seed: int, tasks: int) -> NDArray[np.int64]:
        """Of the stream split, at random."""
        return np.random.default_rng(seed).integers(0, self.bench.answers.samples, tasks)

    def at(self, begin: Callable[[], object], end: Callable[[], object] | None = None) -> Script:
        """A failure that begins and ends at random."""
        given = self.settings
        begin_s = self.random.uniform(given.from_s, given.until_s)
        lasts_s = self.random.uniform(given.min_s, given.max_s)

        def script(began_s: float) -> None:
            sleep(max(0.0, began_s + begin_s - monotonic()))
            begin()
            if end is not None:
                sleep(lasts_s)
                end()

        return script


def together(found: Sequence[Outcome]) -> Outcome:
    """Several ends as one line: sums, and the longest gap of any of them."""
    sums = {
        name: sum(getattr(each, name) for each in found)
        for name in ("tasks", "once", "fallbacks", "reconnections", "wrong", "ties")
    }
    gap_s = max(each.gap_s for each in found)
    said = tuple(words for each in found for words in each.said)
    return replace(found[0], **sums, gap_s=gap_s, said=said)


# --- The faults -----------------------------------------------------------------------------------


def _none(place: Place, plan: Plan) -> Outcome:
    return place.patient().one(plan, None, place.cloud.port)


def _killed(place: Place, plan: Plan) -> Outcome:
    try:
        return place.one(plan, place.at(place.cloud.kill), place.cloud.port)
    finally:
        place.cloud.restart()


def _restarted(place: Place, plan: Plan) -> Outcome:
    """The stream is long enough to see the cloud again, which has to load the model."""
    min_s = place.settings.until_s + 1.5 * place.load_s + 2.0
    return place.one(plan, place.at(place.cloud.restart), place.cloud.port, min_s)


def _stalled(place: Place, plan: Plan) -> Outcome:
    return place.one(plan, place.at(place.cloud.pause, place.cloud.resume), place.cloud.port)


def _cut(place: Place, plan: Plan) -> Outcome:
    return place.one(plan, place.at(place.link.cut, place.link.restore), place.link.port)


def _link_stalled(place: Place, plan: Plan) -> Outcome:
    return place.one(plan, place.at(place.link.stall, place.link.restore), place.link.port)


def _bytewise(place: Place, plan: Plan) -> Outcome:
    """From before the handshake to after the last answer; at a quarter of the rate, for this is a
    slow link."""
    given = place.settings
    tasks, rate_hz = max(1, given.tasks // 2), given.rate_hz / 4
    place.link.trickle()
    try:
        return place.patient(tasks=tasks, rate_hz=rate_hz).one(plan, None, place.link.port)
    finally:
        place.link.restore()


def _client_killed(place: Place, plan: Plan) -> Outcome:
    where = address(place.bench, place.cloud.port, stall_s=PATIENT_S, connect_s=PATIENT_S)
    sample = int(place.samples(place.random.randrange(2**32), 1)[0])
    with busy_client(where, plan, payloads(place.bench, plan, sample)) as kill:
        return place.patient().one(plan, place.at(kill), place.cloud.port)


def _two(place: Place, plan: Plan) -> Outcome:
    return place.patient().several(plan, 2)


def _eight(place: Place, plan: Plan) -> Outcome:
    return place.patient().several(plan, 8)


FAULTS: Final[dict[Name, Callable[[Place, Plan], Outcome]]] = {
    "none": _none,
    "cloud killed": _killed,
    "cloud restarted": _restarted,
    "cloud stalled": _stalled,
    "link cut": _cut,
    "link stalled": _link_stalled,
    "bytes one by one": _bytewise,
    "another client killed": _client_killed,
    "two clients": _two,
    "eight clients": _eight,
}


# --- The client that is killed --------------------------------------------------------------------


def payloads(bench: Bench, plan: Plan, sample: int) -> list[bytes]:
    """What a task of this sample sends."""

    async def made() -> list[bytes]:
        task = bench.sides.end(monotonic()).begin(sample, plan, 0.0)
        for stop in stops(plan):
            await task.reach(stop)
        crossing = [Crossing(tensor.layer, tensor.bits) for tensor in plan.crossing]
        return await task.pack(crossing, range(len(crossing)), None)

    return asyncio.run(made())


@contextmanager
def busy_client(
    where: CloudAddress, plan: Plan, sent: Sequence[bytes]
) -> Iterator[Callable[[], None]]:
    """Another end, in a process of its own, that always has tasks at the cloud; what kills it."""
    context = get_context("spawn")
    line, other = context.Pipe()
    process = context.Process(target=_busy, args=(where, plan, list(sent), other), name="client")
    process.start()
    other.close()
    try:
        line.recv()
        yield process.kill
    finally:
        process.kill()
        process.join()
        process.close()
        line.close()


def _busy(where: CloudAddress, plan: Plan, sent: list[bytes], line: Connection) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_Busy(where, plan, sent).work(line))


class _Busy:
    """Sends a task for every answer."""

    def __init__(self, where: CloudAddress, plan: Plan, sent: list[bytes]) -> None:
        self._plan, self._sent, self._next = plan, sent, 0
        self._uplink = Uplink(where, [plan], self, lambda words: None)

    async def work(self, line: Connection) -> None:
        """Until it is killed."""
        await self._uplink.open()
        for _ in range(AT_HAND):
            self._send()
        line.send("busy")
        await self._uplink.keep()

    def _send(self) -> None:
        for part, payload in enumerate(self._sent):
            self._uplink.send(self._next, self._plan, part, payload)
        self._next += 1

    def answered(self, answer: Answer, now_s: float) -> None:
        """Of UplinkOwner."""
        self._send()

    def lost(self, reason: str) -> None:
        """Of UplinkOwner."""


# --- The study ------------------------------------------------------------------------------------


def study(settings: Mapping[str, Any], directory: Path, display: Display, parts: Parts) -> float:
    """Let everything fail; returns the tasks that were not answered just once. Raises ConfigError
    naming wrong settings, CoachError where a rule was broken."""
    checked = Settings.read(settings)
    bench = Bench.of(parts)
    every: dict[Name, list[Outcome]] = {}
    broken: list[str] = []
    begun_s = monotonic()
    with (
        CloudProcess(CloudSettings(fingerprint=bench.sides.fingerprint), bench.sides.cloud, _quiet)
        as cloud,
        UnreliableLink(cloud.port) as link,
    ):  # fmt: skip
        load_s = monotonic() - begun_s
        place = Place(checked, bench, cloud, link, random.Random(checked.seed), load_s)
        for name in checked.faults:
            every[name] = []
            for run in range(checked.runs):
                for words in _run(place, name, bench.plans[run % len(bench.plans)], every[name]):
                    broken.append(f"{name}, run {run}: {words}")
                    display.say(broken[-1])
                display.progress(name, run + 1, checked.runs)
            if every[name]:
                display.say(text_table("", HEADS, [cells(name, every[name])]))
    _report(checked, every, broken, directory, display)
    if broken:
        raise CoachError("faults broke rules:\n" + "\n".join(broken))
    return float(sum(run.tasks - run.once for runs in every.values() for run in runs))


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


def _quiet(words: str) -> None:
    """Of the cloud's words, none: there would be too many."""


HEADS: Final = [
    *("fault", "runs", "tasks", "answered once", "finished on the end", "connected again"),
    *("wrong labels", "near ties", "longest gap s"),
]


def cells(name: str, runs: Sequence[Outcome]) -> list[str]:
    """One line of the table; three numbers are least / median / most of a run."""

    def spread(of: str) -> str:
        values = [getattr(run, of) for run in runs]
        return f"{min(values)} / {median(values):g} / {max(values)}"

    def total(of: str) -> str:
        return str(sum(getattr(run, of) for run in runs))

    gap_s = max(run.gap_s for run in runs)
    return [
        *(name, str(len(runs)), total("tasks"), total("once"), spread("fallbacks")),
        *(spread("reconnections"), total("wrong"), total("ties"), f"{gap_s:.2f}"),
    ]


def _report(
    settings: Settings, every: Mapping[Name, Sequence[Outcome]], broken: Sequence[str],
    directory: Path, display: Display,
) -> None:  # fmt: skip
    rows = [cells(name, runs) for name, runs in every.items() if runs]
    display.say(text_table("faults", HEADS, rows))
    (directory / "faults.md").write_text(markdown(HEADS, rows))
    names = [field.name for field in fields(Outcome) if field.name != "records"]
    written = {
        "settings": settings.model_dump(mode="json"),
        "broken": list(broken),
        "runs": {
            fault: [{name: getattr(run, name) for name in names} for run in runs]
            for fault, runs in every.items()
        },
    }
    (directory / "faults.json").write_text(json.dumps(written, indent=2) + "\n")
