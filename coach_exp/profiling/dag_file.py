"""Layer graphs with their times in a JSON file, for tests and for models that cannot be captured.

The file is `{"layers": [{"name": "in", "inputs": [], "end_s": 0, "cloud_s": 0, "elements": 1000},
...]}`; a layer may give further fields of `Layer`, such as `shape` and `kind`.
"""

import json
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from pydantic import NonNegativeInt

from coach_exp.profiling.checked_json import Checked, read_checked
from coach_exp.types.errors import GraphError
from coach_exp.types.graph import Layer, LayerGraph
from coach_exp.types.profile import DeviceProfile


class _Entry(Checked):
    name: str
    inputs: tuple[str, ...]
    end_s: float
    cloud_s: float
    elements: NonNegativeInt
    shape: tuple[NonNegativeInt, ...] = ()
    kind: str = "other"
    flops: NonNegativeInt = 0
    param_bytes: NonNegativeInt = 0
    input_bytes: NonNegativeInt = 0
    non_negative: bool = False
    channel_axis: NonNegativeInt = 0


class _DagFile(Checked):
    layers: tuple[_Entry, ...]


class GraphSource(Protocol):
    """A layer graph that comes with its times, in place of a model."""

    def read(self) -> tuple[LayerGraph, DeviceProfile, DeviceProfile]:
        """The graph and the profiles of end and cloud. Raises GraphError, ProfileError."""


@dataclass(frozen=True, slots=True)
class DagFile:
    """A layer graph from a JSON file."""

    path: Path

    def read(self) -> tuple[LayerGraph, DeviceProfile, DeviceProfile]:
        """What the file says; see `read_dag_file`."""
        return read_dag_file(self.path)


def read_dag_file(path: Path) -> tuple[LayerGraph, DeviceProfile, DeviceProfile]:
    """The graph and the profiles of end and cloud.

    Raises GraphError when the file cannot be read, is not as described above, or is no graph from
    one input to one sink; ProfileError when a time is negative.
    """
    entries = read_checked(path, _DagFile, GraphError).layers
    try:
        graph = LayerGraph.of(
            Layer(**entry.model_dump(exclude={"end_s", "cloud_s"})) for entry in entries
        )
    except GraphError as error:
        raise GraphError(f"{path}: {error}") from None
    source = {"source": "file", "path": str(path)}
    end = DeviceProfile("end", {entry.name: entry.end_s for entry in entries}, source)
    cloud = DeviceProfile("cloud", {entry.name: entry.cloud_s for entry in entries}, source)
    return graph, end, cloud


def write_dag_file(path: Path, graph: LayerGraph, end: DeviceProfile, cloud: DeviceProfile) -> None:
    """Write a graph with its profiles as a file that `read_dag_file` reads.

    Raises ProfileError when a profile lacks a layer.
    """
    times = zip(graph.layers, end.seconds(graph), cloud.seconds(graph), strict=True)
    entries = [
        {**_given_fields(layer), "end_s": end_s, "cloud_s": cloud_s}
        for layer, end_s, cloud_s in times
    ]
    path.write_text(json.dumps({"layers": entries}, indent=1) + "\n", encoding="utf-8")


def _given_fields(layer: Layer) -> dict[str, Any]:
    """The layer's fields, without those optional ones that are at their defaults."""
    needed = ("name", "inputs", "elements")
    return {
        f.name: getattr(layer, f.name)
        for f in fields(layer)
        if f.name in needed or f.default is MISSING or getattr(layer, f.name) != f.default
    }
