"""Everything that can fail between an end and a cloud, and what happens of it to one stream.

In: a place (a cloud, a link to it), a plan. Out: what became of the stream's tasks.
"""

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from time import monotonic, sleep
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from coach_exp.pipeline.cloud.process import CloudProcess
from coach_exp.pipeline.executor import Setting
from coach_exp.studies.busy_client import busy_client, payloads
from coach_exp.studies.fault_runs import Asked, Bench, Outcome, Script, address, stream
from coach_exp.studies.unreliable import UnreliableLink
from coach_exp.types.errors import LinkError, WireError
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
NAMES: Final[tuple[Name, ...]] = get_args(Name)
CALM_S: Final = 10.0  # every timeout of an end to which nothing happens
ATTEMPTS, RETRY_S = 5, 0.5  # to begin a stream, and the pause between them


@dataclass(frozen=True)
class Conditions:
    """A stream of `tasks` tasks at `rate_hz`; with several clients each has its share of both. A
    fault begins `from_s` to `until_s` into the stream and lasts for `min_s` to `max_s`. The three
    timeouts at the end are those of `transport`, but shorter."""

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

    conditions: Conditions
    bench: Bench
    cloud: CloudProcess
    link: UnreliableLink
    random: random.Random
    load_s: float  # that the cloud took until it listened

    def one(self, plan: Plan, script: Script | None, port: int, min_s: float = 0.0) -> Outcome:
        """One end, for `min_s` at least."""
        tasks = max(self.conditions.tasks, round(min_s * self.conditions.rate_hz))
        return self._stream(plan, script, port, tasks, self.conditions.rate_hz, self._seed())

    def several(self, plan: Plan, clients: int) -> Outcome:
        """Several ends at once."""
        given = self.conditions
        tasks, rate_hz = max(20, given.tasks // clients), given.rate_hz / clients
        seeds = [self._seed() for _ in range(clients)]
        with ThreadPoolExecutor(clients) as threads:
            port = self.cloud.port
            found = threads.map(
                lambda seed: self._stream(plan, None, port, tasks, rate_hz, seed), seeds
            )
            return together(list(found))

    def calm(self, **changes: Any) -> "Place":
        """For streams to which nothing happens: an end that waits, however busy the machine is."""
        timeouts = dict.fromkeys(("stall_s", "connect_s", "answer_s"), CALM_S)
        return replace(self, conditions=replace(self.conditions, **(timeouts | changes)))

    def _seed(self) -> int:
        return self.random.randrange(2**32)

    def _stream(
        self, plan: Plan, script: Script | None, port: int, tasks: int, rate_hz: float, seed: int
    ) -> Outcome:
        given = self.conditions
        where = address(self.bench, port, stall_s=given.stall_s, connect_s=given.connect_s)
        workload = Workload("periodic", tasks, in_flight=given.in_flight, rate_hz=rate_hz)
        setting = Setting(where, answer_s=given.answer_s)
        asked = Asked(plan, workload, setting, self.samples(seed, tasks))
        for _ in range(ATTEMPTS):
            try:
                return stream(self.bench, asked, script)
            except (LinkError, WireError):  # a cloud that was killed before has plans to load
                sleep(RETRY_S)
        return stream(self.bench, asked, script)

    def samples(self, seed: int, tasks: int) -> NDArray[np.int64]:
        """Of the stream split, at random."""
        return np.random.default_rng(seed).integers(0, self.bench.answers.samples, tasks)

    def at(self, begin: Callable[[], object], end: Callable[[], object] | None = None) -> Script:
        """A failure that begins and ends at random."""
        given = self.conditions
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
    return place.calm().one(plan, None, place.cloud.port)


def _killed(place: Place, plan: Plan) -> Outcome:
    try:
        return place.one(plan, place.at(place.cloud.kill), place.cloud.port)
    finally:
        place.cloud.restart()


def _restarted(place: Place, plan: Plan) -> Outcome:
    """The stream is long enough to see the cloud again, which has to load the model."""
    min_s = place.conditions.until_s + 1.5 * place.load_s + 2.0
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
    given = place.conditions
    tasks, rate_hz = max(1, given.tasks // 2), given.rate_hz / 4
    place.link.trickle()
    try:
        return place.calm(tasks=tasks, rate_hz=rate_hz).one(plan, None, place.link.port)
    finally:
        place.link.restore()


def _client_killed(place: Place, plan: Plan) -> Outcome:
    where = address(place.bench, place.cloud.port, stall_s=CALM_S, connect_s=CALM_S)
    sample = int(place.samples(place.random.randrange(2**32), 1)[0])
    with busy_client(where, plan, payloads(place.bench, plan, sample)) as kill:
        return place.calm().one(plan, place.at(kill), place.cloud.port)


def _two(place: Place, plan: Plan) -> Outcome:
    return place.calm().several(plan, 2)


def _eight(place: Place, plan: Plan) -> Outcome:
    return place.calm().several(plan, 8)


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
