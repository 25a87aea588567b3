"""The online part held against plain loops: decisions, centres, thresholds, bets, whole runs."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from math import ceil, inf

import numpy as np
import pytest
from helpers import reference_online as plain
from helpers.answers import Answers
from helpers.graphs import chain
from helpers.records import plan as made
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from coach_exp.coach import Coach
from coach_exp.network.estimator import Ewma
from coach_exp.network.trace import steps
from coach_exp.online.budgets import Evidence, Limits, thresholds
from coach_exp.online.method import Online
from coach_exp.online.risk import rejects_excess
from coach_exp.online.scheduler import OnlineController
from coach_exp.online.semantic_cache import SemanticCache
from coach_exp.pipeline.simulator import simulate
from coach_exp.planner.planning import Planner
from coach_exp.types.method import Calibration, Decision, FixedPlans, Link, Observation, Problem
from coach_exp.types.online import Budget, Centres, Rung, SemanticTable
from coach_exp.types.outcomes import Crossing
from coach_exp.types.plan import Plan, PlanSet
from coach_exp.types.task import Records
from coach_exp.types.workload import Workload

UPDATES, RULES = ("exits", "results", "none"), ("eq11", "fill")
BPS = 8000.0
ALMOST_TIED = 1e-9  # a separability; below it rounding may make something of a tie
CLEAR = 1e4  # a separability; above it the second-highest similarity is near rounding
seeds = st.integers(0, 2**32 - 1)


# --- Decisions, one by one ------------------------------------------------------------------------


def vectors(rng: np.random.Generator, count: int, channels: int, unit: float) -> np.ndarray:
    """Of three kinds: any numbers, small whole ones (so many are equal or at right angles), zero;
    all times `unit`."""
    kind = rng.choice(3, size=(count, 1), p=(0.5, 0.4, 0.1))
    whole = rng.integers(0, 3, size=(count, channels))
    drawn = np.choose(kind, [rng.normal(size=(count, channels)), whole, 0])
    return (unit * drawn).astype(np.float32)


def random_rungs(rng: np.random.Generator) -> tuple[Rung, ...]:
    """Some widths below the plan's, each harder to have or easier than the next, and some above."""
    bits = np.sort(rng.choice(np.arange(2, 9), size=rng.integers(1, 6), replace=False)).tolist()
    own = rng.integers(len(bits))
    sizes = np.sort(rng.integers(100, 10_000, size=len(bits))).tolist()
    passed = rng.choice([ALMOST_TIED, 0.0503, 0.301, 1.03, inf], size=own).tolist() + [-inf] * len(
        bits
    )
    return tuple(map(Rung, bits, ((b, b) for b in bits), sizes, passed))


def random_story(
    rng: np.random.Generator,
    warm: np.ndarray,
    labels: int,
    rule: str,
    moved_by: str,
    cap: int | None,
) -> tuple[Plan, plain.Story]:
    """A plan whose centres have seen the tasks `warm`, some labels none; the same for the loops."""
    label = rng.integers(labels, size=len(warm))
    exit_at = rng.choice([ALMOST_TIED, 0.103, 0.503, 2.03, inf]).item()
    rungs = random_rungs(rng)
    start = Centres.of(warm, label, labels)
    table = SemanticTable("paper", start, exit_at, rungs, (), 0, 0, 0.0, 0.0)
    end_s, cloud_s = rng.uniform(0.5, 5, size=2).tolist()
    cache = plain.Cache(cap)
    cache.warm_up(warm.tolist(), label.tolist())
    story = plain.Story(cache, exit_at, rungs, max(end_s, cloud_s), rule, moved_by)
    return replace(made(end_s=end_s, cloud_s=cloud_s), online=table), story


def agree(decision: Decision, told: plain.Told) -> None:
    """A controller's decision is the one that the loops come to."""
    s = (min(decision.separability, CLEAR), min(told.separability, CLEAR))
    assert s[0] == pytest.approx(s[1], rel=1e-9, abs=1e-12)
    if told.rung is None:
        assert (decision.action, decision.label, decision.bits) == ("exit", told.label, None)
    else:
        assert (decision.action, decision.bits) == ("send", told.rung.widths)


@given(
    seeds,
    st.sampled_from(RULES),
    st.sampled_from(UPDATES),
    st.sampled_from([None, 1, 5]),
    st.sampled_from([1e-25, 1.0, 1e25]),
)
@settings(max_examples=40, deadline=None)
def test_every_decision_of_a_stream(
    seed: int, rule: str, update: str, cap: int | None, unit: float
):
    """200 tasks by two plans; answers come late, in any order, twice, never, or without a label."""
    rng = np.random.default_rng(seed)
    labels, channels = rng.integers(1, 6, size=2).tolist()
    warm = [vectors(rng, rng.integers(13), channels, unit) for _ in range(2)]
    pairs = [random_story(rng, seen, labels, rule, update, cap) for seen in warm]
    online = OnlineController(FixedPlans(PlanSet((pairs[0][0],))), rule, update, cap)
    stream = rng.permutation(np.repeat(vectors(rng, 100, channels, unit), 2, axis=0))
    outcomes = Answers(stream, np.zeros(200, int), np.arange(200), labels)
    unanswered: list[tuple[int, plain.Story]] = []
    for task, feature in enumerate(stream.tolist()):
        plan, story = pairs[rng.integers(2)]
        rate_bps = BPS * 10 ** rng.uniform(-1, 1)
        told = story.at_cut(task, feature, rate_bps)
        agree(
            online.at_cut(task, plan, Observation(float(task), 0, rate_bps, task, outcomes)), told
        )
        unanswered.append((task, story))
        while unanswered and rng.random() < 0.5:
            late, its_story = unanswered.pop(rng.integers(len(unanswered)))
            answer = int(rng.integers(-1, labels))
            for _ in range(rng.integers(1, 3)):
                online.answered(late, answer, float(task))
                its_story.answered(late, answer)
    for plan, story in pairs:
        same_centres(online._cache(plan.online), story.cache, unit)


def same_centres(cache: SemanticCache, expected: plain.Cache, unit: float = 1.0) -> None:
    """The same labels have the same centres, and as many tasks, up to the bound."""
    assert np.flatnonzero(cache.count).tolist() == sorted(expected.counts)
    for label in expected.counts:
        centre = np.array(expected.centre(label)) / unit
        assert cache.feature[label] / unit == pytest.approx(centre, rel=1e-9, abs=1e-9)


# --- Thresholds -----------------------------------------------------------------------------------


def random_trials(rng: np.random.Generator) -> list[plain.Trial]:
    """Up to 30 tasks, the more separable the more often right; few separabilities, many equal."""
    widths = np.sort(rng.choice([2, 3, 4, 5], size=rng.integers(4), replace=False)).tolist()
    trials = []
    for _ in range(rng.integers(1, 31)):
        s = int(rng.integers(rng.integers(1, 12)))
        right = (rng.random(3 + len(widths)) < 0.75 + 0.02 * s).tolist()
        sent = dict(zip(widths, right[3:], strict=True))
        trials.append(plain.Trial(s / 4, right[0], right[1], right[2], sent))
    return trials


def evidence(trials: list[plain.Trial]) -> Evidence:
    """The same as columns; the plan's own width is 6 bits."""
    s = np.array([trial.separability for trial in trials])
    sent = {bits: np.array([trial.sent[bits] for trial in trials]) for bits in trials[0].sent}
    return Evidence(
        separability=s,
        exit_right=np.array([trial.nearest for trial in trials]),
        sent=sent | {6: np.array([trial.planned for trial in trials])},
        bits=6,
        uncut_right=np.array([trial.uncut for trial in trials]),
        video=np.arange(len(trials)),
        reference=s,
    )


@given(seeds, st.integers(0, 40))
@settings(max_examples=200, deadline=None)
def test_thresholds_are_those_found_by_trying_all(seed: int, limit_points: int):
    trials = random_trials(np.random.default_rng(seed))
    paper = plain.paper_budget(trials, Fraction(limit_points))
    joint = plain.joint_budget(trials, Fraction(limit_points))
    alone = plain.joint_budget(trials, Fraction(limit_points), adjust=False)

    def found(budget: Budget, **parts: bool) -> tuple[float, Mapping[int, float]]:
        given = thresholds(evidence(trials), Limits(budget, limit_points / 100, **parts))
        return given.exit, given.adjust

    assert found("paper") == (paper.exits, paper.widths)
    assert found("joint") == (joint.exits, joint.widths)
    assert found("joint", adjust=False) == (alone.exits, {})


# --- Bets -----------------------------------------------------------------------------------------


@given(seeds, st.sampled_from([0.01, 0.1, 0.5]))
@settings(max_examples=60, deadline=None)
def test_a_bettor_told_step_by_step(seed: int, delta: float):
    """Both reject above the same limit and not below it, so bets that differ a little are found."""
    rng = np.random.default_rng(seed)
    drawn = rng.normal(rng.uniform(0, 0.5), rng.uniform(0, 0.4), size=rng.integers(5, 60))
    losses = np.minimum(drawn, 1)
    low, high = 0.001, 0.999
    assume(not plain.bet_rejects(losses.tolist(), low, delta))
    assume(plain.bet_rejects(losses.tolist(), high, delta))
    while high - low > 1e-9:
        middle = (low + high) / 2
        if plain.bet_rejects(losses.tolist(), middle, delta):
            high = middle
        else:
            low = middle
    assert not rejects_excess(losses, low - 1e-9, delta)
    assert rejects_excess(losses, high + 1e-9, delta)


# --- The whole ------------------------------------------------------------------------------------


def split(rng: np.random.Generator, videos: range) -> Answers:
    """Three labels in five channels, the last of them rare. The nearer a task is to another label,
    the more bits it needs; the uncut model fails now and then, whatever the task."""
    count = len(videos)
    label = rng.choice(3, size=count, p=(0.5, 0.45, 0.05))
    features = np.abs(3 * np.eye(3, 5)[label] + 2 + rng.normal(0, 2, size=(count, 5)))
    others = np.where(np.eye(3)[label] > 0, 0, features[:, :3])
    margin = features[np.arange(count), label] - others.max(axis=1)
    sent = {bits: np.where(margin < least, (label + 1) % 3, label) for bits, least in NEEDED}
    wrong = frozenset(np.flatnonzero(rng.random(count) < 0.01).tolist())
    return Answers(features.astype(np.float32), label, np.array(videos), 3, sent, wrong)


NEEDED = ((2, -1.0), (3, -2.0))  # from which margin on so many bits are right; 4 always are


@pytest.fixture(scope="module")
def problem() -> Problem:
    """in → 1 → 2: cut behind 1. Times are such that no two events of the pipeline coincide."""
    rng = np.random.default_rng(3)
    times = chain((0, 0.4171, 3), (0, 2, 0.3093), (1, 1, 1))
    return replace(
        times,
        end=replace(times.end, decision_s={"in": 0.2, "1": 0.1013, "2": 0.1}),
        link=Link(BPS, rtt_s=0.0357, result_return=True),
        bits=replace(times.bits, width=4),
        workload=Workload("saturated", tasks=300, in_flight=6),
        outcomes=split(rng, range(1000, 1300)),
        calibration=Calibration(split(rng, range(100)), split(rng, range(100, 400))),
    )


def trials_of(calib: Answers, plan: Plan, cache: plain.Cache) -> list[plain.Trial]:
    """How each task of the calibration split would be answered."""
    (layer,) = (tensor.layer for tensor in plan.crossing)
    own = plan.crossing[0].bits

    def right(sample: int, bits: int) -> bool:
        return calib.predict(sample, (Crossing(layer, bits),)).label == calib.true_label(sample)

    trials = []
    for sample in range(calib.samples):
        t = cache.similarities(calib.feature(sample, [layer]).tolist())
        truth = calib.true_label(sample)
        sent = {bits: right(sample, bits) for bits in range(2, own)}
        uncut, planned = calib.uncut(sample) == truth, right(sample, own)
        s, nearest = plain.separability(t), plain.nearest(t) == truth
        trials.append(plain.Trial(s, uncut, planned, nearest, sent))
    return trials


def reference_story(problem: Problem, plan: Plan, online: Online) -> plain.Story:
    """The plan's online part, calibrated by the loops."""
    learned = problem.calibration
    cache = plain.Cache(online.count_cap)
    cache.warm_up(learned.centres.features.tolist(), learned.centres.label.tolist())
    trials = trials_of(learned.calib, plan, cache)
    budget = {"paper": plain.paper_budget, "joint": plain.joint_budget}[online.budget]
    found = budget(trials, Fraction(str(online.limit_points)))
    (tensor,) = plan.crossing
    widths = range(2 if online.adjust else tensor.bits, (online.max_bits or tensor.bits) + 1)
    elements = problem.graph[tensor.layer].elements
    rungs = [
        Rung(bits, (bits,), ceil(elements * bits / 8), found.widths.get(bits, -inf))
        for bits in widths
    ]
    compute_s = max(plan.stage_s.end_s, plan.stage_s.cloud_s)
    exit_at = found.exits if online.exits else inf
    return plain.Story(cache, exit_at, rungs, compute_s, online.rule, online.update)


def replay(records: Records, answers: Answers, story: plain.Story) -> Iterator[plain.Told]:
    """What the loops decide about each task, told in the order in which the records say that the
    end was asked and got its answers."""
    events = [(row.decided_s, row.task, row) for row in records]
    events += [(row.finish_s, -1, row) for row in records if row.decision == "send"]
    moments = [event[0] for event in events]
    assert len(set(moments)) == len(moments), "two events at one moment: their order is not told"
    for _, asked, row in sorted(events, key=lambda event: event[0]):
        if asked >= 0:
            feature = answers.features[row.sample].tolist()
            yield story.at_cut(row.task, feature, row.estimated_bps)
        else:
            story.answered(row.task, row.predicted)


@pytest.mark.parametrize(
    "online",
    [
        Online(limit_points=2, count_cap=5, max_bits=6),
        Online(limit_points=2, adjust=False, update="results"),
        Online(limit_points=3, exits=False, update="results", rule="fill"),
        Online(limit_points=3, budget="joint", update="results", count_cap=20),
        Online(limit_points=4, budget="joint", update="none", rule="fill", max_bits=6),
    ],
    ids=["wider", "exits alone", "fewer bits alone", "joint", "joint, wider"],
)
def test_a_whole_run_is_what_the_loops_make_of_its_records(problem: Problem, online: Online):
    coach = Coach(Planner(), online)
    plans = coach.plan(problem)
    (plan,) = plans.plans
    story = reference_story(problem, plan, online)
    table = plan.online
    assert table.exit_threshold == pytest.approx(story.exit_threshold)
    assert [rung.bits for rung in table.rungs] == [rung.bits for rung in story.rungs]
    for rung, expected in zip(table.rungs, story.rungs, strict=True):
        assert (rung.widths, rung.payload_bytes) == (expected.widths, expected.payload_bytes)
        assert rung.threshold == pytest.approx(expected.threshold)

    trace = steps([0.35 * BPS, 1.4 * BPS, 0.7 * BPS], 15.0)
    records = simulate(problem, coach.controller(plans), trace, Ewma(0.5 * BPS), np.arange(300))
    told = list(replay(records, problem.outcomes, story))
    for row, expected in zip(records, told, strict=True):
        assert row.separability == pytest.approx(expected.separability, rel=1e-9)
        if expected.rung is None:
            assert (row.decision, row.predicted, row.bits) == ("exit", expected.label, 0)
        else:
            sent = (Crossing(plan.crossing[0].layer, expected.rung.bits),)
            label = problem.outcomes.predict(row.sample, sent).label
            assert (row.decision, row.predicted, row.bits) == ("send", label, expected.rung.bits)
    kinds = Counter(each.rung.bits if each.rung else "exit" for each in told)
    assert kinds.most_common()[1][1] > 30, f"{kinds}: too few of a second kind to tell anything"
