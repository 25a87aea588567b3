"""Another end, in a process of its own, that always has tasks at the cloud, until it is killed.

In: where the cloud is, a plan, what a task sends. Out: what kills it.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from time import monotonic
from typing import Final

from coach_exp.network.precise import new_loop
from coach_exp.network.wire_messages import Answer
from coach_exp.pipeline.end_work import stops
from coach_exp.pipeline.uplink import CloudAddress, Uplink
from coach_exp.studies.fault_runs import Bench
from coach_exp.types.outcomes import Crossing
from coach_exp.types.plan import Plan

AT_HAND: Final = 4  # tasks that it has at the cloud at any time


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
    """The client at work; yields what kills it."""
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
