"""DADS against brute force over all closed end sets, against Neurosurgeon's argmin on chains, and
on captured models."""

from dataclasses import astuple, replace
from itertools import product

import networkx as nx
import numpy as np
import pytest
from helpers.graphs import SHAPES, chain, diamond, problem, random_problem
from helpers.looped import looped
from helpers.networks import full_size
from helpers.reference import closed_end_sets, one_task

from baselines.dads import Dads, dsh, dsl
from baselines.harness import costs
from coach_exp.planner.certificate import mixture_bound
from coach_exp.planner.cost_model import CostModel
from coach_exp.planner.listed_cuts import inner_cuts, outer_cuts
from coach_exp.planner.min_cut import MinCuts, Weights, weighted_min_cut
from coach_exp.planner.planning import Planner
from coach_exp.quant.precision import FixedBits
from coach_exp.results.report import remarks
from coach_exp.types.errors import ConfigError, InfeasibleError
from coach_exp.types.method import Link, Problem
from coach_exp.types.plan import StageTimes
from coach_exp.types.profile import DeviceProfile
from coach_exp.types.workload import Workload

CASES = [(shape, seed) for shape in SHAPES for seed in range(100)]  # 400 random graphs
MAX_LAYERS = 10


def drawn(shape: str, seed: int) -> Problem:
    """A random problem of at most ten layers."""
    rng = np.random.default_rng([seed, 31])
    while True:
        given = random_problem(rng, shape, int(rng.integers(3, MAX_LAYERS)))
        if len(given.graph) <= MAX_LAYERS:
            return given


def every_stage(given: Problem) -> dict[frozenset[int], StageTimes]:
    """Stage times of every closed end set, by the reference."""
    graph = given.graph
    return {
        graph.end_set(names): one_task(
            given, [layer.name for layer in graph.layers if layer.name in names], "per_tensor"
        ).stage
        for names in closed_end_sets(given)
    }


def model_of(given: Problem, release="per_tensor") -> CostModel:
    return costs(given, "bottleneck", release)


def ended(given: Problem, choice) -> set[str]:
    (held,) = choice.end_sets
    return {given.graph.layers[i].name for i in held}


def scaled(given: Problem, factor: float) -> Problem:
    """All times, those on the link as well, multiplied."""
    end, cloud = (
        DeviceProfile(side.device, {name: factor * s for name, s in side.layer_s.items()})
        for side in (given.end, given.cloud)
    )
    link = replace(given.link, bandwidth_bps=given.link.bandwidth_bps / factor)
    return replace(given, end=end, cloud=cloud, link=link)


# --- The cut for a light load ---------------------------------------------------------------------


def published_min_cut(given: Problem) -> tuple[float, set[str]]:
    """Eq. (4) to the letter: no arc leads from a consumer back to its producer."""
    network, graph = nx.DiGraph(), given.graph
    for layer, users in zip(graph.layers, graph.successors, strict=True):
        on_cloud_s = given.cloud.layer_s[layer.name]
        pinned = layer == graph.input  # the frame is taken on the end
        network.add_edge("E", layer.name, **({} if pinned else {"capacity": on_cloud_s}))
        network.add_edge(layer.name, "C", capacity=given.end.layer_s[layer.name])
        send_s = 8 * given.codec.expected_bytes(layer.elements, 8) / given.link.bandwidth_bps
        if len(users) == 1:
            network.add_edge(layer.name, graph.layers[users[0]].name, capacity=send_s)
        elif users:
            network.add_edge(layer.name, (layer.name, "sent"), capacity=send_s)
            for user in users:
                network.add_edge((layer.name, "sent"), graph.layers[user].name)
    value, (end, _) = nx.minimum_cut(network, "E", "C")
    return value, {name for name in end if name in graph.index}


def test_eq_4_as_published_downloads_for_free_and_dsl_does_not():
    # in ─┬ a ─ v ┐     v takes the end 100 s, so it goes to the cloud; u then cannot be on the end.
    #     └ w ────┴ u   Published: in, a, w, u on the end for 1 + 1 + 2, v on the cloud for 1, a's
    #                   tensor for 1: 6. Legally in, a, w stay: 2 + (1 + 50) + 2 = 55.
    inputs = {"in": [], "a": ["in"], "w": ["in"], "v": ["a"], "u": ["v", "w"]}
    given = problem(
        inputs,
        dict(zip(inputs, (0, 1, 1, 100, 2), strict=True)),
        dict(zip(inputs, (0, 1, 1, 1, 1), strict=True)),
        dict(zip(inputs, (1000, 1, 50, 50, 0), strict=True)),
    )
    assert published_min_cut(given) == (6, {"in", "a", "w", "u"})
    choice = dsl(model_of(given))
    assert ended(given, choice) == {"in", "a", "w"}
    assert choice.lower_bound == 55


@pytest.mark.parametrize(("d_on_cloud", "total_s"), [(True, 5), (False, 8)])
def test_a_tensor_with_three_consumers_is_paid_once(d_on_cloud, total_s):
    #   in ─ a ─┬ b ┐      a's tensor: 4 s for one, two or three consumers on the cloud. d runs for
    #           ├ c ┼ e    nothing on the cloud, or takes it 60 s, and then 1 s on the end and 2 s
    #           └ d ┘      on the link: 1 + 1 + (4 + 2).
    inputs = {"in": [], "a": ["in"], "b": ["a"], "c": ["a"], "d": ["a"], "e": ["b", "c", "d"]}
    d_end_s, d_cloud_s = (90, 0) if d_on_cloud else (1, 60)
    given = problem(
        inputs,
        dict.fromkeys(inputs, 90) | {"in": 0, "a": 1, "d": d_end_s},
        dict.fromkeys(inputs, 0) | {"d": d_cloud_s},
        dict.fromkeys(inputs, 500) | {"a": 4, "d": 2},
    )
    choice = dsl(model_of(given))
    assert choice.lower_bound == total_s
    assert ended(given, choice) == ({"in", "a"} if d_on_cloud else {"in", "a", "d"})


@looped(("shape", "seed"), CASES)
def test_dsl_is_the_best_of_all_closed_end_sets(shape, seed):
    given = drawn(shape, seed)
    stages = every_stage(given)
    choice = dsl(model_of(given))
    (held,) = choice.end_sets
    assert stages[held].total_s == pytest.approx(choice.lower_bound, rel=1e-9, abs=1e-12)
    min_s = min(stage.total_s for stage in stages.values())
    assert choice.lower_bound == pytest.approx(min_s, rel=1e-9, abs=1e-12)


@looped("seed", range(50))
def test_on_a_chain_dsl_is_neurosurgeon(seed):
    given = drawn("chain", seed)
    end, cloud = ([s.layer_s[x.name] for x in given.graph.layers] for s in (given.end, given.cloud))
    send = model_of(given).send_s
    sums = [sum(end[:k]) + send[k - 1] + sum(cloud[k:]) for k in range(1, len(end))]
    assert dsl(model_of(given)).lower_bound == pytest.approx(min([*sums, sum(end)]))


def test_neurosurgeon_chain_by_hand():
    # cuts: 0 + 6 + 2 = 8; 1 + 4 + 1.5 = 6.5; 2 + 1 + 1 = 4; 10 on the end.
    given = chain((0, 1, 1, 8), (0, 0.5, 0.5, 1), (6, 4, 1, 0))
    choice = dsl(model_of(given))
    assert (ended(given, choice), choice.lower_bound) == ({"in", "1", "2"}, 4)


# --- Minimum cuts for many weights ----------------------------------------------------------------


@pytest.mark.parametrize("release", ["per_tensor", "after_decision"])
@pytest.mark.parametrize("crosses", [True, False])
@looped(("shape", "seed"), [(s, n) for s in SHAPES for n in range(12)])
def test_listed_cuts_are_all_cuts_with_the_costs_of_the_model(shape, seed, crosses, release):
    given = replace(drawn(shape, seed), raw_input_may_cross=crosses)
    model = model_of(given, release)
    lists = [outer_cuts(model), *(inner_cuts(model, k, 1000) for k in range(model.blocks))]
    found = {
        cuts.end_set(k): stage for cuts in lists for k, stage in enumerate(cuts.stages.tolist())
    }
    legal = {
        held: model.of(held)[0].stage
        for held in map(given.graph.end_set, closed_end_sets(given))
        if crosses or 0 not in given.graph.crossing(held)
    }
    assert found.keys() == legal.keys()
    for held, stage in found.items():
        assert stage == pytest.approx(astuple(legal[held]), rel=1e-9, abs=1e-12)


def test_a_block_with_more_cuts_than_asked_for_is_not_listed():
    model = model_of(diamond(1, 1, 1))
    assert len(inner_cuts(model, 0, 4).stages) == 4  # in with light, heavy, both or none
    assert inner_cuts(model, 0, 3) is None


@pytest.mark.parametrize("crosses", [True, False])
@looped("seed", range(15))
@pytest.mark.parametrize("shape", ["one_level", "nested", "any"])
def test_listed_and_solved_blocks_agree_for_many_weights(shape, seed, crosses):
    given = replace(drawn(shape, seed), raw_input_may_cross=crosses)
    model, rng = model_of(given, "after_decision"), np.random.default_rng(seed)
    weights = [Weights(*w) for w in (rng.random((20, 3)) * (rng.random((20, 3)) > 0.2)).tolist()]
    listed = MinCuts(model).least(weights)
    solved = MinCuts(model, max_listed=0).least(weights)
    for one, other, weight in zip(listed, solved, weights, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-9, abs=1e-12)
        for found in (one, other):
            assert weight.of(model.of(found.end_set)[0].stage) == pytest.approx(found.value)


def test_a_block_through_which_the_input_must_cross_offers_nothing():
    # in ─┬ a ┐  the input goes to `out` itself, so whoever may not send it keeps everything
    #     └───┴ out
    given = problem(
        {"in": [], "a": ["in"], "out": ["in", "a"]},
        dict.fromkeys(("in", "a", "out"), 9),
        dict.fromkeys(("in", "a", "out"), 0),
        {},
        raw_input_may_cross=False,
    )
    assert weighted_min_cut(model_of(given), Weights()).value == 27


# --- The search for a heavy load ------------------------------------------------------------------


@pytest.mark.slow
@looped(("shape", "seed"), CASES)
def test_dsh_is_within_its_bounds(shape, seed):
    given = drawn(shape, seed)
    stages, model = every_stage(given), model_of(given)
    choice = dsh(model)
    (held,) = choice.end_sets
    best_s = min(stage.period_s for stage in stages.values())
    slack = 1 + 1e-9
    assert best_s <= stages[held].period_s * slack <= 3 * best_s * slack**2
    assert stages[held].period_s <= stages[dsl(model).end_sets[0]].period_s * slack
    assert choice.lower_bound <= best_s * slack
    assert choice.lower_bound <= mixture_bound(model).period_s * slack


@pytest.mark.parametrize("shape", SHAPES)
def test_dsh_is_near_the_optimum_on_average(shape):
    ratios = []
    for seed in range(100):
        given = drawn(shape, seed)
        stages = every_stage(given)
        found = stages[dsh(model_of(given)).end_sets[0]].period_s
        best = min(stage.period_s for stage in stages.values())
        ratios.append(found / best if best > 0 else 1.0)
    assert np.mean(ratios) < 1.04


@looped("seed", range(50))
def test_on_a_chain_dsh_is_the_best_cut(seed):
    given = drawn("chain", seed)
    stages = every_stage(given)
    found = stages[dsh(model_of(given)).end_sets[0]]
    least = min(stage.period_s for stage in stages.values())
    assert found.period_s == pytest.approx(least)
    ties = [stage for stage in stages.values() if stage.period_s == pytest.approx(least)]
    assert found.total_s == pytest.approx(min(stage.total_s for stage in ties))


def test_a_cut_that_no_weights_reach_is_taken_where_it_is_a_cut_vertex():
    # Behind in: (0, 0, 9); behind 1: (5, 0, 5); device-only: (9, 0, 0). Half of the tasks on each
    # side would be better than the middle, so no weights lead there, but its largest stage is the
    # least of the three.
    given = chain((0, 5, 4), (0, 4, 5), (0, 0, 0))
    model = model_of(given)
    best = {cut.end_set for cut in MinCuts(model).least([Weights(a, 1, 1) for a in (0.5, 1, 2)])}
    assert frozenset({0, 1}) not in best
    choice = dsh(model)
    assert ended(given, choice) == {"in", "1"}
    assert choice.lower_bound == pytest.approx(4.5, rel=2e-3)


def test_of_equal_largest_stages_the_lower_sum_is_taken():
    # Behind `1`: (4, 3, 4); device-only: (4, 0, 0), since the last layer takes the end nothing.
    given = chain((0, 4, 0), (0, 4, 4), (9, 3, 0))
    assert ended(given, dsh(model_of(given))) == {"in", "1", "2"}


@pytest.mark.parametrize("choose", [dsl, dsh])
@looped(("shape", "seed"), [(s, n) for s in SHAPES for n in range(20)])
def test_another_unit_of_time_changes_no_cut(shape, seed, choose):
    given = drawn(shape, seed)
    assert choose(model_of(given)).end_sets == choose(model_of(scaled(given, 64))).end_sets


def test_the_latest_allowed_answer_is_kept():
    # in → 1 → 2: device-only takes 6 s in all; cut behind 1: (3, 3, 2), 8 s in all.
    given = chain((0, 3, 3), (0, 9, 2), (9, 3, 0))
    assert ended(given, dsh(model_of(given))) == {"in", "1"}
    assert ended(given, dsh(model_of(replace(given, t_max_s=7)))) == {"in", "1", "2"}
    with pytest.raises(InfeasibleError, match="t_max_ms = 5000"):
        Dads().plan(replace(given, t_max_s=5))


# --- The controller, Algorithm 3 ------------------------------------------------------------------

# in → 1 → 2: device-only takes (6, 0, 0); cut behind 1: (3, 3, 2). DSL: device-only; DSH: the cut.
LOADED = chain((0, 3, 3), (0, 9, 2), (9, 3, 0))


def planned(workload: Workload, mode="auto", given=LOADED):
    return Dads(mode=mode, division="same_codec").plan(replace(given, workload=workload))


@pytest.mark.parametrize("kind", ["periodic", "poisson"])
@pytest.mark.parametrize(
    ("rate_hz", "objective", "remarked"),
    [
        (0.1, "sum", False),  # 10 s between tasks
        (1 / 6, "bottleneck", False),  # light needs less than the 6 s that pass
        (0.3, "bottleneck", False),
        (1 / 3, "bottleneck", False),  # heavy keeps up exactly
        (0.5, "bottleneck", True),  # 2 s are too short for both
    ],
)
def test_the_load_decides(kind, rate_hz, objective, remarked):
    plans = planned(Workload(kind, 10, rate_hz=rate_hz))
    (plan,) = plans.plans
    assert plan.objective.name == objective
    assert plan.stage_s == (StageTimes(6, 0, 0) if objective == "sum" else StageTimes(3, 3, 2))
    assert bool(plans.remarks) == remarked


def test_too_fast_a_stream_is_told_the_rate_that_would_do():
    plans = planned(Workload("periodic", 10, rate_hz=0.5))
    assert remarks({"dads": plans}) == [
        "dads: at 0.008 Mbps the plan for a heavy load answers every 3000.00 ms but tasks come "
        "every 2000.00 ms; lower the sampling rate to 0.333 per second"
    ]


def test_a_saturated_stream_is_heavy_and_a_single_one_light():
    assert planned(Workload("saturated", 10)).plans[0].objective.name == "bottleneck"
    assert planned(Workload("saturated", 10)).remarks == ()
    assert planned(Workload("single_stream", 10)).plans[0].objective.name == "sum"


@pytest.mark.parametrize(
    ("mode", "objective"), [("light", "sum"), ("heavy", "bottleneck"), ("auto", None)]
)
def test_the_mode_may_be_fixed(mode, objective):
    for workload in (Workload("saturated", 10), Workload("single_stream", 10)):
        expected = objective or ("bottleneck" if workload.kind == "saturated" else "sum")
        assert planned(workload, mode).plans[0].objective.name == expected
    words = r"method\.mode = 'fast': should be 'auto', 'light' or"
    with pytest.raises(ConfigError, match=words):
        Dads(mode="fast")


def test_plans_carry_their_bound():
    light, heavy = (planned(Workload("saturated", 10), m).plans[0] for m in ("light", "heavy"))
    assert light.gap == pytest.approx(0)
    assert heavy.lower_bound < 3
    assert heavy.gap == pytest.approx(3 / heavy.lower_bound - 1)


def test_as_published_tensors_go_as_float32_and_the_input_as_it_is():
    # 1's tensor takes 3 s at the 8 bits of the same codec, 12 s as float32.
    plans = Dads().plan(Dads().view(replace(LOADED, bits=FixedBits(8, "in"))))
    assert plans.plans[0].stage_s == StageTimes(6, 0, 0)
    near = chain((0, 0, 9), (0, 0, 1), (2, 9, 0), bits=FixedBits(8, "in"))
    assert Dads().plan(Dads().view(near)).plans[0].stage_s == StageTimes(0, 2, 1)


def test_what_it_may_not_send_it_does_not_send():
    given = diamond((0, 1, 1, 9), 0, (0, 2, 2, 0), raw_input_may_cross=False)
    for mode in ("light", "heavy"):
        plan = planned(Workload("saturated", 10), mode, given).plans[0]
        assert {each.layer for each in plan.crossing} == {"light", "heavy"}


# --- Captured models ------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["resnet18", "googlenet"])
def captured(request) -> Problem:
    return full_size(request.param)


@pytest.mark.parametrize(
    ("mbps", "division", "crosses"),
    list(product((2, 20, 200), ("as_published", "same_codec"), (True, False))),
)
def test_real_networks_against_the_exhaustive_search(captured, mbps, division, crosses):
    given = replace(captured, link=Link(1e6 * mbps), raw_input_may_cross=crosses)
    light, heavy = Dads(mode="light", division=division), Dads(mode="heavy", division=division)
    given = light.view(given)
    least, shortest = (
        Planner("exhaustive", objective, overlap_limited=False).plan(given).objective.value
        for objective in ("sum", "bottleneck")
    )
    assert light.plan(given).plans[0].objective.value == pytest.approx(least)
    plan = heavy.plan(given).plans[0]
    assert shortest * (1 - 1e-9) <= plan.stage_s.period_s <= 1.2 * shortest
    assert plan.lower_bound <= shortest
