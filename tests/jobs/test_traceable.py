"""Every experiment leaves its tables, figures and provenance in the store of runs."""

import json
from pathlib import Path

import pytest
from helpers.jobs import do
from mlflow.tracking import MlflowClient

pytestmark = pytest.mark.usefixtures("hydra")
SMALL = {  # what is typed -> files that a reader looks for
    ("experiment=fig2",): ("fig2.md", "fig2.json", "fig2.png"),
    ("experiment=gaps", "job.study.graphs=4", "job.study.architectures=[]"): (
        "gaps.md",
        "gaps.json",
    ),
    (
        *("experiment=complexity", "job.study.layers=[2,3]", "job.study.branches=[2,4]"),
        *("job.study.totals=[100,200]", "job.study.large=null"),
    ): ("complexity.md", "complexity.json", "complexity.png"),
    ("experiment=estimators", "job.study.walks=1"): ("estimators.md", "estimators.json"),
    ("job=plan", "weights=none"): ("plan.json", "plan.md", "graph.png", "schedule.png"),
    ("job=plan", "weights=none", "job.pareto=true"): ("pareto.json", "pareto.png"),
    (
        *("experiment=orderings", "job.mbps=[20]", "workload.tasks=20"),
        *("~job.groups.vgg16_nx_as_published", "~job.groups.vgg16_nx_same_codec"),
        *("~job.groups.vgg16_tx2_as_published", "~job.groups.vgg16_tx2_same_codec"),
        *("~job.groups.resnet101_tx2_as_published", "~job.groups.resnet101_tx2_same_codec"),
    ): ("orderings.md", "orderings.json", "orderings.png"),
}


def _quick_first(typed: tuple[str, ...]) -> object:
    slow = "experiment=orderings" in typed
    name = " ".join(typed)[:40]
    return pytest.param(typed, id=name, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize("typed", [_quick_first(typed) for typed in SMALL])
def test_an_experiment_is_kept_with_its_origin(typed: tuple[str, ...], tmp_path: Path):
    do(tmp_path / "here", *typed)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (experiment,) = (e for e in client.search_experiments() if e.name == "coach")
    (run,) = client.search_runs([experiment.experiment_id])
    kept = {each.path for each in client.list_artifacts(run.info.run_id)}
    assert kept >= {*SMALL[typed], "provenance.json", "config.yaml"}
    assert run.info.status == "FINISHED"
    assert len(run.data.tags["config_hash"]) == 64
    local = Path(client.download_artifacts(run.info.run_id, "provenance.json", str(tmp_path)))
    assert {"code", "packages", "hardware"} <= set(json.loads(local.read_text()))
