"""Devices as `conf/device` describes them: analytic, measured here, or from a file.

In: the settings of a device. Out: the seconds each layer of a model takes on it. Any class with
`slowdown` and a method `profile` is a device.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol

from omegaconf import OmegaConf
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from coach_exp.profiling.device import DeviceSpec, Passes, analytic, host_profile, load_profile
from coach_exp.types.component import built, nearest
from coach_exp.types.errors import ConfigError
from coach_exp.types.graph import LayerGraph
from coach_exp.types.packaged import CONF
from coach_exp.types.profile import DeviceProfile

if TYPE_CHECKING:
    from coach_exp.profiling.capture import CapturedModel

Share = Annotated[float, Field(gt=0, le=1)]
Timing = Callable[[LayerGraph], Mapping[str, float]]


class Site(Protocol):
    """What a device may ask of the run in which it is profiled."""

    @property
    def graph(self) -> LayerGraph:
        """The layer graph at the resolution that is timed."""

    @property
    def captured(self) -> "CapturedModel":
        """The model itself; its weights are random."""

    @property
    def cache(self) -> Path:
        """A folder for what is to be kept between runs."""

    @property
    def decisions(self) -> Timing:
        """Times what the online part does with each layer's output, in seconds by layer."""

    @property
    def exits(self) -> Callable[[LayerGraph, str], Mapping[str, float]]:
        """Times an early-exit head behind each layer on a torch device, in seconds by layer."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` steps of `what` are made."""


class Device(Protocol):
    """An end device or a cloud."""

    @property
    def slowdown(self) -> float:
        """How many times as long everything takes; above 1 emulates a weaker device."""

    def profile(self, site: Site) -> DeviceProfile:
        """Seconds by layer, before any slowdown. Raises ProfileError where they cannot be had."""


@dataclass(frozen=True, slots=True)
class Efficiency:
    """The share of a device's peak that each kind of layer reaches; `memory`: the share of the
    memory bandwidth."""

    conv: Share
    depthwise: Share
    linear: Share
    attention: Share
    other: Share
    memory: Share


@dataclass(frozen=True, slots=True)
class Analytic:
    """A device and its software as a roofline, in the units of data sheets; see
    `profiling.device.DeviceSpec`, which has the meaning of each constant."""

    computes: ClassVar[bool] = False  # whether a profile needs a model with weights

    name: str
    peak_tflops: PositiveFloat
    memory_gbps: PositiveFloat
    launch_us: PositiveFloat
    bytes_per_element: Literal[1, 2, 4]
    efficiency: Efficiency
    fused: tuple[str, ...] = ()
    slowdown: PositiveFloat = 1.0

    @property
    def spec(self) -> DeviceSpec:
        """The same in SI units."""
        return DeviceSpec(
            name=self.name,
            peak_flops=self.peak_tflops * 1e12,
            memory_bytes_per_s=self.memory_gbps * 1e9,
            launch_s=self.launch_us * 1e-6,
            bytes_per_element=self.bytes_per_element,
            efficiency=asdict(self.efficiency),
            fused=self.fused,
        )

    def profile(self, site: Site) -> DeviceProfile:
        """Roofline times."""
        return analytic(site.graph, self.spec)


@dataclass(frozen=True, slots=True)
class Measured:
    """This machine, timed layer by layer: the median of `repeats` passes after `warmup`."""

    computes: ClassVar[bool] = True

    name: str = "host"
    slowdown: PositiveFloat = 1.0
    repeats: PositiveInt = 20
    warmup: NonNegativeInt = 5
    torch_device: str = "auto"

    def profile(self, site: Site) -> DeviceProfile:
        """Times kept from before, for the same model, input, torch, hardware and threads, or
        measured now."""
        return host_profile(
            site.captured,
            cache_dir=site.cache / "profiles",
            passes=Passes(self.torch_device, self.repeats, self.warmup),
            decisions=site.decisions,
            exits=lambda graph: site.exits(graph, self.torch_device),
            progress=lambda done, total: site.progress("profiling layers", done, total),
        )


@dataclass(frozen=True, slots=True)
class ProfileFile:
    """A saved profile, JSON or CSV (layer,seconds)."""

    computes: ClassVar[bool] = False

    path: Path
    name: str = "file"
    slowdown: PositiveFloat = 1.0

    def profile(self, site: Site) -> DeviceProfile:
        """What the file says. Raises ProfileError naming the file and what is wrong with it."""
        return load_profile(self.path)


def packaged_device(name: str) -> Device:
    """A device that `conf/device` describes, by the name of its file. Raises ConfigError for a name
    without one.

    >>> packaged_device("nx").slowdown
    1.0
    """
    path = CONF / "device" / f"{name}.yaml"
    if not path.is_file():
        known = (each.stem for each in path.parent.glob("*.yaml"))
        raise ConfigError(f"device = {name}: is not described; {nearest(name, known)}")
    device: Device = built(OmegaConf.to_container(OmegaConf.load(path)), "device", Device)
    return device


def analytic_spec(name: str) -> DeviceSpec:
    """Returns the constants of a packaged device. Raises ConfigError where it has none."""
    device = packaged_device(name)
    if not isinstance(device, Analytic):
        raise ConfigError(f"device = {name}: has no constants; choose an analytic one, such as nx")
    return device.spec
