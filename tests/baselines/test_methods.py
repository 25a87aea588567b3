"""What must hold of every method, whoever wrote it: judged from the Method protocol alone, against
brute force over all cuts.

A method is what its config builds. `VARIANTS` names each with the settings under which it is
judged; one that cannot be built fails here. Statements of time are about rates that do not change,
tasks that all enter, and answers that leave at once, unless a test says otherwise.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import pytest
import torch
from helpers.answers import Answers
from helpers.graphs import PlainCodec, chain, random_problem
from helpers.graphs import problem as graph_problem
from helpers.looped import looped
from helpers.reference import one_task
from helpers.reference_baselines import (
    Cuts,
    adjacent_pair,
    best_mixture,
    closed_sets_by_block,
    crossing,
    min_max,
    min_sum,
    of_width,
    payload_bytes,
)
from hydra import compose
from hydra.utils import instantiate
from omegaconf import DictConfig
from scipy.optimize import linprog
from torch import nn

from coach_exp.learning.models import ModelSpec, preprocess
from coach_exp.learning.video import VideoDataset
from coach_exp.learning.weights import Weights
from coach_exp.live.model_answers import ModelOnData
from coach_exp.live.outcomes import torch_outcomes
from coach_exp.network.estimator import Estimator, Ewma, Oracle
from coach_exp.network.trace import Trace, constant, steps
from coach_exp.pipeline.simulator import simulate
from coach_exp.profiling.capture import capture
from coach_exp.profiling.device import analytic
from coach_exp.profiling.devices import analytic_spec
from coach_exp.quant.affine import UniformAffine
from coach_exp.quant.precision import FLOAT32, FixedBits
from coach_exp.setup.builder import Builder
from coach_exp.setup.config import validated
from coach_exp.types.errors import InfeasibleError
from coach_exp.types.method import Link, Method, Problem
from coach_exp.types.outcomes import Crossing, Prediction
from coach_exp.types.plan import Plan, PlanSet
from coach_exp.types.profile import DeviceProfile
from coach_exp.types.task import Records
from coach_exp.types.workload import Workload

pytestmark = pytest.mark.usefixtures("hydra")

BITS = 4  # of every tensor but the raw input, where a method does not send floats

JPS = ("method=jps", "method.variant=hull")
VARIANTS = {
    "ns": ("method=ns", "method.linearisation=articulation"),
    "ns_prefix": ("method=ns", "method.linearisation=prefix"),
    "ns_sequential": ("method=ns_sequential",),
    "dads": ("method=dads", "method.mode=auto"),
    "dads_light": ("method=dads", "method.mode=light"),
    "jps": (*JPS, "method.granularity=block"),
    "jps_adjacent": ("method=jps", "method.variant=adjacent", "method.granularity=block"),
    "jps_path": (*JPS, "method.granularity=path"),
    "dyno": ("method=dyno",),
    "pipebalance": ("method=pipebalance",),
    "oracle_latency": ("method=oracle_latency",),
    "oracle_bottleneck": ("method=oracle_bottleneck",),
    "device_only": ("method=device_only",),
    "cloud_only": ("method=cloud_only",),
    "coach_offline": ("method=coach_offline",),
    "coach_bottleneck": ("method=coach_bottleneck",),
}
FLOATS = (  # as published
    *("ns", "ns_prefix", "ns_sequential", "dads", "dads_light"),
    *("jps", "jps_adjacent", "jps_path"),
)
MIN_SUM = ("dads_light",)  # over all closed end sets; oracle_latency counts overlaps
ON_TRACKS = (*FLOATS, "dyno", "pipebalance", "oracle_latency", "oracle_bottleneck")
CHOOSING = tuple(name for name in VARIANTS if name not in ("device_only", "cloud_only"))
OWN_WIDTHS = ("dyno",)  # chooses the width of what it sends

Source = tuple[str, str | int, float]  # shape or model, seed or device, factor or Mbps
SHAPES = ("chain", "one_level", "nested", "any")
MODELS = ("resnet18", "googlenet", "vgg11")
SOURCES: dict[str, list[Source]] = {
    **{shape: [(shape, n, f) for n in range(3) for f in (0.05, 1.0, 20.0)] for shape in SHAPES},
    "resnet18": [("resnet18", "nx", 10.0), ("resnet18", "tx2", 60.0)],
    "googlenet": [("googlenet", "tx2", 60.0)],
    "vgg11": [("vgg11", "nx", 10.0), ("vgg11", "tx2", 60.0)],
}

every_method = pytest.mark.parametrize("variant", VARIANTS)
every_choice = pytest.mark.parametrize("variant", CHOOSING)
every_graph = looped("graphs", SOURCES)
random_graphs = looped("graphs", SHAPES)
both_divisions = pytest.mark.parametrize("division", ["as_published", "same_codec"])


@cache
def method_of(variant: str, *overrides: str) -> Method:
    """The method that its config builds."""
    raw = deepcopy(_composed(variant, *(each for each in overrides if each[:9] != "division=")))
    for division in (each[9:] for each in overrides if each[:9] == "division="):
        raw.division = division
    return instantiate(raw.method, _convert_="all")


@cache
def _composed(variant: str, *overrides: str) -> DictConfig:
    return compose("config", overrides=[*VARIANTS[variant], *overrides])


@cache
def captured(model: str) -> tuple[Problem, dict[str, DeviceProfile]]:
    """A real model on the RTX A6000 and, by name, its profiles on the end devices."""
    named = [f"model={model}"]
    if model == "vgg11":
        named = ["model=vgg16", "model._target_=torchvision.models.vgg11"]
    overrides = [*named, "weights=none", "precision=fixed", f"precision.bits={BITS}"]
    builder = Builder(validated(compose("config", overrides=overrides)), lambda *_: None)
    problem = builder.problem(builder.trace())
    ends = {}
    for device in ("nx", "tx2"):
        ends[device] = analytic(problem.graph, analytic_spec(device))
    return problem, ends


@cache
def given(source: Source) -> Problem:
    """A problem of a random graph of 6 to 10 layers, the link `factor` times as fast as drawn,
    or of a real model. The raw input is sent at 8 bits, all else at 4."""
    name, which, scale = source
    if name in MODELS:
        problem, ends = captured(name)
        problem = replace(problem, end=ends[str(which)])
        link = replace(problem.link, bandwidth_bps=1e6 * scale)
    else:
        problem = _drawn(name, int(which))
        link = replace(problem.link, bandwidth_bps=problem.link.bandwidth_bps * scale)
    return replace(problem, link=link, workload=Workload("saturated", tasks=40))


@cache
def _drawn(shape: str, number: int) -> Problem:
    """Of graphs 0 and 1 the best cut sends tensors of several layers (in a chain of one) that are
    not the raw input, by its sum or by its largest stage; graph 2 is as it comes."""
    rng = np.random.default_rng([number, *map(ord, shape)])
    while True:
        problem = random_problem(rng, shape, int(rng.integers(5, 9)), codec=PlainCodec(3))
        if not 6 <= len(problem.graph) <= 10:
            continue
        problem = replace(problem, bits=FixedBits(BITS, problem.graph.input.name))
        cuts = Cuts.of(problem)
        stages = cuts.stages(problem.link.bandwidth_bps)
        weighed = stages.sum(axis=1) if number == 0 else stages.max(axis=1)
        sent = crossing(problem.graph, list(cuts.row)[int(weighed.argmin())])
        wanted = 1 if shape == "chain" else 2
        if number == 2 or len(sent - {problem.graph.input.name}) >= wanted:
            return problem


@cache
def _cuts(name: str, which: str | int, bits: int) -> Cuts:
    return Cuts.of(of_width(given((name, which, 1.0)), bits))


def all_cuts(source: Source, bits: int = BITS) -> tuple[Cuts, np.ndarray]:
    """Every cut of a source at a width, and its stage times."""
    found = _cuts(*source[:2], bits)
    return found, found.stages(given(source).link.bandwidth_bps)


@cache
def planned(variant: str, division: str, source: Source) -> tuple[Problem, PlanSet]:
    """The problem as the method meets it, and its plans."""
    method = method_of(variant, f"division={division}")
    problem = method.view(given(source))
    return problem, method.plan(problem)


def divisions_of(variant: str) -> tuple[str, ...]:
    return ("as_published", "same_codec") if variant in ON_TRACKS else ("same_codec",)


def width_of(variant: str, division: str) -> int | None:
    """Bits of what a method sends, the raw input apart; None where that is its own affair."""
    if variant in OWN_WIDTHS or (division == "as_published" and variant not in FLOATS):
        return None
    return FLOAT32 if division == "as_published" else BITS


def stage_of(problem: Problem, plan: Plan) -> np.ndarray:
    """T_e, T_t, T_c of a plan's end set and widths, added up again."""
    end_set = frozenset(plan.end_layers)
    sent = sum(payload_bytes(problem, tensor.layer, tensor.bits) for tensor in plan.crossing)
    return np.array(
        [
            sum(problem.end.layer_s[name] for name in end_set),
            8 * sent / problem.link.bandwidth_bps,
            sum(problem.cloud.layer_s[n] for n in problem.graph.index if n not in end_set),
        ]
    )


def mean_stage(problem: Problem, plans: PlanSet) -> np.ndarray:
    """Seconds a task holds end, link and cloud, on average over the plans' shares."""
    stages = np.array([stage_of(problem, plan) for plan in plans.plans])
    return np.asarray(plans.weights) @ stages


def total(variant: str, division: str, source: Source) -> float:
    return float(mean_stage(*planned(variant, division, source)).sum())


def largest(variant: str, division: str, source: Source) -> float:
    return float(mean_stage(*planned(variant, division, source)).max())


def two_stage_period(variant: str, division: str, source: Source) -> float:
    """max{Σ p T_e, Σ p T_t}: the period where the cloud is free."""
    return float(mean_stage(*planned(variant, division, source))[:2].max())


def at_most(small: float, large: float) -> bool:
    return small <= large * (1 + 1e-8) + 1e-15


def ran(
    method: Method,
    problem: Problem,
    plans: PlanSet,
    trace: Trace | None = None,
    estimator: Estimator | None = None,
    samples: np.ndarray | None = None,
) -> Records:
    """The workload through the simulator, on a link that keeps its rate unless given another."""
    trace = trace or constant(problem.link.bandwidth_bps)
    estimator = estimator or Oracle(trace)
    return simulate(problem, method.controller(plans), trace, estimator, samples)


@cache
def simulated(variant: str, division: str, source: Source) -> tuple[Problem, PlanSet, Records]:
    problem, plans = planned(variant, division, source)
    return problem, plans, ran(method_of(variant, f"division={division}"), problem, plans)


def makespan_s(records: Records) -> float:
    return float(records.finish_s.max() - records.end_start_s.min())


# ------------------------------------------------------------------------ the reference itself


@random_graphs
def test_closed_sets_are_the_same_block_by_block(graphs):
    for source in SOURCES[graphs]:
        problem = given(source)
        by_block = list(closed_sets_by_block(problem.graph))
        assert len(by_block) == len(set(by_block))
        assert set(by_block) == set(all_cuts(source)[0].row)


@random_graphs
def test_a_mixture_of_two_is_the_best_of_all_mixtures(graphs):
    for source in SOURCES[graphs]:
        end_s, link_s = all_cuts(source)[1][:, :2].T
        least = best_mixture(end_s, link_s)
        unit = max(least, 1e-9)
        rows = np.column_stack([np.array([end_s, link_s]) / unit, [-1, -1]])
        sums = np.array([[*np.ones(len(end_s)), 0]])
        goal = [*np.zeros(len(end_s)), 1]
        solved = linprog(goal, A_ub=rows, b_ub=[0, 0], A_eq=sums, b_eq=[1])
        assert solved.fun * unit == pytest.approx(least, rel=1e-6)


# ------------------------------------------------------------ a plan is a cut and tells its times


@every_graph
@every_method
def test_plans_are_cuts_that_tell_their_own_times(variant, graphs):
    for source in SOURCES[graphs]:
        for division in divisions_of(variant):
            problem, plans = planned(variant, division, source)
            assert all(weight > 0 for weight in plans.weights)
            for plan in plans.plans:
                where = (source, division, plan.cut_name)
                assert_is_a_cut(problem, plan, where)
                assert_tells_its_times(problem, plan, where)


def assert_is_a_cut(problem: Problem, plan: Plan, where: object) -> None:
    graph, end_set = problem.graph, frozenset(plan.end_layers)
    assert len(plan.end_layers) == len(end_set), where
    assert graph.input.name in end_set, where
    done: set[str] = set()
    for name in plan.end_layers:  # closed, and in an order that can be executed
        assert set(graph[name].inputs) <= done, where
        done.add(name)
    sent = [tensor.layer for tensor in plan.crossing]
    assert len(sent) == len(set(sent)), where  # each once, however many consumers
    assert set(sent) == crossing(graph, end_set), where


def assert_tells_its_times(problem: Problem, plan: Plan, where: object) -> None:
    stage = plan.stage_s
    told = [stage.end_s, stage.link_s, stage.cloud_s]
    assert told == pytest.approx(stage_of(problem, plan), rel=1e-9, abs=1e-15), where
    assert plan.payload_bytes == tuple(
        payload_bytes(problem, tensor.layer, tensor.bits) for tensor in plan.crossing
    ), where
    assert plan.link_bps == problem.link.bandwidth_bps, where
    assert plan.release == "per_tensor", where  # nothing is decided at the cut
    widths = {tensor.layer: tensor.bits for tensor in plan.crossing}
    alone = one_task(replace(problem, bits=Widths(widths)), plan.end_layers, plan.release)
    assert plan.latency_s == pytest.approx(alone.latency_s, rel=1e-9), where


@dataclass(frozen=True)
class Widths:
    """The widths of one plan."""

    of: dict[str, int]

    def bits(self, layer: str) -> int:
        return self.of[layer]


@every_graph
@pytest.mark.parametrize("variant", ON_TRACKS)
def test_divisions_say_at_how_many_bits_tensors_go(variant, graphs):
    for source in SOURCES[graphs]:
        for division in ("as_published", "same_codec"):
            problem, plans = planned(variant, division, source)
            raw, width = problem.graph.input.name, width_of(variant, division)
            for tensor in (tensor for plan in plans.plans for tensor in plan.crossing):
                expected = problem.bits.bits(raw) if tensor.layer == raw else width
                assert tensor.bits == expected or expected is None, (source, division)


@random_graphs
@pytest.mark.parametrize("variant", FLOATS)
def test_a_division_changes_the_payload_and_nothing_else(variant, graphs):
    published, same = method_of(variant), method_of(variant, "division=same_codec")
    online = method_of(variant, "division=same_online")  # nothing to calibrate on, nothing decided
    for source in SOURCES[graphs][::2]:
        coarse, floats = given(source), of_width(given(source), FLOAT32)
        mine, theirs = published.plan(published.view(coarse)), same.plan(same.view(floats))
        assert mine.plans == theirs.plans, source
        assert mine.weights == theirs.weights, source
        decided = online.plan(online.view(coarse))
        assert decided.plans == planned(variant, "same_codec", source)[1].plans, source


@every_graph
@every_method
def test_all_methods_meet_the_same_graph_link_and_devices(variant, graphs):
    problem = given(SOURCES[graphs][0])
    for division in divisions_of(variant):
        seen = method_of(variant, f"division={division}").view(problem)
        for what in ("graph", "end", "cloud", "link", "raw_input_may_cross", "t_max_s"):
            assert getattr(seen, what) == getattr(problem, what), what
        assert seen.workload.tasks == problem.workload.tasks
        raw = problem.graph.input.name
        assert seen.bits.bits(raw) == problem.bits.bits(raw)


@every_method
def test_the_same_problem_gives_the_same_plans(variant):
    for graphs in SHAPES:
        source = SOURCES[graphs][1]
        method = method_of(variant, "division=same_codec")
        again = method.plan(method.view(given(source)))
        assert again == planned(variant, "same_codec", source)[1]


@random_graphs
@every_choice
@pytest.mark.parametrize("factor", [2.0**-10, 2.0**10])
def test_a_faster_clock_changes_no_plan(variant, graphs, factor):
    method = method_of(variant, "division=same_codec")
    for source in SOURCES[graphs][::4]:
        problem = given(source)
        link = replace(problem.link, bandwidth_bps=problem.link.bandwidth_bps / factor)
        clock = replace(
            problem,
            end=problem.end.slowed(factor),
            cloud=problem.cloud.slowed(factor),
            link=link,
        )
        before = planned(variant, "same_codec", source)[1]
        after = method.plan(method.view(clock))
        assert [p.end_layers for p in after.plans] == [p.end_layers for p in before.plans], source
        assert after.weights == pytest.approx(before.weights), source


@random_graphs
@every_method
def test_a_forbidden_input_does_not_leave(variant, graphs):
    method = method_of(variant, "division=same_codec")
    for source in SOURCES[graphs][::2]:
        private = method.view(replace(given(source), raw_input_may_cross=False))
        if variant == "cloud_only":
            with pytest.raises(InfeasibleError, match=r"input\.encoding = forbidden"):
                method.plan(private)
            continue
        raw = private.graph.input.name
        plans = method.plan(private).plans
        assert raw not in {tensor.layer for plan in plans for tensor in plan.crossing}, source


# --------------------------------------------------------------- optima and their order: the sum


@every_graph
@both_divisions
def test_the_least_sum_is_light_dads_is_below_prefix_is_below_articulation(division, graphs):
    for source in SOURCES[graphs]:
        cuts, stages = all_cuts(source, FLOAT32 if division == "as_published" else BITS)
        found = {v: total(v, division, source) for v in ("dads_light", "ns", "ns_prefix")}
        assert found["dads_light"] == pytest.approx(min_sum(stages), rel=1e-8), source
        assert found["ns"] == pytest.approx(min_sum(stages[cuts.boundaries]), rel=1e-8), source
        prefix = min_sum(stages[cuts.prefixes])
        assert found["ns_prefix"] == pytest.approx(prefix, rel=1e-8), source
        assert at_most(found["dads_light"], found["ns_prefix"]), source
        assert at_most(found["ns_prefix"], found["ns"]), source


@every_graph
def test_no_method_has_a_lower_sum_than_the_oracle(graphs):
    for source in SOURCES[graphs]:
        least = min_sum(all_cuts(source)[1])
        for variant in VARIANTS:
            if variant not in OWN_WIDTHS:
                assert at_most(least, total(variant, "same_codec", source)), (variant, source)


def test_a_cut_of_the_chain_does_not_lie_beside_a_shortcut():
    #   in ─ a ─┬ b ─┬ add ─ out    b is an ancestor or a descendant of all, yet a's tensor passes
    #           └────┘              by. Behind b both cross: (1 + 1) + (1 + 1) + (0.5 + 0.5) = 5 s.
    # Behind a: 1 + 1 + 41 = 43 s, behind add: 32 + 9 + 0.5 = 41.5 s: that is NS's.
    inputs = {"in": [], "a": ["in"], "b": ["a"], "add": ["a", "b"], "out": ["add"]}
    end_s = {"in": 0, "a": 1, "b": 1, "add": 30, "out": 30}
    cloud_s = {"in": 0, "a": 40, "b": 40, "add": 0.5, "out": 0.5}
    tensor_s = {"in": 9, "a": 1, "b": 1, "add": 9, "out": 1}
    given = graph_problem(inputs, end_s, cloud_s, tensor_s)
    found = {}
    for variant in ("ns", "ns_prefix", "dads_light"):
        method = method_of(variant, "division=same_codec")
        (plan,) = method.plan(method.view(given)).plans
        found[variant] = (plan.cut_name, plan.stage_s.total_s)
    assert found["ns_prefix"] == found["dads_light"] == ("a+b", 5)
    assert found["ns"] == ("add", 41.5)


@every_graph
@both_divisions
def test_articulation_cuts_send_one_tensor_and_waiting_changes_no_cut(division, graphs):
    for source in SOURCES[graphs]:
        plan = planned("ns", division, source)[1].plans[0]
        assert len(plan.crossing) <= 1, source
        alone = planned("ns_sequential", division, source)[1].plans[0]
        assert alone.end_layers == plan.end_layers, source


@random_graphs
@pytest.mark.parametrize("variant", ["ns", "ns_prefix", "ns_sequential", *MIN_SUM])
def test_more_bandwidth_never_costs_time_and_never_saves_bytes(variant, graphs):
    method = method_of(variant, "division=same_codec")
    base = method.view(given(SOURCES[graphs][0]))
    before, sent = np.inf, -1.0
    for rate in np.geomspace(1e2, 1e7, 16):
        problem = replace(base, link=replace(base.link, bandwidth_bps=float(rate)))
        stage = mean_stage(problem, method.plan(problem))
        assert at_most(stage.sum(), before), rate
        assert at_most(sent, stage[1] * rate), rate
        before, sent = stage.sum(), stage[1] * rate


@random_graphs
@pytest.mark.parametrize("variant", ["ns", "ns_sequential", "dads_light"])
def test_the_way_of_a_delivery_counts_once_a_task(variant, graphs):
    # Tensors of one task are on their way together, so half the RTT is waited for once; a task that
    # ends on the end waits for none of it. It holds no resource.
    method = method_of(variant, "division=same_codec")
    for source in SOURCES[graphs]:
        cuts, stages = all_cuts(source)
        rows = cuts.boundaries if variant.startswith("ns") else cuts.everything
        half_s = 0.3 * min_sum(stages)
        far = replace(given(source), link=replace(given(source).link, rtt_s=2 * half_s))
        far = method.view(far)
        plans = method.plan(far)
        sends = cuts.sent_bytes[rows] > 0
        least = float((stages[rows].sum(axis=1) + half_s * sends).min())
        mine = mean_stage(far, plans).sum() + half_s * bool(plans.plans[0].crossing)
        assert mine == pytest.approx(least, rel=1e-8), source


# ---------------------------------------------------- optima and their order: the largest stage


@every_graph
@both_divisions
def test_heavy_dads_is_within_three_times_the_least_largest_stage(division, graphs):
    for source in SOURCES[graphs]:
        cuts, stages = all_cuts(source, FLOAT32 if division == "as_published" else BITS)
        least, _ = min_max(stages)
        heavy = largest("dads", division, source)  # saturated: always heavy
        assert at_most(least, heavy), source
        assert at_most(heavy, 3 * least), source
        assert at_most(heavy, largest("dads_light", division, source)), source
        # Cuts of a single tensor, device-only and cloud-only among them, are looked at one by one.
        single, single_sum = min_max(stages[cuts.boundaries])
        assert at_most(heavy, single), source
        if graphs in ("chain", "vgg11"):
            assert heavy == pytest.approx(single, rel=1e-8), source
            assert total("dads", division, source) == pytest.approx(single_sum, rel=1e-8), source


@every_graph
def test_least_largest_stage_of_all_cuts_and_of_the_chain(graphs):
    for source in SOURCES[graphs]:
        cuts, stages = all_cuts(source)
        for variant, rows in (
            ("oracle_bottleneck", cuts.everything),
            ("pipebalance", cuts.boundaries),
        ):
            least, its_sum = min_max(stages[rows])
            assert largest(variant, "same_codec", source) == pytest.approx(least), source
            assert total(variant, "same_codec", source) == pytest.approx(its_sum), source


def test_of_equal_largest_stages_the_lower_sum_is_taken():
    # in → 1 → 2, the last of no time: behind 1 (4, 1, 0), device-only (4, 0, 0), cloud-only 9 s.
    problem = chain((0, 4, 0), (0, 1, 0), (9, 1, 1))
    for variant in ("dads", "pipebalance", "oracle_bottleneck"):
        method = method_of(variant, "division=same_codec")
        (plan,) = method.plan(method.view(problem)).plans
        assert plan.cut_name == "device-only", variant


@every_graph
def test_no_single_cut_has_a_smaller_largest_stage_than_the_oracle(graphs):
    # A mixture can: of JPS the periods are compared below.
    for source in SOURCES[graphs]:
        least, _ = min_max(all_cuts(source)[1])
        for variant in VARIANTS:
            if variant in OWN_WIDTHS or variant.startswith("jps"):
                continue
            assert at_most(least, largest(variant, "same_codec", source)), (variant, source)


# ------------------------------------------------------------------------------- mixtures of cuts


@every_graph
@both_divisions
def test_jps_mixes_as_the_linear_program_does(division, graphs):
    for source in SOURCES[graphs]:
        cuts, stages = all_cuts(source, FLOAT32 if division == "as_published" else BITS)
        end_s, link_s = stages[cuts.boundaries, :2].T
        hull, adjacent, path = (
            two_stage_period(variant, division, source)
            for variant in ("jps", "jps_adjacent", "jps_path")
        )
        assert hull == pytest.approx(best_mixture(end_s, link_s), rel=1e-6), source
        assert adjacent == pytest.approx(adjacent_pair(end_s, link_s), rel=1e-6), source
        assert path == pytest.approx(best_mixture(*stages[:, :2].T), rel=1e-6), source
        assert at_most(hull, adjacent), source
        assert at_most(path, hull), source
        # The best single cut, the cloud ignored, bounds mixtures of the same cuts. All closed sets
        # bound `path` alone: a single cut inside a block may beat every mixture of blocks.
        assert at_most(hull, np.maximum(end_s, link_s).min()), source
        assert at_most(path, stages[:, :2].max(axis=1).min()), source
        # A mixture fills two resources at best.
        assert at_most((end_s + link_s).min() / 2, adjacent), source


@every_graph
@pytest.mark.parametrize("variant", ["jps", "jps_adjacent", "jps_path"])
def test_jps_mixes_at_most_two_cuts_in_the_order_of_its_shares(variant, graphs):
    for source in SOURCES[graphs]:
        for division in ("as_published", "same_codec"):
            problem, plans = planned(variant, division, source)
            assert len(plans.plans) <= 2, source
            if len(plans.plans) == 2:  # balanced
                end_s, link_s, _ = mean_stage(problem, plans)
                assert end_s == pytest.approx(link_s, rel=1e-6), source
                one, other = (stage_of(problem, plan)[:2] for plan in plans.plans)
                assert (one[0] - one[1]) * (other[0] - other[1]) <= 0, source


# -------------------------------------------------------------------------------------- in the run


@every_graph
@every_method
def test_the_link_carries_the_bytes_of_the_cut(variant, graphs):
    for source in SOURCES[graphs]:
        for division in divisions_of(variant):
            problem, plans, records = simulated(variant, division, source)
            assert all(plan in plans.plans for plan in records.plans), source
            size = [
                sum(payload_bytes(problem, t.layer, t.bits) for t in plan.crossing)
                for plan in records.plans
            ]
            assert records.payload_bytes.tolist() == [size[k] for k in records.plan], source
            carried = records.link_busy_s * problem.link.bandwidth_bps / 8
            assert carried == pytest.approx(records.payload_bytes, rel=1e-6, abs=1e-6), source
            kept = [not plan.crossing for plan in records.plans]
            assert (records.decision == "local").tolist() == [kept[k] for k in records.plan]


@every_graph
@every_method
def test_a_run_takes_as_long_as_its_stages_let_it(variant, graphs):
    # Busy time first: what the tasks hold of each resource is what their plans say, all of it
    # within the run, and three resources work off the least sum of each task at best (fact 3):
    # throughput ≤ 3 / least sum, whatever the schedule.
    for source in SOURCES[graphs]:
        for division in divisions_of(variant):
            problem, plans, records = simulated(variant, division, source)
            stages = np.array([stage_of(problem, plan) for plan in records.plans])[records.plan]
            held = stages.sum(axis=0)
            busy = [records.end_busy_s, records.link_busy_s, records.cloud_busy_s]
            assert [b.sum() for b in busy] == pytest.approx(held, rel=1e-6, abs=1e-12), source
            lasted, tasks = makespan_s(records), len(records)
            assert all(at_most(each, lasted) for each in held), source
            if width := width_of(variant, division):
                least = min_sum(all_cuts(source, width)[1])
                assert at_most(tasks * least, 3 * lasted), source
            if len(plans.plans) == 1 and problem.workload.places >= 3:
                assert_single_plan_lasts(problem, plans.plans[0], lasted, tasks, source)


def assert_single_plan_lasts(
    problem: Problem, plan: Plan, lasted: float, tasks: int, where: object
) -> None:
    """Stages that repeat: makespan = T_e + T_t + T_c + (N - 1)·max where a task's stages follow one
    another. Where they overlap (several crossing tensors) the first task alone is shorter: its own
    latency takes the place of the sum in the lower bound, and the sum remains the upper one. Three
    in flight are enough."""
    stage = stage_of(problem, plan)
    repeats = (tasks - 1) * stage.max()
    assert at_most(plan.latency_s + repeats, lasted), where
    assert at_most(lasted, stage.sum() + repeats), where
    if len(plan.crossing) <= 1:
        assert lasted == pytest.approx(stage.sum() + repeats, rel=1e-8), where


@random_graphs
@every_method
@pytest.mark.parametrize("kind", ["saturated", "periodic", "poisson"])
def test_tasks_in_the_pipeline_are_their_rate_times_their_stay(variant, graphs, kind):
    # Little's law, the number inside counted by sweeping over arrivals and answers. As many as may
    # be are inside until the last task of a closed loop has come.
    source = SOURCES[graphs][1]
    method = method_of(variant, "division=same_codec")
    problem, plans = planned(variant, "same_codec", source)
    rate_hz = 1.2 / mean_stage(problem, plans).max()
    workload = replace(given(source).workload, kind=kind, rate_hz=rate_hz)
    problem = method.view(replace(given(source), workload=workload))
    records = ran(method, problem, plans)
    arrival_s, finish_s = records.arrival_s, records.finish_s
    assert (arrival_s <= records.end_start_s).all()
    assert (records.end_start_s <= finish_s).all()
    moments = np.sort(np.concatenate([arrival_s, finish_s]))
    inside = [(arrival_s <= m).sum() - (finish_s <= m).sum() for m in moments[:-1]]
    stayed = float(np.diff(moments) @ inside)
    window_s = moments[-1] - moments[0]
    rate, stay_s = len(records) / window_s, float((finish_s - arrival_s).mean())
    assert stayed / window_s == pytest.approx(rate * stay_s, rel=1e-9)
    started = [(records.end_start_s <= m).sum() - (finish_s <= m).sum() for m in moments[:-1]]
    assert max(started) <= problem.workload.places
    if kind == "saturated":
        before = moments[:-1] < arrival_s.max()
        assert {int(n) for n in np.array(inside)[before]} <= {problem.workload.places}


@every_graph
@pytest.mark.parametrize(
    "variant", ["device_only", "cloud_only", "ns", "dads", "jps_path", "oracle_bottleneck"]
)
def test_where_the_cloud_is_free_two_resources_do_the_work(variant, graphs):
    # Fact 3 for two stages: throughput ≤ 2 / least (T_e + T_t).
    for source in SOURCES[graphs][:4]:
        free = DeviceProfile("free", dict.fromkeys(given(source).graph.index, 0.0))
        method = method_of(variant, "division=same_codec")
        problem = method.view(replace(given(source), cloud=free))
        records = ran(method, problem, method.plan(problem))
        least = float(all_cuts(source)[1][:, :2].sum(axis=1).min())
        assert at_most(len(records) * least, 2 * makespan_s(records)), source


@every_graph
@both_divisions
def test_a_sequential_run_adds_up_latencies(division, graphs):
    # The next task starts when the last is answered, so nothing of two tasks ever overlaps.
    for source in SOURCES[graphs]:
        _, plans, records = simulated("ns_sequential", division, source)
        (plan,) = plans.plans
        stays = records.finish_s - records.end_start_s
        assert stays == pytest.approx(np.full(len(records), plan.latency_s), rel=1e-6), source
        lasted = len(records) * plan.latency_s
        assert makespan_s(records) == pytest.approx(lasted, rel=1e-8), source
        starts, answers = records.end_start_s[1:], records.finish_s[:-1]
        assert (starts >= answers * (1 - 1e-12)).all(), source


@pytest.mark.parametrize("kind", ["periodic", "poisson"])
def test_a_sequential_method_waits_whatever_the_arrivals(kind):
    method = method_of("ns_sequential", "division=same_codec")
    for graphs in SHAPES:
        problem = given(SOURCES[graphs][1])
        rate_hz = 1.3 / min_sum(all_cuts(SOURCES[graphs][1])[1])
        workload = replace(problem.workload, kind=kind, rate_hz=rate_hz)
        problem = method.view(replace(problem, workload=workload))
        records = ran(method, problem, method.plan(problem))
        assert (records.end_start_s[1:] >= records.finish_s[:-1] * (1 - 1e-12)).all()
        assert problem.workload.rate_hz == rate_hz  # arrivals are the world's


@every_graph
@both_divisions
def test_heavy_dads_in_a_pipeline_is_no_slower_than_one_task_after_the_other(division, graphs):
    # In a full pipeline: max ≤ sum of its light plan ≤ sum of NS. Of a short run it is not true as
    # it stands, for a pipeline fills and drains: 15 + 9.9 (N - 1) s may exceed 10 N s. What filling
    # and draining can cost is 2 max.
    for source in SOURCES[graphs]:
        fast, slow = (simulated(v, division, source)[2] for v in ("dads", "ns_sequential"))
        period_s = largest("dads", division, source)
        alone_s = total("ns_sequential", division, source)
        assert at_most(period_s, alone_s), source
        (plan,) = planned("ns_sequential", division, source)[1].plans
        if len(plan.crossing) <= 1:
            assert at_most(makespan_s(fast), makespan_s(slow) + 2 * period_s), source


@every_graph
@both_divisions
@pytest.mark.parametrize("variant", ["jps", "jps_adjacent", "jps_path"])
def test_jps_converges_to_its_period_the_cloud_included(variant, division, graphs):
    # The cloud is no part of JPS's problem, but it is part of the run. Johnson's rule would let the
    # first tasks fill and the last drain; a stream does so within a few tasks. So for N tasks:
    # N·period ≤ makespan ≤ N·period + a few times the longest stages.
    method = method_of(variant, f"division={division}")
    for source in SOURCES[graphs][::2]:
        problem, plans = planned(variant, division, source)
        tasks = 1000
        workload = replace(problem.workload, tasks=tasks, in_flight=tasks)
        records = ran(method, replace(problem, workload=workload), plans)
        stages = np.array([stage_of(problem, plan) for plan in plans.plans])
        for k, plan in enumerate(records.plans):
            share = plans.weights[plans.plans.index(plan)]
            assert abs((records.plan == k).sum() - tasks * share) <= 12, source
        period_s = mean_stage(problem, plans).max()
        spread_s = 24 * stages.max(axis=0).sum()
        assert makespan_s(records) <= tasks * period_s + spread_s, source
        assert makespan_s(records) >= tasks * period_s - spread_s, source


@every_graph
@both_divisions
def test_jps_is_no_slower_than_sequential_ns_where_the_cloud_keeps_up(division, graphs):
    # NS's cut is among those that JPS mixes, so max{f, g} ≤ sum of NS. Nothing is said where the
    # cloud, which JPS does not look at, takes longer than that.
    compared = 0
    for source in SOURCES[graphs]:
        problem, plans = planned("jps", division, source)
        end_s, link_s, cloud_s = mean_stage(problem, plans)
        alone_s = total("ns", division, source)
        if cloud_s <= alone_s:
            compared += 1
            assert at_most(max(end_s, link_s, cloud_s), alone_s), source
    assert compared


# ------------------------------------------------------------------------------------------ limits


def with_rate(source: Source, rate_bps: float, **changes) -> Problem:
    problem = given(source)
    return replace(problem, link=replace(problem.link, bandwidth_bps=rate_bps), **changes)


@every_graph
@every_choice
def test_without_a_link_everything_stays_on_the_end(variant, graphs):
    # Of a mixture, in the limit: the plan that sends has a share of about T_e / T_t, which is
    # never 0 but becomes as small as one likes.
    for division in divisions_of(variant):
        method = method_of(variant, f"division={division}")
        for source in SOURCES[graphs][::3]:
            problem = method.view(with_rate(source, 1e-6))
            plans = method.plan(problem)
            stays = sum(
                weight
                for plan, weight in zip(plans.plans, plans.weights, strict=True)
                if not plan.crossing
            )
            assert stays >= 1 - 1e-6, source


@every_graph
@pytest.mark.parametrize("variant", ["ns", "ns_sequential", "ns_prefix", *MIN_SUM])
def test_with_an_endless_link_the_least_computation_wins(variant, graphs):
    # "Every layer on the faster side" is what is left where that is a cut: a layer behind one on
    # the cloud is on the cloud as well, however slow. So: the least T_e + T_c of its cuts.
    method = method_of(variant, "division=same_codec")
    for source in SOURCES[graphs][::3]:
        problem = method.view(with_rate(source, 1e24))
        cuts, stages = all_cuts(source)
        rows = {"ns": cuts.boundaries, "ns_sequential": cuts.boundaries, "ns_prefix": cuts.prefixes}
        least = stages[rows.get(variant, cuts.everything)][:, [0, 2]].sum(axis=1).min()
        found = mean_stage(problem, method.plan(problem)).sum()
        assert found == pytest.approx(float(least), rel=1e-8), source


@every_graph
@pytest.mark.parametrize(
    "variant", ["ns", "ns_prefix", "ns_sequential", "jps", "jps_adjacent", "jps_path", *MIN_SUM]
)
def test_with_an_endless_link_and_a_cloud_faster_everywhere_all_goes_there(variant, graphs):
    # JPS does not look at the cloud: with no transfer to pay, the end does nothing for it.
    method = method_of(variant, "division=same_codec")
    for source in SOURCES[graphs][::3]:
        layers = given(source).graph.layers
        slow = {x.name: 0.0 if x is layers[0] else 2.0 + k for k, x in enumerate(layers)}
        end, cloud = DeviceProfile("slow", slow), DeviceProfile("fast", slow).slowed(0.5)
        problem = method.view(with_rate(source, 1e24, end=end, cloud=cloud))
        plans = method.plan(problem)
        share = sum(
            weight
            for plan, weight in zip(plans.plans, plans.weights, strict=True)
            if len(plan.end_layers) == 1
        )
        assert share >= 1 - 1e-6, source


@every_graph
@pytest.mark.parametrize("variant", ["ns", "ns_prefix", "ns_sequential", *MIN_SUM])
def test_a_cloud_as_fast_as_the_end_is_not_worth_a_byte(variant, graphs):
    # True of the sum alone: two equal devices in a pipeline have half the period of one.
    method = method_of(variant, "division=same_codec")
    for source in SOURCES[graphs]:
        problem = given(source)
        problem = method.view(replace(problem, cloud=problem.end))
        (plan,) = method.plan(problem).plans
        assert not plan.crossing, source


def test_two_equal_devices_in_a_pipeline_halve_the_period():
    # in → 1 → 2, each 4 s on either side, 1 s on the link: (4, 1, 4) beats device-only's (8, 0, 0).
    problem = chain((0, 4, 4), (0, 4, 4), (1, 1, 1))
    for variant in ("dads", "pipebalance", "oracle_bottleneck"):
        method = method_of(variant, "division=same_codec")
        (plan,) = method.plan(method.view(problem)).plans
        assert (plan.cut_name, plan.stage_s.period_s) == ("1", 4), variant


@every_method
def test_a_megabit_takes_a_second_at_one_megabit_per_second(variant, tmp_path):
    # 125,000 bytes with the header of 24; behind `a` at 4 bits 62,500. Link seconds from the config
    # are bytes · 8 / 10⁶ / Mbps, for every method: neither MB/s nor 2²⁰.
    file = tmp_path / "g.json"
    file.write_text(
        """{"layers": [
        {"name": "in", "inputs": [], "end_s": 0, "cloud_s": 0, "elements": 124976},
        {"name": "a", "inputs": ["in"], "end_s": 1, "cloud_s": 0.01, "elements": 124952},
        {"name": "b", "inputs": ["a"], "end_s": 900, "cloud_s": 0.01, "elements": 1000}]}"""
    )
    for mbps in (1, 4):
        world = ["model=dag_file", f"model.path={file}", f"bandwidth.mbps={mbps}"]
        world += ["precision=fixed", f"precision.bits={BITS}"]
        builder = Builder(validated(compose("config", overrides=world)), lambda *_: None)
        problem = builder.problem(builder.trace())
        method = method_of(variant, "division=same_codec")
        plans = method.plan(method.view(problem))
        expected = {"in": 1.0 / mbps, "device-only": 0.0}
        if variant not in OWN_WIDTHS:
            expected["a"] = 0.5 / mbps
        for plan in plans.plans:
            if plan.cut_name in expected:
                assert plan.stage_s.link_s == pytest.approx(expected[plan.cut_name], rel=1e-12)


# ------------------------------------------------------------------------------------- DADS by load


def loaded(source: Source, rate_hz: float) -> Problem:
    workload = Workload("periodic", tasks=20, rate_hz=rate_hz)
    return replace(given(source), workload=workload)


@random_graphs
def test_dads_looks_at_the_load(graphs):
    # Light while the light plan keeps up with the arrivals, heavy from then on; where the heavy one
    # does not keep up either, it is taken and the method says so.
    auto, heavy = (
        method_of("dads", "division=same_codec", f"method.mode={mode}")
        for mode in ("auto", "heavy")
    )
    for source in SOURCES[graphs][::3]:
        light_s = largest("dads_light", "same_codec", source)
        heavy_s = largest("dads", "same_codec", source)
        idle = loaded(source, 0.99 / light_s)
        plans = auto.plan(auto.view(idle))
        least = min_sum(all_cuts(source)[1])
        assert mean_stage(idle, plans).sum() == pytest.approx(least, rel=1e-8), source
        quiet = plans.remarks
        full = loaded(source, 1.01 / light_s)
        assert mean_stage(full, auto.plan(auto.view(full))).max() == pytest.approx(heavy_s), source
        over = loaded(source, 1.01 / heavy_s)
        plans = auto.plan(auto.view(over))
        assert mean_stage(over, plans).max() == pytest.approx(heavy_s), source
        assert set(plans.remarks) - set(quiet), source
        assert mean_stage(over, heavy.plan(heavy.view(over))).max() == pytest.approx(heavy_s)


def test_dads_does_not_run_a_layer_whose_input_is_elsewhere():
    # The published construction finds 6, with u on the end and its input v on the cloud. Of cuts
    # that can be run the least sum is 55.
    inputs = {"in": [], "a": ["in"], "w": ["in"], "v": ["a"], "u": ["v", "w"]}
    times = ((0, 1, 1, 100, 2), (0, 1, 1, 1, 1), (1000, 1, 50, 50, 0))
    end_s, cloud_s, tensor_s = (dict(zip(inputs, given, strict=True)) for given in times)
    witness = graph_problem(inputs, end_s, cloud_s, tensor_s)
    for variant in MIN_SUM:
        method = method_of(variant, "division=same_codec")
        (plan,) = method.plan(method.view(witness)).plans
        assert plan.stage_s.total_s == pytest.approx(55)
        assert set(plan.end_layers) == {"in", "a", "w"}


# ------------------------------------------------------------------------ answers through the codec


@dataclass(frozen=True, eq=False)
class Overheard(Answers):
    """Answers that depend on who asks about what, and remember it."""

    asked: list[tuple[int, tuple[Crossing, ...]]] = field(default_factory=list)

    def predict(self, sample: int, crossing: tuple[Crossing, ...]) -> Prediction:
        self.asked.append((sample, crossing))
        return Prediction(answer(sample, crossing), tuple(17 + t.bits for t in crossing))

    def through(self, codec: object) -> "Overheard":
        return self

    def with_exits(self, layers: Sequence[str]) -> "Overheard":
        return self


def answer(sample: int, crossing: tuple[Crossing, ...]) -> int:
    return sample % 7 + 10 * sum(t.bits + 100 * len(t.layer) for t in crossing)


@random_graphs
@every_method
def test_every_task_is_answered_through_the_codec_at_the_bits_of_its_plan(variant, graphs):
    source = SOURCES[graphs][1]
    samples = np.arange(40) % 11
    for division in divisions_of(variant):
        label, video = np.zeros(11, dtype=np.int64), np.arange(11)
        spy = Overheard(np.zeros((11, 2), dtype=np.float32), label, video, 2)
        method = method_of(variant, f"division={division}")
        problem = method.view(replace(given(source), outcomes=spy))
        plans = method.plan(problem)
        spy.asked.clear()
        records = ran(method, problem, plans, samples=samples)
        sent = [records.plans[k].crossing for k in records.plan]
        assert spy.asked == list(zip(samples.tolist(), sent, strict=True))
        answers = [answer(s, c) for s, c in spy.asked]
        assert records.predicted.tolist() == answers
        weighed = [sum(17 + tensor.bits for tensor in c) for c in sent]
        assert records.payload_bytes.tolist() == weighed


class Line(nn.Sequential):
    """Seven layers in a row, of which the fourth is a ReLU of 72 elements."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(
            *(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(72, 72), nn.Linear(72, num_classes)),
        )


SAMPLES = 24


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> tuple[Problem, nn.Module, VideoDataset]:
    """`Line` with random weights: the end is the faster side up to the ReLU, the cloud behind it,
    and floats cross in no time; all else goes at 2 bits."""
    here, spec = tmp_path_factory.mktemp("line"), ModelSpec(f"{__name__}.Line", input_size=16)
    torch.manual_seed(0)
    torch.save(Line(10).state_dict(), here / "line.pt")
    weights = Weights(spec, 10, "checkpoint", "line", here / "line.pt")
    frames = np.random.default_rng(0).integers(0, 256, (SAMPLES, 16, 16, 3), dtype=np.uint8)
    numbers = np.arange(SAMPLES)
    data = VideoDataset(frames, numbers % 10, numbers, numbers % 1, tuple(map(str, range(10))))
    model, codec = weights.load(), UniformAffine()
    graph = capture(model, spec.input_shape).graph
    early = [layer.name for layer in graph.layers[1:5]]
    times = [
        {x.name: fast if x.name in early else slow for x in graph.layers} | {graph.input.name: 0.0}
        for fast, slow in ((0.01, 1.0), (1.0, 0.01))
    ]
    problem = Problem(
        graph,
        *(DeviceProfile(str(k), seconds) for k, seconds in enumerate(times)),
        Link(1e6),
        codec,
        FixedBits(2, graph.input.name),
        Workload("saturated", tasks=SAMPLES),
        outcomes=torch_outcomes(ModelOnData(weights, data), codec, here),
    )
    return problem, model, data


@pytest.mark.parametrize("variant", [*FLOATS, "pipebalance", "oracle_latency", "coach_bottleneck"])
@both_divisions
def test_accuracy_is_that_of_the_model_behind_the_real_codec(variant, division, line):
    problem, model, data = line
    images = torch.as_tensor(preprocess(data.frames, 16))
    method = method_of(variant, f"division={division}")
    problem = method.view(problem)
    records = ran(method, problem, method.plan(problem), samples=np.arange(SAMPLES))
    interior = 0
    for sample, k in enumerate(records.plan):
        here, raw = images[sample : sample + 1], problem.graph.input.name
        crossing = records.plans[k].crossing
        with torch.inference_mode():
            for name, layer in zip(problem.graph.index, [nn.Identity(), *model], strict=True):
                here = layer(here)
                if [tensor.layer for tensor in crossing] == [name] and name != raw:
                    payload = problem.codec.encode(here.numpy()[0], crossing[0].bits)
                    here = torch.as_tensor(problem.codec.decode(payload))[None]
                    interior += 1
        assert records.predicted[sample] == int(here.argmax()), sample
    assert interior, "no task was cut inside the model"
    if width_of(variant, division) == FLOAT32:
        assert (records.predicted == records.uncut).all()
    elif width_of(variant, division) == BITS:  # of the others; here 2
        assert (records.predicted != records.uncut).any()


# -------------------------------------------------------------------------------- a link that drops

FAST, SLOW = 100.0, 1.0  # Mbps
REPLAN = ("replan=on_change", f"replan.mbps=[{SLOW},{FAST}]", "replan.period_s=0.2")


def crossroads(mbps: float) -> Problem:
    """in → 1 → 2 → 3: at 100 Mbps the raw input, a megabit, is worth sending by any measure; at
    1 Mbps nothing is."""
    names = ["in", "1", "2", "3"]
    end_s, cloud_s = (0, 0.012, 0.012, 0.012), (0, 0.001, 0.001, 0.001)
    problem = chain(end_s, cloud_s, (125, 125, 125, 0.1))  # at 8 bits a byte an element
    rate = replace(problem.link, bandwidth_bps=1e6 * mbps)
    bits = FixedBits(BITS, names[0])
    return replace(problem, link=rate, bits=bits, workload=Workload("saturated", tasks=500))


@every_choice
@pytest.mark.parametrize("estimator", ["oracle", "ewma"])
def test_plans_follow_a_link_that_drops(variant, estimator):
    trace = steps([1e6 * FAST, 1e6 * SLOW], step_s=1.0)
    method = method_of(variant, *REPLAN)
    problem = method.view(crossroads(FAST))
    plans = method.plan(problem)
    assert [each.link_bps for each in (plans, *plans.prepared)] == [1e8, 1e6, 1e8]
    knows = Oracle(trace) if estimator == "oracle" else Ewma(1e6 * FAST, weight=0.8)
    records = ran(method, problem, plans, trace, knows)
    fixed = method_of(variant)
    before, after = (shares(fixed.plan(fixed.view(crossroads(mbps)))) for mbps in (FAST, SLOW))
    assert before != after
    early = records.end_start_s < 1.0
    assert_shares(records, early, before)
    # The first transfers after the drop end two seconds after it; plans change within 0.2 s more.
    # One task in 20 may be sent to learn the link.
    late = records.end_start_s > (1.5 if estimator == "oracle" else 6.0)
    assert late.sum() > 100
    assert_shares(records, late, after)
    # Bytes a task: fewer than before the drop.
    assert records.payload_bytes[late].mean() < records.payload_bytes[early].mean()


def shares(plans: PlanSet) -> dict[tuple[str, ...], float]:
    """The share of the tasks that each end set is to run."""
    return {
        plan.end_layers: weight for plan, weight in zip(plans.plans, plans.weights, strict=True)
    }


def assert_shares(
    records: Records, rows: np.ndarray, planned: dict[tuple[str, ...], float]
) -> None:
    """The tasks of these rows ran as planned, but for one in 20, a batch and what a batch left."""
    ran_by = [records.plans[k].end_layers for k in records.plan[rows]]
    for end_layers in {*ran_by, *planned}:
        excess = ran_by.count(end_layers) - len(ran_by) * planned.get(end_layers, 0.0)
        assert abs(excess) <= len(ran_by) / 20 + 2, end_layers


@pytest.mark.parametrize(
    "variant",
    ["ns_sequential", "dads", "pipebalance", "oracle_bottleneck", "coach_bottleneck"],
)
def test_following_the_link_does_not_lower_the_throughput_of_who_plans_for_it(variant):
    # Guaranteed, on a chain and but for probes, where what is minimised is the time between two
    # answers: of the others see below.
    replan = ("replan=on_change", "replan.mbps=[0.0004,0.16]", "replan.period_s=0.1")
    kept = method_of(variant, "division=same_codec")
    follows = method_of(variant, "division=same_codec", *replan)
    for seed in range(3):
        source: Source = ("chain", seed, 20.0)  # 0.16 Mbps, which falls to 0.0004
        problem = kept.view(given(source))
        problem = replace(problem, workload=replace(problem.workload, tasks=400))
        trace = steps([problem.link.bandwidth_bps, 400.0], step_s=1.0)
        stays = ran(kept, problem, kept.plan(problem), trace)
        moves = ran(follows, problem, follows.plan(problem), trace)
        assert rate_after(moves, 3.0) >= 0.9 * rate_after(stays, 3.0), seed


def rate_after(records: Records, instant_s: float) -> float:
    """Answers a second from a moment on."""
    late = records.finish_s[records.finish_s > instant_s]
    return len(late) / (late.max() - instant_s)


def test_a_shorter_latency_may_cost_throughput():
    # in → 1 → 2. Cut behind 1 at the old rate: (5, 1, 5), sum 11, against (13, 0, 0) on the end
    # alone; at a sixth of the rate (5, 6, 5), sum 16. NS goes back to the end: 13 s a task in place
    # of 16, but in a pipeline one answer in 13 s in place of 6. So re-planning need not keep up
    # throughput; what it never raises is the method's own objective.
    old = chain((0, 5, 8), (0, 90, 5), (9, 1, 1))
    new = replace(old, link=replace(old.link, bandwidth_bps=old.link.bandwidth_bps / 6))
    for variant in ("ns", "ns_prefix", "dads_light", "oracle_latency"):
        method = method_of(variant, "division=same_codec")
        (stale,), (fresh,) = (method.plan(method.view(problem)).plans for problem in (old, new))
        assert (stale.cut_name, fresh.cut_name) == ("1", "device-only"), variant
        assert stage_of(new, stale).tolist() == pytest.approx([5, 6, 5])
        assert stage_of(new, fresh).tolist() == pytest.approx([13, 0, 0])


@random_graphs
@pytest.mark.parametrize(
    ("variant", "measure"),
    [
        *((v, "sum") for v in ("ns", "ns_prefix", "ns_sequential", *MIN_SUM)),
        *((v, "max") for v in ("pipebalance", "oracle_bottleneck")),
        *((v, "two") for v in ("jps", "jps_path")),
    ],
)
def test_a_stale_plan_never_has_the_better_objective(variant, measure, graphs):
    # DADS under load is left out: its weights are tried on a grid, and it may miss what it found
    # at another rate.
    weigh = {"sum": np.sum, "max": np.max, "two": lambda stage: np.max(stage[:2])}[measure]
    for seed in range(3):
        _, stale = planned(variant, "same_codec", (graphs, seed, 20.0))
        for factor in (1.0, 0.05):
            problem, fresh = planned(variant, "same_codec", (graphs, seed, factor))
            mine, theirs = (weigh(mean_stage(problem, plans)) for plans in (fresh, stale))
            assert at_most(mine, theirs * (1 + 1e-7)), (seed, factor)
