"""A small end for tests: one connection to a cloud, and what it hears."""

import asyncio
from contextlib import suppress

from coach_exp.network.peer import Peer, connect
from coach_exp.network.wire_auth import Prover, fresh_nonce
from coach_exp.network.wire_client import ClientSession
from coach_exp.network.wire_messages import (
    Answer,
    CrossingTensor,
    PlanOk,
    PlanRefused,
    Tensor,
    WirePlan,
)
from coach_exp.network.wire_session import Event, Opened

MODEL = "a model"


def plan(*work_s: float, number: int = 0, heads=()) -> WirePlan:
    """A plan with as many tensors as works: t0, t1, …"""
    layers = tuple(f"t{k}" for k in range(len(work_s)))
    crossing = tuple(CrossingTensor(t, 8, s) for t, s in zip(layers, work_s, strict=True))
    return WirePlan(number, ("in", *layers), crossing, tuple(heads))


class End:
    """An end that keeps what the cloud says."""

    def __init__(self, name: str = "end", token: str | None = None, model: str = MODEL) -> None:
        self.session = ClientSession(model, name, fresh_nonce(), Prover(token))
        self.peer = Peer(self.session, self)
        self.answers: dict[int, Answer] = {}
        self.heard_events: list[Event] = []
        self.reason: str | None = None
        self._changed = asyncio.Event()

    async def join(self, port: int, **options) -> "End":
        """Connect and wait until the handshake is over, or the cloud has closed."""
        await connect("127.0.0.1", port, self.peer, timeout_s=5, **options)
        self.peer.write(self.session.hello())
        await self.until(lambda: self._has(Opened) or self.reason is not None)
        return self

    async def register(self, offered: WirePlan) -> Event:
        """Offer a plan: PLAN_OK or PLAN_REFUSED."""
        self.peer.write(self.session.register(offered))
        await self.until(lambda: self._has(PlanOk | PlanRefused, offered.plan))
        return next(e for e in self.heard_events if self._judges(e, offered.plan))

    def send(self, task: int, of: WirePlan, *payloads: bytes, first: int = 0) -> None:
        """Send tensors of a task, from `first` on."""
        for part, payload in enumerate(payloads, first):
            layer = of.crossing[part].layer
            self.peer.write(
                self.session.tensor(Tensor(task, of.plan, layer, part, len(of.crossing), payload))
            )

    async def until(self, holds, timeout_s: float = 10.0) -> None:
        """Wait until something holds, which only an event can change."""
        async with asyncio.timeout(timeout_s):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def answer(self, task: int, timeout_s: float = 10.0) -> Answer:
        await self.until(lambda: task in self.answers or self.reason is not None, timeout_s)
        return self.answers[task]

    async def closed(self, timeout_s: float = 10.0) -> str:
        await self.until(lambda: self.reason is not None, timeout_s)
        return str(self.reason)

    def _has(self, kind, number: int | None = None) -> bool:
        return any(
            isinstance(e, kind) and (number is None or e.plan == number) for e in self.heard_events
        )

    @staticmethod
    def _judges(event: Event, number: int) -> bool:
        return isinstance(event, PlanOk | PlanRefused) and event.plan == number

    def heard(self, peer: Peer, event: Event, now_s: float) -> None:
        if isinstance(event, Answer):
            assert event.task not in self.answers, "answered twice"
            self.answers[event.task] = event
        else:
            self.heard_events.append(event)
        self._changed.set()

    def gone(self, peer: Peer, reason: str) -> None:
        self.reason = reason
        self._changed.set()

    def leave(self) -> None:
        with suppress(Exception):
            self.peer.close()
