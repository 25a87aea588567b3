"""Runs end in a status that is true, whatever ends them, and are found again."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.store import lay_out

from coach_exp.tracking.params import config_hash, flat
from coach_exp.tracking.provenance import Code
from coach_exp.tracking.settings import Mlflow
from coach_exp.types.errors import ConfigError

processes = multiprocessing.get_context("fork")  # children share the imports
CLEAN = Code("c0ffee", dirty=False)


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    monkeypatch.setattr("coach_exp.tracking.settings.code", lambda: CLEAN)
    lay_out(tmp_path)
    return tmp_path


@pytest.fixture
def client(outputs):
    return client_of(outputs)


def client_of(outputs):
    from mlflow.tracking import MlflowClient

    return MlflowClient(f"sqlite:///{outputs}/mlflow.db")


def runs(client, query=""):
    experiment = client.get_experiment_by_name("coach")
    found = client.search_runs([experiment.experiment_id], query)
    return {run.info.run_name: run for run in found}


def status(client, name):
    return runs(client)[name].info.status


def test_a_run_keeps_params_metrics_tags_and_files(outputs, client, tmp_path):
    files = tmp_path / "run"
    files.mkdir()
    (files / "plan.json").write_text("{}")
    config = {"model": {"name": "vgg16"}, **{f"key{i}": i for i in range(150)}}
    with Mlflow().open(outputs).run("one", params=config, tags={"cell": "table1/3"}) as run:
        run.log_metrics({"throughput_its": 30.5, "never": float("inf"), "nor": float("nan")})
        run.log_files(files.iterdir())
    found = runs(client)["one"]
    assert found.info.status == "FINISHED"
    assert found.data.params["model.name"] == "vgg16"
    assert found.data.params["key149"] == "149"
    assert found.data.metrics == {"throughput_its": 30.5}
    assert found.data.tags["cell"] == "table1/3"
    assert found.data.tags["mlflow.source.git.commit"] == "c0ffee"
    assert [f.path for f in client.list_artifacts(found.info.run_id)] == ["plan.json"]
    assert Path(found.info.artifact_uri.removeprefix("file://")).is_relative_to(outputs)


def test_reference_runs_are_nested(outputs, client):
    tracker = Mlflow().open(outputs)
    with tracker.run("coach") as run, tracker.run("jps", parent=run.id):
        pass
    assert runs(client)["jps"].data.tags["mlflow.parentRunId"] == run.id


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        (ValueError("no such cut"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(3), "FAILED"),
        (SystemExit(0), "FINISHED"),
    ],
)
def test_what_leaves_a_run_decides_its_status(outputs, client, error, ends):
    with pytest.raises(type(error)), Mlflow().open(outputs).run("one"):
        raise error
    assert status(client, "one") == ends
    assert ("error" in runs(client)["one"].data.tags) == (ends != "FINISHED")


def _wait_in_a_run(outputs, ready):
    tracker = Mlflow().open(outputs)
    with (
        tracker.sweep("s", "sweep") as parent,
        tracker.run("one", parent=parent) as run,
        tracker.run("reference", parent=run.id),
    ):
        ready.set()
        time.sleep(60)


def _signalled(outputs, number):
    """The exit code of a process that gets a signal in the midst of a run."""
    ready = processes.Event()
    child = processes.Process(target=_wait_in_a_run, args=(outputs, ready))
    child.start()
    assert ready.wait(30)
    os.kill(child.pid, number)
    child.join(30)
    return child.exitcode


def test_sigterm_kills_every_run_of_the_process(outputs, client):
    assert _signalled(outputs, signal.SIGTERM) == 128 + signal.SIGTERM
    ended = {name: run.info.status for name, run in runs(client).items()}
    assert ended == {"sweep": "KILLED", "one": "KILLED", "reference": "KILLED"}


def test_runs_of_a_dead_process_are_reaped_by_the_next(outputs, client):
    assert _signalled(outputs, signal.SIGKILL) == -signal.SIGKILL
    assert {run.info.status for run in runs(client).values()} == {"RUNNING"}
    Mlflow().open(outputs)
    assert {run.info.status for run in runs(client).values()} == {"KILLED"}


def test_runs_of_living_processes_and_other_hosts_are_left_alone(outputs, client):
    tracker = Mlflow().open(outputs)
    with tracker.run("here"), tracker.run("there", tags={"host": "elsewhere", "pid": "1"}):
        Mlflow().open(outputs)
        assert {run.info.status for run in runs(client).values()} == {"RUNNING"}


def test_an_id_used_again_does_not_keep_a_run_alive(outputs, client):
    with Mlflow().open(outputs).run("one", tags={"process_start": "1"}):
        Mlflow().open(outputs)
        assert status(client, "one") == "KILLED"


def test_sigterm_is_left_to_whoever_handles_it(outputs):
    def theirs(number, frame): ...

    before = signal.signal(signal.SIGTERM, theirs)
    try:
        with Mlflow().open(outputs).run("one"):
            assert signal.getsignal(signal.SIGTERM) is theirs
    finally:
        signal.signal(signal.SIGTERM, before)


def test_sigterm_is_given_back_after_a_run(outputs):
    before = signal.getsignal(signal.SIGTERM)
    with Mlflow().open(outputs).run("one"):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_sweep_is_as_its_newest_children(outputs, client):
    tracker = Mlflow().open(outputs)

    def child(name, error=None):
        with tracker.sweep("id's", "sweep") as parent, tracker.run(name, parent=parent):
            assert status(client, "sweep") == "RUNNING"
            if error:
                raise error

    child("a")
    assert status(client, "sweep") == "FINISHED"
    with pytest.raises(ValueError, match="bad"):
        child("b", ValueError("bad"))
    child("c")
    assert status(client, "sweep") == "FAILED"
    child("b")
    assert status(client, "sweep") == "FINISHED"
    assert len(runs(client, "tags.sweep = 'id_s'")) == 1


def _first_use(outputs, start):
    start.wait()
    tracker = Mlflow().open(outputs)
    name = str(os.getpid())
    with tracker.sweep("s", "sweep") as parent, tracker.run(name, parent=parent) as run:
        run.log_metrics({"x": 1.0})


@pytest.mark.slow
def test_processes_may_share_a_new_store_and_a_sweep(tmp_path):
    start = processes.Event()
    children = [processes.Process(target=_first_use, args=(tmp_path, start)) for _ in range(4)]
    for child in children:
        child.start()
    start.set()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0, 0]
    found = runs(client_of(tmp_path))
    assert len(found) == 5
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    parents = {r.data.tags.get("mlflow.parentRunId") for r in found.values()}
    assert parents == {None, found["sweep"].info.run_id}


def test_only_a_finished_run_of_the_same_config_is_found_again(outputs):
    tracker = Mlflow().open(outputs)
    with tracker.run("one", config_hash="a1") as run:
        run.log_metrics({"latency_mean_ms": 12.5})
        assert tracker.finished_run("a1") is None
    with pytest.raises(ValueError, match="bad"), tracker.run("two", config_hash="b2"):
        raise ValueError("bad")
    found = tracker.finished_run("a1")
    assert (found.id, found.metrics) == (run.id, {"latency_mean_ms": 12.5})
    assert tracker.finished_run("b2") is None
    assert Mlflow(resume=False).open(outputs).finished_run("a1") is None


def test_the_files_of_a_finished_run_are_fetched_or_said_to_be_gone(outputs, tmp_path):
    tracker = Mlflow().open(outputs)
    (tmp_path / "plan.json").write_text("{}")
    with tracker.run("one", config_hash="a1") as run:
        run.log_files([tmp_path / "plan.json"])
    found = tracker.finished_run("a1")
    copy = tracker.fetch(found, "plan.json", tmp_path / "new" / "place")
    assert copy == tmp_path / "new" / "place" / "plan.json"
    assert copy.read_text() == "{}"
    shutil.rmtree(outputs / "mlartifacts")
    with pytest.raises(
        ConfigError, match=r"its plan\.json cannot be had .*; tracking\.resume=false"
    ):
        tracker.fetch(found, "plan.json", tmp_path / "new" / "place")


@pytest.mark.parametrize("other", [Code("c0ffee", dirty=True, diff_sha256="d1ff"), Code()])
def test_uncommitted_code_neither_resumes_nor_is_resumed(outputs, monkeypatch, other):
    def finished(hashed):
        return Mlflow().open(outputs).finished_run(hashed)

    with Mlflow().open(outputs).run("clean", config_hash="a1"):
        pass
    with monkeypatch.context() as patch:
        patch.setattr("coach_exp.tracking.settings.code", lambda: other)
        with Mlflow().open(outputs).run("unclean", config_hash="b2"):
            pass
        assert finished("a1") is None
        assert finished("b2") is None
    assert finished("a1") is not None
    assert finished("b2") is None


def test_the_hash_forgets_where_results_go_but_not_what_makes_them():
    config = {"method": {"name": "coach", "eps": 0.5}, "output": {"dir": "a"}, "tracking": {}}
    same = {"tracking": {"kind": "none"}, "method": {"eps": 0.5, "name": "coach"}}
    assert config_hash(config, weights="w1") == config_hash(same, weights="w1")
    assert config_hash(config, weights="w1") != config_hash(config, weights="w2")
    other = {"method": {"name": "coach", "eps": 0.25}}
    assert config_hash(same) != config_hash(other)


def test_params_fit_mlflow():
    params = flat({"a": {"b": None, "c": {}}, "long": "x" * 7000, "transport": {"token": "abc"}})
    assert (params["a.b"], params["a.c"], params["transport.token"]) == ("null", "{}", "***")
    assert len(params["long"]) == 6000


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "file:///tmp/runs", "nonsense://x"])
def test_a_store_that_cannot_be_used_is_named_with_the_way_out(tmp_path, uri):
    with pytest.raises(ConfigError, match=rf"tracking.uri={uri} .*tracking=none"):
        Mlflow(uri=uri).open(tmp_path)


def test_a_deleted_experiment_is_named_with_the_way_out(outputs, client):
    Mlflow().open(outputs)
    client.delete_experiment(client.get_experiment_by_name("coach").experiment_id)
    with pytest.raises(ConfigError, match=r"coach was deleted .* experiments restore"):
        Mlflow().open(outputs)


def test_without_mlflow_nothing_is_imported_or_written(tmp_path):
    program = (
        "import sys, json, pathlib\n"
        "from coach_exp.tracking.settings import NoTracking\n"
        "tracker = NoTracking().open(pathlib.Path(sys.argv[1]) / 'outputs')\n"
        "with tracker.sweep('s', 'sweep') as parent, tracker.run('one', parent=parent) as run:\n"
        "    run.log_metrics({'x': 1.0})\n"
        "print(json.dumps([tracker.finished_run('a1'), 'mlflow' in sys.modules]))\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [None, False]
    assert list(tmp_path.iterdir()) == []
