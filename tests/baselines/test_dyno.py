"""DynO: cut and bits together, against every cut vertex at every width."""

from dataclasses import replace
from math import ceil

import numpy as np
import pytest
from helpers.graphs import chain, random_problem
from helpers.looped import looped
from helpers.networks import full_size
from helpers.one_cut import answered_problem, ns, plan, run, searched

from baselines.dyno import Dyno
from coach_exp.online.method import Online
from coach_exp.online.replan import Replan
from coach_exp.planner.cost_model import cut_vertices
from coach_exp.types.method import Link
from coach_exp.types.outcomes import Crossing


def dyno(**settings) -> Dyno:
    return Dyno(name="dyno", **settings)


def test_cut_and_bits_are_chosen_together():
    # 1000 elements a tensor: 125 bytes a bit. Behind 1: 1 + 1 + 3 s at 8 bits; behind 2:
    # 2 + 0.375 + 2 s at 3 bits, the best; were all at 8 bits, it would be 1 and 2 alike.
    given = searched(chain([0, 1, 1, 9], [0, 1, 1, 2], [9, 1, 1, 0]), {"1": 8, "2": 3, "3": 2})
    for division in ("as_published", "same_codec"):
        found = plan(dyno(division=division), given)
        assert found.crossing == (Crossing("2", 3),)
        assert found.latency_s == pytest.approx(2 + 0.375 + 2)


@pytest.mark.parametrize("objective", ["latency", "bottleneck"])
@looped("seed", range(30))
def test_no_cut_vertex_at_any_width_within_the_budget_is_better(seed: int, objective: str):
    rng = np.random.default_rng(seed)
    given = random_problem(rng, ("chain", "one_level")[seed % 2], 14)
    given = replace(given, link=replace(given.link, rtt_s=0.1))
    names = [layer.name for layer in given.graph.layers]
    needs = dict(zip(names, rng.integers(2, 9, len(names)).tolist(), strict=True))
    best = sum(given.end.layer_s.values())  # on the end, where there is no round trip
    for vertex in cut_vertices(given.graph)[:-1]:
        name, elements = names[vertex], given.graph.layers[vertex].elements
        end_s = sum(given.end.layer_s[n] for n in names[: vertex + 1])
        cloud_s = sum(given.cloud.layer_s[n] for n in names[vertex + 1 :])
        for bits in [8] if vertex == 0 else range(needs[name], 9):
            link_s = ceil(elements * bits / 8) / 1000
            latency_s = end_s + link_s + cloud_s + 0.05
            found = latency_s if objective == "latency" else max(end_s, link_s, cloud_s)
            best = min(best, found)
    chosen = plan(dyno(objective=objective), searched(given, needs))
    assert chosen.objective.value == pytest.approx(best, rel=1e-9)
    assert all(t.bits == needs[t.layer] for t in chosen.crossing if t.layer != names[0])


def test_deeper_and_narrower_where_the_link_is_slower():
    # Behind 1 at 8 bits 1 + 2 + 3 s, behind 2 at 4 bits 3 + 0.75 + 2 s; at 100 times the rate the
    # link no longer counts.
    needs = {"1": 8, "2": 4, "3": 2}
    given = searched(chain([0, 1, 2, 90], [0, 9, 1, 2], [90, 2, 1.5, 0]), needs)
    plans = dyno(replan=Replan(mbps=(0.8, 8e-6))).plan(given)
    sent = [each.plans[0].crossing for each in (plans, *plans.prepared)]
    assert sent == [(Crossing("2", 4),), (Crossing("1", 8),), ()]


def test_as_published_nothing_is_decided_online():
    plans, records = run(dyno(online=Online(limit_points=2)), answered_problem())
    assert plans.plans[0].crossing == (Crossing("1", 4),)
    assert (records.decision == "send").all()


def test_a_round_trip_counts_and_the_latency_is_the_objective():
    # 4 s and half of the trip behind 2; 4.3 s on the end.
    given = chain([0, 1, 1, 2.3], [0, 0.5, 0.5, 1], [6, 4, 1, 0])
    near, far = (replace(given, link=Link(8000.0, rtt_s=trip_s)) for trip_s in (0.4, 1.0))
    assert plan(dyno(), far).cut_name == "device-only"
    assert plan(dyno(), near).cut_name == "2"
    assert plan(dyno(), near).objective.value == pytest.approx(4.2)


@pytest.mark.parametrize("name", ["resnet18", "googlenet"])
def test_real_models(name: str):
    network = full_size(name)
    for mbps in (2, 20, 100):
        given = replace(network, link=Link(1e6 * mbps))
        soonest, steadiest = (plan(dyno(objective=o), given) for o in ("latency", "bottleneck"))
        assert steadiest.stage_s.period_s <= soonest.stage_s.period_s * (1 + 1e-9)
        assert soonest.latency_s <= steadiest.latency_s * (1 + 1e-9)
        assert soonest.latency_s == pytest.approx(plan(ns(), given).latency_s)  # the same cuts
