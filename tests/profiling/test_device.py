"""Profiles: the roofline by hand, timing, and files."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.paths import ROOT
from omegaconf import OmegaConf
from torch import nn

from coach_exp.profiling.capture import CapturedModel, capture
from coach_exp.profiling.device import (
    DeviceSpec,
    Passes,
    analytic,
    fingerprint,
    host_profile,
    load_profile,
    measure,
    save_profile,
)
from coach_exp.profiling.devices import Analytic
from coach_exp.types.component import built
from coach_exp.types.errors import ConfigError, ProfileError
from coach_exp.types.graph import Layer, LayerGraph
from coach_exp.types.profile import DeviceProfile

TOY = DeviceSpec(
    name="toy",
    peak_flops=1000,
    memory_bytes_per_s=100,
    launch_s=0.5,
    bytes_per_element=4,
    efficiency={"conv": 0.5, "linear": 0.25, "memory": 0.8, "other": 0.1},
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small(channels: int = 4) -> CapturedModel:
    model = nn.Sequential(
        nn.Conv2d(3, channels, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, 2),
    )
    return capture(model, (3, 8, 8))


# --- Analytic


@pytest.mark.parametrize(
    ("layer", "seconds"),
    [
        (Layer("arithmetic", elements=10, kind="conv", flops=1000), 2.0),  # 1000 / (1000 × 0.5)
        (Layer("memory", elements=10, kind="conv", flops=1, input_bytes=80, param_bytes=40), 2.0),
        (Layer("launch", elements=1, kind="conv", flops=1), 0.5),
        (Layer("linear", elements=1, kind="linear", flops=1000), 4.0),
        (Layer("unknown", elements=1, kind="novel", flops=1000), 10.0),  # as other
        (Layer("relu", elements=10, kind="activation", input_bytes=40), 1.0),  # 80 bytes at 80 B/s
        (Layer("view", elements=10, kind="view", input_bytes=40), 0.0),
        (Layer("input", elements=10, kind="input"), 0.0),
    ],
)
def test_a_layer_takes_the_longest_of_arithmetic_memory_and_launch(
    layer: Layer, seconds: float
) -> None:
    assert TOY.seconds(layer) == pytest.approx(seconds)


def test_half_precision_halves_the_bytes_and_fused_kinds_are_free() -> None:
    half = dataclasses.replace(TOY, bytes_per_element=2, fused=("norm",))
    relu = Layer("relu", elements=20, kind="activation", input_bytes=80)
    assert TOY.seconds(relu) == pytest.approx(2.0)
    assert half.seconds(relu) == pytest.approx(1.0)
    assert half.seconds(dataclasses.replace(relu, kind="norm")) == 0.0


def test_an_analytic_profile_covers_the_graph_and_says_where_it_comes_from() -> None:
    graph = LayerGraph.of(
        [Layer("input", elements=10, kind="input"), Layer("c", ("input",), 10, (), "conv", 1000)]
    )
    profile = analytic(graph, TOY)
    assert profile.device == "toy"
    assert profile.seconds(graph) == pytest.approx((0.0, 2.0))
    assert profile.provenance["source"] == "analytic"
    assert profile.provenance["spec"]["peak_flops"] == 1000


def test_an_exit_head_takes_as_long_as_its_layers() -> None:
    block = Layer("block", shape=(1, 1, 1), elements=1, kind="conv")
    spec = dataclasses.replace(TOY, peak_flops=1e12, memory_bytes_per_s=1e12)
    # conv, norm, ReLU, mean, scores, confidence are launched; nothing is left to average
    assert spec.exit_seconds(block, 2) == pytest.approx(6 * 0.5)
    large = dataclasses.replace(block, shape=(1, 9, 9), elements=81)
    assert spec.exit_seconds(large, 2) == pytest.approx(7 * 0.5)
    slow = dataclasses.replace(spec, peak_flops=1000)  # 2 · 128 · 9 FLOPs at 500 a second, and
    assert spec.launch_s * 4 + 2 * 128 * 9 / 500 + 2 * 128 * 2 / 250 == pytest.approx(
        slow.exit_seconds(block, 2)
    )


def test_exit_times_are_in_a_profile_slowed_with_it_and_kept(tmp_path: Path) -> None:
    graph = small().graph
    profile = analytic(graph, TOY)
    expected = [TOY.exit_seconds(layer, 2) for layer in graph.layers]
    assert profile.exit_seconds(graph) == pytest.approx(expected)
    assert profile.slowed(3).exit_seconds(graph) == pytest.approx([3 * s for s in expected])
    save_profile(profile, tmp_path / "p.json")
    assert load_profile(tmp_path / "p.json").exit_seconds(graph) == pytest.approx(expected)
    unknown = dataclasses.replace(profile, exit_s={})
    assert set(unknown.exit_seconds(graph)) == {0.0}
    with pytest.raises(ProfileError, match=r"gives layer '0' -1 s"):
        dataclasses.replace(profile, exit_s={"0": -1})


def nx(**changes: Any) -> dict[str, Any]:
    config: Any = OmegaConf.to_container(OmegaConf.load(ROOT / "conf/device/nx.yaml"))
    return {key: value for key, value in (config | changes).items() if value is not None}


def test_config_is_in_human_units() -> None:
    spec = built(nx(peak_tflops=2, memory_gbps=50, launch_us=10), "device", Analytic).spec
    assert (spec.peak_flops, spec.memory_bytes_per_s) == (2e12, 50e9)
    assert spec.launch_s == pytest.approx(1e-5)
    assert spec.name == "nx"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"peak_tflops": None}, r"device\.peak_tflops: is not set; .*Analytic needs it"),
        ({"peek_tflops": 1}, r"device\.peek_tflops = 1: .* did you mean 'peak_tflops'\?"),
        ({"memory_gbps": -1}, r"memory_gbps = .+: should be greater than 0"),
        ({"bytes_per_element": 3}, r"bytes_per_element = .+: should be 1, 2 or 4"),
        ({"launch_us": "fast"}, r"launch_us = .+: should be a valid number"),
        ({"efficiency": {"conv": 0.5}}, r"device\.efficiency\.depthwise: is not set"),
        ({"efficiency": {"conv": 1.5}}, r"efficiency\.conv = .+: should be less than or equal"),
    ],
)
def test_a_wrong_constant_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        built(nx(**changes), "device", Analytic)


# --- Measured


def test_a_measured_profile_times_every_layer() -> None:
    captured = small()
    seen: list[tuple[int, int]] = []
    profile = measure(
        captured,
        Passes("cpu", repeats=5, warmup=2),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(done, 7) for done in range(1, 8)]
    times = profile.layer_s
    assert list(times) == [layer.name for layer in captured.graph.layers]
    assert times["0"] > times["input"]
    record = profile.provenance
    assert record["whole_s"] > 0
    assert record["sum_s"] == pytest.approx(sum(times.values()))
    assert record["sum_over_whole"] == pytest.approx(record["sum_s"] / record["whole_s"])
    assert record["torch"] == torch.__version__
    assert record["threads"] == torch.get_num_threads()
    assert record["model"] == fingerprint(captured.graph)
    assert record["hardware"]


def test_a_slow_layer_is_seen_to_be_slow() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 256, 7), nn.Flatten())
    profile = measure(capture(model, (3, 64, 64)), Passes("cpu", repeats=9, warmup=1))
    assert profile.layer_s["1"] > 2 * profile.layer_s["0"]  # it has over 3,000 times the FLOPs


@pytest.mark.parametrize(("kind", "times"), [("decisions", "decision_s"), ("exits", "exit_s")])
def test_a_saved_host_profile_without_decisions_or_exits_is_completed(
    tmp_path: Path, kind: str, times: str
) -> None:
    captured = capture(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), (3, 2, 2))
    asked = list[int]()

    def measured(graph: LayerGraph) -> dict[str, float]:
        asked.append(len(graph))
        return dict.fromkeys((layer.name for layer in graph.layers), 0.5)

    quick = Passes("cpu", repeats=2, warmup=0)
    plain = host_profile(captured, tmp_path, quick)
    first, again = (host_profile(captured, tmp_path, quick, **{kind: measured}) for _ in "ab")
    assert not getattr(plain, times)
    assert first == dataclasses.replace(plain, **{times: getattr(first, times)})
    assert set(getattr(first, times).values()) == {0.5}
    assert again == first
    assert len(asked) == 1


def test_a_host_profile_is_reused_until_its_conditions_change(tmp_path: Path) -> None:
    def profiled(captured: CapturedModel) -> tuple[DeviceProfile, bool]:
        passes = list[int]()
        profile = host_profile(
            captured,
            tmp_path,
            Passes("cpu", repeats=2, warmup=0),
            progress=lambda done, total: passes.append(done),
        )
        return profile, bool(passes)

    first, measured = profiled(small())
    assert measured
    assert profiled(small()) == (first, False)
    assert profiled(small(channels=5))[1]
    torch.set_num_threads(2)
    assert profiled(small())[1]


def test_the_fingerprint_is_of_the_structure_alone() -> None:
    assert fingerprint(small().graph) == fingerprint(small().graph)
    assert fingerprint(small().graph) != fingerprint(small(channels=5).graph)
    layers = small().graph.layers
    moved = [dataclasses.replace(layer, channel_axis=len(layer.shape) - 1) for layer in layers]
    assert fingerprint(LayerGraph.of(moved)) == fingerprint(LayerGraph.of(layers))


@pytest.mark.parametrize("device", ["mps", "toaster"])
def test_a_device_that_cannot_be_timed_is_refused(device: str) -> None:
    with pytest.raises(ConfigError, match=rf"torch_device = '{device}'"):
        measure(small(), Passes(device))


def test_a_model_without_values_cannot_be_timed() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())
    with pytest.raises(ProfileError, match=r"meta device has no values"):
        measure(capture(model, (3, 8, 8)), Passes("cpu"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")
def test_a_gpu_is_timed_by_its_own_clock() -> None:
    captured = small()
    profile = measure(captured, Passes("cuda", repeats=5, warmup=2))
    assert profile.layer_s["0"] > 0
    assert profile.provenance["hardware"] == torch.cuda.get_device_name()


# --- Files


def test_a_saved_profile_is_loaded_unchanged(tmp_path: Path) -> None:
    profile = DeviceProfile("host", {"input": 0.0, "conv": 0.25}, {"source": "measured", "n": [1]})
    save_profile(profile, tmp_path / "deep" / "p.json")
    assert load_profile(tmp_path / "deep" / "p.json") == profile
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["p.json"]


def test_a_csv_profile(tmp_path: Path) -> None:
    path = tmp_path / "jetson.csv"
    path.write_text('layer,seconds\ninput,0\n"odd, name",1e-3\n')
    profile = load_profile(path)
    assert profile.layer_s == {"input": 0.0, "odd, name": 0.001}
    assert profile.device == "jetson"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("p.json", "{", r"p\.json is not as it must be: the file: Invalid JSON"),
        ("p.json", json.dumps({"device": "x"}), r"layer_s: Field required"),
        (
            "p.json",
            json.dumps({"device": "x", "layer_s": {"a": "1"}}),
            r"layer_s\.a = .+: .*valid number",
        ),
        ("p.json", json.dumps({"device": "x", "layer_s": {"a": -1}}), r"layer 'a' -1.0 s"),
        ("p.json", json.dumps({"device": "x", "layer_s": {}, "y": 1}), r"y = .+: Extra inputs"),
        ("p.csv", "", r"must begin with the line 'layer,seconds'"),
        ("p.csv", "name,ms\na,1\n", r"must begin with the line 'layer,seconds'"),
        ("p.csv", "layer,seconds\na,1,2\n", r"p\.csv:2 is \['a', '1', '2'\]"),
        ("p.csv", "layer,seconds\na,fast\n", r"p\.csv:2 is \['a', 'fast'\]"),
        ("p.csv", "layer,seconds\na,1\na,2\n", r"p\.csv:3 gives layer 'a' a second time"),
        ("p.csv", "layer,seconds\na,nan\n", r"layer 'a' nan s"),
    ],
)
def test_a_broken_profile_is_named(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ProfileError, match=words):
        load_profile(tmp_path / name)


def test_a_missing_profile_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"absent\.json cannot be read"):
        load_profile(tmp_path / "absent.json")


def test_a_profile_of_another_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("layer,seconds\nother,1\n")
    with pytest.raises(ProfileError, match=r"no time for \['input'.*made for another model"):
        load_profile(tmp_path / "p.csv").seconds(small().graph)
