"""Device profiles: the seconds each layer takes. Three sources, one type.

In: a layer graph. Out: a `DeviceProfile` from a roofline (`analytic`), from timing this machine
(`measure`), or from a file (`load_profile`).
"""

import csv
import hashlib
import io
import json
import os
import platform
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from pydantic import Field

from coach_exp.profiling.checked_json import Checked, read_checked, read_text
from coach_exp.types.errors import ConfigError, ProfileError
from coach_exp.types.exits import head_layers
from coach_exp.types.graph import Layer, LayerGraph
from coach_exp.types.profile import DeviceProfile

if TYPE_CHECKING:
    import torch

    from coach_exp.profiling.capture import CapturedModel

FREE_KINDS = ("input", "view")
GRAPH_BYTES_PER_ELEMENT = 4  # layer graphs count bytes in float32

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class DeviceSpec:
    """A device and its software as a roofline.

    `efficiency` is the share of the peak that each kind of layer reaches, and under `memory` the
    share of the memory bandwidth. `launch_s` is the least time of a layer: its launch and the
    shortest useful kernel. `fused` are the kinds that the software runs inside the layer before
    them, at no cost.
    """

    name: str
    peak_flops: float
    memory_bytes_per_s: float
    launch_s: float
    bytes_per_element: int
    efficiency: Mapping[str, float]
    fused: tuple[str, ...] = ()

    def seconds(self, layer: Layer) -> float:
        """Roofline time of one layer: the slowest of arithmetic, memory and launch.

        >>> spec = DeviceSpec("toy", 1e9, 1e9, 1e-6, 4, {"conv": 0.5, "memory": 1.0})
        >>> spec.seconds(Layer("c", elements=250, kind="conv", flops=1000, input_bytes=3000))
        4e-06
        """
        if layer.kind in FREE_KINDS or layer.kind in self.fused:
            return 0.0
        read = (layer.input_bytes + layer.param_bytes) / GRAPH_BYTES_PER_ELEMENT
        moved_bytes = (read + layer.elements) * self.bytes_per_element
        memory_s = moved_bytes / (self.memory_bytes_per_s * self.efficiency["memory"])
        if not layer.flops:
            return max(memory_s, self.launch_s)
        share = self.efficiency[layer.kind if layer.kind in self.efficiency else "other"]
        return max(layer.flops / (self.peak_flops * share), memory_s, self.launch_s)

    def decision_seconds(self, layer: Layer, labels: int) -> float:
        """Seconds to decide about a layer's output and pack it: five kernels, each the slower of
        memory and launch. The mean over each channel, the similarities to `labels` centres, the
        separability, the tensor's range, and its codes (counted as 8 bits wide).

        >>> spec = DeviceSpec("toy", 1e9, 1e9, 1e-6, 4, {"memory": 1.0})
        >>> round(spec.decision_seconds(Layer("c", elements=1000, shape=(10, 100)), 50), 9)  # µs:
        1.6e-05
        """  # 4 + 2 + 1 + 4 + 5
        tensor, centres = (n * self.bytes_per_element for n in (layer.elements, labels))
        moved = (tensor, centres * layer.channels, 0, tensor, tensor + layer.elements)
        rate = self.memory_bytes_per_s * self.efficiency["memory"]
        return sum(max(count / rate, self.launch_s) for count in moved)

    def exit_seconds(self, layer: Layer, labels: int) -> float:
        """Roofline time of an early-exit head behind `layer`: the sum of its layers.

        >>> shares = {"conv": 1.0, "linear": 1.0, "memory": 1.0}
        >>> spec = DeviceSpec("toy", 1e9, 1e9, 1.0, 4, shares, fused=("norm", "activation"))
        >>> vector = Layer("vector", shape=(3,), elements=3)
        >>> spec.exit_seconds(vector, labels=2)  # launched: conv, mean, scores, confidence
        4.0
        """
        return sum(self.seconds(part) for part in head_layers(layer, labels))


def analytic(graph: LayerGraph, spec: DeviceSpec) -> DeviceProfile:
    """The roofline profile of a captured graph on the device that `spec` describes."""
    labels = graph.sink.elements
    return DeviceProfile(
        spec.name,
        {layer.name: spec.seconds(layer) for layer in graph.layers},
        {"source": "analytic", "spec": asdict(spec)},
        {layer.name: spec.decision_seconds(layer, labels) for layer in graph.layers},
        {layer.name: spec.exit_seconds(layer, labels) for layer in graph.layers},
    )


def fingerprint(graph: LayerGraph) -> str:
    """A hash of the graph's structure: layers, inputs, sizes and costs, but no weights, and not the
    channel axes, on which no time depends.
    """
    layers = [{**asdict(layer), "channel_axis": None} for layer in graph.layers]
    text = json.dumps(layers, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Passes:
    """How this machine is timed: the median of `repeats` passes after `warmup`, on a torch device:
    cpu, cuda, cuda:N, or auto (a GPU if there is one)."""

    torch_device: str = "auto"
    repeats: int = 20
    warmup: int = 5


USUAL = Passes()


def host_profile(
    captured: "CapturedModel",
    cache_dir: Path,
    passes: Passes = USUAL,
    *,
    progress: Progress | None = None,
    decisions: Callable[[LayerGraph], Mapping[str, float]] | None = None,
    exits: Callable[[LayerGraph], Mapping[str, float]] | None = None,
) -> DeviceProfile:
    """This machine's profile: the one saved in `cache_dir` for the same model, input shape, torch,
    hardware and number of threads, or a new one, which is saved there. `decisions` times what the
    online part does with each layer's output, `exits` an early-exit head behind each layer.
    """
    conditions = _conditions(captured, resolved_device(passes.torch_device))
    key = hashlib.sha256(json.dumps(conditions, sort_keys=True).encode()).hexdigest()[:16]
    path = cache_dir / f"host-{key}.json"
    if path.exists():
        profile = load_profile(path)
    else:
        profile = measure(captured, passes, progress)
        save_profile(profile, path)
    if decisions is not None and not profile.decision_s:  # or they would count as nothing
        profile = replace(profile, decision_s=decisions(captured.graph))
        save_profile(profile, path)
    if exits is not None and not profile.exit_s:
        profile = replace(profile, exit_s=exits(captured.graph))
        save_profile(profile, path)
    return profile


def measure(
    captured: "CapturedModel", passes: Passes = USUAL, progress: Progress | None = None
) -> DeviceProfile:
    """Time each layer of one task on this machine: the median of its passes.

    Layers are timed in the order of the whole model, with the caches that it leaves them; on a GPU
    between CUDA events. The provenance also holds the whole model's time, untouched by timers, and
    what the layers' sum is of it.
    """
    import torch

    device, repeats, warmup = resolved_device(passes.torch_device), passes.repeats, passes.warmup
    conditions = _conditions(captured, device)
    captured = _on(captured, device)
    x = torch.randn(1, *captured.input_shape).to(device)
    names = [layer.name for layer in captured.graph.layers]
    times: list[list[float]] = []
    whole: list[float] = []
    for done in range(warmup + repeats):
        times.append(intervals(device, captured.stream(x, names)))
        whole += intervals(device, map(captured.run, [x]))
        if progress:
            progress(done + 1, warmup + repeats)
    layer_s = [statistics.median(each) for each in zip(*times[warmup:], strict=True)]
    whole_s = statistics.median(whole[warmup:])
    provenance = {
        "source": "measured",
        **conditions,
        "repeats": repeats,
        "warmup": warmup,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "whole_s": whole_s,
        "sum_s": sum(layer_s),
        "sum_over_whole": sum(layer_s) / whole_s,
    }
    return DeviceProfile("host", dict(zip(names, layer_s, strict=True)), provenance)


class _ProfileFile(Checked):
    device: str
    layer_s: dict[str, float]
    provenance: dict[str, Any] = Field(default_factory=dict)
    decision_s: dict[str, float] = Field(default_factory=dict)
    exit_s: dict[str, float] = Field(default_factory=dict)


def save_profile(profile: DeviceProfile, path: Path) -> None:
    """Write a profile with its provenance as JSON; the file is whole or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.write_text(json.dumps(asdict(profile), indent=1) + "\n", encoding="utf-8")
    unfinished.replace(path)


def load_profile(path: Path) -> DeviceProfile:
    """A profile as `save_profile` wrote it, or a CSV file with the header `layer,seconds`.

    Raises ProfileError naming the file and what is wrong with it.
    """
    if path.suffix.lower() == ".csv":
        return _load_csv(path)
    given = read_checked(path, _ProfileFile, ProfileError)
    return DeviceProfile(
        given.device, given.layer_s, given.provenance, given.decision_s, given.exit_s
    )


def _load_csv(path: Path) -> DeviceProfile:
    rows = list(csv.reader(io.StringIO(read_text(path, ProfileError))))
    if not rows or [cell.strip() for cell in rows[0]] != ["layer", "seconds"]:
        raise ProfileError(f"{path} must begin with the line 'layer,seconds'")
    times: dict[str, float] = {}
    for number, row in enumerate(rows[1:], start=2):
        try:
            layer, seconds = row
            time_s = float(seconds)
        except ValueError:
            raise ProfileError(f"{path}:{number} is {row}, not a layer and its seconds") from None
        if layer in times:
            raise ProfileError(f"{path}:{number} gives layer {layer!r} a second time")
        times[layer] = time_s
    return DeviceProfile(path.stem, times, {"source": "file", "path": str(path)})


def resolved_device(torch_device: str) -> "torch.device":
    """The device that a config names. Raises ConfigError for one that is not here."""
    import torch

    if torch_device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(torch_device)
    except RuntimeError as error:
        raise ConfigError(f"torch_device = {torch_device!r}: {error}") from None
    if device.type not in ("cpu", "cuda") or (
        device.type == "cuda" and not torch.cuda.is_available()
    ):
        raise ConfigError(
            f"torch_device = {torch_device!r} cannot be profiled here; take cpu, auto"
            + (", cuda" if torch.cuda.is_available() else " (there is no CUDA GPU)")
        )
    return device


def _on(captured: "CapturedModel", device: "torch.device") -> "CapturedModel":
    homes = {p.device.type for p in captured.module.parameters()} or {"cpu"}
    if "meta" in homes:
        raise ProfileError(
            "a model on torch's meta device has no values to compute with; build it on the CPU"
        )
    return captured if homes == {device.type} else captured.to(device)


def _conditions(captured: "CapturedModel", device: "torch.device") -> dict[str, Any]:
    """All that the times depend on."""
    import torch

    return {
        "model": fingerprint(captured.graph),
        "input_shape": list(captured.input_shape),
        "torch": torch.__version__,
        "torch_device": device.type,
        "hardware": _processor()
        if device.type == "cpu"
        else str(torch.cuda.get_device_name(device)),
        "threads": torch.get_num_threads(),
    }


def _processor() -> str:
    """The name of the CPU as Linux tells it, or as Python does elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def intervals(device: "torch.device", steps: Iterable[Any]) -> list[float]:
    """Seconds that each step of an iterator takes on `device`."""
    import torch

    if device.type == "cpu":
        marks = [perf_counter()]
        marks += [perf_counter() for _ in steps]
        return [after - before for before, after in pairwise(marks)]

    def event() -> Any:
        mark = torch.cuda.Event(enable_timing=True)
        mark.record()
        return mark

    with torch.cuda.device(device):
        torch.cuda.synchronize()
        events = [event()]
        events += [event() for _ in steps]
        torch.cuda.synchronize()
    return [before.elapsed_time(after) / 1e3 for before, after in pairwise(events)]
