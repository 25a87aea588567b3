"""SPINN against hand-worked cases, brute force, and replays of the calibration split, task by task;
then its plans in the simulator, links that are lost, and the divisions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import inf

import numpy as np
import pytest
from helpers.answers import Answers
from helpers.graphs import SHAPES, chain, random_problem
from helpers.looped import looped

from baselines.neurosurgeon import Neurosurgeon
from baselines.spinn import Spinn
from baselines.spinn.cascade import NEVER, Cascade
from baselines.spinn.controller import PROBE_EVERY, ExitByConfidence
from baselines.spinn.scheduler import THRESHOLDS, Configuration, Scheduler, splits
from coach_exp.network.estimator import Oracle as TrueRate
from coach_exp.network.trace import Trace, constant
from coach_exp.online.method import Online
from coach_exp.online.replan import FollowRate, Replan
from coach_exp.online.scheduler import OnlineController
from coach_exp.pipeline.simulator import simulate
from coach_exp.planner.exit_places import exit_places
from coach_exp.quant.bitshuffle import BitshuffleLz4
from coach_exp.quant.precision import SearchedBits
from coach_exp.types.errors import ConfigError, InfeasibleError
from coach_exp.types.graph import LayerGraph
from coach_exp.types.method import GO_ON, Calibration, Decision, Observation, Problem, Transfer
from coach_exp.types.outcomes import Crossing, ExitAnswer, Prediction, TensorSize
from coach_exp.types.plan import Plan, PlanSet
from coach_exp.types.workload import Workload

SEEDS = range(40)
CLASSES = 5


@dataclass(frozen=True, eq=False)
class Noisy(Answers):
    """`cut[layer]`: labels when the tensor of that layer has crossed; `cloud[layer]`: what the head
    behind it then says; `sizes[layer]`: elements and mean bytes of what crosses. `asked` keeps
    every crossing that was looked at."""

    cut: Mapping[str, np.ndarray] = field(default_factory=dict)
    cloud: Mapping[str, Sequence[ExitAnswer]] = field(default_factory=dict)
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    asked: list[tuple[Crossing, ...]] = field(default_factory=list)

    def predict(self, sample: int, crossing: tuple[Crossing, ...]) -> Prediction:
        self.asked.append(crossing)
        found = super().predict(sample, crossing)
        if crossing and crossing[0].layer in self.cut:
            return replace(found, label=int(self.cut[crossing[0].layer][sample]))
        return found

    def at_exit(self, sample: int, layer: str, crossing: tuple[Crossing, ...] = ()) -> ExitAnswer:
        if crossing and layer in self.cloud:
            return self.cloud[layer][sample]
        return super().at_exit(sample, layer, crossing)

    def tensor_size(self, layer: str) -> TensorSize:
        return TensorSize(self.sizes[layer][0])

    def sent_bytes(self, crossing: tuple[Crossing, ...]) -> np.ndarray:
        each = [self.sizes[tensor.layer][1] + np.arange(-1, 2) for tensor in crossing]
        return np.array(each).T


def fake(labels, heads=None, kind=Answers, first_video: int = 0, **given) -> Answers:
    """Answers of a model that is right about these labels."""
    labels = np.array(labels)
    features = np.eye(CLASSES, dtype=np.float32)[labels % CLASSES]
    videos = first_video + np.arange(len(labels))
    return kind(features, labels, videos, CLASSES, heads=heads or {}, **given)


def guesses(rng, labels, right: float) -> list[ExitAnswer]:
    """A head that is right about that share, and more often where it is sure."""
    sure = rng.uniform(0.2, 1, len(labels))
    hit = rng.random(len(labels)) < np.clip(right * (0.6 + 0.5 * sure), 0, 1)
    return [
        ExitAnswer(int(label if ok else (label + 1) % CLASSES), float(confidence))
        for label, ok, confidence in zip(labels, hit, sure, strict=True)
    ]


def relu(problem: Problem) -> Problem:
    """The same problem; no output is negative."""
    layers = [replace(layer, non_negative=True) for layer in problem.graph.layers]
    return replace(problem, graph=LayerGraph.of(layers))


def answered(problem: Problem, calib: Answers, stream: Answers | None = None) -> Problem:
    """The problem with a model's answers."""
    centres = fake(calib.label, first_video=10_000, payload_bytes=calib.payload_bytes)
    stream = stream or replace(calib, videos=20_000 + calib.videos)
    return replace(problem, outcomes=stream, calibration=Calibration(centres, calib))


def with_head_times(problem: Problem, end_s: float, cloud_s: float) -> Problem:
    names = [layer.name for layer in problem.graph.layers]
    return replace(
        problem,
        end=replace(problem.end, exit_s=dict.fromkeys(names, end_s)),
        cloud=replace(problem.cloud, exit_s=dict.fromkeys(names, cloud_s)),
    )


def spinn(**settings) -> Spinn:
    """As published but for the payload, so that tensors take the seconds that a test gives them."""
    return Spinn(name="spinn", **{"division": "same_codec", **settings})


def drawn(seed: int, samples: int = 60, right: float | None = None) -> tuple[Problem, Spinn]:
    """A random problem with a model's answers on both sides of every cut, as the method sees it."""
    rng = np.random.default_rng([seed, 7])
    problem = relu(random_problem(rng, list(SHAPES)[seed % len(SHAPES)], 9))
    problem = with_head_times(problem, *rng.uniform(0, 0.2, 2))
    problem = replace(problem, link=replace(problem.link, rtt_s=rng.uniform(0, 0.5)))
    labels = rng.integers(0, CLASSES, samples)
    method = spinn(exits=int(rng.integers(1, 5)))
    names = [layer.name for layer in problem.graph.layers]
    good = np.linspace(0.5, 0.95, len(names)) if right is None else np.full(len(names), right)
    flip = {name: rng.random(samples) < rng.choice([0, 0.004, 0.05]) for name in names}
    calib = fake(
        labels,
        {name: guesses(rng, labels, share) for name, share in zip(names, good, strict=True)},
        Noisy,
        cut={name: np.where(flip[name], (labels + 1) % CLASSES, labels) for name in names},
        cloud={name: guesses(rng, labels, 0.9) for name in names},
    )
    return method.view(answered(problem, calib)), method


def scheduler(problem: Problem, method: Spinn) -> Scheduler:
    return Scheduler(problem, "per_tensor", exit_places(problem.graph, method.exits), method.goal)


def at(problem: Problem, factor: float) -> Problem:
    """The same problem at another rate."""
    bandwidth_bps = factor * problem.link.bandwidth_bps
    return replace(problem, link=replace(problem.link, bandwidth_bps=bandwidth_bps))


def everywhere(problem: Problem) -> list[int]:
    """Every split, sending nothing included."""
    return [*splits(problem.graph), len(problem.graph) - 1]


# --- The choice, by hand --------------------------------------------------------------------------


def two_exits(going_on: float, tensor_s: float) -> Problem:
    """in → 1 → 2 → 3, T_e = 1, 1, 4, a second each on the cloud. The head behind 1 is sure of the
    other tasks, and right; everything else takes for ever on the link."""
    given = relu(chain((0, 1, 1, 4), (0, 1, 1, 1), (99, tensor_s, 99, 0)))
    labels = [0] * 10
    sure = [ExitAnswer(0, 1.0) if k >= 10 * going_on else ExitAnswer(1, 0.1) for k in range(10)]
    return answered(given, fake(labels, {"1": sure}))


@pytest.mark.parametrize(
    ("going_on", "tensor_s", "cut", "value_s"),
    [
        (0.6, 3, "device-only", 4.0),  # 1 + 0.6·(3 + 2) = 1 + 0.6·5: less work for the server
        (0.5, 3, "device-only", 3.5),  # 1 + 0.5·5, both
        (0.6, 2, "1", 3.4),  # 1 + 0.6·(2 + 2) < 4
    ],
)
def test_two_exits_by_hand(going_on, tensor_s, cut, value_s):
    method = spinn(exits=1)
    plans = method.plan(method.view(two_exits(going_on, tensor_s)))
    best, alone = plans.plans
    assert (best.cut_name, best.objective.value) == (cut, pytest.approx(value_s))
    assert best.objective.name == "expected_latency"
    assert [head.layer for head in best.heads] == ["1"]
    assert (alone.cut_name, alone.objective.value) == (
        "device-only",
        pytest.approx(1 + 5 * going_on),
    )
    assert plans.weights == (1, 0)
    assert plans.remarks == ("exits answer from a confidence of 0.95",)  # of equals, the cautious


def test_the_longest_stage_by_hand():
    # Behind 1: 1, 0.6·2, 0.6·2; all on the end: 4.
    method = spinn(exits=1, target="throughput")
    best = method.plan(method.view(two_exits(0.6, 2))).plans[0]
    assert (best.cut_name, best.objective.value) == ("1", pytest.approx(1.2))
    assert best.objective.name == "expected_throughput"


def test_the_way_counts_for_tasks_that_are_sent():
    # Behind 1: 3.4 and 0.6 of half a round trip of 1.8 s and the answer's way back: 4.48 > 4.
    given = two_exits(0.6, 2)
    given = replace(given, link=replace(given.link, rtt_s=1.8))
    method = spinn(exits=1)
    assert method.plan(method.view(given)).plans[0].objective.value == pytest.approx(3.94)
    back = replace(given, link=replace(given.link, result_return=True))
    assert method.plan(method.view(back)).plans[0].cut_name == "device-only"


def test_an_exit_that_is_sure_and_wrong_is_not_used():
    given = two_exits(0.6, 2)
    wrong = [answer._replace(label=1) for answer in given.calibration.calib.heads["1"]]
    method = spinn(exits=1)
    plans = method.plan(method.view(answered(given, fake([0] * 10, {"1": wrong}))))
    # Behind 1: 1 + 2 + 2; all on the end: 6.
    assert (plans.plans[0].cut_name, plans.plans[0].objective.value) == ("1", pytest.approx(5))
    assert plans.plans[0].heads == ()
    assert plans.remarks == ("no early exit is worth its cost",)


# --- Without exits it is Neurosurgeon -------------------------------------------------------------


def measured(seed: int) -> tuple[Problem, Problem]:
    """A random problem whose tensors compress differently, and SPINN's view of it."""
    rng = np.random.default_rng([seed, 8])
    problem = relu(random_problem(rng, list(SHAPES)[seed % len(SHAPES)], 9))
    # Measured at half the elements, sizes down to a tenth.
    sizes = {
        layer.name: (
            max(8, layer.elements // 16 * 8),
            3 + int(layer.elements * rng.uniform(0.1, 1)),
        )
        for layer in problem.graph.layers
    }
    calib = fake([0, 1, 2], kind=Noisy, sizes=sizes)
    problem = answered(problem, calib)
    return problem, Spinn(name="spinn", exits=0).view(problem)


@looped("seed", SEEDS)
def test_without_exits_the_split_of_least_latency_wins(seed):
    _, seen = measured(seed)
    best = Spinn(name="spinn", exits=0).plan(seen).plans[0]
    tried = []
    for split in everywhere(seen):
        layers = seen.graph.layers
        on_end = sum(seen.end.layer_s[layer.name] for layer in layers[: split + 1])
        on_cloud = sum(seen.cloud.layer_s[layer.name] for layer in layers[split + 1 :])
        size = 0 if split == len(layers) - 1 else seen.expected_bytes(layers[split], 8)
        tried.append(on_end + size / 1000 + on_cloud)
    assert best.objective.value == pytest.approx(min(tried))
    assert best.stage_s.total_s == pytest.approx(min(tried))
    assert best.heads == ()
    assert best.evaluations == len(tried)


@looped("seed", SEEDS)
def test_without_exits_neurosurgeon_decides_the_same_of_the_same_sizes(seed):
    _, seen = measured(seed)
    seen = replace(seen, link=replace(seen.link, rtt_s=0.5))
    other = Neurosurgeon(name="ns", division="same_codec").plan(seen).plans[0]
    best = Spinn(name="spinn", exits=0).plan(seen).plans[0]
    assert best.stage_s.total_s == pytest.approx(other.stage_s.total_s)
    assert best.payload_bytes == other.payload_bytes


def test_sizes_are_measured_split_by_split_and_scaled_to_the_timed_graph():
    # `1` has 1600 elements when measured and 3200 when timed, and shrinks to a quarter.
    given = relu(chain((0, 1, 1), (0, 1, 1), (5, 3.2, 0)))
    calib = fake([0, 1, 2], kind=Noisy, sizes={"1": (1600, 400)})
    seen = Spinn(name="spinn", exits=0).view(answered(given, calib))
    assert seen.measured_bytes == {"1": 800}
    assert seen.codec == BitshuffleLz4(0)
    assert seen.bits.bits("1") == 8
    assert seen.expected_bytes(seen.graph["in"], 8) == 5000  # the input is what it was


def test_splits_are_cut_vertices_that_are_never_negative():
    given = chain((0, 1, 1, 1, 1), (0, 1, 1, 1, 1), (1, 1, 1, 1, 1))
    assert splits(given.graph) == (0,)
    layers = [
        replace(
            layer, non_negative=layer.name in "23", kind="view" if layer.name == "3" else "conv"
        )
        for layer in given.graph.layers
    ]
    assert splits(LayerGraph.of(layers)) == (0, 2)


def test_an_input_that_must_stay_is_not_sent():
    fast = relu(chain((0, 5, 5), (0, 0, 0), (0.1, 1, 0)))
    assert spinn(exits=0).plan(fast).plans[0].cut_name == "in"
    private = replace(fast, raw_input_may_cross=False)
    assert spinn(exits=0).plan(private).plans[0].cut_name == "1"


# --- The cascade and what it is expected to cost --------------------------------------------------


def test_a_threshold_of_nothing_answers_all_at_the_first_exit():
    # The head behind 1 takes 0.25 s; nothing of the rest is ever run or sent.
    given = with_head_times(two_exits(0.6, 3), 0.25, 0.5)
    method = spinn(exits=1)
    found = scheduler(method.view(given), method).expected(1, 0.0)
    assert found == Configuration(1, 0.0, 1.25, 0.0, 0.0)


@looped("seed", range(10))
def test_fewer_go_on_past_later_exits_and_more_with_a_higher_threshold(seed):
    problem, method = drawn(seed)
    heads = exit_places(problem.graph, method.exits)
    going_on = [Cascade(problem.calibration.calib, heads).going_on(t) for t in THRESHOLDS]
    for shares in going_on:
        assert shares[0] == 1
        assert all(b <= a for a, b in pairwise(shares))
    for low, high in pairwise(going_on):
        assert all(a <= b for a, b in zip(low, high, strict=True))
    assert going_on[-1] == [1] * (len(heads) + 1)


def replayed(problem: Problem, heads: tuple[str, ...], split: int, threshold: float):
    """Mean seconds on end, link, cloud and the way: every calibration sample, layer by layer."""
    layers, calib = problem.graph.layers, problem.calibration.calib
    spent = np.zeros((calib.samples, 4))
    for sample in range(calib.samples):
        for k, layer in enumerate(layers):
            side = 0 if k <= split else 2
            device = problem.end if k <= split else problem.cloud
            if k == split + 1:
                sent = layers[split].elements / 1000  # 8 bits
                spent[sample, 1] = sent
                spent[sample, 3] = problem.link.rtt_s / 2
            spent[sample, side] += device.layer_s[layer.name]
            if layer.name in heads and threshold < inf:
                spent[sample, side] += device.exit_s[layer.name]
                if calib.at_exit(sample, layer.name).confidence >= threshold:
                    break
    return spent.mean(axis=0)


@looped("seed", SEEDS)
def test_expected_seconds_are_those_of_the_calibration_samples(seed):
    problem, method = drawn(seed, samples=20)
    heads = exit_places(problem.graph, method.exits)
    made = scheduler(problem, method)
    for split in everywhere(problem):
        for threshold in (0.3, 0.6, 0.85, NEVER):
            found = made.expected(split, threshold)
            spent = replayed(problem, heads, split, threshold)
            stages = (found.end_s, found.link_s, found.cloud_s, found.way_s)
            assert stages == pytest.approx(tuple(spent), abs=1e-12)
            assert found.value("latency") == pytest.approx(sum(spent))
            assert found.value("throughput") == pytest.approx(max(spent[:3]))


@looped("seed", SEEDS)
def test_a_slower_link_never_gets_more_bytes_of_one_threshold(seed):
    # Expected bytes: a split far behind is reached by fewer tasks.
    problem, method = drawn(seed)
    for threshold in (0.5, 0.8, NEVER):
        sizes = []
        for factor in np.geomspace(1e3, 1e-3, 25):
            slower = at(problem, factor)
            made = scheduler(slower, method)
            tried = [made.expected(split, threshold) for split in everywhere(slower)]
            best = min(tried, key=lambda c: c.rank("latency"))
            sizes.append(best.link_s * slower.link.bandwidth_bps / 8)
        assert all(b <= a * (1 + 1e-9) for a, b in pairwise(sizes))


# --- The accuracy that is kept --------------------------------------------------------------------


def lost_points(problem: Problem, plan: Plan) -> float:
    """What the calibration split loses under a plan, task by task as the controller would."""
    calib, right = problem.calibration.calib, 0
    controller = ExitByConfidence(PlanSet((plan, plan), (1.0, 0.0)))
    for sample in range(calib.samples):
        label = calib.predict(sample, plan.crossing).label
        for head in plan.heads:
            observation = Observation(0.0, 0, 1e6, sample, calib)
            decision = controller.at_head(sample, plan, head, observation)
            if decision.action == "exit":
                label = decision.label
                break
        right += label == calib.true_label(sample)
    whole = np.mean([calib.uncut(i) == calib.true_label(i) for i in range(calib.samples)])
    return 100 * (whole - right / calib.samples)


@pytest.mark.parametrize("limit_points", [0, 0.5, 5])
@pytest.mark.parametrize("right", [None, 0.9])
def test_the_chosen_pair_loses_no_more_than_it_may(limit_points, right):
    seen = {"heads": 0, "cloud": 0}
    for seed in range(60):
        problem, method = drawn(seed, samples=200, right=right)
        method = replace(method, limit_points=limit_points)
        for plan in method.plan(problem).plans:
            if plan.cut_name != problem.graph.input.name:  # what the input loses is not counted
                assert lost_points(problem, plan) <= limit_points + 1e-6
            seen["heads"] += bool(plan.heads)
            seen["cloud"] += any(head.side == "cloud" for head in plan.heads)
    if limit_points == 5:  # the property is not empty
        assert seen["heads"] > 10
        assert seen["cloud"] > 3


def test_a_cloud_head_is_judged_by_what_it_makes_of_what_crosses():
    # in → 1 → 2 → 3: the head behind 2 is right about the tensors themselves, and wrong about what
    # is left of them once 1 has crossed. Half the tasks would exit there.
    given = relu(chain((0, 1, 9, 9), (0, 1, 0.1, 8), (99, 1, 99, 0)))
    sure = [ExitAnswer(0, 0.99 if k % 2 else 0.1) for k in range(10)]
    never = [ExitAnswer(1, 0.1)] * 10
    for wrong in (False, True):
        late = [answer._replace(label=int(wrong)) for answer in sure]
        calib = fake([0] * 10, {"1": never, "2": sure}, Noisy, cloud={"2": late})
        method = spinn(exits=2)
        plan = method.plan(method.view(answered(given, calib))).plans[0]
        assert plan.cut_name == "1"
        assert [head.side for head in plan.heads] == ([] if wrong else ["end", "cloud"])
        assert plan.objective.value == pytest.approx(10.1 if wrong else 6.1)


def test_what_the_input_loses_on_its_way_is_not_counted():
    given = relu(chain((0, 5, 5), (0, 0, 0), (0.1, 9, 0)))
    calib = fake([0, 0], {"1": [ExitAnswer(1, 0.1)] * 2}, Noisy, cut={"in": np.array([1, 1])})
    method = spinn(exits=1)
    assert method.plan(method.view(answered(given, calib))).plans[0].cut_name == "in"


def test_a_limit_on_the_latency_binds_what_no_exit_answers():
    # Behind 1: 1 + 2 + 2 = 5 s, and 3.4 expected; all on the end 6 s, and 4 expected.
    given, method = two_exits(0.6, 2), spinn(exits=1)
    plans = method.plan(method.view(replace(given, t_max_s=5)))
    assert [plan.cut_name for plan in plans.plans] == ["1", "device-only"]
    with pytest.raises(InfeasibleError, match=r"none of 4 splits keeps t_max_ms = 4900.*relax"):
        method.plan(method.view(replace(given, t_max_s=4.9)))


def test_a_limit_on_the_latency_rules_out_what_has_shorter_stages():
    # Behind 1: 1 + 3 + 2 s; all on the end 5.9 s, which is the longest stage.
    given = two_exits(0.5, 3)
    given = replace(given, end=replace(given.end, layer_s={"in": 0, "1": 1, "2": 1, "3": 3.9}))
    method = spinn(exits=1, target="throughput")
    for limit_s, cut in ((6, "1"), (5.95, "device-only")):
        plans = method.plan(method.view(replace(given, t_max_s=limit_s)))
        assert plans.plans[0].cut_name == cut


def test_widths_are_known_before_a_split_is_judged():
    # 2 bits lose everything, 4 bits nothing. At 2 bits, `1` takes 1 s of the link; at 4 it is 2.
    given = relu(chain((0, 1, 9), (0, 1, 1), (99, 4, 0)))
    wrong = {bits: np.array([1] * 10) for bits in (2, 3)}
    calib = fake([0] * 10, {"1": [ExitAnswer(1, 0.1)] * 10}, Noisy, sent=wrong)
    given = replace(given, bits=SearchedBits(lambda: calib, 0.5, "in"))
    method = spinn(exits=1)
    best = method.plan(method.view(answered(given, calib))).plans[0]
    assert best.crossing == (Crossing("1", 4),)
    assert best.payload_bytes == (2000,)
    assert best.stage_s.link_s == pytest.approx(2)
    assert best.objective.value == pytest.approx(4)


def test_a_split_that_turns_out_wider_gives_way_to_a_better_one():
    # At 2 bits: behind 1: 1 + 1 + 1 = 3, behind 2: 2.5 + 1 = 3.5 s; at 8 bits 1 takes 4 s.
    given = relu(chain((0, 1, 1.5, 9), (0, 1, 0, 0), (99, 4, 4, 0)))
    given = replace(given, cloud=replace(given.cloud, layer_s={"in": 0, "1": 0, "2": 1, "3": 0}))

    @dataclass(frozen=True, eq=False)
    class Widths(Noisy):
        def predict(self, sample, crossing):
            narrow = crossing and crossing[0].layer == "1" and crossing[0].bits < 8
            return Prediction(int(bool(narrow)), (1000,) * len(crossing))

    calib = fake([0] * 10, kind=Widths)
    given = replace(given, bits=SearchedBits(lambda: calib, 0.5, "in"))
    method = spinn(exits=0)
    plans = method.plan(method.view(answered(given, calib)))
    assert plans.plans[0].crossing == (Crossing("2", 2),)
    assert plans.plans[0].objective.value == pytest.approx(3.5)
    assert plans.plans[0].evaluations == 8  # 4 splits, twice


# --- The plan -------------------------------------------------------------------------------------


def split_at_one() -> tuple[Problem, Plan]:
    """in → 1 → 2 → 3, split behind 1, heads behind 1 on the end (0.25 s) and behind 2 on the cloud
    (0.5 s). Of three samples the first exits on the end, the second on the cloud, the last never.
    """
    given = with_head_times(relu(chain((0, 1, 1, 4), (0, 1, 1, 1), (99, 2, 99, 0))), 0.25, 0.5)
    heads = {
        "1": [ExitAnswer(1, 0.9), ExitAnswer(2, 0.1), ExitAnswer(2, 0.79)],
        "2": [ExitAnswer(4, 0.1), ExitAnswer(3, 0.8), ExitAnswer(4, 0.7)],
    }
    calib = fake([0, 0, 0], heads, payload_bytes=2000)
    method = spinn(exits=2)
    seen = method.view(answered(given, calib))
    made = scheduler(seen, method)
    return seen, made.plan(made.expected(1, 0.8))


def test_the_times_of_a_plan_with_heads():
    _, plan = split_at_one()
    assert (plan.stage_s.end_s, plan.stage_s.link_s, plan.stage_s.cloud_s) == (1.25, 2, 2.5)
    assert plan.ready_s == (1.25,)
    assert plan.cloud_work_s == (2.5,)
    assert plan.latency_s == pytest.approx(5.75)
    assert plan.local_s == pytest.approx(5)
    assert plan.timeout_s == 5
    points = [(head.side, head.layer, head.at_s, head.threshold) for head in plan.heads]
    assert points == [("end", "1", 1.25, 0.8), ("cloud", "2", 1.5, 0.8)]
    # 1.25 each; two of three are sent, 2 s; 1.5 s on the cloud for both, and 1 for the last.
    assert plan.objective.value == pytest.approx(1.25 + 2 / 3 * 2 + (2 * 1.5 + 1) / 3)


def test_a_plan_that_sends_nothing_has_no_timeout_and_all_heads_on_the_end():
    seen, _ = split_at_one()
    made = scheduler(seen, spinn(exits=2))
    plan = made.plan(made.expected(3, 0.8))
    assert (plan.stage_s.end_s, plan.stage_s.link_s, plan.stage_s.cloud_s) == (6.5, 0, 0)
    assert [(head.side, head.at_s) for head in plan.heads] == [("end", 1.25), ("end", 2.5)]
    assert (plan.timeout_s, plan.local_s) == (inf, 0)


def played(problem: Problem, plan: Plan, samples, trace: Trace | None = None, alone=None, **load):
    """The records of a run under `plan`."""
    workload = Workload(**{"kind": "saturated", "tasks": len(samples), "in_flight": 8, **load})
    problem = replace(problem, workload=workload)
    trace = trace or constant(problem.link.bandwidth_bps)
    plans = PlanSet((plan, alone or plan), (1.0, 0.0))
    return simulate(problem, ExitByConfidence(plans), trace, TrueRate(trace), np.array(samples))


def test_three_tasks_exit_on_the_end_on_the_cloud_and_nowhere():
    seen, plan = split_at_one()
    records = played(seen, plan, [0, 1, 2])
    assert records.decision.tolist() == ["exit", "exit", "send"]
    # The second is ready at 2.5, sent by 4.5, answered 1.5 s later; the third is ready at 3.75, has
    # the link from 4.5 to 6.5, and the cloud for 2.5 s.
    assert records.end_end_s.tolist() == pytest.approx([1.25, 2.5, 3.75])
    assert records.link_busy_s.tolist() == pytest.approx([0, 2, 2])
    assert records.cloud_busy_s.tolist() == pytest.approx([0, 1.5, 2.5])
    assert records.finish_s.tolist() == pytest.approx([1.25, 6, 9])
    assert records.predicted.tolist() == [1, 3, 0]
    assert records.payload_bytes.tolist() == [0, 2000, 2000]


def test_without_answers_no_task_exits():
    seen, plan = split_at_one()
    records = played(replace(seen, outcomes=None), plan, [0, 1, 2])
    assert records.decision.tolist() == ["send"] * 3


# --- A link that is lost --------------------------------------------------------------------------


def lossy() -> tuple[Problem, Plan, Plan]:
    """in → 1 → 2 → 3, split behind 2, heads behind 1 and 2 that are never sure; of sample 0 the
    first is surer, of sample 1 the second."""
    given = relu(chain((0, 0.1, 0.1, 2), (0, 1, 1, 0.1), (99, 9, 0.5, 0)))
    heads = {
        "1": [ExitAnswer(1, 0.6), ExitAnswer(2, 0.1)],
        "2": [ExitAnswer(3, 0.5), ExitAnswer(4, 0.2)],
    }
    method = spinn(exits=2)
    seen = method.view(answered(given, fake([0, 0], heads, payload_bytes=500)))
    made = scheduler(seen, method)
    return seen, made.plan(made.expected(2, 0.8)), made.plan(made.expected(3, NEVER))


def test_while_the_link_is_lost_the_surest_exit_answers_and_the_end_goes_on_alone():
    seen, best, alone = lossy()
    gone = Trace((0, 10), (8000, 0))  # and never comes back
    records = played(seen, best, [0, 1] * 60, gone, alone)
    assert np.isfinite(records.finish_s).all()
    late = records.fallback
    assert late.any()
    assert set(records.decision[late]) == {"exit"}
    surest = np.where(records.sample == 0, 1, 4)
    assert (records.predicted[late] == surest[late]).all()
    after = records.end_start_s > 30
    local = after & (records.decision == "local")
    assert local.sum() > 30
    # One task in twenty tries the link.
    assert late[after].sum() == pytest.approx(after.sum() / PROBE_EVERY, abs=2)


def test_a_link_that_is_back_is_used_again():
    seen, best, alone = lossy()
    records = played(seen, best, [0, 1] * 150, Trace((0, 10, 60), (8000, 0, 8000)), alone)
    assert np.isfinite(records.finish_s).all()
    start, sent = records.end_start_s, records.decision == "send"
    out = (start > 15.5) & (start < 54)  # the timeout of five seconds after the link is lost
    assert not sent[out].any()
    assert sent[start < 5].all()  # the queue before the link is four seconds long
    probed_by_s = 60 + PROBE_EVERY * 2.2 + 1  # twenty tasks alone
    assert (start > probed_by_s).sum() > 50
    assert sent[start > probed_by_s].all()


def test_without_exits_the_end_finishes_what_the_link_has_not_taken():
    given = relu(chain((0, 0.1, 2), (0, 1, 0.1), (99, 0.5, 0)))
    method = spinn()
    best, alone = method.plan(method.view(given)).plans
    records = played(given, best, [0] * 40, Trace((0, 5), (8000, 0)), alone)
    assert best.cut_name == "1"
    assert best.heads == ()
    assert np.isfinite(records.finish_s).all()
    assert set(records.decision[records.fallback]) == {"local"}


# --- Tracks and re-planning -----------------------------------------------------------------------


def sendable() -> Problem:
    """A model's answers, three splits of use at different rates."""
    given = relu(chain((0, 1, 1, 8), (0, 0.5, 0.5, 1), (6.4, 4, 0.8, 0)))
    rng = np.random.default_rng(5)
    labels = np.arange(40) % CLASSES
    heads = {name: guesses(rng, labels, 1.0) for name in "12"}
    return answered(given, fake(labels, heads, payload_bytes=800))


def test_as_published_tensors_go_at_eight_bits_compressed():
    given = replace(sendable(), bits=SearchedBits(lambda: None, 0.5, "in"))
    method = Spinn(name="spinn", exits=2)
    seen = method.view(given)
    assert isinstance(seen.codec, BitshuffleLz4)
    best = method.plan(seen).plans[0]
    assert best.crossing == (Crossing("2", 8),)
    assert best.heads


def test_on_the_same_codec_the_searched_widths_are_used_and_exits_stay():
    given = sendable()
    given = replace(given, bits=SearchedBits(lambda: given.calibration.calib, 0.5, "in"))
    method = spinn(exits=2)
    seen = method.view(given)
    assert (seen.codec, seen.bits, seen.measured_bytes) == (given.codec, given.bits, {})
    best = method.plan(seen).plans[0]
    assert best.crossing == (Crossing("2", 2),)
    assert best.heads
    assert best.online is None


def test_on_same_online_the_cache_takes_the_place_of_the_exits():
    method = spinn(division="same_online")
    seen = method.view(sendable())
    plans = method.plan(seen)
    best, alone = plans.plans
    assert (best.heads, alone.heads) == ((), ())
    assert best.release == "after_decision"
    assert best.online is not None
    assert alone.online is None
    assert plans.remarks == ()
    controller = method.controller(plans)
    assert isinstance(controller, OnlineController)
    seen = replace(seen, workload=Workload("saturated", tasks=20, in_flight=4))
    gone = Trace((0, 10), (8000, 0))
    records = simulate(seen, controller, gone, TrueRate(gone), np.arange(20))
    assert np.isfinite(records.finish_s).all()


def test_on_same_online_without_a_cache_there_is_nothing_to_exit_by():
    method = spinn(division="same_online", online=Online(exits=False, adjust=False))
    plans = method.plan(method.view(sendable()))
    assert [plan.heads for plan in plans.plans] == [(), ()]
    assert plans.plans[0].release == "per_tensor"


def test_without_a_model_there_are_no_exits_and_sizes_are_expected():
    given = replace(sendable(), outcomes=None, calibration=None)
    method = Spinn(name="spinn")
    seen = method.view(given)
    assert seen.measured_bytes == {}
    plans = method.plan(seen)
    assert plans.plans[0].payload_bytes == (800,)
    assert [plan.heads for plan in plans.plans] == [(), ()]
    assert plans.remarks == ()


def observed(rate_bps: float = 8000, now_s: float = 0.0, outcomes=None) -> Observation:
    return Observation(now_s, 0, rate_bps, 0, outcomes)


def test_every_rate_has_its_pair_of_plans():
    method = spinn(exits=2, replan=Replan(mbps=(0.8, 0.00008)))
    seen = method.view(sendable())
    plans = method.plan(seen)
    assert [each.plans[0].cut_name for each in (plans, *plans.prepared)] == [
        "2",
        "in",
        "device-only",
    ]
    for each in (plans, *plans.prepared):
        assert each.weights == (1, 0)
        assert each.plans[1].cut_name == "device-only"
    controller = method.controller(plans)
    assert isinstance(controller, FollowRate)
    assert controller.choose(0, observed()) is plans.plans[0]
    assert controller.choose(1, observed(800_000, 2.0)) is plans.prepared[0].plans[0]


def test_what_the_link_does_reaches_the_plans_that_follow_the_rate():
    method = spinn(exits=2, replan=Replan(mbps=(0.8,)))
    seen = method.view(sendable())
    plans = method.plan(seen)
    best, alone = plans.plans
    controller = method.controller(plans)
    gave_up = controller.gave_up(0, best, observed(outcomes=seen.outcomes))
    local = [seen.outcomes.at_exit(0, layer) for layer in "12"]
    surest = max(local, key=lambda answer: answer.confidence)
    assert gave_up == (Decision("exit", surest.label) if best.heads else GO_ON)
    tasks = range(1, 2 * PROBE_EVERY + 1)  # a second apart, so that the timeout is no matter
    chosen = [controller.choose(task, observed(now_s=float(task))) for task in tasks]
    tried = [task for task, plan in enumerate(chosen, 1) if plan is best]
    assert tried == [PROBE_EVERY, 2 * PROBE_EVERY]
    assert all(plan is alone for plan in chosen if plan is not best)
    controller.sent(Transfer(PROBE_EVERY, 800, 1.0, 2.0))
    assert controller.choose(50, observed()) is best


def test_a_lost_link_is_not_tried_again_while_a_task_waits_for_it():
    method = spinn(exits=2, timeout_s=5.0)
    seen = method.view(sendable())
    plans = method.plan(seen)
    controller = method.controller(plans)
    controller.gave_up(0, plans.plans[0], observed(outcomes=seen.outcomes))
    now_s = np.arange(1, 2001) / 100  # a hundred tasks a second, for twenty seconds
    chosen = [controller.choose(task, observed(now_s=at)) for task, at in enumerate(now_s.tolist())]
    tried_s = now_s[[plan is plans.plans[0] for plan in chosen]]
    assert tried_s == pytest.approx([0.2, 5.2, 10.2, 15.2])


def test_planning_for_another_rate_asks_the_model_nothing_again():
    problem, method = drawn(4)
    method.plan(problem)
    calib = problem.calibration.calib
    asked = len(calib.asked)
    first = method.plan(problem)
    assert len(calib.asked) == asked
    assert first == method.plan(problem)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"target": "energy"}, "method.target = .energy.: should be .latency. or .throughput."),
        ({"exits": -1}, "method.exits = -1: should be greater than or equal to 0"),
        ({"limit_points": -0.5}, "method.limit_points = -0.5: should be greater than or equal"),
        ({"timeout_s": 0}, "method.timeout_s = 0: should be greater than 0"),
    ],
)
def test_wrong_settings_are_named(settings, words):
    with pytest.raises(ConfigError, match=words):
        spinn(**settings)
