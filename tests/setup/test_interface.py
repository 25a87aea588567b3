"""COACH from Python, as a notebook or a user's own program uses it."""

import ast
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from helpers.paths import CONF, ROOT
from helpers.pictures import pixels

import coach_exp as coach
from baselines.jps import Jps
from coach_exp.types.errors import ConfigError, ProfileError

SHAPE = (3, 32, 32)


def network() -> torch.nn.Module:
    layers = torch.nn
    return layers.Sequential(
        layers.Conv2d(3, 8, 3, stride=2),
        layers.ReLU(),
        layers.Conv2d(8, 4, 3, stride=2),
        layers.AdaptiveAvgPool2d(1),
        layers.Flatten(),
        layers.Linear(4, 10),
    )


@pytest.fixture(scope="module")
def problem() -> coach.Problem:
    return coach.problem(network(), SHAPE, end="nx", cloud="a6000", mbps=20)


def test_from_a_model_to_a_picture(problem: coach.Problem, tmp_path: Path):
    records = coach.simulate(problem, coach.Coach().plan(problem))
    words = str(records.summary()).splitlines()
    assert len(records) == records.summary()["answered"].value == 2000
    assert any(line.split()[0] == "throughput_its" for line in words)
    assert len(pixels(records.gantt(tmp_path / "gantt.png"))) > 5


def test_a_stream_that_one_stage_bounds_is_as_fast_as_that_stage(problem: coach.Problem):
    plans = coach.Coach().plan(problem)
    records = coach.simulate(problem, plans)
    (plan,) = plans.plans
    rate = 1 / max(plan.stage_s.end_s, plan.stage_s.link_s, plan.stage_s.cloud_s)
    assert records.summary()["throughput_its"].value == pytest.approx(rate, rel=0.01)


def test_own_profiles_graphs_and_links():
    graph = coach.LayerGraph.of(
        [
            coach.Layer("in", elements=1000),
            coach.Layer("a", ("in",), elements=100),
            coach.Layer("b", ("a",), elements=10),
        ]
    )
    slow, fast = {"in": 0.0, "a": 1.0, "b": 4.0}, {"in": 0.0, "a": 0.1, "b": 0.5}
    problem = coach.problem(graph, end=slow, cloud=fast, mbps=1, bits=8)
    plans = coach.Coach(coach.Planner(objective="bottleneck")).plan(problem)
    # Behind `in` the link takes 8.2 ms and the cloud 0.6 s; behind `a` the end takes a second.
    assert plans.plans[0].crossing[0].layer == "in"
    assert plans.plans[0].stage_s.cloud_s == pytest.approx(0.6)
    falling = coach.simulate(problem, plans, trace=coach.steps([1e6, 1e3], step_s=1.0))
    assert falling.summary()["throughput_its"].value < 1 / 0.6


def test_any_method_stands_behind_the_same_protocol(problem: coach.Problem):
    method = Jps()
    view = method.view(problem)
    records = coach.simulate(view, method.plan(view), method)
    assert records.summary()["answered"].value == 2000


def test_a_profile_of_this_machine_is_a_device():
    model = network()
    here = coach.profile(model, SHAPE, repeats=2, torch_device="cpu")
    problem = coach.problem(model, SHAPE, end=here, cloud="a6000")
    assert problem.end.layer_s == here.layer_s


def test_problems_are_values(problem: coach.Problem):
    shorter = replace(problem, workload=replace(problem.workload, tasks=10))
    assert len(coach.simulate(shorter, coach.Coach().plan(shorter))) == 10


def test_mistakes_are_named():
    with pytest.raises(ConfigError, match=r"device = nxx: .* did you mean 'nx'\?"):
        coach.problem(network(), SHAPE, end="nxx")
    with pytest.raises(ConfigError, match=r"end = 'host': has no constants .*coach\.profile"):
        coach.problem(network(), SHAPE, end="host")
    with pytest.raises(ConfigError, match=r"input_shape=\(3, 224, 224\)"):
        coach.problem(network())
    with pytest.raises(ProfileError, match="has no time for"):
        coach.problem(network(), SHAPE, end={"0": 1.0})


@pytest.mark.parametrize("mbps", [0, -5.0, float("nan"), float("inf")])
def test_a_link_has_a_rate(mbps: float):
    with pytest.raises(ConfigError, match=rf"^mbps = {mbps}: a link's rate is finite and above 0"):
        coach.problem(network(), (3, 32, 32), mbps=mbps)


def test_what_is_exported_is_what_a_type_checker_sees():
    tree = ast.parse((ROOT / "coach_exp" / "__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted(seen) == sorted(coach.__all__)
    for name, module in seen.items():
        assert getattr(coach, name) is getattr(sys.modules[module], name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = coach.nothing


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, coach_exp; print({'torch', 'numpy', 'mlflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"


USER = """
    from dataclasses import dataclass

    import torchvision

    import coach_exp as coach


    @dataclass(frozen=True)
    class CutBehind:
        layer: int
        name: str = "cut_behind"

        def view(self, problem: coach.Problem) -> coach.Problem:
            return problem

        def plan(self, problem: coach.Problem) -> coach.PlanSet:
            names = [each.name for each in problem.graph.layers[: self.layer + 1]]
            return coach.PlanSet((coach.Planner().plan_for(problem, names),))

        def controller(self, plans: coach.PlanSet) -> coach.Controller:
            return coach.FixedPlans(plans)


    model = torchvision.models.resnet18()
    problem = coach.problem(model, (3, 224, 224), end="nx", cloud="a6000", mbps=20)
    plans = coach.Coach().plan(problem)
    records = coach.simulate(problem, plans)
    print(records.summary())
    records.gantt("gantt.png")
    mine: coach.Method = CutBehind(3)
    rate: float = coach.simulate(problem, mine.plan(problem), mine).summary()["tasks"].value
"""


@pytest.mark.slow
def test_a_strict_type_checker_accepts_a_users_file(tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text(dedent(USER))
    config = tmp_path / "mypy.ini"
    config.write_text("[mypy]\n[mypy-torchvision.*]\nignore_missing_imports = True\n")
    command = ["mypy", "--strict", "--config-file", str(config), "--cache-dir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", *command, str(file)],
        cwd=tmp_path,
        env=os.environ | {"MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_the_example_script_runs(tmp_path: Path):
    script = ROOT / "examples" / "quickstart.py"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "gantt.png").is_file()
    calls = [line for line in script.read_text().splitlines() if line and line[0] not in "#\"'"]
    assert next(k for k, line in enumerate(calls) if "gantt.png" in line) < 15 + 2  # docstring


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Jupyter's own
def test_the_example_notebook_runs(tmp_path: Path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(ROOT / "examples" / "quickstart.ipynb", as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]
    assert any("throughput_its" in out.get("text", "") for out in outputs)
    assert any("image/png" in out.get("data", {}) for out in outputs)


@pytest.mark.slow
def test_an_installed_package_finds_its_configs_from_any_folder(tmp_path: Path):
    site, folder = tmp_path / "site", tmp_path / "empty"
    folder.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site)]
    subprocess.run([*pip, str(ROOT)], check=True, capture_output=True)
    assert sorted(p.name for p in (site / "coach_exp" / "conf" / "job").glob("*.yaml")) == sorted(
        p.name for p in (CONF / "job").glob("*.yaml")
    )
    done = subprocess.run(
        [
            *(str(site / "bin" / "coach"), "job=plan", "model=resnet101", "weights=none"),
            "bandwidth.mbps=20",
        ],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert [p.name for p in folder.iterdir()] == ["outputs"]
    assert list(folder.glob("outputs/*/*-plan/plan.json"))
