"""Methods made in Python, with nothing said but what differs."""

from dataclasses import replace

import pytest
from helpers.graphs import chain
from helpers.paths import CONF
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from baselines.dads import Dads
from baselines.dyno import Dyno
from baselines.jps import Jps
from baselines.neurosurgeon import Neurosurgeon
from baselines.oracles import Oracle
from baselines.pipebalance import PipeBalance
from baselines.single_sided import CloudOnly, DeviceOnly
from baselines.spinn import Spinn
from coach_exp.coach import Coach
from coach_exp.online.method import Online
from coach_exp.planner.planning import Planner
from coach_exp.types.errors import ConfigError

METHODS = (Coach, CloudOnly, Dads, DeviceOnly, Dyno, Jps, Neurosurgeon, Oracle, PipeBalance, Spinn)

#   in ─ 1 ─ 2 ─ 3       end 0, 2, 2, 8 s; cloud 0, 1, 1, 3 s; tensors 4, 5, 3, 0 s
PROBLEM = chain((0, 2, 2, 8), (0, 1, 1, 3), (4, 5, 3, 0))


@pytest.mark.parametrize("method", METHODS)
def test_defaults_make_a_plan(method):
    made = method()
    assert made.name
    assert made.plan(made.view(PROBLEM)).plans


def test_a_variant_of_coach_names_its_objective_alone():
    plan = Coach(objective="bottleneck").plan(PROBLEM).plans[0]
    assert plan == Coach(Planner(objective="bottleneck")).plan(PROBLEM).plans[0]
    assert plan.objective.name == "bottleneck"
    assert Coach().plan(PROBLEM).plans[0].objective.name == "paper"


@pytest.mark.parametrize(
    ("variant", "changes"),
    [
        ("coach_bottleneck", {"objective": "bottleneck"}),
        ("coach_fill", {"rule": "fill"}),
        ("coach_offline", {"online": None}),
    ],
)
def test_a_variant_of_coach_is_coach_but_for_what_it_says(variant, changes):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        coach, other = (
            instantiate(compose("config", overrides=[f"method={name}"]).method, _convert_="all")
            for name in ("coach", variant)
        )
    assert other == replace(coach, name=variant, **changes)
    assert isinstance(coach.online, Online)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"division": "open"},
            r"method\.division = 'open': should be 'as_published', 'same_codec'",
        ),
        ({"name": 3}, r"method\.name = 3: should be a valid string"),
        ({"online": "semantic"}, r"method\.online = 'semantic': has no decides, .*OnlinePart"),
    ],
)
def test_what_all_baselines_share_is_checked(settings, words):
    with pytest.raises(ConfigError, match=words):
        PipeBalance(**settings)
