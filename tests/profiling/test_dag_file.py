"""Layer graphs from files: what is read is what was written, and each mistake is named."""

import json
from pathlib import Path
from typing import Any

import pytest

from coach_exp.profiling.dag_file import read_dag_file, write_dag_file
from coach_exp.types.errors import CoachError, GraphError, ProfileError
from coach_exp.types.graph import Layer, LayerGraph
from coach_exp.types.profile import DeviceProfile


def diamond() -> list[dict[str, Any]]:
    """in -> left, right -> add"""
    return [
        {"name": "in", "inputs": [], "end_s": 0, "cloud_s": 0, "elements": 12},
        {"name": "left", "inputs": ["in"], "end_s": 1, "cloud_s": 0.1, "elements": 6},
        {"name": "right", "inputs": ["in"], "end_s": 2, "cloud_s": 0.2, "elements": 6},
        {"name": "add", "inputs": ["left", "right"], "end_s": 3, "cloud_s": 0.3, "elements": 6},
    ]


def test_a_file_gives_the_graph_and_both_profiles(tmp_path: Path) -> None:
    path = tmp_path / "g.json"
    path.write_text(json.dumps({"layers": diamond()}))
    graph, end, cloud = read_dag_file(path)
    assert [layer.name for layer in graph.layers] == ["in", "left", "right", "add"]
    assert graph.predecessors == ((), (0,), (0,), (1, 2))
    assert graph["left"] == Layer("left", ("in",), elements=6)
    assert end.seconds(graph) == (0, 1, 2, 3)
    assert cloud.seconds(graph) == (0, 0.1, 0.2, 0.3)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    graph = LayerGraph.of(
        [
            Layer("in", elements=12, shape=(3, 2, 2), kind="input"),
            Layer("c", ("in",), 8, (2, 2, 2), "conv", 432, 80, 48),
            Layer("r", ("c",), 8, (2, 2, 2), "activation", input_bytes=32, non_negative=True),
            Layer("p", ("r",), 8, (2, 2, 2), "view", input_bytes=32, channel_axis=2),
        ]
    )
    end = DeviceProfile("nx", {"in": 0.0, "c": 0.25, "r": 0.125, "p": 0.0})
    cloud = DeviceProfile("a6000", {"in": 0.0, "c": 0.5, "r": 0.0, "p": 0.0})
    write_dag_file(tmp_path / "g.json", graph, end, cloud)
    again, end_again, cloud_again = read_dag_file(tmp_path / "g.json")
    assert again == graph
    assert (tmp_path / "g.json").read_text().count("channel_axis") == 1  # where it is not 0
    assert end_again.layer_s == end.layer_s
    assert cloud_again.layer_s == cloud.layer_s


def test_a_profile_of_another_model_is_not_written(tmp_path: Path) -> None:
    graph = LayerGraph.of([Layer("in"), Layer("c", ("in",))])
    end, cloud = DeviceProfile("nx", {"in": 0.0, "c": 1.0}), DeviceProfile("a6000", {"in": 0.0})
    with pytest.raises(ProfileError, match=r"'a6000' has no time for \['c'\]"):
        write_dag_file(tmp_path / "g.json", graph, end, cloud)


def changed(layer: int, **fields: Any) -> str:
    layers = diamond()
    layers[layer] = {k: v for k, v in (layers[layer] | fields).items() if v is not None}
    return json.dumps({"layers": layers})


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("{", GraphError, r"the file: Invalid JSON"),
        ("[]", GraphError, r"the file: should be an object"),
        ("{}", GraphError, r"layers: Field required"),
        (
            '{"layers": [], "author": "me"}',
            GraphError,
            r"author = .+: Extra inputs are not permitted",
        ),
        ('{"layers": []}', GraphError, r"the graph has no layers"),
        (changed(1, end_s=None), GraphError, r"layers\.1\.end_s: Field required"),
        (changed(1, cloud_s=None), GraphError, r"layers\.1\.cloud_s: Field required"),
        (changed(1, elements=None), GraphError, r"layers\.1\.elements: Field required"),
        (changed(1, name=None), GraphError, r"layers\.1\.name: Field required"),
        (changed(1, flop=7), GraphError, r"layers\.1\.flop = .+: Extra inputs are not permitted"),
        (changed(1, end_s="1 ms"), GraphError, r"layers\.1\.end_s = .+: should be a valid number"),
        (changed(1, end_s=float("nan")), GraphError, r"layers\.1\.end_s = .+: .*finite number"),
        (
            changed(1, elements=-1),
            GraphError,
            r"layers\.1\.elements = .+: .*greater than or equal to 0",
        ),
        (changed(1, elements=1.5), GraphError, r"layers\.1\.elements = .+: .*valid integer"),
        (
            changed(1, shape=[2, 2]),
            GraphError,
            r"'left' has shape \(2, 2\) = 4 elements but says 6",
        ),
        (
            changed(1, shape=[2, 3], channel_axis=2),
            GraphError,
            r"'left' has channel_axis 2 but shape \(2, 3\)",
        ),
        (changed(1, channel_axis=1), GraphError, r"'left' has channel_axis 1 but shape \(\)"),
        (changed(1, end_s=-1), ProfileError, r"'end' gives layer 'left' -1.0 s"),
        (changed(2, cloud_s=-2), ProfileError, r"'cloud' gives layer 'right' -2.0 s"),
        (changed(1, inputs=["out"]), GraphError, r"'left' takes its input from out"),
        (changed(1, inputs=["add"]), GraphError, r"cycle through some of left, add"),
        (changed(0, inputs=["add"]), GraphError, r"cycle"),
        (changed(3, inputs=["left"]), GraphError, r"has 2 sinks \(right, add\)"),
        (changed(1, inputs=[]), GraphError, r"has 2 inputs \(in, left\)"),
        (changed(1, name="right"), GraphError, r"stand twice: right"),
    ],
)
def test_each_mistake_is_named(
    tmp_path: Path, text: str, error: type[CoachError], words: str
) -> None:
    path = tmp_path / "g.json"
    path.write_text(text)
    with pytest.raises(error, match=words):
        read_dag_file(path)


def test_the_file_itself_is_named(tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"missing\.json cannot be read: .*No such file"):
        read_dag_file(tmp_path / "missing.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    with pytest.raises(GraphError, match=r"bytes\.json cannot be read"):
        read_dag_file(tmp_path / "bytes.json")
    (tmp_path / "empty.json").write_text('{"layers": []}')
    with pytest.raises(GraphError, match=r"empty\.json: the graph has no layers"):
        read_dag_file(tmp_path / "empty.json")
