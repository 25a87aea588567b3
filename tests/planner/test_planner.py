"""The planner: first cuts and schedules worked out by hand, then every closed end set of hundreds
of random graphs against the plain second implementation in `reference`.
"""

from dataclasses import replace
from functools import cache
from signal import ITIMER_REAL, SIGALRM, setitimer, signal

import numpy as np
import pytest
from helpers.graphs import (
    FIGURE_4_ORDER,
    SHAPES,
    PlainCodec,
    SameBits,
    chain,
    diamond,
    figure_4,
    nested,
    problem,
    random_problem,
)
from helpers.looped import looped
from helpers.reference import (
    MAX_LAYERS,
    OneTask,
    closed_end_sets,
    feasible,
    one_task,
    optimum,
    value,
)

from coach_exp.planner.planning import Planner
from coach_exp.types.errors import CutError, InfeasibleError
from coach_exp.types.method import Link, Problem
from coach_exp.types.outcomes import Crossing
from coach_exp.types.plan import Bubbles, Overlap, Plan, StageTimes
from coach_exp.types.profile import DeviceProfile

SEARCHES = ("exhaustive", "divide_conquer")
OBJECTIVES = ("paper", "bottleneck", "latency", "weighted")
RELEASES = ("per_tensor", "after_decision")
WEIGHTS = (1.0, 0.5, 2.0)

both_searches = pytest.mark.parametrize("search", SEARCHES)
both_releases = pytest.mark.parametrize("release", RELEASES)


# ---------------------------------------------------------------------------------- by hand


#   in ─ 1 ─ 2 ─ 3       end 0, 2, 2, 8 s; cloud 0, 1, 1, 3 s; tensors 4, 5, 3, 0 s
#   sent       T_e T_t T_c   B_c  B_t  max  paper   sum
#   in           0   4   5     5    1    5     11     9
#   1            2   5   4     2    0    5      7    11
#   2            4   3   3     1    1    4      6    10
#   nothing     12   0   0    12   12   12     36    12
def little_chain(**changes) -> Problem:
    return chain([0, 2, 2, 8], [0, 1, 1, 3], [4, 5, 3, 0], **changes)


@both_searches
@pytest.mark.parametrize(
    ("objective", "weights", "sent", "best"),
    [
        ("paper", WEIGHTS, "2", 6),
        ("bottleneck", WEIGHTS, "2", 4),
        ("latency", WEIGHTS, "in", 9),
        ("weighted", (1, 0, 0), "in", 0),
        ("weighted", (0, 1, 0), "device-only", 0),
        ("weighted", (0, 0, 1), "device-only", 0),
        ("weighted", (0, 2, 1), "device-only", 0),
        ("weighted", (2, 1, 1), "in", 9),
        ("weighted", (1, 1, 3), "device-only", 12),
    ],
)
def test_chain_by_hand(search, objective, weights, sent, best):
    plan = Planner(search=search, objective=objective, weights=weights).plan(little_chain())
    assert (plan.cut_name, plan.objective.value) == (sent, best)
    assert plan.objective.name == objective


@both_searches
@both_releases
def test_whole_plan_of_a_chain(search, release):
    plan = Planner(search=search, release=release).plan(little_chain())
    assert plan.end_layers == ("in", "1", "2")
    assert plan.crossing == (Crossing("2", 8),)
    assert plan.release == release
    assert plan.stage_s == StageTimes(4, 3, 3)
    assert plan.overlap_s == Overlap(0, 0)  # one tensor: nothing can overlap
    assert plan.latency_s == 10
    assert plan.objective.bubbles == Bubbles(compute_s=1, link_s=1)
    assert (plan.ready_s, plan.payload_bytes, plan.cloud_work_s) == ((4,), (3000,), (3,))


@both_searches
def test_equal_values_go_to_the_lower_sum(search):
    # sent in: 0 + 3·4 = 12 and sum 9; nothing sent: 12 + 3·0 = 12 and sum 12
    plan = Planner(search=search, objective="weighted", weights=(1, 3, 0)).plan(little_chain())
    assert (plan.objective.value, plan.cut_name) == (12, "in")


@both_searches
@pytest.mark.parametrize(
    ("release", "overlap", "latency_s"),
    [("per_tensor", Overlap(1, 1), 4), ("after_decision", Overlap(0, 1), 5)],
)
def test_balanced_diamond_has_no_bubble(search, release, overlap, latency_s):
    #       ┌ light ┐        cloud: 1 s a layer; link: 1 s a tensor;
    #   in ─┤       ├─ add   end: in 1 s, light 1 s, heavy 9 s, add 9 s
    #       └ heavy ┘
    #                   0    1    2    3    4    5
    #   end             |-in-|light
    #   link, per_tensor     |-in-|light          T_t^p = 1
    #   cloud                     |heavy|add|     T_c^p = 1
    #   link, after_decision      |-in-|light
    #   cloud                          |heavy|add|
    plan = Planner(search=search, release=release).plan(diamond((1, 1, 9, 9), 1, 1))
    assert plan.end_layers == ("in", "light")
    assert [c.layer for c in plan.crossing] == ["in", "light"]
    assert plan.stage_s == StageTimes(2, 2, 2)
    assert plan.overlap_s == overlap
    assert plan.objective.bubbles == Bubbles(0, 0)
    assert plan.objective.value == 2
    assert plan.latency_s == latency_s
    assert plan.ready_s == (1, 2)
    assert plan.payload_bytes == (1000, 1000)
    assert plan.cloud_work_s == (1, 1)


def test_reference_schedules_figure_4_by_hand():
    task = one_task(figure_4(), FIGURE_4_ORDER, "per_tensor")
    assert task.sent == (("3", 3, 6), ("5", 6, 7), ("6", 7, 8))
    assert task.worked == (("4", 6, 7), ("7", 8, 10), ("8", 10, 11), ("9", 11, 12))
    assert (task.stage, task.overlap, task.latency_s) == (StageTimes(6, 5, 5), Overlap(3, 1), 12)
    waiting = one_task(figure_4(), FIGURE_4_ORDER, "after_decision")
    assert waiting.sent == (("3", 6, 9), ("5", 9, 10), ("6", 10, 11))
    assert waiting.worked == (("4", 9, 10), ("7", 11, 13), ("8", 13, 14), ("9", 14, 15))
    assert (waiting.overlap, waiting.latency_s) == (Overlap(0, 1), 15)


@both_searches
@pytest.mark.parametrize(
    ("release", "overlap", "latency_s"),
    [("per_tensor", Overlap(3, 1), 12), ("after_decision", Overlap(0, 1), 15)],
)
def test_figure_4(search, release, overlap, latency_s):
    # B_c = |6 - 5| = 1; B_t = |5 - max(6, 5 - T_t^p, 5 - 1)| = 1; 1 + 1 + 6 = 8
    plan = Planner(search=search, release=release).plan(figure_4())
    assert plan.end_layers == FIGURE_4_ORDER
    assert [c.layer for c in plan.crossing] == ["3", "5", "6"]
    assert plan.stage_s == StageTimes(6, 5, 5)
    assert plan.overlap_s == overlap
    assert plan.latency_s == latency_s
    assert plan.objective.bubbles == Bubbles(1, 1)
    assert plan.objective.value == 8
    assert plan.ready_s == (3, 4, 6)
    assert plan.cloud_work_s == (1, 0, 4)


@both_searches
@pytest.mark.parametrize(
    ("release", "sent", "latency_s"), [("per_tensor", "in+light", 8), ("after_decision", "in", 10)]
)
def test_release_decides_the_cut(search, release, sent, latency_s):
    # in (4 s to send) and light (3 s on the end, 1 s to send) cross, the cloud runs heavy (3 s),
    # add:
    #   per_tensor: in 0-4, light 4-5, heavy 4-7, add 7-8; after_decision: in 3-7, …, add 10-11
    # cloud-only, either way: in 0-4, then 2 + 3 + 1 s
    graph = diamond(end_s=(0, 3, 9, 9), cloud_s=(0, 2, 3, 1), tensor_s=(4, 1, 1, 0))
    plan = Planner(search=search, objective="latency", release=release).plan(graph)
    assert (plan.cut_name, plan.latency_s, plan.objective.value) == (sent, latency_s, latency_s)


@both_searches
@pytest.mark.parametrize(
    ("release", "sent", "best"), [("per_tensor", "in", 30), ("after_decision", "in+light", 5)]
)
def test_overlaps_beyond_the_longest_stage_are_refused(search, release, sent, best):
    # in+light: T = (4, 4, 3), and of the 4 s neither T_t^p = 3 (in) nor T_c^p = 2 (heavy) is left:
    # 3 + 2 > 4 breaks (4); sending after the decision T_t^p = 0, T_c^p = 1: 1 + 0 + 4
    # in+heavy: T = (9, 4, 9), T_t^p = 3, T_c^p = 7 breaks (4); after the decision T_c^p = 1:
    #   0 + |4 - 9| + 9 = 14
    # in: T = (0, 3, 11): 11 + 8 + 11
    graph = diamond(end_s=(0, 4, 9, 9), cloud_s=(0, 8, 2, 1), tensor_s=(3, 1, 1, 0))
    plan = Planner(search=search, release=release).plan(graph)
    assert (plan.cut_name, plan.objective.value) == (sent, best)


@both_searches
def test_device_only_costs_three_times_the_end_under_the_paper_objective(search):
    plan = Planner(search=search).plan(chain([0, 1, 2], [0, 1, 1], [100, 100, 0]))
    assert plan.end_layers == ("in", "1", "2")
    assert plan.crossing == plan.payload_bytes == ()
    assert plan.cut_name == "device-only"
    assert (plan.stage_s, plan.overlap_s) == (StageTimes(3, 0, 0), Overlap(0, 0))
    assert plan.objective.value == 3 * 3
    assert plan.latency_s == 3


@both_searches
def test_cloud_only_sends_the_input(search):
    # T = (0, 1, 2): B_c = 2, B_t = |1 - 2| = 1, max 2
    plan = Planner(search=search).plan(chain([0, 50, 50], [0, 1, 1], [1, 5, 5]))
    assert plan.end_layers == ("in",)
    assert (plan.cut_name, plan.stage_s) == ("in", StageTimes(0, 1, 2))
    assert plan.objective.value == 5
    assert (plan.ready_s, plan.cloud_work_s) == ((0,), (2,))


def test_a_tensor_with_several_consumers_is_sent_once():
    graph = diamond(end_s=(1, 9, 9, 9), cloud_s=1, tensor_s=1)
    plan = Planner().plan_for(graph, ["in"])
    assert plan.stage_s == StageTimes(1, 1, 3)
    assert plan.crossing == (Crossing("in", 8),)


def test_size_is_that_of_the_codec_at_the_width_of_the_table():
    # 3000 elements at 3 bits: 1125 bytes, and 16 of the header; 8000 bit/s
    graph = little_chain(codec=PlainCodec(header_bytes=16), bits=SameBits(3))
    plan = Planner().plan_for(graph, ["in", "1", "2"])
    assert plan.payload_bytes == (1141,)
    assert plan.stage_s.link_s == pytest.approx(1.141, rel=1e-12)
    assert plan.crossing == (Crossing("2", 3),)


@pytest.mark.parametrize(
    ("link", "latency_s", "overlap"),
    [
        (Link(8000, rtt_s=1), 4.5, Overlap(1, 0.5)),  # in is there at 2.5, sending ends at 3
        (Link(8000, rtt_s=1, result_return=True), 5, Overlap(1, 0.5)),
        (Link(8000, rtt_s=8), 8, Overlap(1, 0)),
        (Link(8000, rtt_s=0, result_return=True), 4, Overlap(1, 1)),
    ],
)
def test_half_the_rtt_delays_delivery_and_answer_but_never_the_link(link, latency_s, overlap):
    plan = Planner().plan_for(diamond((1, 1, 9, 9), 1, 1, link=link), ["in", "light"])
    assert plan.stage_s == StageTimes(2, 2, 2)
    assert plan.overlap_s == overlap
    assert plan.latency_s == latency_s


def test_device_only_waits_for_nothing_to_return():
    graph = little_chain(link=Link(8000, rtt_s=6, result_return=True))
    assert Planner().plan_for(graph, graph.graph.index).latency_s == 12


@both_searches
@both_releases
def test_t_max_that_no_cut_meets_is_refused_by_name_and_amount(search, release):
    # the lowest sum is 9 s, that of sending the input
    planner = Planner(search=search, release=release)
    with pytest.raises(
        InfeasibleError, match=r"sends \['in'\].*constraint \(3\).*9000\.0.*by 500\.0.* ms"
    ):
        planner.plan(little_chain(t_max_s=8.5))
    assert planner.plan(little_chain(t_max_s=9)).cut_name == "in"
    assert planner.plan(little_chain(t_max_s=10)).cut_name == "2"


@both_searches
def test_forbidden_input_stays_on_the_end(search):
    planner = Planner(search=search, objective="latency")
    assert planner.plan(little_chain()).cut_name == "in"
    assert planner.plan(little_chain(raw_input_may_cross=False)).cut_name == "2"
    with pytest.raises(InfeasibleError, match=r"constraint \(3\).* by 500\.0.* ms"):
        planner.plan(little_chain(raw_input_may_cross=False, t_max_s=9.5))


def test_forbidden_input_as_a_given_cut_is_refused():
    with pytest.raises(InfeasibleError, match=r"forbidden.*raw input"):
        Planner().plan_for(little_chain(raw_input_may_cross=False), ["in"])


def test_end_set_that_is_not_closed_is_refused():
    with pytest.raises(CutError, match=r"layer '5' is on the end but its inputs \['1'\]"):
        Planner().plan_for(figure_4(), ["in", "5"])


def test_exhaustive_search_refuses_above_its_limit_and_names_the_way_out():
    with pytest.raises(InfeasibleError, match=r"limit = 3.*planner=divide_conquer"):
        Planner(search="exhaustive", limit=3).plan(figure_4())


# --------------------------------------------------- random graphs against the reference


SEEDS = range(80)
random_graphs = looped(("shape", "seed"), [(shape, seed) for shape in SHAPES for seed in SEEDS])


@cache
def drawn(shape: str, seed: int) -> Problem:
    """A random problem of 3 to 11 layers besides the input, one or two more where its shape asks
    for them; every other has an RTT, every fifth limits T_max, every seventh forbids the raw input.
    """
    rng = np.random.default_rng([seed, *map(ord, shape)])
    while True:
        graph = random_problem(rng, shape, int(rng.integers(3, 12)))
        if len(graph.graph) <= MAX_LAYERS - 2:
            break
    rtt_s = float(rng.random()) if seed % 2 else 0.0
    graph = replace(graph, link=Link(8000.0, rtt_s, result_return=seed % 4 == 3))
    if seed % 5 == 4:
        lowest = min(task.stage.total_s for task in scheduled(graph, "per_tensor").values())
        graph = replace(graph, t_max_s=1.3 * lowest)
    return replace(graph, raw_input_may_cross=seed % 7 != 6)


def scheduled(graph: Problem, release: str) -> dict[frozenset[str], OneTask]:
    """Every closed end set, played in the order of the planner.

    The order is a function of the cut alone, so it is asked for with nothing to do on the cloud and
    nothing to send before the decision: no constraint can refuse it.
    """
    idle = DeviceProfile("idle", dict.fromkeys(graph.graph.index, 0.0))
    free = replace(graph, cloud=idle, raw_input_may_cross=True, t_max_s=None)
    planner = Planner(release="after_decision")
    return {
        end_set: one_task(graph, planner.plan_for(free, end_set).end_layers, release)
        for end_set in closed_end_sets(graph)
    }


@cache
def played(shape: str, seed: int, release: str) -> dict[frozenset[str], OneTask]:
    return scheduled(drawn(shape, seed), release)


@cache
def planned(shape: str, seed: int, search: str, objective: str, release: str) -> Plan | None:
    """The plan found; None where the planner finds none feasible."""
    planner = Planner(search=search, objective=objective, release=release, weights=WEIGHTS)
    try:
        return planner.plan(drawn(shape, seed))
    except InfeasibleError:
        return None


def combinations(shape: str, seed: int):
    for release in RELEASES:
        for objective in OBJECTIVES:
            best = optimum(
                drawn(shape, seed), objective, played(shape, seed, release), weights=WEIGHTS
            )
            yield objective, release, best


@random_graphs
def test_exhaustive_finds_what_trying_every_closed_set_finds(shape, seed):
    for objective, release, best in combinations(shape, seed):
        plan = planned(shape, seed, "exhaustive", objective, release)
        if best is None:
            assert plan is None
            continue
        assert plan.objective.value == pytest.approx(best.value, rel=1e-9, abs=1e-12)
        assert plan.stage_s.total_s == pytest.approx(best.total_s, rel=1e-9, abs=1e-12)


@random_graphs
def test_divide_and_conquer_plans_are_feasible_and_never_beat_the_optimum(shape, seed):
    for objective, release, best in combinations(shape, seed):
        plan = planned(shape, seed, "divide_conquer", objective, release)
        assert (plan is None) == (best is None)
        if plan is not None:
            task = played(shape, seed, release)[frozenset(plan.end_layers)]
            assert feasible(drawn(shape, seed), frozenset(plan.end_layers), task)
            assert plan.objective.value >= best.value * (1 - 1e-9) - 1e-12
            if plan.lower_bound is not None:
                assert plan.lower_bound <= best.value * (1 + 1e-9) + 1e-12


@random_graphs
def test_plans_tell_the_schedule_of_their_own_order(shape, seed):
    graph = drawn(shape, seed)
    for objective, release, _ in combinations(shape, seed):
        for search in SEARCHES:
            plan = planned(shape, seed, search, objective, release)
            if plan is not None:
                assert_plan_is(plan, graph, one_task(graph, plan.end_layers, release))
                found = value(objective, one_task(graph, plan.end_layers, release), WEIGHTS)
                assert plan.objective.value == pytest.approx(found, rel=1e-9, abs=1e-12)


def assert_plan_is(plan: Plan, graph: Problem, task: OneTask) -> None:
    """The plan's end set is closed, in topological order, and all its times are those of `task`."""
    held = graph.graph.end_set(plan.end_layers)
    assert len(held) == len(plan.end_layers)
    near = pytest.approx
    for told, found in ((plan.stage_s, task.stage), (plan.overlap_s, task.overlap)):
        for name in told.__slots__:
            assert getattr(told, name) == near(getattr(found, name), rel=1e-9, abs=1e-12), name
    assert plan.latency_s == near(task.latency_s, rel=1e-9, abs=1e-12)
    assert [c.layer for c in plan.crossing] == [name for name, _, _ in task.sent]
    assert plan.cloud_work_s == near(work_by_arrival(graph, plan), rel=1e-9, abs=1e-12)
    ready, clock = {}, 0.0
    for name in plan.end_layers:
        clock += graph.end.layer_s[name]
        ready[name] = clock
    assert plan.ready_s == near([ready[c.layer] for c in plan.crossing], rel=1e-9, abs=1e-12)


def work_by_arrival(graph: Problem, plan: Plan) -> list[float]:
    """Cloud seconds that become possible with each arrival: the layers all of whose ancestors are
    on the end or stem from what has arrived.
    """
    there, work = set(), []
    for crossing in plan.crossing:
        there.add(crossing.layer)
        seconds = 0.0
        for layer in graph.graph.layers:  # topological: one pass is enough
            if layer.name not in plan.end_layers and layer.name not in there:  # noqa: SIM102
                if set(layer.inputs) <= there:
                    there.add(layer.name)
                    seconds += graph.cloud.layer_s[layer.name]
        work.append(seconds)
    return work


@random_graphs
def test_every_end_set_is_scheduled_as_by_the_reference(shape, seed):
    """Not only the best ones; a sample of each graph's end sets, with the sums of the objective."""
    graph = replace(drawn(shape, seed), raw_input_may_cross=True, t_max_s=None)
    for release in RELEASES:
        tasks = list(played(shape, seed, release).items())
        for end_set, task in tasks[:: max(1, len(tasks) // 8)]:
            if feasible(graph, end_set, task):
                assert_plan_is(Planner(release=release).plan_for(graph, end_set), graph, task)
            else:
                with pytest.raises(InfeasibleError, match=r"constraint \(4\)"):
                    Planner(release=release).plan_for(graph, end_set)


def gaps(shape: str) -> np.ndarray:
    """How much worse divide and conquer is than the optimum, over all objectives and releases."""
    found = []
    for seed in SEEDS:
        for objective, release, best in combinations(shape, seed):
            plan = planned(shape, seed, "divide_conquer", objective, release)
            if plan is not None and best.value > 0:
                found.append(plan.objective.value / best.value - 1)
    return np.array(found)


def test_divide_and_conquer_is_exact_on_chains():
    assert gaps("chain").max() <= 1e-9


@pytest.mark.parametrize("shape", ["one_level", "nested", "any"])
def test_divide_and_conquer_is_all_but_exact_on_graphs(shape):
    found = gaps(shape)
    assert len(found) >= 500
    assert (found <= 1e-9).mean() >= 0.95
    assert found.mean() <= 0.01


@pytest.mark.parametrize("shape", SHAPES)
@both_searches
@pytest.mark.parametrize("factor", [1e-3, 7.0])
def test_a_faster_clock_keeps_the_cut(shape, search, factor):
    for seed in range(0, len(SEEDS), 8):
        graph = drawn(shape, seed)
        scaled = replace(
            graph,
            end=DeviceProfile("end", {k: s * factor for k, s in graph.end.layer_s.items()}),
            cloud=DeviceProfile("cloud", {k: s * factor for k, s in graph.cloud.layer_s.items()}),
            link=replace(
                graph.link,
                bandwidth_bps=graph.link.bandwidth_bps / factor,
                rtt_s=graph.link.rtt_s * factor,
            ),
            t_max_s=None if graph.t_max_s is None else graph.t_max_s * factor,
        )
        for objective in OBJECTIVES:
            planner = Planner(search=search, objective=objective)
            plain, fast = planner.plan(graph), planner.plan(scaled)
            assert set(fast.end_layers) == set(plain.end_layers)
            assert fast.objective.value == pytest.approx(plain.objective.value * factor, rel=1e-9)


# ------------------------------------------------------------------------- size and effort


def test_a_chain_takes_one_evaluation_for_each_of_its_cuts():
    """One behind each layer, the input included; that behind the last is device-only."""
    for seed in SEEDS:
        for objective in OBJECTIVES:
            plan = planned("chain", seed, "divide_conquer", objective, "per_tensor")
            if plan is not None:
                assert plan.evaluations == len(drawn("chain", seed).graph)


def test_exhaustive_evaluates_each_closed_set_once():
    assert Planner(search="exhaustive").plan(diamond(1, 1, 1)).evaluations == 5
    assert Planner(search="exhaustive").plan(figure_4()).evaluations == len(
        list(closed_end_sets(figure_4()))
    )


@both_searches
def test_a_chain_of_3000_layers_is_planned(search):
    size = 3000
    graph = chain([0.0] + [1.0] * size, [0.0] + [0.5] * size, [9000.0] + [1500.0] * size)
    plan = Planner(search=search).plan(graph)  # T_e = k, T_t = 1500, T_c = (3000 - k) / 2
    # 3/2·|k - 1000| + |1500 - max(k, 1500, …)| + 1500 is least at k = 1000
    assert plan.stage_s == StageTimes(1000, 1500, 1000)
    assert plan.objective.value == 1500


@pytest.mark.slow
def test_blocks_nested_200_deep_are_planned():
    graph = nested(200)
    plan = Planner().plan(graph)
    assert_plan_is(plan, graph, one_task(graph, plan.end_layers, "per_tensor"))


def test_nested_blocks_are_exact_where_every_cut_can_be_tried():
    graph = nested(4)
    for objective in OBJECTIVES:
        exact, found = (Planner(search=s, objective=objective).plan(graph) for s in SEARCHES)
        assert found.objective.value == pytest.approx(exact.objective.value, rel=1e-9)


@pytest.fixture
def alarm():
    """Ends a search that would run for ever."""

    def ring(*_):
        raise TimeoutError("still searching after 5 s")

    before = signal(SIGALRM, ring)
    setitimer(ITIMER_REAL, 5)
    yield
    setitimer(ITIMER_REAL, 0)
    signal(SIGALRM, before)


@both_searches
@pytest.mark.usefixtures("alarm")
def test_cuts_that_differ_by_less_than_rounding_do_not_keep_the_search_going(search):
    #        ┌ a ─ b ┐        the link holds 10^7 s for in, 0.009 s more for a, 0.018 s for b:
    #   in ──┴───────┴─ out   each step is within 10^-9 of the last, both together are not;
    #                         each step spares the cloud 10^6 s
    graph = problem(
        {"in": [], "a": ["in"], "b": ["a"], "out": ["in", "b"]},
        end_s={"in": 0, "a": 0, "b": 0, "out": 1e9},
        cloud_s={"in": 0, "a": 1e6, "b": 1e6, "out": 1e6},
        tensor_s={"in": 1e7, "a": 0.009, "b": 0.018},
    )
    plan = Planner(search=search, objective="bottleneck").plan(graph)
    assert plan.objective.value == pytest.approx(1e7, rel=1e-8)
