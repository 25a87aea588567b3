"""The cloud on real sockets of this machine, with tasks that are emulated, not computed."""

import asyncio
import shutil
import ssl
import subprocess
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event as ThreadEvent

import pytest
from helpers.clouds import SETTINGS, Instant, cloud_running, one_task, quiet
from helpers.wire_ends import MODEL, End, plan

from coach_exp.network.wire_messages import CloudHead, PlanOk, PlanRefused
from coach_exp.pipeline.cloud.compute import CloudTask, ComputeThread, Failed, Judged, Offer, Part
from coach_exp.pipeline.cloud.fair_queue import FairQueue
from coach_exp.pipeline.cloud.process import CloudProcess
from coach_exp.pipeline.cloud.server import CloudServer
from coach_exp.pipeline.cloud.settings import CloudSettings
from coach_exp.pipeline.cloud.work import ProfileWork, Step, instruction
from coach_exp.types.errors import CodecError, ConfigError, CutError, LinkError

# --- Turns ----------------------------------------------------------------------------------------


def test_owners_take_turns_and_keep_their_order():
    queue = FairQueue()
    for owner, items in (("a", "123"), ("b", "45"), ("c", "6")):
        for item in items:
            queue.put(owner, item, 1)
    assert [queue.take()[1] for _ in range(3)] == ["1", "4", "6"]
    queue.put("c", "7", 1)  # behind those who wait for their second turn
    assert [queue.take()[1] for _ in range(4)] == ["2", "5", "7", "3"]
    assert queue.waiting_bytes("a") == 0


def test_what_an_owner_had_waiting_is_forgotten():
    queue = FairQueue()
    queue.put("a", 1, 10)
    queue.put("b", 2, 10)
    queue.forget("a")
    assert queue.take() == ("b", 2)
    queue.put("a", 3, 10)
    assert queue.take() == ("a", 3)
    queue.close()
    assert queue.take() is None


def test_the_schedule_of_two_clients():
    """Two tensors a task, 1 s and 2 s, and one of 4 s; all times on paper.

    a: 0 ── t0 1 s ── 1 ···· 5 ── t1 2 s ── 7         came at 0 and 0
    b:               1 ── t0 4 s ── 5                 came at 0.5
    a:                                    20 ─ t0 ─ 21 ── t1 ── 23, came at 20 and 20.5
    """
    told = []
    thread = ComputeThread(Instant(), lambda owner, result: told.append((owner, result)))
    two, one = plan(1.0, 2.0), plan(4.0)
    first, other, second = CloudTask(0, two), CloudTask(0, one), CloudTask(1, two)
    for owner, task, part, came_s in (
        ("a", first, 0, 0.0),
        ("a", first, 1, 0.0),
        ("b", other, 0, 0.5),
        ("a", second, 0, 20.0),
        ("a", second, 1, 20.5),
    ):
        thread.queue.put(owner, Part(task, part, b"", came_s), 0)
    for _ in range(5):
        owner, item = thread.queue.take()
        told.append((owner, thread.result(item)))
    answers = [(owner, answer) for owner, answer in told if answer is not None]
    assert [
        (owner, a.task, a.received_s, a.start_s, a.end_s, a.busy_s) for owner, a in answers
    ] == [
        ("b", 0, 0.5, 1.0, 5.0, 4.0),
        ("a", 0, 0.0, 0.0, 7.0, 3.0),
        ("a", 1, 20.5, 20.0, 23.0, 3.0),
    ]


def test_a_client_s_failure_is_its_own_and_the_thread_goes_on():
    work = Instant(refused={1})
    thread = ComputeThread(work, lambda owner, result: None)
    damaged = thread.result(Part(CloudTask(0, plan(0.0)), 0, b"damaged", 0.0))
    bug = thread.result(Part(CloudTask(1, plan(0.0)), 0, b"bug", 0.0))
    assert damaged == Failed("this is no tensor")
    assert "what it printed" in bug.reason
    assert "a bug of ours" in bug.bug
    assert thread.result(Offer(plan(0.0))) == Judged(plan(0.0))
    assert thread.result(Offer(plan(0.0, number=1))).refusal == "plan 1 cannot be cut"
    gone = CloudTask(2, plan(0.0), cancelled=True)
    before = len(work.log)
    assert thread.result(Part(gone, 0, b"", 0.0)) is None
    assert len(work.log) == before, "a cancelled task was computed"


# --- Emulated, not computed -----------------------------------------------------------------------


def test_an_emulated_task_takes_its_time_and_tells_its_label():
    task = ProfileWork().start(plan(0.02, 0.01))
    now_s = time.monotonic()
    first = task.take(0, instruction(10, 5), now_s)
    second = task.take(1, b"", first.end_s)
    assert first == Step(now_s + 0.02)
    assert second == Step(first.end_s + 0.01, 5, None)
    assert time.monotonic() - now_s >= 0.03


def test_emulated_work_that_could_begin_earlier_is_not_waited_for_again():
    begun_s = time.monotonic()
    step = ProfileWork().start(plan(5.0)).take(0, instruction(6, 1), begun_s - 8.0)
    assert step.end_s == begun_s - 3.0
    assert time.monotonic() - begun_s < 4.0


def test_the_head_that_answers_ends_the_work():
    # 2 s + 3 s, a head after 2.5 s: 2 s of the first tensor, half a second of the second
    heads = [CloudHead("early", 0.5, 0.9), CloudHead("late", 2.5, 0.9)]
    task = ProfileWork().start(plan(2.0, 3.0, 4.0, heads=heads))
    assert task.take(0, instruction(6, 9, exit_index=1), -100.0) == Step(-98.0)
    assert task.take(1, b"", -90.0) == Step(-89.5)
    assert task.take(2, b"", -80.0) == Step(-80.0, 9, "late")


def test_payloads_that_are_no_instruction_are_refused():
    task = ProfileWork().start(plan(0.0))
    with pytest.raises(CodecError, match="has 5 bytes and cannot tell what to answer"):
        task.take(0, b"short", 0.0)
    with pytest.raises(CodecError, match="tells label 4294967295"):
        task.take(0, b"\xff" * 6, 0.0)
    with pytest.raises(CodecError, match="head 0 answers; its plan has 0"):
        task.take(0, instruction(6, 1, exit_index=0), 0.0)
    with pytest.raises(CodecError, match="5 bytes cannot tell the cloud"):
        instruction(5, 1)
    assert len(instruction(1000, 3)) == 1000


# --- Settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "", "192.168.1.2", "cloud.example", "::"])
def test_without_a_token_only_loopback_is_listened_on(host):
    with pytest.raises(ConfigError, match=r"loopback alone.*set the same token"):
        CloudSettings(fingerprint=MODEL, host=host)
    CloudSettings(fingerprint=MODEL, host=host, token="long and random")


def test_tls_files_that_do_not_go_together_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"both transport\.tls_certificate and"):
        CloudSettings(fingerprint=MODEL, tls_certificate=tmp_path / "cert.pem")
    with pytest.raises(ConfigError, match=r"tls_certificate and transport\.tls_key as well"):
        CloudSettings(fingerprint=MODEL, tls_client_ca=tmp_path / "ca.pem")
    absent = CloudSettings(
        fingerprint=MODEL, tls_certificate=tmp_path / "cert.pem", tls_key=tmp_path / "key.pem"
    )
    with pytest.raises(ConfigError, match=r"cert.pem.*cannot be used.*in PEM"):
        absent.tls()


# --- On sockets -----------------------------------------------------------------------------------


@pytest.mark.socket
def test_tasks_are_answered_with_their_times():
    async def run():
        async with cloud_running() as (server, said):
            end = await End("phone").join(server.port)
            heads = [CloudHead("head", 0.01, 0.5)]
            two = plan(0.02, 0.01, heads=heads)
            assert await end.register(two) == PlanOk(0)
            end.send(0, two, instruction(1000, 4), b"x" * 500)
            end.send(3, two, instruction(1000, 6, exit_index=0), b"x" * 500)
            answers = [await end.answer(0), await end.answer(3)]
            end.leave()
            await end.closed()
            await asyncio.sleep(0.05)
            return answers, said

    (whole, early), said = asyncio.run(run())
    assert (whole.label, whole.exit) == (4, None)
    assert (early.label, early.exit) == (6, "head")
    assert whole.busy_s == pytest.approx(0.03)
    assert early.busy_s == pytest.approx(0.01)
    assert early.start_s >= whole.end_s
    assert early.end_s == pytest.approx(max(whole.end_s, early.start_s) + 0.01)
    assert said[0].startswith("listening on 127.0.0.1:")
    assert any("phone (127.0.0.1:" in line and "came; 1 of" in line for line in said)
    assert any("plan 0 (t0 at 8 bits + t1 at 8 bits) accepted" in line for line in said)
    assert any("left: the peer said BYE; 2 tasks" in line for line in said)


@pytest.mark.socket
def test_a_plan_that_cannot_be_cut_is_refused_and_the_connection_stays():
    async def run():
        async with cloud_running(work=Instant(refused={5})) as (server, said):
            end = await End().join(server.port)
            refused = await end.register(plan(0.0, number=5))
            assert refused == PlanRefused(5, "plan 5 cannot be cut")
            taken = plan(0.0, number=6)
            await end.register(taken)
            end.send(0, taken, b"fine")
            assert (await end.answer(0)).label == 7
            assert any("refused: plan 5 cannot be cut" in line for line in said)
            end.leave()

    asyncio.run(run())


@pytest.mark.socket
@pytest.mark.parametrize(
    ("payload", "reason"), [(b"damaged", "this is no tensor"), (b"bug", "what it printed")]
)
def test_what_cannot_be_decoded_closes_its_client_alone(payload, reason):
    async def run():
        async with cloud_running(work=Instant()) as (server, said):
            wrong, right = (
                await End("wrong").join(server.port),
                await End("right").join(server.port),
            )
            offered = plan(0.0)
            await wrong.register(offered)
            await right.register(offered)
            wrong.send(0, offered, payload)
            assert reason in await wrong.closed()
            right.send(0, offered, b"fine")
            assert (await right.answer(0)).label == 7
            assert any(line.startswith("wrong") and reason in line for line in said)
            assert any("a bug of ours" in line for line in said) == (payload == b"bug")
            right.leave()

    asyncio.run(run())


@pytest.mark.socket
def test_who_has_another_token_or_model_is_not_let_in():
    settings = replace(SETTINGS, token="the cloud's")

    async def run():
        async with cloud_running(settings) as (server, said):
            token = await End(token="another").join(server.port)
            model = await End(token="the cloud's", model="another model").join(server.port)
            fine = await End(token="the cloud's").join(server.port)
            assert "does not prove that it has the cloud's token" in token.reason
            assert "the end's model is another model" in model.reason
            assert fine.reason is None
            fine.leave()
            assert sum("was not let in" in line for line in said) == 2

    asyncio.run(run())


@pytest.mark.socket
def test_there_are_no_more_clients_than_asked_for():
    async def run():
        async with cloud_running(replace(SETTINGS, max_clients=1)) as (server, _):
            first = await End().join(server.port)
            second = await End().join(server.port)
            assert "has 1 clients already" in await second.closed()
            first.leave()
            await first.closed()
            await asyncio.sleep(0.05)
            third = await End().join(server.port)
            assert third.reason is None
            third.leave()

    asyncio.run(run())


@pytest.mark.socket
def test_an_address_in_use_is_named():
    async def run():
        async with cloud_running() as (server, _):
            other = CloudServer(replace(SETTINGS, port=server.port), ProfileWork(), lambda _: None)
            with pytest.raises(LinkError, match=f"cannot listen on 127.0.0.1:{server.port}.*port"):
                await other.start()

    asyncio.run(run())


@pytest.mark.socket
def test_a_cancelled_task_is_not_computed():
    go_on, seen = ThreadEvent(), []

    class Gated(Instant):
        def start(self, offered):
            task = super().start(offered)
            take = task.take

            def gated(part, payload, from_s):
                seen.append(payload)
                go_on.wait(5)
                return take(part, payload, from_s)

            task.take = gated
            return task

    async def run():
        async with cloud_running(work=Gated()) as (server, _):
            end = await End().join(server.port)
            offered = plan(0.0)
            await end.register(offered)
            for task in range(3):
                end.send(task, offered, b"%d" % task)
            end.peer.write(end.session.cancel(1))
            end.peer.write(end.session.ping(0.0))  # its answer tells that CANCEL was read
            await end.until(lambda: any(type(e).__name__ == "Pong" for e in end.heard_events))
            go_on.set()
            await end.answer(0)
            await end.answer(2)
            end.leave()

    asyncio.run(run())
    assert seen == [b"0", b"2"]


def certificates(folder: Path) -> None:
    """As docs/reference/security.md says: an authority, the cloud's certificate and an end's."""
    run = partial(subprocess.run, check=True, capture_output=True, cwd=folder)
    new = ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-days", "30"]
    authority = ["-CA", "ca.pem", "-CAkey", "ca.key"]
    run([*new, "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=our authority"])
    leaf = ["-addext", "basicConstraints=critical,CA:FALSE"]
    for who, more in (("cloud", ["-addext", "subjectAltName=IP:127.0.0.1"]), ("end", [])):
        files = ["-keyout", f"{who}.key", "-out", f"{who}.pem", "-subj", f"/CN={who}"]
        run([*new, "-x509", *authority, *leaf, *more, *files])


@pytest.mark.socket
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")
def test_tls_hides_what_crosses_and_asks_ends_for_certificates(tmp_path):
    certificates(tmp_path)
    settings = replace(
        SETTINGS,
        token="secret",
        tls_certificate=tmp_path / "cloud.pem",
        tls_key=tmp_path / "cloud.key",
        tls_client_ca=tmp_path / "ca.pem",
    )
    known = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    known.load_cert_chain(tmp_path / "end.pem", tmp_path / "end.key")

    async def run():
        async with cloud_running(settings) as (server, said):
            assert said[0].endswith("asks for the token, TLS")
            end = await End(token="secret").join(server.port, tls=known)
            offered = plan(0.0)
            await end.register(offered)
            end.send(0, offered, instruction(100_000, 8))
            assert (await end.answer(0)).label == 8
            end.leave()
            await end.closed()
            with pytest.raises(LinkError, match=r"cannot be reached.*certificate"):
                await End(token="secret").join(server.port, tls=ssl.create_default_context())
            anonymous = ssl.create_default_context(cafile=tmp_path / "ca.pem")
            nobody = await End(token="secret").join(server.port, tls=anonymous)
            assert nobody.reason is not None  # TLS 1.3 tells after the handshake
            plain = await End(token="secret").join(server.port)
            assert plain.reason is not None
            assert sum("came" in line for line in said) == 1

    asyncio.run(run())


# --- In another process ---------------------------------------------------------------------------


def fail() -> None:
    raise CutError("nothing can be cut here")


def crash() -> None:
    import os

    os._exit(3)


@pytest.mark.socket
def test_a_cloud_in_another_process_is_killed_and_comes_back_on_its_port():
    with CloudProcess(SETTINGS, ProfileWork, quiet) as process:
        port = process.port
        assert asyncio.run(one_task(port, 3)) == 3
        assert process.kill() == -9
        with pytest.raises(LinkError, match="cannot be reached"):
            asyncio.run(one_task(port, 3))
        process.restart()
        assert process.port == port
        assert asyncio.run(one_task(port, 4)) == 4
        process.pause()
        with pytest.raises(TimeoutError):
            asyncio.run(asyncio.wait_for(one_task(port, 5), 0.3))
        process.resume()
        assert asyncio.run(one_task(port, 6)) == 6
        assert process.stop() == 0
    assert process.stop() is None


@pytest.mark.socket
def test_what_keeps_the_other_process_from_listening_is_raised_here():
    with pytest.raises(CutError, match="nothing can be cut here"):
        CloudProcess(SETTINGS, fail, quiet).start()
    with pytest.raises(LinkError, match="exit code 3"):
        CloudProcess(SETTINGS, crash, quiet).start()
