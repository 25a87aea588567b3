"""A cloud in this process, work that takes no time, and one task to ask of a cloud."""

import asyncio
from contextlib import asynccontextmanager

from coach_exp.pipeline.cloud.server import CloudServer
from coach_exp.pipeline.cloud.settings import CloudSettings
from coach_exp.pipeline.cloud.work import ProfileWork, Step, instruction
from coach_exp.types.errors import CodecError, CutError
from helpers.wire_ends import MODEL, End, plan

SETTINGS = CloudSettings(fingerprint=MODEL)


@asynccontextmanager
async def cloud_running(settings=SETTINGS, work=None):
    """A cloud in this loop: its server and what it has said."""
    said = []
    server = CloudServer(settings, work or ProfileWork(), said.append)
    await server.start()
    try:
        yield server, said
    finally:
        await server.stop()


class Instant:
    """Work without a clock: each tensor takes its `work_s`, at once. `log`: what was worked on."""

    def __init__(self, refused=(), broken=()) -> None:
        self.log = []
        self.refused, self.broken = refused, broken

    def accept(self, offered):
        if offered.plan in self.refused:
            raise CutError(f"plan {offered.plan} cannot be cut")

    def start(self, offered):
        return _InstantTask(self, offered)


class _InstantTask:
    def __init__(self, work, offered) -> None:
        self.work, self.plan = work, offered

    def take(self, part, payload, from_s):
        self.work.log.append((payload, part, from_s))
        if payload == b"damaged":
            raise CodecError("this is no tensor")
        if payload == b"bug":
            raise ZeroDivisionError("a bug of ours")
        end_s = from_s + self.plan.crossing[part].work_s
        last = part == len(self.plan.crossing) - 1
        return Step(end_s, 7 if last else None)


def quiet(line: str) -> None:
    """Says nothing."""


async def one_task(port: int, label: int, token: str | None = None) -> int:
    """Have one task answered: its label."""
    end = End(token=token)
    try:
        await end.join(port)
        offered = plan(0.001)
        await end.register(offered)
        end.send(0, offered, instruction(100, label))
        return (await end.answer(0)).label
    finally:
        end.peer.abort("done")
        await asyncio.sleep(0)
