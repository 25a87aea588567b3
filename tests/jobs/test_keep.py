"""What a job has found is shown, written, and logged as a run of its own, whatever the job."""

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from helpers.paths import CONF
from hydra import compose, initialize_config_dir
from rich.console import Console

from coach_exp.jobs.job import Job
from coach_exp.jobs.keep import keep
from coach_exp.plots.figures import new_figure
from coach_exp.results.findings import Findings, Table
from coach_exp.results.progress import Display
from coach_exp.results.report import Row, result_table
from coach_exp.results.tables import markdown
from coach_exp.setup.config import Config, validated
from coach_exp.setup.invocation import Invocation
from coach_exp.types.errors import CoachError

BITS = Table("bits by cut", ["cut", "bits"], [["conv1", "4"]])
FOUND = Findings(
    name="precision",
    tables=(BITS,),
    figures={"curve": new_figure(1, 1)},
    data={"bits": {"conv1": 4}},
    notes=("one cut was tried",),
    metrics={"mean_bits": 4.0},
    value=4.0,
)
FILES = {
    *("precision.md", "precision.json", "summary.json", "curve.png"),
    *("provenance.json", "config.yaml"),
}


@dataclass
class Store:
    """A tracker and its only run, which remember what they were asked."""

    id: str = "r1"
    status: str = ""
    opened: dict = field(default_factory=dict)
    metrics: dict = field(default_factory=dict)
    files: dict = field(default_factory=dict)  # what each file held when it was logged
    full: bool = False

    @contextmanager
    def sweep(self, sweep_id, name):
        yield f"parent of {name}"

    @contextmanager
    def run(self, name, **given):
        self.opened = {"name": name, **given}
        try:
            yield self
            self.status = "FINISHED"
        except BaseException:
            self.status = "FAILED"
            raise

    def log_metrics(self, metrics):
        if self.full:
            raise OSError("no space left")
        self.metrics |= metrics

    def log_files(self, files):
        self.files |= {file.name: file.read_bytes() for file in files}


@pytest.fixture
def store():
    return Store()


@pytest.fixture(scope="module")
def config():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return validated(compose("config", overrides=["job=precision"]))


@pytest.fixture
def job(config: Config, tmp_path: Path, store: Store, capsys):
    with Display(Console(width=80)) as display:
        made = Job(config, Invocation(tmp_path / "job", "weights=none", ()), display)
        made.__dict__["tracker"] = store
        yield made


def test_findings_are_written_and_logged(job: Job, store: Store):
    assert keep(job, "precision", lambda work: FOUND) == 4
    assert {file.name for file in job.directory.iterdir()} == FILES
    assert set(store.files) == FILES
    assert (job.directory / "precision.md").read_text() == (
        "## precision\n\n### bits by cut\n\n| cut | bits |\n| :-- | --: |\n| conv1 | 4 |\n"
        "\none cut was tried\n"
    )
    assert json.loads(store.files["precision.json"]) == {"bits": {"conv1": 4}}
    assert json.loads(store.files["summary.json"]) == store.metrics == {"mean_bits": 4}
    assert "packages" in json.loads(store.files["provenance.json"])
    assert store.files["curve.png"].startswith(b"\x89PNG")


def test_a_job_is_a_run_of_its_own(job: Job, store: Store):
    keep(job, "precision", lambda work: FOUND)
    assert store.status == "FINISHED"
    assert store.opened["tags"] == {"coach.job": "precision"}
    assert store.opened["params"]["job"] == {"_target_": "coach_exp.jobs.precision.Precision"}
    assert len(store.opened["config_hash"]) == 64
    assert (store.opened["name"], store.opened["parent"]) == ("weights=none", None)


@pytest.mark.parametrize(
    ("sweep", "name", "parent"),
    [(None, "A table", None), (Path("/out/sweep-1"), "weights=none", "parent of sweep-1")],
)
def test_a_job_of_a_sweep_is_a_child_called_by_its_overrides(job, sweep, name, parent):
    call = Invocation(job.directory, job.call.name, (), sweep)
    child, store = Job(job.config, call, job.display), Store()
    child.__dict__["tracker"] = store
    keep(child, "table", lambda work: FOUND, title="A table")
    assert (store.opened["name"], store.opened["parent"]) == (name, parent)


def test_what_was_found_lies_on_disk_whatever_becomes_of_the_store(job: Job, store: Store):
    store.full = True
    with pytest.raises(OSError, match="no space left"):
        keep(job, "precision", lambda work: FOUND)
    assert {file.name for file in job.directory.iterdir()} == FILES


def test_a_broken_rule_fails_the_job_after_all_is_kept(job: Job, store: Store):
    broken = Findings("soak", data={"lost": 1}, broken=("1 task was lost", "memory grew"))
    with pytest.raises(CoachError, match="1 task was lost\nmemory grew"):
        keep(job, "study", lambda work: broken)
    assert store.status == "FAILED"
    assert set(store.files) == {"soak.json", "provenance.json", "config.yaml"}


def test_a_job_that_finds_nothing_fails_its_run(job: Job, store: Store):
    def find(work):
        raise CoachError("no cut is feasible")

    with pytest.raises(CoachError, match="no cut"):
        keep(job, "plan", find)
    assert store.status == "FAILED"


def test_a_table_that_was_shown_at_once_is_not_shown_again(job: Job, capsys):
    def find(work):
        work.show(BITS)
        job.display.say("at work")
        return FOUND

    keep(job, "precision", find)
    said = capsys.readouterr().out
    assert said.count("bits by cut") == 1
    assert said.index("bits by cut") < said.index("at work") < said.index("one cut was tried")


def test_a_result_is_written_in_one_line_a_row():
    shown = result_table([Row("a|b", {}, "-")], "t", columns=["method", "service", "makespan"])
    lines = markdown(shown).splitlines()
    assert lines[0] == "| method | T_e+T_t+T_c ms | makespan/N ms |"
    assert lines[2] == r"| a\|b | – | – |"
