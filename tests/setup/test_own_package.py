"""A package that is not ours works like ours: each of its components by one command."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.own_package import CONFIGS, write_package
from helpers.paths import CONF
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from coach_exp.jobs.start import run_job
from coach_exp.setup.invocation import Invocation, in_hydras_words
from coach_exp.types.errors import ConfigError

QUICK = ("weights=none", "tracking=none", "workload.tasks=20", "references=[]")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the package's configs; its code can be imported."""
    code, configs = write_package(tmp_path)
    monkeypatch.syspath_prepend(str(code))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield configs
    GlobalHydra.instance().clear()
    sys.modules.pop("mine", None)


def run(configs: Path, *overrides: str) -> Path:
    """Runs a job as the command line does; returns the folder of its files."""
    given = (f"hydra.searchpath=[file://{configs}]", *QUICK, *in_hydras_words(overrides))
    folder = configs.parent / "run"
    folder.mkdir()
    raw = compose("config", overrides=[*given, f"output.root={folder}"])
    run_job(raw, Invocation(folder, "mine", given))
    return folder


def summary(folder: Path) -> dict[str, float]:
    metrics: dict[str, float] = json.loads((folder / "summary.json").read_text())
    return metrics


@pytest.mark.parametrize("group", sorted(CONFIGS))
def test_a_component_of_every_kind_runs(package: Path, group: str):
    overrides = [f"{group}=mine", "transport.replay_s=0"]
    if group == "transport":
        overrides = ["transport=mine"]
    folder = run(package, *overrides)
    assert summary(folder)["answered"] == 20
    assert f"mine.{CONFIGS[group].split()[1].split('.')[1]}" in (folder / "config.yaml").read_text()


def test_all_of_them_at_once(package: Path):
    chosen = [f"{group}=mine" for group in CONFIGS]
    metrics = summary(run(package, *chosen, "cloud=mine", "cloud.layer_ms=0.5"))
    # `in` and the convolution on the end, one layer of 1 ms; what follows on the cloud, 0.5 ms each
    assert metrics["plan_end_ms"] == pytest.approx(2.0)
    assert metrics["plan_cloud_ms"] == pytest.approx(2.0)


def test_its_device_is_a_cloud_as_well(package: Path):
    overrides = ("cloud=mine", "device=mine", "device.layer_ms=2", "transport.replay_s=0")
    metrics = summary(run(package, *overrides, "method=device_only"))
    assert metrics["plan_cloud_ms"] == 0
    assert metrics["plan_end_ms"] > 0


def test_the_codec_of_the_package_is_what_is_planned_with(package: Path):
    overrides = ("quantizer=mine", "method=cloud_only", "transport.replay_s=0")
    metrics = summary(run(package, *overrides))
    assert metrics["plan_payload_kib"] * 1024 == 2 + 2 * 3 * 64 * 64  # float16 behind two bytes


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("estimator.widnow=3", r"estimator\.widnow = 3: .* did you mean 'window'\?"),
        ("estimator.window=0", r"estimator\.window = 0: should be greater than 0"),
        ("device.layer_ms=-1", r"device\.layer_ms = -1: should be greater than 0"),
        ("bandwidth.top_mbps=x", r"bandwidth\.top_mbps = x: should be a valid number"),
    ],
)
def test_its_mistakes_are_named_as_ours_are(package: Path, override: str, words: str):
    group = override.partition(".")[0]
    with pytest.raises(ConfigError, match=words):
        run(package, f"{group}=mine", f"+{override}" if "widnow" in override else override)


@pytest.mark.slow
@pytest.mark.parametrize("group", ["estimator", "method"])
def test_one_command_of_the_command_line(tmp_path: Path, group: str):
    code, configs = write_package(tmp_path)
    command = [sys.executable, "-m", "coach_exp", f"--config-dir={configs}", f"{group}=mine"]
    done = subprocess.run(
        [*command, *QUICK, "transport.replay_s=0", f"output.root={tmp_path / 'out'}"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(code), *sys.path))},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
