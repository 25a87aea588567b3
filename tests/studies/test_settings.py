"""The experiments that name a study: their commands, and that the study takes their settings."""

from dataclasses import fields

import pytest
from helpers.paths import CONF
from helpers.studies import study
from omegaconf import OmegaConf

from coach_exp.studies.faults import Faults
from coach_exp.studies.fig1 import Fig1
from coach_exp.types.errors import ConfigError

STUDIES = {
    "budgets": "budgets.Budgets",
    "complexity": "complexity.Complexity",
    "estimators": "estimators.Estimators",
    "exits": "exits.Exits",
    "faults": "faults.Faults",
    "fig1": "fig1.Fig1",
    "fig2": "fig2.Fig2",
    "gaps": "gaps.Gaps",
    "orders": "orders.Orders",
    "soak": "soak.Soak",
}


def given(name: str):
    """The settings that the experiment gives its study."""
    config = OmegaConf.load(CONF / "experiment" / f"{name}.yaml")
    found = config.study if "study" in config else config.job.study
    settings = OmegaConf.to_container(OmegaConf.create({"seed": 0, "study": found}), resolve=True)
    return {key: value for key, value in settings["study"].items() if key not in NAMING}


NAMING = ("kind", "_target_")


@pytest.mark.parametrize("name", STUDIES)
def test_the_experiment_states_its_command_and_the_study_takes_its_settings(name):
    text = (CONF / "experiment" / f"{name}.yaml").read_text()
    assert f"python run.py experiment={name}" in text
    settings = given(name)
    made = study(STUDIES[name], **settings)
    assert set(settings) <= {each.name for each in fields(made)}


@pytest.mark.parametrize("name", ["fig1", "faults"])
def test_the_experiment_gives_what_is_meant_anyway(name):
    assert study(STUDIES[name], **given(name)) == {"fig1": Fig1(), "faults": Faults()}[name]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("complexity", {"branches": [0]}, r"study\.branches = 0: should be greater than 0"),
        ("complexity", {"brunches": [1]}, "brunches = .*: .*; did you mean 'branches'"),
        ("estimators", {"weights": [0]}, r"weights = 0"),
        ("gaps", {"objectives": ["fast"]}, r"objectives = fast"),
        ("orders", {"draws": 1}, r"draws = 1: should be greater than or equal to 2"),
        ("orders", {"deep": 3}, "deep"),
        ("orders", {"budget": "guarantee"}, r"budget = guarantee: should be 'paper' or 'joint'"),
        ("budgets", {"limits": {"none": [1]}}, r"limits\.none"),
        ("budgets", {"limits": {"paper": [1]}, "delta": 1.0}, "delta = 1.0: should be less than 1"),
        ("budgets", {"limits": {"guarantee": [100]}}, r"limits\.guarantee = 100"),
        ("budgets", {"limits": {}}, "limits"),
        ("budgets", {}, "limits: is not set"),
        ("exits", {"thresholds": [0.5, 1.5]}, r"thresholds = 1.5"),
        ("faults", {"faults": ["cloud tired"]}, r"faults = cloud tired"),
        ("faults", {"stall_s": 0}, "stall_s = 0"),
        ("fig1", {"bits": [4, 4]}, "4 and 4 are no range"),
        ("fig1", {"bits": [2, 16]}, "less than or equal to 8"),
        ("fig1", {"split": "centres"}, "'calib' or 'stream'"),
        ("fig1", {"colour": "red"}, "colour"),
        ("fig2", {"tasks": 5}, "tasks = 5: .*; there are none"),
        ("soak", {"failures": []}, "failures"),
    ],
)
def test_a_wrong_setting_is_named(name, settings, message):
    with pytest.raises(ConfigError, match=message):
        study(STUDIES[name], **settings)
