"""A model as one side of the link computes it: on which machine, with which heads and payloads.

In: a captured model and the machine it is to run on. Out: the model and its exit heads there. A
slowdown makes the machine a weaker one: it is held for longer than its work takes.
"""

from dataclasses import dataclass
from time import monotonic, sleep

import torch

from coach_exp.live.exit_heads import ExitHead, ExitHeads
from coach_exp.live.payloads import Payloads
from coach_exp.profiling.capture import CapturedModel


@dataclass(frozen=True)
class Machine:
    """What a side computes on: a device in torch's words, and as many of torch's threads (None: as
    many as it takes). Work holds it for `slowdown` times as long as it took.

    Where an end and a cloud compute on the same cores, as many threads as cores wait for each
    other: a small model then takes a hundred times as long.
    """

    slowdown: float = 1.0
    torch_device: str = "cpu"
    threads: int | None = None

    @property
    def device(self) -> torch.device:
        """Where tensors are to lie."""
        return torch.device(self.torch_device)

    def hold(self, begun_s: float) -> None:
        """Wait until the work that was begun at `begun_s`, on this machine's clock, is done, and
        for as long after it as the slowdown asks."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        if self.slowdown > 1:
            sleep((self.slowdown - 1) * (monotonic() - begun_s))


HERE = Machine()


class LiveModel:
    """A model and its exit heads, by layer, on `machine`; `payloads` are those of its tensors."""

    def __init__(
        self,
        model: CapturedModel,
        payloads: Payloads,
        heads: ExitHeads | None = None,
        machine: Machine = HERE,
    ) -> None:
        self.model = model if machine.torch_device == "cpu" else model.to(machine.torch_device)
        self.payloads = payloads
        self.heads: dict[str, ExitHead] = {}
        if heads is not None:
            self.heads = dict(heads.to(machine.device).by_layer())
        self.machine = machine
