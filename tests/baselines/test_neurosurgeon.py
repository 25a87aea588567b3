"""Neurosurgeon, and the other methods of one cut, against hand-worked cases and brute force."""

from dataclasses import replace
from itertools import pairwise, product
from math import exp, inf, log1p

import numpy as np
import pytest
from helpers.graphs import SHAPES, chain, diamond, random_problem
from helpers.graphs import problem as graph_of
from helpers.looped import looped
from helpers.networks import full_size
from helpers.one_cut import answered_problem, ns, plan, run
from helpers.reference import closed_end_sets

from baselines.chain import cut_vertex_cuts, least, prefix_cuts
from baselines.dyno import Dyno
from baselines.harness import costs
from baselines.neurosurgeon import Neurosurgeon, predicted
from baselines.oracles import Oracle
from baselines.pipebalance import PipeBalance
from coach_exp.network.estimator import Oracle as TrueRate
from coach_exp.network.trace import constant
from coach_exp.online.method import Online
from coach_exp.pipeline.simulator import simulate
from coach_exp.planner.certificate import min_total_s
from coach_exp.planner.planning import Planner
from coach_exp.types.errors import ConfigError, InfeasibleError
from coach_exp.types.graph import Layer, LayerGraph
from coach_exp.types.method import Link, Problem
from coach_exp.types.outcomes import Crossing
from coach_exp.types.profile import DeviceProfile
from coach_exp.types.workload import Workload

# Seconds. All cloud: 6 + 2 = 8; behind 1: 1 + 4 + 1.5; behind 2: 2 + 1 + 1 = 4; all end: 10.
GIVEN = chain((0, 1, 1, 8), (0, 0.5, 0.5, 1), (6, 4, 1, 0))
BOTH = pytest.mark.parametrize("linearisation", ["articulation", "prefix"])
SEEDS = range(60)


def at(problem: Problem, factor: float) -> Problem:
    """The same problem at another rate."""
    link = replace(problem.link, bandwidth_bps=factor * problem.link.bandwidth_bps)
    return replace(problem, link=link)


def drawn(seed: int, size: int = 8) -> Problem:
    """A random problem; the shapes take turns."""
    return random_problem(np.random.default_rng(seed), list(SHAPES)[seed % len(SHAPES)], size)


@BOTH
def test_the_chain_by_hand(linearisation):
    found = plan(ns(linearisation=linearisation), GIVEN)
    assert found.cut_name == "2"
    assert found.objective.value == pytest.approx(4)


@BOTH
def test_a_slow_link_keeps_all_on_the_end_and_a_fast_one_sends_the_input(linearisation):
    method = ns(linearisation=linearisation)
    slow, fast = plan(method, at(GIVEN, 0.01)), plan(method, at(GIVEN, 100))
    assert (slow.cut_name, slow.objective.value) == ("device-only", pytest.approx(10))
    assert (fast.cut_name, fast.objective.value) == ("in", pytest.approx(2.06))


def test_device_only_uploads_nothing_and_cloud_only_the_input():
    slow, fast = plan(ns(), at(GIVEN, 0.01)), plan(ns(), at(GIVEN, 100))
    assert (slow.stage_s.link_s, slow.payload_bytes) == (0, ())
    assert fast.stage_s.link_s == pytest.approx(0.06)  # the input's 6 s, not the 4 s of layer 1


@BOTH
@looped("seed", SEEDS)
def test_more_bandwidth_never_costs_more_nor_sends_less(linearisation, seed):
    problem = drawn(seed)
    method = ns(linearisation=linearisation)
    plans = [plan(method, at(problem, factor)) for factor in np.geomspace(1e-3, 1e3, 25)]
    values = [each.objective.value for each in plans]
    sizes = [sum(each.payload_bytes) for each in plans]
    assert all(b <= a * (1 + 1e-9) for a, b in pairwise(values))
    assert sizes == sorted(sizes)


@looped("seed", SEEDS)
def test_cut_vertices_cost_no_less_than_prefixes_and_those_no_less_than_the_minimum_cut(seed):
    problem = drawn(seed)
    by_vertex, by_prefix = (
        plan(ns(linearisation=each), problem).objective.value for each in ("articulation", "prefix")
    )
    min_s = min_total_s(costs(problem, "sum", "per_tensor"))
    assert min_s <= by_prefix * (1 + 1e-9)
    assert by_prefix <= by_vertex * (1 + 1e-9)


@looped("seed", range(20))
def test_on_a_chain_all_three_are_the_same(seed):
    rng = np.random.default_rng(seed)
    problem = chain(*rng.uniform(0, 1, (3, 9)))
    found = [plan(ns(linearisation=each), problem) for each in ("articulation", "prefix")]
    min_s = min_total_s(costs(problem, "sum", "per_tensor"))
    assert [each.objective.value for each in found] == pytest.approx([min_s, min_s])
    assert found[0].end_layers == found[1].end_layers


def test_a_diamond_offers_no_cut_inside_to_one_and_both_tensors_to_the_other():
    # in → light, heavy → add: behind light, `in` and `light` are alive.
    problem = diamond((0, 1, 1, 1), 1, (5, 1, 1, 0))
    model = costs(problem, "sum", "per_tensor")
    vertex, prefix = cut_vertex_cuts(model), prefix_cuts(model)
    assert vertex.held.tolist() == [1, 4]  # behind `in`, and all on the end
    assert prefix.held.tolist() == [1, 2, 3, 4]
    assert prefix.link_s.tolist() == pytest.approx([5, 6, 2, 0])


@looped("seed", SEEDS)
def test_prefixes_cost_what_the_cost_model_says(seed):
    model = costs(drawn(seed), "sum", "per_tensor")
    cuts = prefix_cuts(model)
    for k in range(len(cuts.held)):
        stage = model.of(cuts.end_set(k))[0].stage
        found = (cuts.end_s[k], cuts.link_s[k], cuts.cloud_s[k])
        assert found == pytest.approx((stage.end_s, stage.link_s, stage.cloud_s))


@looped("seed", SEEDS)
def test_candidates_are_the_cuts_that_the_cost_model_allows(seed):
    given = drawn(seed)
    every = prefix_cuts(costs(given, "sum", "after_decision"))
    limit_s = float(np.median(every.end_s + every.link_s + every.cloud_s)) + 1e-6
    given = replace(given, t_max_s=limit_s, raw_input_may_cross=bool(seed % 2))
    model = costs(given, "sum", "after_decision")
    prefixes = (prefix_cuts(model), range(len(given.graph)))
    for cuts, places in (prefixes, (cut_vertex_cuts(model), model.chain)):
        allowed = [i + 1 for i in places if not model.of(frozenset(range(i + 1)))[0].violation_s]
        assert cuts.held.tolist() == (allowed or [len(given.graph)])


@BOTH
def test_a_limit_that_every_cut_breaks_is_named(linearisation):
    with pytest.raises(InfeasibleError, match=r"sends nothing.*t_max_ms = 3500"):
        plan(ns(linearisation=linearisation), replace(GIVEN, t_max_s=3.5))


def test_a_prefix_may_end_inside_a_block_and_pays_for_the_shortcut_too():
    #       ┌─ a ─ b ─┐       a is far cheaper on the end, b and add on the cloud
    #   in ─ s        add     tensors: in 0.5, s 0.4, a 0.3, b 9, add 0 s
    #       └─────────┘
    inputs = {"in": [], "s": ["in"], "a": ["s"], "b": ["a"], "add": ["s", "b"]}
    times = ((0, 1, 1, 50, 50), (0, 50, 50, 1, 1), (0.5, 0.4, 0.3, 9, 0))
    block = graph_of(inputs, *(dict(zip(inputs, each, strict=True)) for each in times))
    inside = plan(ns(linearisation="prefix"), block)
    assert (inside.cut_name, inside.payload_bytes) == ("s+a", (400, 300))
    assert inside.objective.value == pytest.approx(2 + (0.4 + 0.3) + 2)
    assert plan(ns(), block).cut_name == "s"  # 1 + 0.4 + 52


@BOTH
def test_an_input_that_must_stay_is_not_sent(linearisation):
    private = replace(at(GIVEN, 100), raw_input_may_cross=False)
    # 1 + 0.04 + 1.5 behind 1, 2 + 0.01 + 1 behind 2.
    assert plan(ns(linearisation=linearisation), private).cut_name == "1"
    shortcut = replace(at(diamond((0, 1, 1, 1), 1, (5, 1, 1, 0)), 1e6), raw_input_may_cross=False)
    found = plan(ns(linearisation=linearisation), shortcut)
    assert "in" not in [tensor.layer for tensor in found.crossing]


@BOTH
def test_equal_devices_and_a_finite_link_keep_all_on_the_end(linearisation):
    problem = chain((0, 1, 1), (0, 1, 1), (1, 1, 1))
    assert plan(ns(linearisation=linearisation), problem).cut_name == "device-only"


def test_a_megabit_takes_a_second_at_one_mbps():
    problem = at(chain((0, 9e9), (0, 0), (1, 0)), 1)
    megabit = LayerGraph.of([Layer("in", elements=125_000 // 4), Layer("1", ("in",))])
    problem = replace(problem, graph=megabit, link=Link(1e6))
    problem = replace(problem, bits=FixedAt(32))
    assert plan(ns(), problem).stage_s.link_s == pytest.approx(1.0)


class FixedAt:
    def __init__(self, bits: int) -> None:
        self.width = bits

    def bits(self, layer: str) -> int:
        return self.width

    def fresh(self) -> "FixedAt":
        return self

    def settle(self, crossing) -> bool:
        return False


def test_the_round_trip_counts_against_sending():
    # Behind 2: 4 s and half of 14 s on the way: 11; all on the end: 10.
    away = replace(GIVEN, link=replace(GIVEN.link, rtt_s=14.0))
    assert plan(ns(), away).cut_name == "device-only"


def test_as_published_tensors_are_floats_and_the_input_is_what_it_is():
    method = Neurosurgeon(name="ns")
    seen = method.view(GIVEN)
    assert seen.bits.bits("1") == 32
    assert seen.bits.bits("in") == GIVEN.bits.bits("in")


# --- Execution ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("execution", "makespan_s"), [("sequential", 40), ("pipelined", 22)])
def test_a_sequential_run_takes_every_latency_in_turn(execution, makespan_s):
    # T_e = 2, T_t = 1, T_c = 1: ten tasks take 10 · 4, or 4 + 9 · 2 when pipelined.
    given = replace(GIVEN, workload=Workload("saturated", tasks=10, in_flight=4))
    method = ns(execution=execution)
    seen = method.view(given)
    trace = constant(given.link.bandwidth_bps)
    records = simulate(seen, method.controller(method.plan(seen)), trace, TrueRate(trace))
    assert records.finish_s.max() == pytest.approx(makespan_s)


# --- Regression -----------------------------------------------------------------------------------


def sized(name: str, flops: int, bytes_: int) -> Layer:
    source = "in" if name == "a" else chr(ord(name) - 1)
    return Layer(name, (source,), kind="conv", flops=flops, param_bytes=bytes_)


def test_the_regression_finds_a_log_linear_law():
    layers = [
        sized(*each)
        for each in zip("abcde", (10, 400, 90, 7000, 33), (5, 8, 900, 77, 6), strict=True)
    ]
    graph = LayerGraph.of([Layer("in"), *layers])
    law = {
        each.name: exp(-3 + 0.5 * log1p(each.flops) + 0.25 * log1p(each.param_bytes))
        for each in layers
    }
    profile = DeviceProfile("d", {"in": 0.0, **law})
    found = predicted(profile, graph).layer_s
    assert found == pytest.approx(profile.layer_s)
    bent = replace(profile, layer_s={**profile.layer_s, "c": 10 * law["c"]})
    assert predicted(bent, graph).layer_s["c"] < 10 * law["c"]


def test_a_regression_decides_and_the_profile_is_paid():
    problem = drawn(3)
    found = plan(ns(predictor="regression"), problem)
    held = {layer: problem.end.layer_s[layer] for layer in found.end_layers}
    assert found.stage_s.end_s == pytest.approx(sum(held.values()))


def test_a_prediction_may_err_and_the_profile_is_paid():
    # 1 and 2 do alike, so the fit gives each the geometric mean: 2 s on the end, 1 s on the cloud.
    #   sent      T_e T_t   T_c   sum    by the fit
    #   1           1   2  0.01  3.01    2 + 2 + 1 = 5
    #   nothing     5   0     0     5    4
    alike = chain([0, 1, 4], [0, 100, 0.01], [9, 2, 2])
    assert plan(ns(), alike).cut_name == "1"
    guessed = plan(ns(predictor="regression"), alike)
    assert guessed.cut_name == "device-only"
    assert guessed.objective.value == guessed.stage_s.end_s == 5


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"linearisation": "chain"}, "method.linearisation = 'chain'.*articulation"),
        ({"execution": "fast"}, "method.execution = 'fast'.*sequential"),
        ({"predictor": "guess"}, "method.predictor = 'guess'.*regression"),
    ],
)
def test_wrong_settings_are_named(settings, words):
    with pytest.raises(ConfigError, match=words):
        ns(**settings)
    with pytest.raises(ConfigError, match=r"method.objective = 'sum'.*bottleneck"):
        Dyno(name="dyno", objective="sum")
    with pytest.raises(ConfigError, match=r"method.objective = 'sum'.*bottleneck"):
        Oracle(name="oracle", objective="sum")


# --- PipeBalance, DynO, oracles -------------------------------------------------------------------


def test_the_balanced_cut_by_hand():
    # Longest stages: 6, 4, 2 behind layer 2, 10.
    found = plan(PipeBalance(name="pipebalance", division="same_codec"), GIVEN)
    assert (found.cut_name, found.stage_s.period_s) == ("2", 2)


def test_the_balanced_cut_is_not_that_of_the_least_sum_and_keeps_the_limit():
    #   sent      T_e T_t T_c  max  sum
    #   in          0   8   4    8   12
    #   1           2   5   3    5   10
    #   2           4   4   2    4   10
    #   3           6   1   1    6    8
    #   nothing     9   0   0    9    9
    given = chain([0, 2, 2, 2, 3], [0, 1, 1, 1, 1], [8, 5, 4, 1, 0])
    method = PipeBalance(name="pipebalance", division="same_codec")
    assert plan(method, given).cut_name == "2"
    assert plan(ns(), given).cut_name == "3"
    assert plan(method, replace(given, t_max_s=9.5)).cut_name == "3"


def test_equal_periods_go_to_the_lower_sum():
    assert least(np.array([2.0, 2.0, 3.0]), np.array([5.0, 4.0, 1.0])) == 1


@looped("seed", range(30))
@pytest.mark.parametrize("objective", ["latency", "bottleneck"])
def test_oracles_find_what_trying_every_cut_finds(seed, objective):
    problem = drawn(seed)
    model = Planner(objective=objective, overlap_limited=False).cost_model(problem)
    tried = (model.of(problem.graph.end_set(held))[0].value for held in closed_end_sets(problem))
    found = plan(Oracle(name="oracle", objective=objective), problem)
    assert found.objective.value == pytest.approx(min(tried, default=inf))


@looped("seed", SEEDS)
def test_no_single_cut_beats_an_oracle(seed):
    problem = drawn(seed)
    best = plan(Oracle(name="oracle", objective="bottleneck"), problem).stage_s.period_s
    for method in (
        PipeBalance(name="pipebalance", division="same_codec"),
        Dyno(name="dyno", objective="bottleneck"),
        ns(),
    ):
        assert best <= plan(method, problem).stage_s.period_s * (1 + 1e-9)


def test_dyno_sends_at_the_searched_widths_in_every_division():
    for division in ("as_published", "same_codec"):
        method = Dyno(name="dyno", division=division)
        found = plan(method, GIVEN)
        assert [c.bits for c in found.crossing] == [GIVEN.bits.bits("2")]


# --- Divisions ------------------------------------------------------------------------------------


def test_the_divisions_differ_in_payload_and_in_what_is_decided_online():
    online = Online(limit_points=2)
    found = {
        division: run(Neurosurgeon(name="ns", division=division, online=online), answered_problem())
        for division in ("as_published", "same_codec", "same_online")
    }
    first = {division: plans.plans[0] for division, (plans, _) in found.items()}
    crossing = [each.crossing for each in first.values()]
    assert crossing == [(Crossing(layer, 4),) for layer in ("in", "1", "1")]
    assert [each.release for each in first.values()] == ["per_tensor"] * 2 + ["after_decision"]
    assert [each.online is not None for each in first.values()] == [False, False, True]
    assert first["same_online"].stage_s.end_s == pytest.approx(0.4 + 0.1)
    exits = {
        division: (records.decision == "exit").mean() for division, (_, records) in found.items()
    }
    assert exits["as_published"] == exits["same_codec"] == 0
    assert 0 < exits["same_online"] < 1


@pytest.mark.parametrize(
    "method",
    [
        PipeBalance(name="pipebalance", division="same_online", online=Online(limit_points=2)),
        Dyno(name="dyno", division="same_online", online=Online(limit_points=2)),
    ],
)
def test_the_cache_and_the_widths_of_coach_can_be_had(method):
    plans, records = run(method, answered_problem())
    assert plans.plans[0].online is not None
    assert 0 < (records.decision == "exit").mean() < 1


# --- Real models ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18", "googlenet"])
def test_real_models(name):
    network = full_size(name)
    for mbps, division in product((2, 20, 100), ("as_published", "same_codec")):
        given = replace(network, link=Link(1e6 * mbps))
        methods = {
            "vertex": replace(ns(), division=division),
            "prefix": replace(ns(linearisation="prefix"), division=division),
            "fit": replace(ns(predictor="regression"), division=division),
            "balanced": PipeBalance(name="pipebalance", division=division),
        }
        seen = methods["vertex"].view(given)
        found = {key: plan(method, given) for key, method in methods.items()}
        for each in found.values():
            again = Planner(objective="sum", overlap_limited=False).plan_for(seen, each.end_layers)
            assert again.stage_s == each.stage_s
            assert again.payload_bytes == each.payload_bytes
        total_s = {key: each.stage_s.total_s for key, each in found.items()}
        assert total_s["prefix"] <= total_s["vertex"] * (1 + 1e-9)
        assert total_s["vertex"] <= min(total_s["fit"], total_s["balanced"]) * (1 + 1e-9)
        assert min_total_s(costs(seen, "sum", "per_tensor")) <= total_s["prefix"] * (1 + 1e-9)
        period_s = {key: each.stage_s.period_s for key, each in found.items()}
        assert period_s["balanced"] <= period_s["vertex"] * (1 + 1e-9)
    stream = replace(network, workload=Workload("saturated", tasks=50))
    plans, records = run(ns(execution="sequential"), stream)
    assert records.finish_s.max() == pytest.approx(50 * plans.plans[0].latency_s)
