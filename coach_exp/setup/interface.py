"""COACH from Python: a problem from a model, its simulation, and what to look at afterwards.

In: a torch model, devices, a link. Out: the values that the command line works with, without a
config. Whatever has a protocol's methods will do: own models, profiles, traces and methods need no
registration. `coach_exp` exports these functions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coach_exp.network.estimator import Estimator, Ewma
from coach_exp.network.trace import Trace, constant
from coach_exp.pipeline.simulator import simulate as simulated
from coach_exp.plots.gantt import gantt
from coach_exp.profiling.device import Passes, analytic, measure
from coach_exp.profiling.devices import Analytic, packaged_device
from coach_exp.quant.affine import UniformAffine
from coach_exp.quant.precision import FixedBits
from coach_exp.results.metrics import Summary, summarise
from coach_exp.types.errors import ConfigError
from coach_exp.types.graph import LayerGraph
from coach_exp.types.method import FixedPlans, Link, Method, Problem
from coach_exp.types.outcomes import BitTable
from coach_exp.types.plan import PlanSet
from coach_exp.types.profile import DeviceProfile
from coach_exp.types.task import Records
from coach_exp.types.workload import Workload

if TYPE_CHECKING:
    from torch import nn

Where = str | Analytic | DeviceProfile | Mapping[str, float]


@dataclass(frozen=True)
class Simulated(Records):
    """The records of a simulated run (columns of equal length, one row a task), with what a
    notebook asks of them."""

    def summary(self) -> Summary:
        """Every metric of the run with its 95 % interval where there is one; `print` shows them.
        Times are in ms, throughput is in answers per second."""
        return summarise(self)

    def gantt(self, path: str | Path, tasks: int = 20, title: str = "") -> Path:
        """Draw the first `tasks` tasks on end, link and cloud as a PNG file; returns its path."""
        gantt(self, tasks, title).savefig(path)
        return Path(path)


def problem(
    model: "nn.Module | LayerGraph",
    input_shape: Sequence[int] | None = None,
    *,
    end: Where = "nx",
    cloud: Where = "a6000",
    mbps: float = 20.0,
    bits: int | BitTable = 4,
) -> Problem:
    """Returns the offline problem of a model between two devices on a link of `mbps` (10⁶ bit/s).

    `model`: a torch module that takes one image of `input_shape` (3, height, width), without the
    batch axis, or a `LayerGraph`. `end`, `cloud`: the name of a packaged device (`conf/device`), a
    profile, or seconds by layer. `bits`: the width of every crossing tensor, 1 to 8, 16 or 32, or
    a table of widths; the raw input crosses as uint8. The workload is 2000 tasks of a saturated
    stream, 8 in flight: `dataclasses.replace` changes that, as all else of a problem.

    Raises CaptureError for a model that cannot be traced, ConfigError for a device that is not
    known or a link without a rate, ProfileError for a profile of other layers.
    """
    if not 0 < mbps < inf:
        raise ConfigError(
            f"mbps = {mbps}: a link's rate is finite and above 0, in 10⁶ bit/s; give 20, say"
        )
    graph = model if isinstance(model, LayerGraph) else _graph(model, input_shape)
    table = FixedBits(bits, graph.input.name) if isinstance(bits, int) else bits
    return Problem(
        graph=graph,
        end=_profile(end, graph, "end"),
        cloud=_profile(cloud, graph, "cloud"),
        link=Link(1e6 * mbps),
        codec=UniformAffine(),
        bits=table,
        workload=Workload("saturated", tasks=2000),
    )


def simulate(
    problem: Problem,
    plans: PlanSet,
    method: Method | None = None,
    *,
    trace: Trace | None = None,
    estimator: Estimator | None = None,
) -> Simulated:
    """Returns the records of the problem's workload through the three-stage pipeline.

    `method` decides online; without one, tasks are spread over the plans by their weights. `trace`
    is the link's true rate over time, constant at the problem's where it is not given. `estimator`
    is what the end believes of it, by default an EWMA of past transfers.
    """
    rate_bps = problem.link.bandwidth_bps
    controller = FixedPlans(plans) if method is None else method.controller(plans)
    records = simulated(
        problem, controller, trace or constant(rate_bps), estimator or Ewma(rate_bps)
    )
    return Simulated(records.columns, records.plans)


def profile(
    model: "nn.Module", input_shape: Sequence[int], *, repeats: int = 20, torch_device: str = "auto"
) -> DeviceProfile:
    """Returns the seconds that each layer takes on this machine: the median of `repeats` passes of
    one image of `input_shape`. Raises CaptureError for a model that cannot be traced."""
    from coach_exp.profiling.capture import capture

    return measure(capture(model, input_shape), Passes(torch_device, repeats))


def _graph(model: Any, input_shape: Sequence[int] | None) -> LayerGraph:
    from coach_exp.profiling.capture import capture

    if input_shape is None:
        raise ConfigError(
            "a model needs the shape of one input, as input_shape=(3, 224, 224); only a LayerGraph "
            "goes without"
        )
    return capture(model, input_shape).graph


def _profile(where: Where, graph: LayerGraph, side: str) -> DeviceProfile:
    """The profile of a side, checked to have every layer."""
    if isinstance(where, str):
        device = packaged_device(where)
        if not isinstance(device, Analytic):
            raise ConfigError(
                f"{side} = {where!r}: has no constants of its own; give a profile "
                "(coach.profile, coach.load_profile), or an analytic device such as 'nx'"
            )
        where = device
    if isinstance(where, Analytic):
        return analytic(graph, where.spec).slowed(where.slowdown)
    found = where if isinstance(where, DeviceProfile) else DeviceProfile(side, dict(where))
    found.seconds(graph)
    return found
