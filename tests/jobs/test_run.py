"""The command line as a user types it, in a directory of its own."""

import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pandas
import pytest
from helpers.command_line import LITTLE_VIDEO, command, typed
from helpers.data_roots import write_clips, write_images
from helpers.jobs import do
from helpers.paths import ROOT
from hydra import compose
from hydra.errors import MissingConfigException
from hydra.utils import instantiate

from coach_exp.learning.video import SPLIT_NAMES
from coach_exp.planner.exit_places import exit_places
from coach_exp.setup.builder import Builder
from coach_exp.setup.config import validated
from coach_exp.types.errors import CoachError, ConfigError

SIMULATED_ONLY = "transport.replay_s=0"
LITTLE_HEADS = (
    *("exit_training.epochs=1", "exit_training.batch_size=8", "exit_training.frames_per_epoch=48"),
)
LITTLE_STREAM = ("tracking=none", "workload.tasks=30", "references=[]", SIMULATED_ONLY)
TIMING_ONLY = ("weights=none", "workload.tasks=200", SIMULATED_ONLY, "references=[]")

GRAPH = {
    "layers": [
        {"name": "in", "inputs": [], "end_s": 0, "cloud_s": 0, "elements": 976},
        {"name": "a", "inputs": ["in"], "end_s": 0.002, "cloud_s": 0.001, "elements": 1952},
        {"name": "b", "inputs": ["a"], "end_s": 0.009, "cloud_s": 0.001, "elements": 9952},
    ]
}


def only(root: Path, name: str) -> Path:
    found = list(root.glob(f"*/*/{name}"))
    assert len(found) == 1, found
    return found[0]


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    path = tmp_path / "g.json"
    path.write_text(json.dumps(GRAPH))
    return path


def test_plan_of_a_layer_graph_from_a_file(tmp_path: Path, graph: Path):
    # At 8 Mbps a byte takes 1 µs. Crossing `a` at 4 bits: 24 + 976 = 1000 bytes, 1 ms.
    # Cut behind a: T = (2, 1, 1) ms: B_c = 1, B_t = |1 - 2| = 1, max = 2: 4 ms.
    # Cloud-only: 24 + 976 bytes, T = (0, 1, 2): 2 + |1 - 2| + 2 = 5 ms. Device-only: 3·11 = 33 ms.
    done = typed(
        tmp_path / "out",
        "job=plan",
        "model=dag_file",
        f"model.path={graph}",
        "precision=fixed",
        "precision.bits=4",
        "bandwidth.mbps=8",
        "planner=exhaustive",
        "planner.objective=paper",
    )
    assert done.returncode == 0, done.stderr
    (plan,) = json.loads(only(tmp_path / "out", "plan.json").read_text())["plans"]
    assert plan["end_layers"] == ["a", "in"]
    assert plan["crossing"] == [{"layer": "a", "bits": 4}]
    assert plan["order"] == ["in", "a"]
    assert plan["release"] == "per_tensor"
    assert plan["stage_s"] == pytest.approx({"end": 0.002, "link": 0.001, "cloud": 0.001})
    assert plan["overlap_s"] == {"link": 0, "cloud": 0}
    assert plan["latency_s"] == pytest.approx(0.004)
    assert plan["objective"]["name"] == "paper"
    assert plan["objective"]["value"] == pytest.approx(0.004)
    assert plan["objective"]["bubbles"] == pytest.approx({"compute": 0.001, "link": 0.001})
    assert plan["lower_bound"] == plan["objective"]["value"]
    assert plan["gap"] == 0
    assert plan["evaluations"] == 3
    assert plan["weight"] == 1
    summary = json.loads(only(tmp_path / "out", "summary.json").read_text())
    assert summary["plan_link_ms"] == pytest.approx(1)


def test_a_plan_is_explained_and_drawn(tmp_path: Path, hydra, graph: Path, capsys):
    # As above; the runner-up is cloud-only at 8 bit: 24 + 976 bytes, 5 ms.
    here = tmp_path / "plan"
    best = do(
        here,
        *("job=plan", "model=dag_file", f"model.path={graph}", "precision=fixed"),
        *("precision.bits=4", "bandwidth.mbps=8", "planner.objective=paper"),
    )
    assert best == pytest.approx(4)
    assert {p.name for p in here.iterdir()} >= {"graph.png", "schedule.png", "plan.json"}
    summary = json.loads((here / "summary.json").read_text())
    assert summary["plan_runner_up_objective_ms"] == pytest.approx(5)
    said = " ".join(capsys.readouterr().out.split())
    assert "Runner-up: in (1 layer on the end) costs 5.000 ms against 4.000 ms" in said


def test_the_front_of_a_graph_is_listed_and_drawn(tmp_path: Path, hydra, graph: Path):
    # Cloud-only: 1 + 2 = 3 ms, period 2; cut behind a: 4 ms, period 2. Device-only: 11 ms.
    here = tmp_path / "front"
    do(
        here,
        *("job=plan", "model=dag_file", f"model.path={graph}", "precision=fixed"),
        *("precision.bits=4", "bandwidth.mbps=8", "job.pareto=true"),
    )
    front = json.loads((here / "pareto.json").read_text())
    assert [plan["cut"] for plan in front["front"]] == ["in"]
    assert front["front"][0]["latency_s"] == pytest.approx(0.003)
    assert front["front"][0]["period_s"] == pytest.approx(0.002)
    assert (front["exact"], front["evaluations"]) == (True, 3)
    assert (here / "pareto.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("planner.objective=fast",), "planner.objective = fast: should be 'paper'"),
        (("bandwidth.mbps=-3",), "bandwidth.mbps = -3: should be greater than 0"),
        (("precision.bits=0",), "precision.bits = 0: should be 1, 2"),
        (("method=nope",), "Available options in 'method'"),
        (("data=gtsrb", "data.root=/nowhere"), "data.root"),
        (("data=ucf101", "data.root=/nowhere"), "data.root=/nowhere holds no clips at UCF-101/"),
        (("data=imagenet100", "data.root=/nowhere"), "holds no pictures at train/<class>/<image>"),
        (("model.path=/nowhere.json", "model=dag_file"), "/nowhere.json"),
        (("bandwidth=file", "bandwidth.path=/nowhere.csv"), "/nowhere.csv cannot be read"),
        (("weights=/nowhere.pt", *LITTLE_VIDEO), "/nowhere.pt"),
        (("references=[nope]",), "nope"),
        (("workload.tasks=null", "weights=none"), "workload.tasks = null is one pass over"),
        (("input.encoding=jpeg", "weights=none"), "input.encoding = jpeg: the size of a file is"),
        (("job=table",), "choose one with experiment=NAME"),
        (
            ("method=spinn", "method.exits=-1"),
            "method.exits = -1: should be greater",
        ),
    ],
)
def test_a_mistake_ends_at_once_with_its_remedy(tmp_path: Path, hydra, overrides, message: str):
    with pytest.raises((CoachError, MissingConfigException), match=re.escape(message)):
        do(tmp_path / "run", *overrides)
    assert not (tmp_path / "cache" / "weights").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("method=nope",), "method = nope: there is no such option; there are cloud_only"),
        (("bandwidth.mbps=-3",), "error: bandwidth.mbps = -3: should be greater than 0"),
        (("estimator.wieght=1",), "error: estimator.wieght: there is no such key; did you mean"),
        (("track=same_codec",), "error: track is division now"),
    ],
)
def test_a_mistake_ends_the_process_without_a_traceback(tmp_path: Path, overrides, message: str):
    done = typed(tmp_path, *overrides)
    assert done.returncode == 2
    assert message in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_a_table_is_filled_cell_by_cell(tmp_path: Path, hydra, capsys):
    # Without trained weights the online part is off, so that all rows are those of the plan.
    here = tmp_path / "table"
    cells = do(here, "experiment=table2_synthetic", "weights=none", "workload.tasks=50")
    assert cells == 10
    found = json.loads((here / "table.json").read_text())
    assert list(found) == ["eq6", "bottleneck"]
    for rows in found.values():
        names = ["NoAdjust", "NoAdjust at COACH plan", "Low", "Medium", "High"]
        assert [row["row"] for row in rows] == names
        lows = [
            row["metrics"]["latency_mean_ms"]["value"] for row in rows if row["row"] != names[1]
        ]
        assert len(set(lows)) == 1
    assert "accuracy" not in found["eq6"][0]["metrics"]
    assert (here / "table.md").read_text().count("| NoAdjust |") == 2
    assert (here / "eq6" / "High" / "tasks.parquet").exists()
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as store:
        states = [row[0] for row in store.execute("select status from runs")]
    assert states == ["FINISHED"] * 11
    assert "Table II, small_resnet" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.socket
def test_simulator_and_sockets_side_by_side(tmp_path: Path, hydra, capsys):
    here = tmp_path / "table"
    fast, slow = '["method=ns"]', '["method=ns","device.slowdown=10","bandwidth.mbps=10"]'
    rows = f"job.rows={{fast:{fast},slow:{slow}}}"
    groups = 'job.groups={all:["transport.max_s=0.2"]}'
    given = ("weights=none", "workload.tasks=60", "tracking=none")
    replaced = ("~job.rows", f"+{rows}", "~job.groups", f"+{groups}")
    assert do(here, "experiment=calibrate_simulator", *replaced, *given) == 2
    found = json.loads((here / "table.json").read_text())["all"]
    fast, slow = (row["metrics"] for row in found)
    assert fast["tasks"]["value"] == pytest.approx(
        0.2 * fast["sim_throughput_its"]["value"], rel=0.1
    )
    assert slow["tasks"]["value"] < 60
    for cell in (fast, slow):
        assert cell["same_decision_ratio"]["value"] == 1
        assert cell["diff_end_ms"]["value"] == pytest.approx(0, abs=1e-6)
    assert (here / "agreement.png").exists()
    below = (here / "table.md").read_text().splitlines()[-1]
    assert below.startswith("farthest apart in throughput: all/")
    assert "farthest apart in throughput: all/" in capsys.readouterr().out


@pytest.mark.slow
def test_rows_that_cannot_run_are_left_out_aloud(tmp_path: Path, hydra, capsys):
    here = tmp_path / "table"
    late = "+job.groups.late=['t_max_ms=0.001']"
    tiny = ("weights=none", "workload.tasks=20", "tracking=none")
    assert do(here, "experiment=table2_synthetic", late, *tiny) == 10
    said = capsys.readouterr().out
    assert "late/NoAdjust is left out: no cut" in said
    assert "late/Low is left out: for the same reason" in said
    assert list(json.loads((here / "table.json").read_text())) == ["eq6", "bottleneck"]


def test_a_table_shows_the_columns_it_names(tmp_path: Path, hydra, capsys):
    here = tmp_path / "table"
    rows = 'job.rows={end:["method=device_only"],cloud:["method=cloud_only"]}'
    tiny = ("weights=none", "workload.tasks=20", "tracking=none")
    assert do(here, "experiment=compare", "~job.rows", f"+{rows}", *tiny) == 2
    heads = (here / "table.md").read_text().splitlines()[4]
    assert "T_e+T_t+T_c ms | makespan/N ms | rate it/s" in heads
    with pytest.raises(ConfigError, match=r"columns.*no columns \['speed'\]; there are method"):
        do(here, "experiment=compare", "job.columns=[speed]", *tiny)


def test_a_timed_run_leaves_all_its_files(tmp_path: Path, hydra):
    here = tmp_path / "run"
    rate = do(here, *TIMING_ONLY[:3], "references=[device_only]", "tracking=none")
    names = {p.name for p in here.iterdir()}
    assert names >= {
        *("plan.json", "summary.json", "tasks.parquet", "timeline.json", "provenance.json"),
        *("config.yaml", "gantt.png", "throughput.png"),
    }
    summary = json.loads((here / "summary.json").read_text())
    assert rate == summary["throughput_its"]
    assert "accuracy" not in summary
    assert len(pandas.read_parquet(here / "tasks.parquet")) == 200
    beside = json.loads((here / "references" / "device_only" / "summary.json").read_text())
    assert beside["transmission_kib_per_task"] == 0
    assert not [name for name in summary if name.startswith("diff_")]


@pytest.mark.socket
def test_a_run_is_repeated_over_loopback_and_the_disagreement_is_printed(
    tmp_path: Path, hydra, capsys
):
    # 50 tasks are over within the five seconds: all of them are sent again.
    here = tmp_path / "run"
    do(here, "weights=none", "workload.tasks=50", "references=[]", "tracking=none")
    said = capsys.readouterr().out
    assert "coach, first 5 s over loopback" in said
    assert "100.00 % of the tasks were decided alike" in said
    summary = json.loads((here / "summary.json").read_text())
    assert summary["same_decision_ratio"] == 1
    assert summary["net_link_mean_ms"] == pytest.approx(summary["sim_link_mean_ms"], rel=1e-3)
    shown = f"{summary['diff_latency_ms']:+.3f} ms"
    assert f"latency, ms {shown}" in " ".join(re.sub(r" +[\d.]+ +[\d.]+ +", " ", said).split())


@pytest.mark.slow
@pytest.mark.parametrize("data", ["ucf101", "imagenet100"])
def test_a_model_is_trained_on_files_and_answers(data: str, tmp_path: Path, hydra):
    if data == "ucf101":
        write_clips(tmp_path / "data", clips=1)
        own, samples = ("data.fps=10",), 2 * 2 * 4  # classes, groups; 10 frames of 25 a second
    else:
        write_images(tmp_path / "data", {"kite": 20, "tench": 20})
        own, samples = ("data.imbalance=2", "stream=low"), 4 + 2
    here = tmp_path / "run"
    do(
        here,
        *(f"data={data}", f"data.root={tmp_path / 'data'}", "data.size=32", *own),
        *("training.epochs=1", "training.batch_size=8", "precision=fixed"),
        *("references=[]", "tracking=none", f"workload.tasks={samples}", SIMULATED_ONLY),
    )
    summary = json.loads((here / "summary.json").read_text())
    assert 0 <= summary["accuracy"] <= 1
    labels = pandas.read_parquet(here / "tasks.parquet")["label"]
    halves = {"ucf101": [8, 8], "imagenet100": [2, 4]}
    assert sorted(labels.value_counts()) == halves[data]


def test_a_trained_model_is_found_again(tmp_path: Path, hydra, trained: Path, little_video):
    (first,) = (trained / "cache" / "weights").iterdir()
    accuracy = do(tmp_path / "again", "job=train", *little_video)
    (again,) = (tmp_path / "cache" / "weights").iterdir()
    assert again.read_bytes() == first.read_bytes()
    said = json.loads(only(trained, "summary.json").read_text())
    assert said == json.loads((tmp_path / "again" / "summary.json").read_text())
    assert said["accuracy"] == accuracy


def test_exit_heads_are_trained_when_one_is_first_asked(tmp_path: Path, hydra, little_video):
    given = [*little_video, *LITTLE_HEADS, f"output.root={tmp_path}", "workload.tasks=4"]
    raw = compose("config", overrides=given)
    problem = Builder(validated(raw), lambda *_: None).world().problem
    layers = exit_places(problem.graph, 2)
    answers = problem.outcomes.with_exits(layers)
    assert not (tmp_path / "cache" / "exits").exists()
    assert 1 / 3 <= answers.at_exit(0, layers[1]).confidence <= 1
    assert len(list((tmp_path / "cache" / "exits").iterdir())) == 1


@pytest.mark.slow
def test_the_input_crosses_as_jpeg_files_at_the_resolution_that_is_timed(
    tmp_path: Path, hydra, little_video
):
    jpeg = ("method=cloud_only", "model.input_size=48", "input.encoding=jpeg")
    sizes = {}
    for quality in (20, 95):
        here = tmp_path / f"q{quality}"
        do(here, *little_video, *LITTLE_STREAM, *jpeg, f"input.jpeg_quality={quality}")
        tasks = pandas.read_parquet(here / "tasks.parquet")
        sizes[quality] = tasks.payload_bytes
        summary = json.loads((here / "summary.json").read_text())
        assert tasks.payload_bytes.nunique() > 5
        assert summary["accuracy"] == (tasks.predicted == tasks.label).mean()
        (plan,) = json.loads((here / "plan.json").read_text())["plans"]
        assert plan["crossing"] == [{"layer": "input", "bits": 8}]
        planned_bytes = 20e6 * plan["stage_s"]["link"] / 8
        assert planned_bytes == pytest.approx(round(planned_bytes))
        assert planned_bytes == pytest.approx(tasks.payload_bytes.mean(), rel=0.1)  # other videos
    assert sizes[95].mean() > 1.5 * sizes[20].mean()
    assert sizes[95].max() < 3 * 48 * 48


def test_tensors_cross_compressed_at_another_resolution(tmp_path: Path, hydra, little_video):
    spinn = ("quantizer=bitshuffle_lz4", "precision=fixed", "precision.bits=8")
    cut = ("method=coach_offline", "input.encoding=forbidden", "device=tx2", "device.slowdown=50")
    do(tmp_path / "run", *little_video, *LITTLE_STREAM, *spinn, *cut, "model.input_size=64")
    (plan,) = json.loads((tmp_path / "run" / "plan.json").read_text())["plans"]
    tasks = pandas.read_parquet(tmp_path / "run" / "tasks.parquet")
    assert [tensor["bits"] for tensor in plan["crossing"]] == [8]
    max_bytes = 20e6 * plan["stage_s"]["link"] / 8
    assert tasks.payload_bytes.nunique() > 5
    assert tasks.payload_bytes.max() <= max_bytes
    assert tasks.payload_bytes.mean() < 0.98 * max_bytes


def test_spinn_exits_on_a_link_that_is_lost_and_comes_back(tmp_path: Path, hydra, little_video):
    heads = (*LITTLE_HEADS, "method.exits=2", "method.limit_points=100")
    recorded = tmp_path / "link.csv"
    recorded.write_text("1,250000\n2,0\n3,0\n4,250000\n")
    link = ("bandwidth=file", f"bandwidth.path={recorded}", "method.timeout_s=0.2")
    slow = ("method=spinn", "device=tx2", "device.slowdown=50", "replan=on_change")
    here = tmp_path / "run"
    do(here, *little_video, *LITTLE_STREAM, *heads, *link, *slow)
    tasks = pandas.read_parquet(here / "tasks.parquet")
    assert len(tasks) == 30
    assert tasks.finish_s.notna().all()
    assert (tasks.predicted >= 0).all()
    assert (tasks.decision == "exit").any()
    assert tasks.fallback.any()
    plans = json.loads((here / "plan.json").read_text())
    assert [plan["weight"] for plan in plans["plans"]][:3] == [1, 0, 0]
    assert plans["plans"][0]["objective"]["name"] == "expected_latency"
    assert len(plans["remarks"]) == 1


def test_a_reference_that_cannot_run_is_left_out_aloud(tmp_path: Path, hydra, capsys):
    here = tmp_path / "run"
    shown = ("references=[cloud_only,device_only]", "input.encoding=forbidden")
    do(here, *TIMING_ONLY[:3], *shown, "tracking=none")
    assert {p.name for p in (here / "references").iterdir()} == {"device_only"}
    said = capsys.readouterr().out.replace("\n", " ")
    assert "cloud_only is left out" in said
    assert "input.encoding = forbidden" in said


@pytest.mark.slow
def test_the_same_command_gives_the_same_records(tmp_path: Path, hydra):
    walk = ("bandwidth=random_walk", "workload=poisson", "workload.rate_hz=150")
    for name in ("first", "second"):
        do(tmp_path / name, *TIMING_ONLY, *walk, "tracking=none")
    first, second = (
        pandas.read_parquet(tmp_path / name / "tasks.parquet") for name in ("first", "second")
    )
    pandas.testing.assert_frame_equal(first, second)


def test_a_recorded_trace_is_the_link_and_its_content_tells_runs_apart(tmp_path: Path, hydra):
    # 8 and 4 Mbps for a second each, in the middle of the recording.
    recorded = tmp_path / "link.csv"
    recorded.write_text("1,0\n2,1000000\n3,500000\n4,0\n")
    link = ("bandwidth=file", f"bandwidth.path={recorded}", "bandwidth.begin_s=0.5")
    for name, estimator in (("first", "oracle"), ("second", "harmonic")):
        chosen = (*link, f"estimator={estimator}", "method=cloud_only", "input.encoding=float32")
        do(tmp_path / name, *TIMING_ONLY, *chosen, "tracking=none")
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        assert (summary["bandwidth_error_percent"] == 0) == (estimator == "oracle")
        tasks = pandas.read_parquet(tmp_path / name / "tasks.parquet")
        # The recording's outages make 1.5 of 3.5 seconds of each lap; a lap carries 12 Mbit.
        sent_mbit = 8e-6 * tasks.payload_bytes.sum()
        assert tasks.link_end_s.max() == pytest.approx(3.5 * sent_mbit / 12, abs=3.5)
        recorded.write_text("1,0\n2,1000000\n3,500000\n4,0.0\n")
    first, second = (
        json.loads((tmp_path / name / "provenance.json").read_text())["identity"]["trace"]
        for name in ("first", "second")
    )
    assert first != second


@pytest.mark.parametrize("bits", [2, 8])
def test_some_method_of_the_default_run_cuts_inside_the_model(tmp_path: Path, hydra, bits: int):
    raw = compose(
        "config",
        overrides=[
            f"output.root={tmp_path}",
            "method=coach_bottleneck",
            "precision=fixed",
            f"precision.bits={bits}",
            *("data.frames=1", *(f"data.videos.{split}=1" for split in SPLIT_NAMES)),
        ],
    )
    builder = Builder(validated(raw), lambda *_: None)
    problem = builder.problem(builder.trace())
    (plan,) = instantiate(raw.method, _convert_="all").plan(problem).plans
    assert plan.crossing, "device-only"
    assert plan.crossing[0].layer != problem.graph.input.name, "cloud-only"


@pytest.mark.slow
def test_a_sweep_is_one_parent_with_a_child_for_every_cell(tmp_path: Path, graph: Path):
    from mlflow.tracking import MlflowClient

    few = ("workload.tasks=50", "references=[]", SIMULATED_ONLY)
    swept = ("method=coach,cloud_only", "bandwidth.mbps=5,80")
    done = typed(tmp_path / "out", "-m", *swept, *few, "model=dag_file", f"model.path={graph}")
    assert done.returncode == 0, done.stderr
    client = MlflowClient(f"sqlite:///{tmp_path}/out/mlflow.db")
    (experiment,) = client.search_experiments(filter_string="name = 'coach'")
    runs = client.search_runs([experiment.experiment_id])
    parents = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    assert len(runs) == 5
    assert len(parents) == 1
    assert {r.info.status for r in runs} == {"FINISHED"}
    children = [r for r in runs if r not in parents]
    cells = {(r.data.params["method.name"], r.data.params["bandwidth.mbps"]) for r in children}
    assert len(cells) == 4
    assert all(r.data.metrics["throughput_its"] > 0 for r in children)


@pytest.mark.parametrize(
    "stop", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_run_that_is_interrupted_does_not_stay_running(
    tmp_path: Path, graph: Path, stop: signal.Signals
):
    endless = ("model=dag_file", f"model.path={graph}", "workload.tasks=5000000", "references=[]")
    process = subprocess.Popen(
        command(tmp_path, *endless), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    try:
        give_up = time.monotonic() + 60
        while _statuses(tmp_path) != ["RUNNING"]:
            assert process.poll() is None
            assert time.monotonic() < give_up
            time.sleep(0.2)
        process.send_signal(stop)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode != 0
    assert "Traceback" not in said
    assert _statuses(tmp_path) == ["KILLED"]


def _statuses(root: Path) -> list[str]:
    """The status of every run, read past MLflow: opening a store while it is made would race."""
    try:
        with closing(sqlite3.connect(f"file:{root}/mlflow.db?mode=ro", uri=True)) as store:
            return [status for (status,) in store.execute("select status from runs")]
    except sqlite3.OperationalError:
        return []


@pytest.mark.parametrize(
    "given",
    [
        "output.root=/dev/null/x",
        pytest.param("output=null", marks=pytest.mark.slow),
        pytest.param("hydra.run.dir=/dev/null", marks=pytest.mark.slow),
    ],
)
def test_where_no_folder_can_be_made_the_command_says_so(given: str, tmp_path: Path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "tracking=none", given],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: output.root: no folder")
