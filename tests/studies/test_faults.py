"""What fails between an end and a cloud, on real sockets, with stages that are held: nothing is
lost, nothing is answered twice, and the records say what happened."""

import asyncio
import json
from collections import Counter
from dataclasses import replace
from threading import Thread
from time import monotonic, sleep

import numpy as np
import pytest

from coach_exp.network.estimator import Ewma
from coach_exp.network.precise import new_loop
from coach_exp.network.trace import steps
from coach_exp.network.wire_auth import Prover, fresh_nonce
from coach_exp.network.wire_client import ClientSession
from coach_exp.network.wire_server import ServerSession
from coach_exp.network.wire_session import MAX_PINGS, Send
from coach_exp.pipeline.cloud.process import CloudProcess
from coach_exp.pipeline.cloud.settings import CloudSettings
from coach_exp.pipeline.cloud.work import ProfileWork
from coach_exp.pipeline.end_work import EmulatedEnd
from coach_exp.pipeline.executor import Setting, execute
from coach_exp.pipeline.trial import Trial
from coach_exp.pipeline.uplink import CloudAddress, Uplink
from coach_exp.planner.planning import Planner
from coach_exp.quant.affine import UniformAffine
from coach_exp.quant.precision import FixedBits
from coach_exp.results.timeline import save_timeline
from coach_exp.studies.fault_runs import Tally
from coach_exp.studies.process_usage import slope, usage
from coach_exp.studies.unreliable import UnreliableLink
from coach_exp.types.errors import CoachError, CutError, LinkError, WireError
from coach_exp.types.graph import Layer, LayerGraph
from coach_exp.types.method import Link, Problem
from coach_exp.types.plan import PlanSet
from coach_exp.types.profile import DeviceProfile
from coach_exp.types.workload import Workload

pytestmark = pytest.mark.socket

MODEL = "a model"
TASKS, RATE_HZ = 40, 40.0


quiet = str  # says nothing, and a process that is given it need not import this module


@pytest.fixture(scope="module")
def cloud():
    with CloudProcess(CloudSettings(fingerprint=MODEL), ProfileWork, quiet) as running:
        yield running


@pytest.fixture(scope="module")
def load_s(cloud):
    """What a cloud takes to start on this machine, which may be busy."""
    begun_s = monotonic()
    cloud.restart()
    return monotonic() - begun_s


@pytest.fixture
def link(cloud):
    with UnreliableLink(cloud.port) as relay:
        yield relay


def where(port, **changes):
    return CloudAddress("127.0.0.1", port, MODEL, **{"stall_s": 0.3, "connect_s": 0.3, **changes})


def small(tasks=TASKS, rate_hz=RATE_HZ):
    """4 ms on the end, 4 ms on the link, 10 ms on the cloud, cut behind `cut`."""
    graph = LayerGraph.of(
        [
            Layer("in", (), elements=5000),
            Layer("cut", ("in",), elements=4992),
            Layer("out", ("cut",), elements=10),
        ]
    )
    found = Problem(
        graph=graph,
        end=DeviceProfile("end", {"in": 0.0, "cut": 0.004, "out": 0.004}),
        cloud=DeviceProfile("cloud", {"in": 0.0, "cut": 0.004, "out": 0.010}),
        link=Link(10e6),
        codec=UniformAffine(),
        bits=FixedBits(8, "in", 8),
        workload=Workload("periodic", tasks, in_flight=8, rate_hz=rate_hz),
    )
    planner = Planner(objective="bottleneck", release="after_decision")
    return found, planner.plan_for(found, ["in", "cut"])


def run(port, fail=None, tasks=TASKS, rate_hz=RATE_HZ):
    """A stream through a script of failures: records, how often each task was answered, words."""
    problem, plan = small(tasks, rate_hz)
    tally, said, threads = Tally(plan), [], []

    def make_end(began_s):
        if fail is not None:
            threads.append(Thread(target=fail, args=(began_s,)))
            threads[0].start()
        return EmulatedEnd(problem, began_s)

    rate_bps = problem.link.bandwidth_bps
    try:
        records = execute(
            Trial(problem, tally, steps([rate_bps], 1.0), Ewma(rate_bps)),
            PlanSet((plan,)),
            make_end,
            Setting(where(port), answer_s=2.0),
            say=said.append,
        )
    finally:
        for thread in threads:
            thread.join()
    return records, tally.answers, said


def at(instant_s, *what):
    """A script: functions one after the other, and seconds to wait between them."""

    def script(began_s):
        sleep(max(0.0, began_s + instant_s - monotonic()))
        for each in what:
            sleep(each) if isinstance(each, float) else each()

    return script


def nothing_is_lost(records, answers, tasks=TASKS):
    assert records.task.tolist() == list(range(tasks))
    assert answers == Counter(range(tasks))
    assert set(records.decision[records.fallback]) <= {"local"}
    assert set(records.decision[~records.fallback]) == {"send"}


def again(said):
    return sum(words.startswith("connected") and words.endswith("again") for words in said)


# --- Streams --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_cloud_is_done_without_until_it_is_back(cloud, load_s, tmp_path):
    tasks = round(RATE_HZ * (2.0 + 2 * load_s))
    records, answers, said = run(cloud.port, at(0.2, cloud.restart), tasks=tasks)
    nothing_is_lost(records, answers, tasks)
    assert again(said) == 1
    assert any("connection lost" in words for words in said)
    lost = np.flatnonzero(records.fallback)
    assert len(lost) > 8  # those on their way, and those of the time without a cloud
    assert not records.fallback[0]
    assert not records.fallback[-1]  # the stream goes on over the new connection
    save_timeline(records, tmp_path / "timeline.json", name="faults")
    shown = json.loads((tmp_path / "timeline.json").read_text())["traceEvents"]
    marked = {e["args"]["task"] for e in shown if e["ph"] == "X" and e["args"]["fallback"]}
    assert marked == set(lost.tolist())


@pytest.mark.slow
def test_a_link_that_is_cut_is_joined_again(link):
    records, answers, said = run(link.port, at(0.2, link.cut, 0.2, link.restore))
    nothing_is_lost(records, answers)
    assert again(said) >= 1
    assert records.fallback.any()
    assert not records.fallback[-1]


@pytest.mark.slow
def test_a_link_that_stalls_for_long_is_given_up(link):
    records, answers, said = run(link.port, at(0.2, link.stall, 0.6, link.restore), tasks=80)
    nothing_is_lost(records, answers, tasks=80)
    assert any("silent" in words for words in said)
    assert again(said) == 1
    assert records.fallback.any()
    assert not records.fallback[-1]


@pytest.mark.slow
def test_a_link_that_stalls_shortly_costs_nothing_but_time(link):
    records, answers, said = run(link.port, at(0.2, link.stall, 0.1, link.restore))
    nothing_is_lost(records, answers)
    assert not records.fallback.any()
    assert not again(said)


@pytest.mark.slow
def test_frames_that_come_byte_by_byte_are_read(link):
    link.trickle()
    records, answers, _ = run(link.port, tasks=10, rate_hz=20.0)
    nothing_is_lost(records, answers, tasks=10)
    assert not records.fallback.any()


@pytest.mark.slow
def test_a_paused_cloud_is_given_up_and_found_again(cloud):
    records, answers, said = run(cloud.port, at(0.2, cloud.pause, 0.5, cloud.resume), tasks=80)
    nothing_is_lost(records, answers, tasks=80)
    assert again(said) == 1
    assert records.fallback.any()


# --- The connection by itself ---------------------------------------------------------------------


class Nobody:
    """An owner that runs no tasks."""

    def __init__(self):
        self.reasons = []

    def answered(self, answer, now_s):
        raise AssertionError("nothing was asked")

    def lost(self, reason):
        self.reasons.append(reason)


def opened(address, plans=()):
    """Open a connection, and close it."""

    async def once():
        uplink = Uplink(address, plans, Nobody(), quiet)
        try:
            await uplink.open()
        finally:
            await uplink.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(once())


def test_nobody_listens():
    with CloudProcess(CloudSettings(fingerprint=MODEL), ProfileWork, quiet) as stopped:
        port = stopped.port
    begun_s = monotonic()
    with pytest.raises(LinkError, match=rf"127\.0\.0\.1:{port} cannot be reached"):
        opened(where(port, connect_s=20.0))
    assert monotonic() - begun_s < 10.0  # nothing is waited for


def test_another_model(cloud):
    words = "the end's model is another, the cloud's a model; both sides need the same"
    with pytest.raises(WireError, match=words):
        opened(replace(where(cloud.port), fingerprint="another"))


def test_a_token_that_is_not_asked_for(cloud):
    with pytest.raises(WireError, match="this end has a token and the cloud asks for none"):
        opened(where(cloud.port, token="secret"))


def test_a_wrong_token_and_none():
    settings = CloudSettings(fingerprint=MODEL, token="secret")
    with CloudProcess(settings, ProfileWork, quiet) as guarded:
        with pytest.raises(WireError, match="does not prove that it has the cloud's token"):
            opened(where(guarded.port, token="guess"))
        with pytest.raises(WireError, match="the cloud asks for a token and this end has none"):
            opened(where(guarded.port))
        opened(where(guarded.port, token="secret"))


class Picky(ProfileWork):
    """Takes no plan."""

    def accept(self, plan):
        raise CutError("no layers of mine")


def test_a_plan_that_the_cloud_cannot_compute():
    _, plan = small()
    with (
        CloudProcess(CloudSettings(fingerprint=MODEL), Picky, quiet) as cloud,
        pytest.raises(WireError, match="refuses a plan: no layers of mine"),
    ):
        opened(where(cloud.port), [plan])


def test_a_connection_that_is_cut_at_once_is_noticed_at_once(link):
    link.cut()
    begun_s = monotonic()
    with pytest.raises(CoachError, match=r"cannot be reached|connection was lost|hung up"):
        opened(where(link.port, connect_s=20.0))
    assert monotonic() - begun_s < 10.0


def test_a_stalled_cloud_that_takes_connections(link):
    link.stall()
    with pytest.raises(LinkError, match="says nothing within"):
        opened(where(link.port, connect_s=0.2))


def test_a_session_with_many_unanswered_pings_sends_no_more():
    client = ClientSession(MODEL, "end", fresh_nonce(), Prover(None))
    cloud = ServerSession(MODEL, "cloud", fresh_nonce(), Prover(None))
    word = client.hello()
    while word:
        back = b"".join(e.data for e in cloud.receive(word) if isinstance(e, Send))
        word = b"".join(e.data for e in client.receive(back) if isinstance(e, Send))
    for k in range(MAX_PINGS):
        assert client.may_ping
        client.ping(float(k))
    assert not client.may_ping


# --- The soak's arithmetic ------------------------------------------------------------------------


def test_memory_that_grows_has_a_slope():
    at_s = [2.0 * k for k in range(600)]
    noise = np.random.default_rng(0).normal(0, 20, 600)
    found, low, high = slope(
        at_s, [1000 + 3 * t + e for t, e in zip(at_s, noise, strict=True)], warm_s=60
    )
    assert low <= 180 <= high
    assert found == pytest.approx(180, rel=0.05)  # 3 KiB a second


def test_memory_before_the_warm_up_and_of_a_dead_cloud_is_not_judged():
    at_s = [2.0 * k for k in range(600)]
    kib = [1e6 * t if t < 100 else float("nan") if 400 < t < 500 else 5000.0 for t in at_s]
    assert slope(at_s, kib, warm_s=100) == (0.0, 0.0, 0.0)


def test_usage_of_a_process_that_is_gone():
    assert all(np.isnan(usage(0)))
