"""A device profile: the seconds each layer takes on one device. Three sources, one type."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from coach_exp.types.errors import ProfileError
from coach_exp.types.graph import LayerGraph


@dataclass(frozen=True)
class DeviceProfile:
    """Seconds per layer on the device called `device`; `provenance` says where they come from."""

    device: str
    layer_s: Mapping[str, float]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for layer, seconds in self.layer_s.items():
            if not (isfinite(seconds) and seconds >= 0):
                raise ProfileError(
                    f"profile {self.device!r} gives layer {layer!r} {seconds} s; times are finite "
                    "and ≥ 0"
                )

    def seconds(self, graph: LayerGraph) -> tuple[float, ...]:
        """Seconds per layer in the graph's order. Raises ProfileError when layers are missing."""
        missing = [layer.name for layer in graph.layers if layer.name not in self.layer_s]
        if missing:
            raise ProfileError(
                f"profile {self.device!r} has no time for {missing[:5]} ({len(missing)} of "
                f"{len(graph)} layers); "
                f"it was made for another model: profile this one with job=profile"
            )
        return tuple(self.layer_s[layer.name] for layer in graph.layers)

    def slowed(self, factor: float) -> "DeviceProfile":
        """The same device, `factor` times slower (emulates a weaker one)."""
        if factor == 1:
            return self
        scaled = {layer: seconds * factor for layer, seconds in self.layer_s.items()}
        return DeviceProfile(
            f"{self.device}×{factor:g}", scaled, {**self.provenance, "slowdown": factor}
        )
