"""Messages of 100 KB with small answers over unshaped loopback, eight in flight between two
processes: our sessions against bare blocking sockets that do the same.

python -m pytest tests/benchmarks/test_bench_socket.py --benchmark-only -s
"""

import asyncio
import multiprocessing
import socket
from multiprocessing.connection import Connection
from statistics import median
from time import perf_counter

import pytest

from coach_exp.network.peer import Peer, connect
from coach_exp.network.precise import new_loop
from coach_exp.network.wire_auth import Prover, fresh_nonce
from coach_exp.network.wire_client import ClientSession
from coach_exp.network.wire_messages import (
    Answer,
    CrossingTensor,
    PlanOk,
    Tensor,
    WirePlan,
)
from coach_exp.network.wire_server import ServerSession
from coach_exp.network.wire_session import Opened

HOST = "127.0.0.1"
PAYLOAD_BYTES, ANSWER_BYTES = 100_000, 64
IN_FLIGHT, MESSAGES, ROUNDS = 8, 10_000, 5
PLAN = WirePlan(0, ("stem",), (CrossingTensor("stem", 8, 0.0),))
PAYLOAD = bytes(PAYLOAD_BYTES)


class Cloud:
    """Answers every tensor at once."""

    def __init__(self):
        self.over = asyncio.Event()

    def heard(self, peer, event, now_s):
        match event:
            case WirePlan():
                peer.write(peer.session.accept_plan(event.plan))
            case Tensor():
                answer = Answer(event.task, 0, None, now_s, now_s, now_s, 0.0)
                peer.write(peer.session.answer(answer))

    def gone(self, peer, reason):
        self.over.set()


class End:
    """Sends a tensor for each answer, eight ahead."""

    def __init__(self):
        self.over = asyncio.Event()
        self.sent = self.answered = 0
        self.seconds = 0.0

    def heard(self, peer, event, now_s):
        match event:
            case Opened():
                peer.write(peer.session.register(PLAN))
            case PlanOk():
                self.seconds = -perf_counter()
                for _ in range(IN_FLIGHT):
                    self.send(peer)
            case Answer():
                self.answered += 1
                if self.sent < MESSAGES:
                    self.send(peer)
                elif self.answered == MESSAGES:
                    self.seconds += perf_counter()
                    peer.close()

    def send(self, peer):
        peer.write(peer.session.tensor(Tensor(self.sent, 0, "stem", 0, 1, PAYLOAD)))
        self.sent += 1

    def gone(self, peer, reason):
        self.over.set()


def serve_ours(port: Connection) -> None:
    async def main():
        cloud = Cloud()
        session = ServerSession("m", "cloud", fresh_nonce(), Prover(None))
        loop = asyncio.get_running_loop()
        async with await loop.create_server(lambda: Peer(session, cloud), HOST, 0) as server:
            port.send(server.sockets[0].getsockname()[1])
            await cloud.over.wait()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


def send_ours(port: int) -> float:
    async def main():
        end, session = End(), ClientSession("m", "end", fresh_nonce(), Prover(None))
        peer = Peer(session, end)
        await connect(HOST, port, peer, timeout_s=10)
        peer.write(session.hello())
        await end.over.wait()
        assert end.answered == MESSAGES
        return end.seconds

    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main())


def take(sock, view):
    at = 0
    while at < len(view):
        at += sock.recv_into(view[at:])


def serve_bare(port: Connection) -> None:
    with socket.create_server((HOST, 0)) as server:
        port.send(server.getsockname()[1])
        sock, _ = server.accept()
    with sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        view, answer = memoryview(bytearray(PAYLOAD_BYTES)), bytes(ANSWER_BYTES)
        for _ in range(MESSAGES):
            take(sock, view)
            sock.sendall(answer)


def send_bare(port: int) -> float:
    with socket.create_connection((HOST, port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        view = memoryview(bytearray(ANSWER_BYTES))
        start_s = perf_counter()
        for sent in range(MESSAGES):
            if sent >= IN_FLIGHT:
                take(sock, view)
            sock.sendall(PAYLOAD)
        for _ in range(IN_FLIGHT):
            take(sock, view)
        return perf_counter() - start_s


def messages_per_s(serve, send) -> float:
    """The rate between this process and one that serves."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    child = spawn.Process(target=serve, args=(there,))
    child.start()
    try:
        assert here.poll(60), "the other process does not listen"
        return MESSAGES / send(here.recv())
    finally:
        child.join(10)
        child.kill()


@pytest.mark.socket
def test_at_least_half_of_a_bare_socket(benchmark):
    ours, bare = [], []

    def both():
        ours.append(messages_per_s(serve_ours, send_ours))
        bare.append(messages_per_s(serve_bare, send_bare))

    benchmark.pedantic(both, rounds=ROUNDS)
    ratio = median(our / its for our, its in zip(ours, bare, strict=True))
    print(f"\nours {median(ours):.0f}, bare {median(bare):.0f} messages/s, ratio {ratio:.2f}")
    assert ratio >= 0.5
