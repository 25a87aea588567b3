"""Kinds of jobs are components: what `conf/job` and the experiments say of them is checked."""

from pathlib import Path

import pytest
from helpers.paths import CONF
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf, open_dict

from coach_exp.jobs.composed import RUN, composed_run
from coach_exp.jobs.start import run_job
from coach_exp.results.report import USUAL
from coach_exp.setup.invocation import Invocation
from coach_exp.types.component import built
from coach_exp.types.errors import ConfigError

KINDS = sorted(path.stem for path in (CONF / "job").glob("*.yaml"))
EMPTY = {"orderings", "study", "table"}  # an experiment says what is in them
EXPERIMENTS = [
    path.stem
    for path in sorted((CONF / "experiment").glob("*.yaml"))
    if "override /job: study" not in path.read_text()
]


@pytest.fixture(scope="module", autouse=True)
def hydra():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def settings(kind: str, experiment: str | None = None, **changes) -> dict:
    """What the files say of a job, without the rest of the config."""
    parts = [OmegaConf.load(CONF / "job" / f"{kind}.yaml")]
    if experiment is not None:
        parts.append(OmegaConf.load(CONF / "experiment" / f"{experiment}.yaml").get("job", {}))
    return OmegaConf.to_container(OmegaConf.merge(*parts, changes))


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_job_can_be_made_or_names_the_way_out(name: str):
    if name in EMPTY:
        with pytest.raises(ConfigError, match=r"job\..*choose one with experiment=NAME"):
            built(settings(name), "job")
        return
    made = built(settings(name), "job")
    assert type(made).__module__ == f"coach_exp.jobs.{name}"
    assert callable(made)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_says_all_that_its_job_needs(name: str):
    defaults = OmegaConf.load(CONF / "experiment" / f"{name}.yaml").defaults
    (kind,) = (each["override /job"] for each in defaults if "override /job" in each)
    assert type(built(settings(kind, name), "job")).__module__ == f"coach_exp.jobs.{kind}"


def test_names_are_those_of_folders():
    with pytest.raises(ConfigError, match=r"job\.rows.*pattern"):
        built(settings("table", "compare", rows={"a, b": ["method=coach"]}), "job")


def test_columns_are_the_usual_ones_or_known():
    assert tuple(settings("table")["columns"]) == USUAL
    with pytest.raises(ConfigError, match=r"columns.*no columns \['speed'\]; there are method"):
        built(settings("table", "compare", columns=["speed"]), "job")


def test_what_cannot_be_called_is_no_job(tmp_path: Path):
    raw = compose("config", overrides=["job._target_=coach_exp.types.plan.StageTimes"])
    with open_dict(raw):
        raw.job.update(end_s=1.0, link_s=1.0, cloud_s=1.0)
    with pytest.raises(ConfigError, match=r"job\._target_ = .*StageTimes: has no __call__"):
        run_job(raw, Invocation(tmp_path, "test", ()))


def test_a_nested_run_keeps_the_experiment_but_not_its_job(tmp_path: Path):
    given = ("job=table", "experiment=compare", "~job.rows.jps", "job.title=mine", "seed=3")
    config = composed_run(Invocation(tmp_path, "test", given), ["method=ns"])
    assert config.plain["job"] == RUN
    assert config.plain["bandwidth"]["mbps"] == 20
    assert config.plain["seed"] == 3
    assert config.built_method().name == "ns"


def test_nested_runs_of_two_parents_are_the_same_run(tmp_path: Path):
    parents = (("experiment=compare",), ("experiment=compare", "job.title=other"))
    one, other = (composed_run(Invocation(tmp_path, "t", p), ["method=ns"]) for p in parents)
    assert one.plain == other.plain
