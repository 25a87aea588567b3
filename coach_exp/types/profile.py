"""A device profile: the seconds each layer takes on one device. Three sources, one type."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from math import isfinite
from typing import Any

from coach_exp.types.errors import ProfileError
from coach_exp.types.graph import LayerGraph


@dataclass(frozen=True)
class DeviceProfile:
    """Seconds per layer on the device called `device`; `provenance` says where they come from.

    `decision_s` are the seconds an end device takes to decide about a layer's output, should it
    cross, and to pack it (feature, similarities, separability, range, codes);
    empty where that is not known, and then it counts as nothing. `exit_s` are the seconds of an
    early-exit head behind a layer, likewise.
    """

    device: str
    layer_s: Mapping[str, float]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    decision_s: Mapping[str, float] = field(default_factory=dict)
    exit_s: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        times = (self.layer_s, self.decision_s, self.exit_s)
        for layer, seconds in chain.from_iterable(each.items() for each in times):
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

    def decision_seconds(self, graph: LayerGraph) -> tuple[float, ...]:
        """Seconds to decide about and pack each layer's output, in the graph's order."""
        return tuple(self.decision_s.get(layer.name, 0.0) for layer in graph.layers)

    def exit_seconds(self, graph: LayerGraph) -> tuple[float, ...]:
        """Seconds of an early-exit head behind each layer, in the graph's order."""
        return tuple(self.exit_s.get(layer.name, 0.0) for layer in graph.layers)

    def slowed(self, factor: float) -> "DeviceProfile":
        """The same device, `factor` times slower (emulates a weaker one)."""
        if factor == 1:
            return self
        return replace(
            self,
            device=f"{self.device}×{factor:g}",
            layer_s={layer: seconds * factor for layer, seconds in self.layer_s.items()},
            decision_s={layer: seconds * factor for layer, seconds in self.decision_s.items()},
            exit_s={layer: seconds * factor for layer, seconds in self.exit_s.items()},
            provenance={**self.provenance, "slowdown": factor},
        )
