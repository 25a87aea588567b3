"""The oracles: every closed end set with every width, tried one by one."""

from dataclasses import replace
from itertools import product
from math import ceil

import numpy as np
import pytest
from helpers.graphs import SHAPES, chain, diamond, random_problem
from helpers.looped import looped
from helpers.networks import full_size
from helpers.one_cut import answered_problem, ns, plan, run, searched
from helpers.reference import closed_end_sets

from baselines.dyno import Dyno
from baselines.oracles import Oracle
from baselines.pipebalance import PipeBalance
from coach_exp.online.replan import Replan
from coach_exp.planner.planning import Planner
from coach_exp.types.errors import ConfigError, InfeasibleError
from coach_exp.types.method import Link, Problem

LATENCY = Oracle(name="oracle_latency", objective="latency")
BOTTLENECK = Oracle(name="oracle_bottleneck", objective="bottleneck")
WIDTHS = (2, 5, 8)


def min_period_s(given: Problem, needs: dict[str, int]) -> float:
    """Over all closed end sets and all widths that are enough."""
    layers, best = {layer.name: layer for layer in given.graph.layers}, float("inf")
    raw = given.graph.input.name
    for held in closed_end_sets(given):
        rest = set(layers) - held
        crossing = {name for other in rest for name in layers[other].inputs} & held
        end_s = sum(given.end.layer_s[name] for name in held)
        cloud_s = sum(given.cloud.layer_s[name] for name in rest)
        enough = [
            [(name, bits) for bits in ((8,) if name == raw else WIDTHS) if bits >= needs[name]]
            for name in crossing
        ]
        for sent in product(*enough):
            link_s = sum(ceil(layers[name].elements * bits / 8) / 1000 for name, bits in sent)
            best = min(best, max(end_s, link_s, cloud_s))
    return best


@pytest.mark.parametrize("shape", SHAPES)
@looped("seed", range(8))
def test_no_cut_with_any_bits_has_a_shorter_largest_stage(seed: int, shape: str):
    rng = np.random.default_rng(seed)
    given = random_problem(rng, shape, 6)
    needs = {layer.name: int(rng.choice(WIDTHS)) for layer in given.graph.layers}
    found = plan(BOTTLENECK, searched(given, needs))
    assert found.objective.value == pytest.approx(min_period_s(given, needs), rel=1e-9)
    assert found.gap == 0


@looped("seed", range(8))
def test_no_cut_has_a_lower_latency(seed: int):
    rng = np.random.default_rng(seed)
    given = random_problem(rng, "any", 7)
    needs = {layer.name: int(rng.choice(WIDTHS)) for layer in given.graph.layers}
    judge = Planner(objective="latency", overlap_limited=False)
    every = [
        judge.plan_for(searched(given, needs), held).latency_s for held in closed_end_sets(given)
    ]
    assert plan(LATENCY, searched(given, needs)).latency_s == pytest.approx(min(every), rel=1e-9)


def test_constraint_4_does_not_bind_the_oracle():
    # Some graph's best cut overlaps more than COACH may.
    for seed in range(200):
        given = random_problem(np.random.default_rng(seed), "any", 8)
        free = plan(LATENCY, given).latency_s
        if free < Planner("exhaustive", "latency").plan(given).latency_s * (1 - 1e-9):
            return
    pytest.fail("constraint (4) costs nothing on any graph; either it binds here, or draw others")


def test_above_the_limit_it_refuses_aloud():
    given = diamond((1, 1, 9, 9), 1, 1)
    few = replace(BOTTLENECK, limit=1, replan=Replan(mbps=(1, 2)))
    with pytest.raises(InfeasibleError, match=r"more than planner\.limit = 1 cuts.*raise planner"):
        plan(few, given)


def test_widths_are_the_searched_ones_and_nothing_is_decided_online():
    plans, records = run(LATENCY, answered_problem())
    assert [tensor.bits for tensor in plans.plans[0].crossing] == [4]
    assert plans.plans[0].online is None
    assert (records.decision == "send").all()


def test_a_plan_for_every_rate():
    given = chain([0, 1, 1, 8], [0, 0.5, 0.5, 1], [6, 4, 1, 0])
    plans = replace(LATENCY, replan=Replan(mbps=(8e-5, 0.8))).plan(given)
    cuts = [each.plans[0].cut_name for each in (plans, *plans.prepared)]
    assert cuts == ["2", "device-only", "in"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"objective": "paper"},
            r"method\.objective = 'paper': .*'latency' or 'bottleneck'",
        ),
        ({"limit": 0}, r"method\.limit = 0: should be greater than 0"),
        ({"limit": 1.5}, r"method\.limit = 1\.5: should be a valid integer"),
    ],
)
def test_a_wrong_setting_is_named(changes, message: str):
    with pytest.raises(ConfigError, match=message):
        replace(LATENCY, **changes)


@pytest.mark.parametrize("name", ["resnet18", "googlenet"])
def test_real_models(name: str):
    network = full_size(name)
    others = [
        ns(),
        ns(linearisation="prefix"),
        Dyno(name="dyno"),
        PipeBalance(name="pipebalance", division="same_codec"),
    ]
    for mbps in (2, 20, 100):
        given = replace(network, link=Link(1e6 * mbps))
        soonest, steadiest = plan(LATENCY, given), plan(BOTTLENECK, given)
        for found in (plan(other, given) for other in others):
            assert soonest.latency_s <= found.latency_s * (1 + 1e-9)
            assert steadiest.stage_s.period_s <= found.stage_s.period_s * (1 + 1e-9)
