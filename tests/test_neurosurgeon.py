"""Neurosurgeon, and the other methods of one cut, against hand-worked cases and brute force."""

from dataclasses import replace
from itertools import pairwise
from math import exp, inf, log1p

import numpy as np
import pytest
from graphs import SHAPES, chain, diamond, random_problem
from reference import closed_end_sets

from baselines.chain import cut_vertex_cuts, least, prefix_cuts
from baselines.dyno import Dyno
from baselines.harness import costs
from baselines.neurosurgeon import Neurosurgeon, predicted
from baselines.oracles import Oracle
from baselines.pipebalance import PipeBalance
from coach_exp.network.estimator import Oracle as TrueRate
from coach_exp.network.trace import constant
from coach_exp.pipeline.simulator import simulate
from coach_exp.planner.certificate import least_total_s
from coach_exp.planner.planning import Planner
from coach_exp.types.errors import ConfigError
from coach_exp.types.graph import Layer, LayerGraph
from coach_exp.types.method import Link, Problem
from coach_exp.types.profile import DeviceProfile
from coach_exp.types.workload import Workload

# Seconds. All cloud: 6 + 2 = 8; behind 1: 1 + 4 + 1.5; behind 2: 2 + 1 + 1 = 4; all end: 10.
GIVEN = chain((0, 1, 1, 8), (0, 0.5, 0.5, 1), (6, 4, 1, 0))
BOTH = pytest.mark.parametrize("linearisation", ["articulation", "prefix"])
SEEDS = range(60)


def ns(**settings) -> Neurosurgeon:
    return Neurosurgeon(name="ns", track="same_codec", **settings)


def at(problem: Problem, factor: float) -> Problem:
    """The same problem at another rate."""
    link = replace(problem.link, bandwidth_bps=factor * problem.link.bandwidth_bps)
    return replace(problem, link=link)


def drawn(seed: int, size: int = 8) -> Problem:
    """A random problem; the shapes take turns."""
    return random_problem(np.random.default_rng(seed), list(SHAPES)[seed % len(SHAPES)], size)


def plan(method, problem: Problem):
    return method.plan(method.view(problem)).plans[0]


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
@pytest.mark.parametrize("seed", SEEDS)
def test_more_bandwidth_never_costs_more_nor_sends_less(linearisation, seed):
    problem = drawn(seed)
    method = ns(linearisation=linearisation)
    plans = [plan(method, at(problem, factor)) for factor in np.geomspace(1e-3, 1e3, 25)]
    values = [each.objective.value for each in plans]
    sizes = [sum(each.payload_bytes) for each in plans]
    assert all(b <= a * (1 + 1e-9) for a, b in pairwise(values))
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("seed", SEEDS)
def test_cut_vertices_cost_no_less_than_prefixes_and_those_no_less_than_the_minimum_cut(seed):
    problem = drawn(seed)
    by_vertex, by_prefix = (
        plan(ns(linearisation=each), problem).objective.value for each in ("articulation", "prefix")
    )
    least_s = least_total_s(costs(problem, "sum", "per_tensor"))
    assert least_s <= by_prefix * (1 + 1e-9)
    assert by_prefix <= by_vertex * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_on_a_chain_all_three_are_the_same(seed):
    rng = np.random.default_rng(seed)
    problem = chain(*rng.uniform(0, 1, (3, 9)))
    found = [plan(ns(linearisation=each), problem) for each in ("articulation", "prefix")]
    least_s = least_total_s(costs(problem, "sum", "per_tensor"))
    assert [each.objective.value for each in found] == pytest.approx([least_s, least_s])
    assert found[0].end_layers == found[1].end_layers


def test_a_diamond_offers_no_cut_inside_to_one_and_both_tensors_to_the_other():
    # in → light, heavy → add: behind light, `in` and `light` are alive.
    problem = diamond((0, 1, 1, 1), 1, (5, 1, 1, 0))
    model = costs(problem, "sum", "per_tensor")
    vertex, prefix = cut_vertex_cuts(model), prefix_cuts(model)
    assert vertex.held.tolist() == [1, 4]  # behind `in`, and all on the end
    assert prefix.held.tolist() == [1, 2, 3, 4]
    assert prefix.link_s.tolist() == pytest.approx([5, 6, 2, 0])


@pytest.mark.parametrize("seed", SEEDS)
def test_prefixes_cost_what_the_cost_model_says(seed):
    model = costs(drawn(seed), "sum", "per_tensor")
    cuts = prefix_cuts(model)
    for k in range(len(cuts.held)):
        stage = model.of(cuts.end_set(k))[0].stage
        found = (cuts.end_s[k], cuts.link_s[k], cuts.cloud_s[k])
        assert found == pytest.approx((stage.end_s, stage.link_s, stage.cloud_s))


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
    return Layer(name, ("in",) if name == "a" else (chr(ord(name) - 1),), kind="conv", flops=flops,
                 param_bytes=bytes_)  # fmt: skip


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
    found = plan(PipeBalance(name="pipebalance", track="same_codec"), GIVEN)
    assert (found.cut_name, found.stage_s.period_s) == ("2", 2)


def test_equal_periods_go_to_the_lower_sum():
    assert least(np.array([2.0, 2.0, 3.0]), np.array([5.0, 4.0, 1.0])) == 1


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("objective", ["latency", "bottleneck"])
def test_oracles_find_what_trying_every_cut_finds(seed, objective):
    problem = drawn(seed)
    model = Planner(objective=objective, overlap_limited=False).cost_model(problem)
    tried = (model.of(problem.graph.end_set(held))[0].value for held in closed_end_sets(problem))
    found = plan(Oracle(name="oracle", objective=objective), problem)
    assert found.objective.value == pytest.approx(min(tried, default=inf))


@pytest.mark.parametrize("seed", SEEDS)
def test_no_single_cut_beats_an_oracle(seed):
    problem = drawn(seed)
    best = plan(Oracle(name="oracle", objective="bottleneck"), problem).stage_s.period_s
    for method in (
        PipeBalance(name="pipebalance", track="same_codec"),
        Dyno(name="dyno", objective="bottleneck"),
        ns(),
    ):
        assert best <= plan(method, problem).stage_s.period_s * (1 + 1e-9)


def test_dyno_sends_at_the_searched_widths_on_every_track():
    for track in ("as_published", "same_codec"):
        method = Dyno(name="dyno", track=track)
        found = plan(method, GIVEN)
        assert [c.bits for c in found.crossing] == [GIVEN.bits.bits("2")]
