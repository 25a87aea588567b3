"""A package that is not ours, with a component of every kind and a config directory of its own."""

from pathlib import Path
from textwrap import dedent

CODE = '''
    """Components of a user, who has read the documentation and nothing else."""

    from dataclasses import dataclass, field, replace

    import numpy as np
    from pydantic import PositiveFloat, PositiveInt

    import coach_exp as coach


    class Median:
        """An estimator: the median of the last rates."""

        def __init__(self, initial_bps: float, window: PositiveInt = 5) -> None:
            self.rates, self.window = [initial_bps], window

        def rate_bps(self, now_s: float) -> float:
            return float(np.median(self.rates[-self.window :]))

        def sent(self, transfer: coach.Transfer) -> None:
            seconds = transfer.end_s - transfer.start_s
            if seconds > 0 and transfer.payload_bytes > 0:
                self.rates.append(8 * transfer.payload_bytes / seconds)


    @dataclass(frozen=True)
    class Half:
        """A codec that sends float16 whatever the width, behind a header of its own."""

        header_bytes: int = 2

        def expected_bytes(self, elements: int, bits: int, rows: int = 1) -> int:
            return self.header_bytes + 2 * elements

        def encode(self, tensor, bits):
            shape = np.array([tensor.ndim, *tensor.shape], dtype=np.int32)
            return shape.tobytes() + tensor.astype(np.float16).tobytes()

        def decode(self, payload):
            shape = self.shape(payload)
            at = 4 * (1 + len(shape))
            return np.frombuffer(payload[at:], np.float16).astype(np.float32).reshape(shape)

        def shape(self, payload):
            axes = int(np.frombuffer(payload[:4], np.int32)[0])
            return tuple(np.frombuffer(payload[4 : 4 + 4 * axes], np.int32).tolist())


    @dataclass(frozen=True)
    class FirstHalf:
        """A planner that cuts in the middle, whatever it costs."""

        release: str = "per_tensor"

        def plan(self, problem: coach.Problem) -> coach.Plan:
            layers = problem.graph.layers
            names = [layer.name for layer in layers[: len(layers) // 2]]
            return coach.Planner(release=self.release).plan_for(problem, names)


    @dataclass(frozen=True)
    class Sawtooth:
        """A trace: a rate that falls and jumps back."""

        top_mbps: PositiveFloat = 20.0

        def trace(self) -> coach.Trace:
            rates = tuple(1e6 * self.top_mbps / k for k in (1, 2, 4))
            return coach.Trace((0.0, 0.5, 1.0), rates, period_s=1.5)


    @dataclass(frozen=True)
    class Uniform:
        """A device on which every layer takes the same time."""

        layer_ms: PositiveFloat
        slowdown: PositiveFloat = 1.0

        def profile(self, site) -> coach.DeviceProfile:
            seconds = {layer.name: self.layer_ms / 1e3 for layer in site.graph.layers}
            return coach.DeviceProfile("uniform", seconds)


    def tiny(num_classes: int, width: int = 4):
        """A model."""
        from torch import nn

        return nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(width, num_classes),
        )


    @dataclass(frozen=True)
    class CutBehind:
        """A method: cuts behind the layer of this number."""

        layer: int = 1
        name: str = "cut_behind"

        def view(self, problem: coach.Problem) -> coach.Problem:
            return problem

        def plan(self, problem: coach.Problem) -> coach.PlanSet:
            names = [each.name for each in problem.graph.layers[: self.layer + 1]]
            return coach.PlanSet((coach.Planner().plan_for(problem, names),))

        def controller(self, plans: coach.PlanSet) -> coach.Controller:
            return coach.FixedPlans(plans)


    @dataclass(frozen=True)
    class Nothing:
        """A cache that decides nothing, and says so aloud."""

        decides: bool = False
        said: list = field(default_factory=list)

        def calibrated(self, problem, plans):
            return plans

        def controller(self, inner):
            return inner


    @dataclass(frozen=True)
    class SlowerByOne:
        """A transport: what the simulator says, every answer a second later."""

        kind: str = "slower"
        shaped: bool = True
        max_s: float | None = None

        def runner(self, sites):
            return _Later()


    class _Later:
        threads = None

        def reach(self) -> None: ...

        def handshake(self, problem, plans=None) -> None: ...

        def run(self, trial, plans, display):
            records = coach.simulate(trial.problem, plans, trace=trial.trace)
            columns = dict(records.columns)
            columns["finish_s"] = columns["finish_s"] + 1.0
            return coach.Records(columns, records.plans)
'''

CONFIGS = {
    "estimator": "_target_: mine.Median\nwindow: 3\n",
    "quantizer": "_target_: mine.Half\n",
    "planner": "_target_: mine.FirstHalf\nrelease: per_tensor\n",
    "bandwidth": "_target_: mine.Sawtooth\ntop_mbps: 10\n",
    "device": "_target_: mine.Uniform\nlayer_ms: 1.0\n",
    "model": "_target_: mine.tiny\ninput_size: 32\nwidth: 8\n",
    "method": "_target_: mine.CutBehind\nlayer: 1\n",
    "cache": "_target_: mine.Nothing\n",
    "transport": "_target_: mine.SlowerByOne\n",
}


def write_package(folder: Path) -> tuple[Path, Path]:
    """Writes the package and its config directory; returns where each lies."""
    code, configs = folder / "code", folder / "conf_of_mine"
    code.mkdir(parents=True)
    (code / "mine.py").write_text(dedent(CODE).lstrip())
    for group, text in CONFIGS.items():
        (configs / group).mkdir(parents=True)
        (configs / group / "mine.yaml").write_text(text)
    return code, configs
