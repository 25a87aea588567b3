"""job=dynamic on a network whose stage times can be worked out by hand."""

import json
from pathlib import Path

import pytest
from helpers.jobs import do

from coach_exp.tracking.provenance import Code
from coach_exp.types.errors import ConfigError

# At 8 Mbps a byte takes 1 µs. Behind `in`, `a` 1000 bytes cross (24 + 976 at 8 and at 4 bits),
# behind `b` 250. Largest of T_e, T_t, T_c in ms:
#            at 8 Mbps              at 2 Mbps              at 1 Mbps
#   in       max(0, 1, 3)           max(0, 4, 3)           max(0, 8, 3)
#   a        max(2, 1, 2) = 2       max(2, 4, 2) = 4       max(2, 8, 2) = 8
#   b        max(3, 0.25, 1)        max(3, 1, 1) = 3       max(3, 2, 1) = 3
# and 12 ms on the end alone. The plan for 8 Mbps cuts behind a, those for 2 and 1 behind b.
GRAPH = {
    "layers": [
        {"name": "in", "inputs": [], "end_s": 0, "cloud_s": 0, "elements": 976},
        {"name": "a", "inputs": ["in"], "end_s": 0.002, "cloud_s": 0.001, "elements": 1952},
        {"name": "b", "inputs": ["a"], "end_s": 0.001, "cloud_s": 0.001, "elements": 452},
        {"name": "c", "inputs": ["b"], "end_s": 0.009, "cloud_s": 0.001, "elements": 10},
    ]
}
LINK = ("bandwidth.mbps=[8,2,1]", "bandwidth.step_s=1.2")
METHODS = ("device_only", "coach_offline", "coach", "coach_fill", "coach_replan")
KEPT = "coach_bottleneck"


@pytest.fixture
def job(tmp_path: Path, hydra):
    """The job in a folder of its own, and the JSON it leaves."""
    graph = tmp_path / "g.json"
    graph.write_text(json.dumps(GRAPH))

    def run(name: str, *more: str, without=METHODS, link=LINK):
        directory = tmp_path / name
        do(
            directory,
            *("job=dynamic", "model=dag_file", f"model.path={graph}"),
            *("precision=fixed", "precision.bits=4", "workload.tasks=1500", "tracking=none"),
            *link,
            *(f"~job.methods.{method}" for method in without),
            *more,
        )
        return json.loads((directory / "dynamic.json").read_text())["methods"]

    return run


@pytest.mark.slow
def test_a_plan_that_is_kept_loses_what_its_bottleneck_says(job, tmp_path: Path, capsys):
    (kept,) = job("kept").values()
    assert [each["cut"].split()[0] for each in kept["static"]] == ["a", "b", "b"]
    assert [each["mbps"] for each in kept["static"]] == [8, 2, 1]
    steps = kept["steps"]
    assert [(step["from_s"], step["to_s"]) for step in steps] == [
        *((0, 1.2), (1.2, 2.4), (pytest.approx(2.4), pytest.approx(3.6))),
    ]
    # A window may win or lose the few answers that are on their way at its ends.
    dynamic, static = ([step[f"{kind}_its"] for step in steps] for kind in ("dynamic", "static"))
    assert dynamic == pytest.approx([1 / 0.002, 1 / 0.004, 1 / 0.008], abs=3)
    assert static == pytest.approx([1 / 0.002, 1 / 0.003, 1 / 0.003], rel=0.005)
    assert [step["reduction_percent"] for step in steps] == pytest.approx([0, 25, 62.5], abs=1)
    assert [step["answers"] for step in steps] == pytest.approx([600, 300, 150], abs=4)
    sent = [step["metrics"]["transmission_kib_per_task"]["value"] for step in steps]
    assert sent == [1000 / 1024] * 3
    assert "accuracy_drop_points" not in steps[0]["metrics"]
    here = tmp_path / "kept"
    assert {p.name for p in here.iterdir()} == {
        *(KEPT, "dynamic.json", "dynamic.md", "dynamic.png"),
        *("summary.json", "provenance.json", "config.yaml"),
    }
    assert {p.name for p in (here / KEPT).iterdir()} == {
        *("dynamic", "static 8 Mbps", "static 2 Mbps", "static 1 Mbps"),
    }
    assert (here / "dynamic.md").read_text().count(f"| {KEPT} |") == 4
    assert "8 → 2 → 1 Mbps, 1.2 s each" in capsys.readouterr().out


@pytest.mark.slow
def test_a_plan_that_follows_the_rate_keeps_its_throughput(job):
    # Plans are prepared for the three rates; after 0.2 s, reconsidered every 0.1 s, the plan of
    # the present rate runs: 0.2 s of 4 or 8 ms and 1 s of 3 ms at the most.
    follows = ("replan=on_change", "replan.mbps=[8,2,1]", "replan.period_s=0.1")
    (followed,) = job("followed", *follows).values()
    reduction = [step["reduction_percent"] for step in followed["steps"]]
    assert reduction[0] == pytest.approx(0, abs=1)
    assert 0 < reduction[1] < 25 / 4
    assert 0 < reduction[2] < 62.5 / 4


@pytest.mark.slow
def test_a_method_that_cannot_run_is_left_out_aloud(job, capsys):
    cloud = "+job.methods.cloud=['method=cloud_only','input.encoding=forbidden']"
    assert set(job("some", cloud)) == {KEPT}
    said = " ".join(capsys.readouterr().out.split())
    assert "cloud is left out: " in said
    assert "input.encoding = forbidden" in said
    with pytest.raises(ConfigError, match="no method could run"):
        job("none", cloud, without=(*METHODS, KEPT))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        # 600, 300 and 50 answers of 8 ms: the last step would hold 150.
        (
            ["workload.tasks=950"],
            r"950 tasks .* in 2\.8\d s, .* until 3\.6 s; use workload\.tasks=",
        ),
        (["bandwidth.step_s=0.003"], r"no task is answered from 0 to 0\.003 s, at 8 Mbps; use a"),
        (["workload=periodic", "workload.drop=true"], r"workload\.drop=false"),
        (["job.methods=null"], r"job\.methods"),
    ],
)
def test_what_cannot_be_compared_is_refused(job, overrides: list[str], message: str):
    with pytest.raises(ConfigError, match=message):
        job("refused", *overrides, without=() if "job.methods=null" in overrides else METHODS)


def test_a_trace_without_steps_is_refused(job):
    with pytest.raises(ConfigError, match=r"use bandwidth=steps, fig5a or fig5b"):
        job("refused", link=("bandwidth=random_walk",))


@pytest.mark.slow
def test_a_job_that_is_repeated_takes_everything_from_the_finished_runs(
    job, tmp_path: Path, monkeypatch, capsys
):
    monkeypatch.setattr("coach_exp.tracking.settings.code", lambda: Code("c0ffee", dirty=False))
    first = job("first", "tracking=mlflow")
    assert "finished before" not in capsys.readouterr().out
    second = job("second", "tracking=mlflow")
    assert capsys.readouterr().out.count("finished before as run") == 4
    assert second == first
    assert (tmp_path / "second" / KEPT / "dynamic" / "tasks.parquet").is_file()
