"""JPS: its arithmetic by hand and against brute force, its plans through planner and simulator."""

from dataclasses import replace
from itertools import combinations_with_replacement, permutations

import numpy as np
import pytest
from helpers.answers import Answers
from helpers.graphs import SHAPES, chain, diamond, problem, random_problem
from helpers.looped import looped
from helpers.reference import MAX_LAYERS, closed_end_sets, one_task
from scipy.optimize import linprog

from baselines.harness import costs
from baselines.johnson import (
    Load,
    adjacent_mix,
    exact_mix,
    finite_mix,
    hull_mix,
    johnson_order,
    lower_hull,
    makespan_s,
    two_cut_makespan_s,
    undominated,
)
from baselines.jps import Batches, Jps, supported_cuts
from coach_exp.network.estimator import Ewma
from coach_exp.network.trace import constant
from coach_exp.online.method import Online
from coach_exp.online.replan import Replan
from coach_exp.pipeline.simulator import simulate
from coach_exp.planner.certificate import mixture_bound
from coach_exp.quant.affine import UniformAffine
from coach_exp.quant.precision import FixedBits
from coach_exp.types.errors import ConfigError, InfeasibleError
from coach_exp.types.method import Calibration, Link, Problem
from coach_exp.types.plan import Plan, PlanSet
from coach_exp.types.workload import Workload

LINE = [Load(0, 10), Load(2, 5), Load(4, 2), Load(6, 0)]
MAKESPANS = [  # of so many tasks cut as in LINE: the neighbours 1 and 2, and the best of all
    *((1, 6, 6), (2, 9, 8), (3, 12, 12), (4, 16, 14), (6, 22, 21))
]


def loads_of(plans: PlanSet) -> list[Load]:
    return [Load(plan.stage_s.end_s, plan.stage_s.link_s) for plan in plans.plans]


def period_s(plans: PlanSet) -> float:
    """What the mix takes of device or link for an average task."""
    mixed = list(zip(loads_of(plans), plans.weights, strict=True))
    return max(sum(w * load.end_s for load, w in mixed), sum(w * load.link_s for load, w in mixed))


def line(cloud_s: float = 0.0, tasks: int = 100, **changes) -> Problem:
    """The cuts of LINE as a chain of three layers."""
    workload = Workload("saturated", tasks, in_flight=64)
    return chain([0, 2, 2, 2], [0, 0, 0, cloud_s], [10, 5, 2, 0], workload=workload, **changes)


def shared(**settings) -> Jps:
    """JPS with the payloads of the drawn problem."""
    return Jps(name="jps", division="same_codec", **settings)


def run(method: Jps, given: Problem):
    given = method.view(given)
    plans = method.plan(given)
    rate_bps = given.link.bandwidth_bps
    samples = np.arange(given.workload.tasks)
    controller = method.controller(plans)
    return plans, simulate(given, controller, constant(rate_bps), Ewma(rate_bps), samples)


def random_loads(rng: np.random.Generator, *, convex: bool, count: int = 12) -> list[Load]:
    """Undominated cuts from no device time to no link time; `convex`: f linear and g convex."""
    if convex:
        end_s = np.linspace(0, rng.uniform(1, 20), count)
        falls = np.sort(rng.random(count - 1))[::-1]
    else:
        end_s = np.append(0, np.cumsum(rng.random(count - 1)))
        falls = rng.random(count - 1) ** 4
    link_s = np.append(np.cumsum(falls[::-1])[::-1], 0) * rng.uniform(0.2, 5)
    return [Load(*pair) for pair in zip(end_s.tolist(), link_s.tolist(), strict=True)]


# --- Johnson's rule -------------------------------------------------------------------------------


@looped("seed", range(60))
def test_no_permutation_beats_johnsons_order(seed):
    rng = np.random.default_rng(seed)
    times = rng.integers(0, 5, (rng.integers(1, 7), 2))  # small numbers, so that many are equal
    jobs = [Load(*pair) for pair in times.tolist()]
    ordered = [jobs[k] for k in johnson_order(jobs)]
    assert sorted(ordered) == sorted(jobs)
    assert makespan_s(ordered) == min(makespan_s(other) for other in permutations(jobs))


def test_the_second_group_is_not_sorted_by_its_least_time():
    # By growing min(f, g): (3, 1) before (5, 4), 3-8, 3-4 8-12. By falling g: 5-8, 5-9 9-10.
    jobs = [Load(3, 1), Load(5, 4)]
    assert johnson_order(jobs) == [1, 0]
    assert (makespan_s(jobs), makespan_s(jobs[::-1])) == (12, 10)


def test_undominated_drops_what_costs_more_of_both():
    loads = [Load(0, 3), Load(1, 4), Load(1, 3), Load(2, 1), Load(2, 1), Load(2, 2), Load(3, 0)]
    assert undominated(loads) == [0, 3, 6]
    assert undominated([Load(2, 0), Load(1, 5), Load(1, 4)]) == [2, 0]  # by device time


# --- Two cuts -------------------------------------------------------------------------------------


def brute_force(loads: list[Load], tasks: int) -> float:
    """The least makespan of all cuts in all orders."""
    return min(
        makespan_s(order)
        for jobs in combinations_with_replacement(loads, tasks)
        for order in set(permutations(jobs))
    )


@pytest.mark.parametrize(("tasks", "pair", "best"), MAKESPANS)
def test_the_pair_is_near_optimal_and_no_more(tasks, pair, best):
    mix = finite_mix(LINE, adjacent_mix(LINE), tasks)
    assert makespan_s([LINE[cut] for cut in mix.jobs(tasks)]) == pair
    exact = exact_mix(LINE, tasks)
    assert len(exact.jobs(tasks)) == tasks
    assert makespan_s([LINE[cut] for cut in exact.jobs(tasks)]) == best
    if tasks <= 4:
        assert brute_force(LINE, tasks) == best


@looped("seed", range(40))
def test_exact_is_brute_force_over_all_multisets(seed):
    rng = np.random.default_rng(seed)
    loads = random_loads(rng, convex=bool(seed % 2), count=int(rng.integers(2, 7)))
    tasks = int(rng.integers(1, 7))
    least = min(
        makespan_s([jobs[k] for k in johnson_order(jobs)])
        for jobs in combinations_with_replacement(loads, tasks)
    )
    found = [loads[cut] for cut in exact_mix(loads, tasks).jobs(tasks)]
    assert len(found) == tasks
    assert makespan_s(found) == pytest.approx(least, rel=1e-12)


def test_one_task_is_the_pairs_better_and_exactly_the_least_sum():
    # The sums are 6.5, 7, 9 and 9; the pair is that of 7 and 9.
    loads = [Load(0, 6.5), Load(1, 6), Load(5, 4), Load(9, 0)]
    pair = adjacent_mix(loads)
    assert pair.cuts == (1, 2)
    assert finite_mix(loads, pair, 1).cuts == (1,)  # 7 s
    assert exact_mix(loads, 1).cuts == (0,)  # 6.5 s


@pytest.mark.parametrize("tasks", [5, 20, 100])
@looped("seed", range(30))
def test_makespan_is_bounded_by_the_steady_state(seed, tasks):
    loads = random_loads(np.random.default_rng(seed), convex=True)
    mix = adjacent_mix(loads)
    assert len(mix.cuts) == 2
    before, after = (loads[cut] for cut in mix.cuts)
    tau_s = max(mix.mean(loads))
    slack_s = before.end_s + after.link_s + before.link_s - before.end_s
    slack_s += after.end_s - after.link_s
    whole_s = makespan_s([loads[cut] for cut in finite_mix(loads, mix, tasks).jobs(tasks)])
    assert tasks * tau_s <= whole_s * (1 + 1e-12)
    assert whole_s <= tasks * tau_s + slack_s


@looped("seed", range(20))
def test_the_makespan_of_two_cuts_in_closed_form(seed):
    loads = random_loads(np.random.default_rng(seed), convex=True)
    first, second = (loads[cut] for cut in adjacent_mix(loads).cuts)
    for count in range(8):
        jobs = [first] * count + [second] * (7 - count)
        assert two_cut_makespan_s(first, second, count, 7) == pytest.approx(makespan_s(jobs))
    best = min(two_cut_makespan_s(first, second, count, 7) for count in range(8))
    found = finite_mix(loads, adjacent_mix(loads), 7).jobs(7)
    assert makespan_s([loads[cut] for cut in found]) == pytest.approx(best)


def test_device_and_link_are_busy_alike():
    mean = adjacent_mix(LINE).mean(LINE)
    assert mean == pytest.approx((3.2, 3.2))


def test_equal_times_need_no_second_cut():
    assert adjacent_mix([Load(0, 9), Load(3, 3), Load(5, 0)]).cuts == (1,)


def test_all_on_the_cloud_and_all_on_the_device():
    assert adjacent_mix([Load(7, 6), Load(9, 0)]).cuts == (0,)
    assert hull_mix([Load(7, 6), Load(9, 0)]).cuts == (0,)
    slow = [Load(0, 1e6), Load(2, 1e6 - 1), Load(4, 0)]
    for mix in (adjacent_mix(slow), hull_mix(slow)):
        assert finite_mix(slow, mix, 100).cuts == (2,)
        assert mix.shares[mix.cuts.index(2)] > 0.9999
    assert adjacent_mix([Load(0, 9), Load(2, 5)]).cuts == (1,)  # no cut keeps the device busier


# --- The hull -------------------------------------------------------------------------------------


@looped("seed", range(60))
def test_the_hulls_mix_is_the_optimum_of_the_linear_programme(seed):
    rng = np.random.default_rng(seed)
    loads = random_loads(rng, convex=bool(seed % 2))
    count = len(loads)
    # min t  with  Σ p f <= t,  Σ p g <= t,  Σ p = 1
    answer = linprog(
        [0.0] * count + [1.0],
        A_ub=[[*(load[k] for load in loads), -1.0] for k in (0, 1)],
        b_ub=[0.0, 0.0],
        A_eq=[[1.0] * count + [0.0]],
        b_eq=[1.0],
    )
    hull_s, pair_s = (max(mix.mean(loads)) for mix in (hull_mix(loads), adjacent_mix(loads)))
    assert hull_s == pytest.approx(answer.fun, rel=1e-9)
    assert hull_s <= pair_s * (1 + 1e-12)
    assert hull_s >= min(load.end_s + load.link_s for load in loads) / 2
    if seed % 2:
        assert pair_s == pytest.approx(hull_s, rel=1e-9)


def test_the_hull_beats_neighbours_where_the_curve_is_not_convex():
    #  g 10 ┤0                   1 lies far above the line from 0 to 2
    #     9 ┤    1               neighbours 1 and 2: 2·2/9 + 4·7/9 = 32/9
    #     2 ┤        2           hull 0 and 2: 4·10/12 = 10/3
    loads = [Load(0, 10), Load(2, 9), Load(4, 2), Load(6, 0)]
    assert max(adjacent_mix(loads).mean(loads)) == pytest.approx(32 / 9)
    assert max(hull_mix(loads).mean(loads)) == pytest.approx(10 / 3)
    assert lower_hull(loads) == [0, 2, 3]


# --- Plans ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["adjacent", "hull"])
def test_plans_of_the_line(variant):
    plans = shared(variant=variant).plan(line())
    assert [plan.cut_name for plan in plans.plans] == ["1", "2"]
    assert plans.weights == pytest.approx((0.4, 0.6))
    assert [plan.objective.name for plan in plans.plans] == ["bottleneck"] * 2
    assert [plan.objective.value for plan in plans.plans] == [5, 4]
    assert plans.remarks == (
        "steady-state period 3200.0 ms, the cloud neglected: 40.0 % cut at 1, 60.0 % cut at 2",
    )


@pytest.mark.parametrize(("tasks", "pair", "best"), MAKESPANS)
def test_a_batch_of_all_tasks_has_its_makespan_in_the_simulator(tasks, pair, best):
    for variant, makespan in (("adjacent", pair), ("exact", best)):
        plans, records = run(shared(variant=variant, batch=tasks), line(tasks=tasks))
        assert records.finish_s.max() == makespan
        assert f"makespan of the {tasks} tasks {1e3 * makespan:.1f} ms" in plans.remarks[0]


def test_float32_as_published_and_the_cost_models_widths_otherwise():
    # float32 quadruples g but for the input, which stays: (0, 10), (2, 20), (4, 8), (6, 0)
    published = Jps(name="jps")
    plans = published.plan(published.view(line()))
    assert [plan.cut_name for plan in plans.plans] == ["in", "device-only"]
    assert plans.weights == pytest.approx((6 / 16, 10 / 16))
    assert plans.plans[0].crossing[0].bits == 8
    slow_input = published.view(chain([0, 2, 2, 2], [0] * 4, [50, 5, 2, 0]))
    assert [plan.payload_bytes for plan in published.plan(slow_input).plans] == [(8000,), ()]


def test_a_forbidden_input_is_no_candidate():
    allowed = shared().plan(chain([0, 9, 9], [0, 0, 0], [4, 10, 0]))
    assert [plan.cut_name for plan in allowed.plans] == ["in", "device-only"]
    for granularity in ("block", "path"):
        method = shared(granularity=granularity)
        given = chain([0, 9, 9], [0, 0, 0], [4, 10, 0], raw_input_may_cross=False)
        plans = method.plan(given)
        assert [plan.cut_name for plan in plans.plans] == ["1", "device-only"]


@pytest.mark.parametrize("granularity", ["block", "path"])
def test_a_time_limit_leaves_only_cuts_that_keep_it(granularity):
    method = shared(granularity=granularity)
    plans = method.plan(line(t_max_s=6))  # sums are 10, 7, 6, 6
    assert [plan.cut_name for plan in plans.plans] == ["2"]
    assert "all cut at 2" in plans.remarks[0]
    with pytest.raises(InfeasibleError, match=r"none of the \d+ cuts .* t_max_ms = 5000"):
        method.plan(line(t_max_s=5))


def test_settings_are_checked_by_name():
    with pytest.raises(ConfigError, match=r"method\.variant = 'best'.*'hull' or 'exact'"):
        shared(variant="best")
    with pytest.raises(ConfigError, match=r"method\.granularity = 'layer'.*'block' or 'path'"):
        shared(granularity="layer")
    for batch, rule in ((0, "greater than 0"), (2.5, "a valid integer")):
        with pytest.raises(ConfigError, match=rf"method\.batch = {batch}: should be {rule}"):
            shared(batch=batch)


@pytest.mark.parametrize(("tasks", "batch"), [(9, 9), (4, 1), (4, 5)])
def test_exact_needs_the_whole_small_workload_as_its_batch(tasks, batch):
    with pytest.raises(
        ConfigError, match=rf"at most 8 tasks.*{batch} and workload.tasks = {tasks}"
    ):
        shared(variant="exact", batch=batch).plan(line(tasks=tasks))


# --- The stream -----------------------------------------------------------------------------------


def test_the_ratio_is_kept_task_by_task_or_batch_by_batch():
    _, records = run(shared(), line(tasks=10))
    assert records.plan.tolist() == [0, 1, 0, 1, 0, 0, 1, 0, 1, 0]  # numbered as first used
    names = [plan.cut_name for plan in records.plans]
    assert names == ["2", "1"]
    _, records = run(shared(batch=5), line(tasks=10))
    assert [plan.cut_name for plan in records.plans] == ["1", "2"]
    assert records.plan.tolist() == [0, 0, 1, 1, 1] * 2


@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("variant", ["adjacent", "hull"])
def test_a_long_stream_takes_the_steady_states_period(variant, batch):
    _, records = run(shared(variant=variant, batch=batch), line(tasks=2000))
    assert records.finish_s.max() / 2000 == pytest.approx(3.2, rel=0.01)
    sent_at = np.array([plan.cut_name for plan in records.plans])[records.plan]
    assert np.mean(sent_at == "1") == pytest.approx(0.4, abs=0.002)


def test_the_last_batch_may_stay_unfilled():
    batches = Batches(shared().plan(line()), 5)
    names = [batches.choose(task, None).cut_name for task in range(7)]
    assert names == ["1", "1", "2", "2", "2", "1", "1"]


def test_the_cloud_is_neglected_in_planning_but_not_in_the_run():
    fast, slow = line(tasks=500), line(cloud_s=9, tasks=500)
    plans, records = run(shared(), slow)
    assert loads_of(plans) == loads_of(shared().plan(fast))
    assert plans.weights == shared().plan(fast).weights
    assert records.finish_s.max() / 500 == pytest.approx(9, rel=0.01)
    assert plans.remarks[1:] == (
        "the cloud, which JPS neglects, takes 9000.0 ms a task and sets the pace",
    )


def test_plans_for_other_rates_take_over():
    plans = shared(replan=Replan(mbps=(0.0008, 0.8))).plan(line())
    slow, fast = plans.prepared
    assert [plan.cut_name for plan in fast.plans] == ["in", "1"]  # g = 0.1, 0.05 s
    assert fast.weights[0] == pytest.approx(1.95 / 2.05)
    assert [plan.cut_name for plan in slow.plans] == ["2", "device-only"]  # (4, 20), (6, 0)
    assert slow.weights[0] == pytest.approx(6 / 22)


def test_both_plans_are_calibrated_on_the_division_with_coachs_online_part():
    rng = np.random.default_rng(0)

    def split(first: int, count: int) -> Answers:
        label = np.arange(count) % 2
        angle = label * np.pi / 2 + rng.normal(0, 0.3, count)
        features = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
        return Answers(features, label, np.arange(first, first + count), 2, payload_bytes=500)

    given = replace(
        line(),
        outcomes=split(1000, 100),
        calibration=Calibration(split(0, 100), split(100, 300)),
    )
    plans, records = run(Jps(name="jps", division="same_online", online=Online(), batch=5), given)
    assert [plan.cut_name for plan in plans.plans] == ["1", "2"]
    assert all(plan.online is not None for plan in plans.plans)
    assert {plan.release for plan in plans.plans} == {"after_decision"}
    assert (records.decision == "exit").any()
    assert len(records.plans) == 2
    offline, _ = run(Jps(name="jps", division="same_codec", online=Online(), batch=5), given)
    assert all(plan.online is None for plan in offline.plans)


# --- All cuts -------------------------------------------------------------------------------------


def all_loads(given: Problem, release: str) -> list[Load]:
    """f and g of every closed end set whose input may leave, by the plain second implementation."""
    loads = []
    for end_set in closed_end_sets(given):
        order = [layer.name for layer in given.graph.layers if layer.name in end_set]
        task = one_task(given, order, release)
        if given.raw_input_may_cross or all(name != order[0] for name, _, _ in task.sent):
            loads.append(Load(task.stage.end_s, task.stage.link_s))
    return loads


@pytest.mark.parametrize("release", ["per_tensor", "after_decision"])
@pytest.mark.parametrize("shape", SHAPES)
@looped("seed", range(12))
def test_the_sweep_finds_the_hull_of_all_closed_sets(shape, seed, release):
    rng = np.random.default_rng(seed)
    given = random_problem(rng, shape, 7, raw_input_may_cross=seed % 3 > 0)
    while len(given.graph) > MAX_LAYERS:
        given = random_problem(rng, shape, 7, raw_input_may_cross=seed % 3 > 0)
    every = all_loads(given, release)
    every = [every[k] for k in undominated(every)]
    hull = [every[k] for k in lower_hull(every)]

    found = [
        Load(cut.stage.end_s, cut.stage.link_s)
        for cut in supported_cuts(costs(given, "bottleneck", release))
    ]
    for load in _corners(hull):
        assert min(_distance(load, other) for other in found) < 1e-9, load

    path, block = (
        shared(granularity=granularity).plans_for(given, release)
        for granularity in ("path", "block")
    )
    assert period_s(path) == pytest.approx(max(hull_mix(every).mean(every)), rel=1e-9, abs=1e-12)
    assert period_s(path) <= period_s(block) * (1 + 1e-9)


def _corners(hull: list[Load]) -> list[Load]:
    """Without those on, or within rounding of, the line between their neighbours."""
    inner = [
        here
        for before, here, after in zip(hull, hull[1:], hull[2:], strict=False)
        if (after[0] - before[0]) * (before[1] - here[1])
        - (before[1] - after[1]) * (here[0] - before[0])
        > 1e-6 * (after[0] - before[0]) * (before[1] - after[1])
    ]
    return [hull[0], *inner, hull[-1]]


def _distance(one: Load, other: Load) -> float:
    return max(abs(one.end_s - other.end_s), abs(one.link_s - other.link_s))


def test_a_forbidden_input_that_the_sink_needs_leaves_the_end_alone():
    names = {"in": [], "1": ["in"], "out": ["1", "in"]}
    times = dict.fromkeys(names, 1.0)
    plans = shared(granularity="path").plan(
        problem(names, times, times, times, raw_input_may_cross=False)
    )
    assert [plan.cut_name for plan in plans.plans] == ["device-only"]
    assert "all kept on the device" in plans.remarks[0]


@pytest.mark.parametrize("shape", SHAPES)
@looped("seed", range(5))
def test_without_a_cloud_it_reaches_the_bound_of_all_mixtures(shape, seed):
    given = random_problem(np.random.default_rng(seed), shape, 40)
    free = replace(given.cloud, layer_s=dict.fromkeys(given.cloud.layer_s, 0.0))
    given = replace(given, cloud=free)
    plans = shared(granularity="path").plan(given)
    bound_s = mixture_bound(costs(given, "bottleneck", "per_tensor")).period_s
    assert period_s(plans) == pytest.approx(bound_s, rel=1e-6)


def test_a_cut_inside_a_block_by_hand():
    #       ┌ light ┐      end: in 0, light 1, heavy 9, add 9 s; every tensor 1 s
    #   in ─┤       ├─ add
    #       └ heavy ┘
    # Cut vertices: in (0, 5), device-only (19, 0). Inside: light + in (1, 6), heavy + in (9, 6),
    # light + heavy (10, 2), on the line from (0, 5)? At 10 that is at 5·9/19 = 2.37: below it.
    given = diamond((0, 1, 9, 9), 0, (5, 1, 1, 0))
    block, path = (shared(granularity=g).plan(given) for g in ("block", "path"))
    assert [plan.cut_name for plan in block.plans] == ["in", "device-only"]
    assert [plan.cut_name for plan in path.plans] == ["in", "light+heavy"]
    assert period_s(block) == pytest.approx(95 / 24)
    assert period_s(path) == pytest.approx(50 / 13)


# --- Real models ----------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["resnet18", "googlenet"])
def captured(request) -> Problem:
    """A full-size network on the Xavier NX and the A6000."""
    import torch
    from torchvision import models

    from coach_exp.profiling.capture import capture
    from coach_exp.profiling.device import analytic
    from coach_exp.profiling.devices import analytic_spec

    arguments = {"googlenet": {"init_weights": False, "aux_logits": False}}
    with torch.device("meta"):
        model = getattr(models, request.param)(**arguments.get(request.param, {}))
    graph = capture(model, (3, 224, 224)).graph
    end, cloud = (analytic(graph, analytic_spec(name)) for name in ("nx", "a6000"))
    bits = FixedBits(4, graph.input.name)
    workload = Workload("saturated", 300, in_flight=64)
    return Problem(graph, end, cloud, Link(1e7), UniformAffine(), bits, workload)


@pytest.mark.parametrize("mbps", [5, 20, 80])
@pytest.mark.parametrize("division", ["as_published", "same_codec"])
def test_real_models(captured, division, mbps):
    found = {}
    given = replace(captured, link=Link(1e6 * mbps))
    for variant, granularity in (("adjacent", "block"), ("hull", "block"), ("hull", "path")):
        method = Jps(name="jps", division=division, variant=variant, granularity=granularity)
        viewed = method.view(given)
        plans = method.plan(viewed)
        found[variant, granularity] = period_s(plans)
        for plan in plans.plans:
            assert_as_sent(viewed, plan)
    assert found["hull", "block"] <= found["adjacent", "block"] * (1 + 1e-9)
    assert found["hull", "path"] <= found["hull", "block"] * (1 + 1e-9)
    cloud_s = sum(w * p.stage_s.cloud_s for w, p in zip(plans.weights, plans.plans, strict=True))
    _, records = run(Jps(name="jps", division=division, granularity="path"), given)
    paced_s = max(found["hull", "path"], cloud_s)
    assert records.finish_s.max() / 300 == pytest.approx(paced_s, rel=0.03)
    assert (len(plans.remarks) == 2) == (cloud_s > found["hull", "path"])


def assert_as_sent(given: Problem, plan: Plan) -> None:
    """The plan's times recomputed from its end layers."""
    held = given.graph.end_set(plan.end_layers)
    sent = [given.graph.layers[i] for i in given.graph.crossing(held)]
    assert sorted(tensor.layer for tensor in plan.crossing) == sorted(layer.name for layer in sent)
    sizes = [
        given.codec.expected_bytes(layer.elements, given.bits.bits(layer.name), layer.rows)
        for layer in sent
    ]
    assert plan.stage_s.link_s == pytest.approx(8 * sum(sizes) / given.link.bandwidth_bps)
    assert plan.stage_s.end_s == pytest.approx(
        sum(given.end.layer_s[name] for name in plan.end_layers)
    )
