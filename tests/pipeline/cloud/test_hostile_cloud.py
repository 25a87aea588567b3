"""What the cloud bears: bytes that mean harm, clients that dawdle, flood, vanish or do not read."""

import asyncio
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from helpers.clouds import SETTINGS, Instant, cloud_running, one_task, quiet
from helpers.paths import ROOT
from helpers.wire_ends import MODEL, End, plan

from coach_exp.network.wire import MAGIC, PREFIX, PROTOCOL_VERSION, encode
from coach_exp.network.wire_auth import Prover, fresh_nonce
from coach_exp.network.wire_client import ClientSession
from coach_exp.network.wire_messages import Hello, Kind, Ping, Proof, Tensor
from coach_exp.network.wire_session import Send
from coach_exp.pipeline.cloud.process import CloudProcess
from coach_exp.pipeline.cloud.work import ProfileWork, instruction

pytestmark = pytest.mark.socket

TOKEN = "long and random"
FRAMES = 100_000
AT_ONCE = 100  # connections
OFFERED = plan(0.0)


# --- A hundred thousand frames --------------------------------------------------------------------


def write_line(path: Path, line: str) -> None:
    """Say into a file, which is opened once."""
    if path not in OPEN:
        OPEN[path] = path.open("a", buffering=2**16)
    OPEN[path].write(line.replace("\n", " ") + "\n")
    if line.startswith("stopped"):
        OPEN[path].flush()


OPEN = {}


class Volley:
    """Makes what a hostile peer sends; `kinds` counts what was made."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.kinds = Counter()
        hello = Hello(PROTOCOL_VERSION, MODEL, "recorded", b"n" * 32)
        proof = Prover(TOKEN).proof("end", b"n" * 32, b"c" * 32, MODEL)
        self.hello, self.recorded = encode(hello), encode(hello) + encode(Proof(proof))
        self.tensor = encode(Tensor(0, 0, "t0", 0, 1, instruction(60, 1)))
        self.wrong_version = encode(replace(hello, protocol=99))

    def before_welcome(self) -> bytes:
        """Bytes that no handshake holds."""
        make = self.rng.choice(
            [
                self.random,
                self.flipped,
                self.truncated,
                self.oversized,
                self.version,
                self.protocol,
                self.token,
                self.replayed,
                self.order,
            ]
        )
        self.kinds[make.__name__] += 1
        return make()

    def after_welcome(self) -> bytes:
        """Bytes that break the rules of an open session."""
        make = self.rng.choice(
            [
                self.random,
                self.flipped_tensor,
                self.oversized,
                self.no_plan,
                self.replayed_plan,
                self.not_next,
                self.unusable,
            ]
        )
        self.kinds[make.__name__] += 1
        return make()

    def random(self) -> bytes:
        return self.rng.randbytes(self.rng.randint(1, 200))

    def flipped(self) -> bytes:
        return self._flip(self.hello)

    def flipped_tensor(self) -> bytes:
        return encode(OFFERED) + self._flip(self.tensor)

    def _flip(self, frame: bytes) -> bytes:
        damaged = bytearray(frame)
        damaged[self.rng.randrange(len(damaged))] ^= self.rng.randint(1, 255)
        return bytes(damaged)

    def truncated(self) -> bytes:
        return self.hello[: self.rng.randrange(1, len(self.hello))]

    def oversized(self) -> bytes:
        kind = self.rng.choice(list(Kind))
        return PREFIX.pack(MAGIC, 1, kind, *self.rng.choice([(2**31, 0), (0, 2**32 - 1)]))

    def version(self) -> bytes:
        return PREFIX.pack(MAGIC, self.rng.choice([0, 2, 255]), Kind.HELLO, 0, 0)

    def protocol(self) -> bytes:
        return self.wrong_version

    def token(self) -> bytes:
        return self.hello + encode(Proof(self.rng.randbytes(self.rng.choice([0, 16, 32]))))

    def replayed(self) -> bytes:
        return self.recorded

    def order(self) -> bytes:
        return self.rng.choice([self.tensor, encode(OFFERED), self.hello + self.hello])

    def no_plan(self) -> bytes:
        return encode(Tensor(0, 9, "t0", 0, 1, b"x"))

    def replayed_plan(self) -> bytes:
        return encode(OFFERED) + encode(OFFERED)

    def not_next(self) -> bytes:
        return encode(OFFERED) + encode(Tensor(0, 0, "t0", 1, 2, b"x"))

    def unusable(self) -> bytes:
        return encode(Ping(0.0)) + encode(replace(OFFERED, plan=1)) + b"\0"


def fire(port: int, volleys: list[bytes], model: str | None = None) -> None:
    """Each volley on its own connection, all at once; returns when the cloud has closed them all.
    With `model` each begins with a handshake of an end that has the token."""
    sockets = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in volleys]
    try:
        sessions = []
        if model is not None:
            for line in sockets:
                session = ClientSession(model, "insider", fresh_nonce(), Prover(TOKEN))
                line.sendall(session.hello())
                sessions.append(session)
            for line, session in zip(sockets, sessions, strict=True):
                proofs = [e.data for e in session.receive(line.recv(4096)) if isinstance(e, Send)]
                line.sendall(b"".join(proofs))
        for line, volley in zip(sockets, volleys, strict=True):
            try:
                line.sendall(volley)
                line.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # refused already
        for line in sockets:
            try:
                while line.recv(65536):
                    pass
            except ConnectionError:
                pass
    finally:
        for line in sockets:
            line.close()


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_a_hundred_thousand_hostile_frames_change_nothing(tmp_path):
    log, volley, fired = tmp_path / "said.txt", Volley(seed=0), 0
    settings = replace(SETTINGS, token=TOKEN)
    resident = []
    with CloudProcess(settings, ProfileWork, partial(write_line, log)) as process:
        while fired < FRAMES:
            turn = fired // AT_ONCE % 10
            if turn == 8:
                fire(process.port, [volley.after_welcome() for _ in range(AT_ONCE)], MODEL)
            elif turn == 9 and fired // AT_ONCE % 50 == 9:
                volley.kinds["model"] += AT_ONCE
                fire(process.port, [b""] * AT_ONCE, "another model")
            else:
                fire(process.port, [volley.before_welcome() for _ in range(AT_ONCE)])
            fired += AT_ONCE
            if fired % (FRAMES // 10) == 0:
                resident.append(resident_bytes(process.pid))
        assert asyncio.run(one_task(process.port, 5, TOKEN)) == 5
        assert process.stop() == 0
    said = log.read_text().splitlines()
    turned_away = [line for line in said if " was not let in: " in line or " left: " in line]
    assert len(turned_away) == FRAMES + 1  # the last is the honest one
    assert not [line for line in turned_away if line.endswith(": ")], "one without a reason"
    assert not [line for line in said if "Traceback" in line]
    assert max(resident[1:]) - resident[1] < 8 * 2**20, resident
    assert len(volley.kinds) == 15
    for reason in (
        "version 99",
        "does not prove",
        "another model",
        "CRC",
        "has at most",
        "hung up within a frame",
        "not registered",
        "offered before",
    ):
        assert any(reason in line for line in turned_away), reason


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ([(0, 0, 2)], "task 0 was begun before, or skipped"),  # answered already
        ([(9, 0, 2), (9, 0, 2)], "tensor 0 of task 9 comes twice"),
        ([(9, 1, 2)], "is not the next one of its plan"),
        ([(9, 0, 2), (8, 0, 2)], "task 8 was begun before, or skipped"),
        ([(9, 0, 3)], "is not the next one of its plan"),
    ],
)
def test_tasks_that_are_replayed_or_out_of_order_close_their_client(tensors, reason):
    async def run():
        async with cloud_running() as (server, said):
            end = await End("replays").join(server.port)
            offered = plan(0.0, 0.0)
            await end.register(offered)
            end.send(0, offered, instruction(50, 1), b"")
            await end.answer(0)
            for task, part, parts in tensors:  # as recorded: a session would not make them
                made = Tensor(task, 0, f"t{part}", part, parts, instruction(50, 1))
                end.peer.write(encode(made))
            assert reason in await end.closed()
            while not any(line.startswith("replays (") and reason in line for line in said):
                await asyncio.sleep(0.01)
            assert not server._clients()

    asyncio.run(asyncio.wait_for(run(), 10))


# --- Dawdlers -------------------------------------------------------------------------------------


async def trickle(port: int, data: bytes, pause_s: float = 0.05) -> float:
    """Send a byte at a time; how long until the cloud closed, in seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    begun_s = time.monotonic()
    closed = asyncio.ensure_future(reader.read())
    try:
        for byte in data:
            if closed.done():
                break
            writer.write(bytes([byte]))
            await asyncio.sleep(pause_s)
        await closed
    except ConnectionError:
        pass
    finally:
        writer.close()
    return time.monotonic() - begun_s


def test_dawdlers_are_closed_and_starve_nobody():
    settings = replace(SETTINGS, handshake_s=0.5)
    hello = encode(Hello(PROTOCOL_VERSION, MODEL, "slow loris", b"n" * 32))

    async def run():
        async with cloud_running(settings) as (server, said):
            lorises = [asyncio.ensure_future(trickle(server.port, hello)) for _ in range(60)]
            await asyncio.sleep(0.1)
            end = await End().join(server.port)
            offered = plan(0.001)
            await end.register(offered)
            slowest_s = 0.0
            for task in range(50):
                begun_s = time.monotonic()
                end.send(task, offered, instruction(100, 1))
                await end.answer(task)
                slowest_s = max(slowest_s, time.monotonic() - begun_s)
            closed_s = await asyncio.gather(*lorises)
            end.leave()
            assert sum("handshake was not over within 0.5 s" in line for line in said) == 60
            return slowest_s, max(closed_s)

    slowest_s, last_closed_s = asyncio.run(run())
    # One of them alone would hold a cloud that waits for all of its frame for many seconds.
    assert slowest_s < 2.0
    assert last_closed_s < 4.0


def test_a_frame_that_does_not_come_whole_closes_its_connection():
    async def run():
        async with cloud_running(replace(SETTINGS, frame_s=0.4)) as (server, _):
            end = await End().join(server.port)
            offered = plan(0.0)
            await end.register(offered)
            frame = end.session.tensor(Tensor(0, 0, "t0", 0, 1, bytes(1000)))
            begun_s = time.monotonic()
            for byte in frame:
                end.peer.write(bytes([byte]))
                await asyncio.sleep(0.02)
                if end.reason is not None:
                    break
            assert "a frame did not come whole within 0.4 s" in await end.closed()
            assert time.monotonic() - begun_s < 10.0  # all of it would take 20 s

    asyncio.run(run())


def test_a_stream_that_never_stands_between_frames_is_no_slow_frame():
    # a byte of the next frame always follows, so that every look finds a frame begun
    async def run():
        async with cloud_running(replace(SETTINGS, frame_s=0.3)) as (server, _):
            end = await End().join(server.port)
            offered = plan(0.0)
            await end.register(offered)
            frames = [
                end.session.tensor(Tensor(task, 0, "t0", 0, 1, instruction(60, 1)))
                for task in range(60)
            ]
            stream = b"".join(frames)
            size = len(frames[0])
            for at in range(1, len(stream), size):
                end.peer.write(stream[at - 1 if at == 1 else at : at + size])
                await asyncio.sleep(0.01)
            assert (await end.answer(59)).label == 1
            assert end.reason is None
            end.leave()

    asyncio.run(run())


def test_an_honest_end_whose_packets_hold_a_byte_each_is_served():
    async def run():
        async with cloud_running() as (server, _):
            end = await End().join(server.port)
            offered = plan(0.0, 0.0)
            await end.register(offered)
            for part in range(2):
                payload = instruction(50, 3)
                for byte in end.session.tensor(Tensor(0, 0, f"t{part}", part, 2, payload)):
                    end.peer.write(bytes([byte]))
                    await end.peer.drained()
                    await asyncio.sleep(0)
            assert (await end.answer(0)).label == 3
            end.leave()

    asyncio.run(run())


def test_silence_closes_and_pings_do_not():
    async def run():
        async with cloud_running(replace(SETTINGS, idle_s=0.4)) as (server, _):
            silent, alive = await End().join(server.port), await End().join(server.port)
            for _ in range(8):
                await asyncio.sleep(0.1)
                alive.peer.write(alive.session.ping(0.0))
            assert "nothing came for 0.4 s" in await silent.closed()
            assert alive.reason is None
            alive.leave()

    asyncio.run(run())


@pytest.mark.slow
def test_a_cloud_that_stalled_does_not_blame_its_clients():
    async def run(process):
        end = await End().join(process.port)
        offered = plan(0.0)
        await end.register(offered)
        process.pause()
        end.send(0, offered, instruction(50, 2))
        for _ in range(10):
            await asyncio.sleep(0.1)
            end.peer.write(end.session.ping(0.0))
        process.resume()
        assert (await end.answer(0)).label == 2
        end.leave()
        await end.closed()

    with CloudProcess(replace(SETTINGS, idle_s=0.5), ProfileWork, quiet) as process:
        asyncio.run(run(process))


@pytest.mark.slow
def test_who_does_not_read_is_closed():
    async def run():
        async with cloud_running(replace(SETTINGS, unsent_bytes=10_000)) as (server, said):
            end, other = await End("deaf").join(server.port), await End().join(server.port)
            end.peer.pause()
            pings = encode(Ping(0.0)) * 1000
            while not any("does not read" in line for line in said):
                end.peer.write(pings)
                await asyncio.sleep(0)
            offered = plan(0.0)
            await other.register(offered)
            other.send(0, offered, instruction(50, 2))
            assert (await other.answer(0)).label == 2
            end.peer.abort("over")
            other.leave()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_what_waits_of_one_client_is_bounded():
    settings = replace(SETTINGS, queue_bytes=200_000)
    peaks, paused = [], []

    async def run():
        async with cloud_running(settings) as (server, _):
            end = await End().join(server.port)
            offered = plan(0.002)
            await end.register(offered)
            for task in range(100):
                end.send(task, offered, instruction(50_000, 1))
            while len(end.answers) < 100:
                (client,) = server._clients()
                peaks.append(server._waiting_bytes(client))
                paused.append(client.paused)
                await asyncio.sleep(0.001)
            end.leave()

    asyncio.run(asyncio.wait_for(run(), 30))
    assert any(paused)
    assert max(peaks) < 200_000 + 2**18 + 60_000  # what the loop reads at once, and one more frame


# --- Several clients ------------------------------------------------------------------------------


async def stream(port: int, name: str, in_flight: int, until_s: float) -> int:
    """Keep tasks in flight; how many were answered."""
    end = await End(name).join(port)
    offered = plan(0.002)
    await end.register(offered)
    sent = 0
    while time.monotonic() < until_s:
        while sent - len(end.answers) < in_flight:
            end.send(sent, offered, instruction(500, sent % 7))
            sent += 1
        before = len(end.answers)
        await end.until(lambda before=before: len(end.answers) > before)
    answered = len(end.answers)
    await end.until(lambda: len(end.answers) == sent)
    assert all(answer.label == task % 7 for task, answer in end.answers.items())
    end.leave()
    await end.closed()
    return answered


@pytest.mark.parametrize("clients", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_clients_share_the_cloud_however_much_each_asks_for(clients):
    async def run(port):
        until_s = time.monotonic() + 2.0
        greed = [64 if k == 0 else 3 for k in range(clients)]
        return await asyncio.gather(
            *(stream(port, f"end {k}", each, until_s) for k, each in enumerate(greed))
        )

    with CloudProcess(SETTINGS, ProfileWork, quiet) as process:
        answered = asyncio.run(run(process.port))
    assert sum(answered) > 500  # of 1000 that fit in 2 s
    assert (max(answered) - min(answered)) / (sum(answered) / clients) <= 0.1, answered


def test_a_client_that_vanishes_leaves_nothing_behind():
    async def run():
        work = Instant()
        async with cloud_running(work=work) as (server, said):
            gone, other = await End("gone").join(server.port), await End().join(server.port)
            offered = plan(0.0, 0.0)
            for end in (gone, other):
                await end.register(offered)
            gone.send(0, offered, b"half of a task")
            gone.peer.abort("killed")
            other.send(0, offered, b"a", b"b")
            assert (await other.answer(0)).label == 7
            while not any(line.startswith("gone (") and " left: " in line for line in said):
                await asyncio.sleep(0.01)
            assert len(server._clients()) == 1
            assert server._compute.queue._bytes == {}
            other.leave()

    asyncio.run(run())


# --- The end of a cloud ---------------------------------------------------------------------------


def test_tasks_at_hand_are_answered_before_the_cloud_stops():
    async def run():
        async with cloud_running() as (server, said):
            busy, idle = await End("busy").join(server.port), await End("idle").join(server.port)
            offered = plan(0.15)
            await busy.register(offered)
            busy.send(0, offered, instruction(50, 1))
            busy.send(1, offered, instruction(50, 2))
            await asyncio.sleep(0.05)
            stopping = asyncio.ensure_future(server.stop())
            await asyncio.sleep(0.02)
            busy.send(2, offered, instruction(50, 3))
            assert await idle.closed() == "the peer said BYE"
            assert await busy.closed() == "the peer said BYE"
            assert {task: a.label for task, a in busy.answers.items()} == {0: 1, 1: 2}
            assert busy.session.unanswered == (2,)
            await stopping
            assert said[-1] == "stopped"

    asyncio.run(run())


SERVE = """
from coach_exp.pipeline.cloud.server import serve
from coach_exp.pipeline.cloud.settings import CloudSettings
from coach_exp.pipeline.cloud.work import ProfileWork
from functools import partial
serve(CloudSettings(fingerprint="a model"), ProfileWork(), partial(print, flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_cloud_in_order(number):
    with subprocess.Popen(
        [sys.executable, "-c", SERVE], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout.readline().startswith("listening on 127.0.0.1:")
        process.send_signal(number)
        rest = process.stdout.read()
    assert process.returncode == 0
    assert rest == "stopping: 0 tasks are at hand\nstopped\n"


ORPHAN = """
import os, sys
from coach_exp.pipeline.cloud.process import CloudProcess
from coach_exp.pipeline.cloud.settings import CloudSettings
from coach_exp.pipeline.cloud.work import ProfileWork
if __name__ == "__main__":
    process = CloudProcess(CloudSettings(fingerprint="a model"), ProfileWork, print)
    process.start()
    print(process.port, flush=True)
    os._exit(1)
"""


def test_a_cloud_does_not_outlive_the_process_that_started_it(tmp_path):
    script = tmp_path / "orphan.py"
    script.write_text(ORPHAN)
    done = subprocess.run(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    port = int(next(line for line in done.stdout.splitlines() if line.isdigit()))
    until_s = time.monotonic() + 5
    while time.monotonic() < until_s:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.05)
    pytest.fail("the cloud still listens")
