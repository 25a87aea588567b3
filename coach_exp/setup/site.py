"""What a device may ask of the run in which it is profiled; see `profiling.devices.Site`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coach_exp.online.decision_cost import host_decision_s
from coach_exp.types.graph import LayerGraph
from coach_exp.types.outcomes import Codec
from coach_exp.types.progress import Progress

if TYPE_CHECKING:
    from coach_exp.profiling.capture import CapturedModel


@dataclass(frozen=True)
class RunSite:
    """The model that is timed, the codec that packs, a folder for what is kept, and the screen."""

    captured: "CapturedModel"
    codec: Codec
    cache: Path
    progress: Progress

    @property
    def graph(self) -> LayerGraph:
        """The layer graph of the model."""
        return self.captured.graph

    def decisions(self, graph: LayerGraph) -> Mapping[str, float]:
        """Seconds that the online part takes on this machine behind each layer."""
        return host_decision_s(graph, self.codec)

    def exits(self, graph: LayerGraph, torch_device: str) -> Mapping[str, float]:
        """Seconds that an early-exit head takes on this machine behind each layer."""
        from coach_exp.live.exit_cost import host_exit_s  # needed once, and brings torch

        return host_exit_s(graph, torch_device)
