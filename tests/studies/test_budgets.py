"""Thresholds worked out by hand on a few tasks; budgets held against their promise."""

from math import inf

import numpy as np
import pytest
from scipy.stats import binom

from coach_exp.online.budgets import (
    Evidence,
    Limits,
    Thresholds,
    admitting,
    answers_right,
    certificates,
    curves,
    ladder,
    min_certificate,
    thresholds,
)
from coach_exp.online.risk import followed, rejects_excess, smallest_limit


def bools(text: str) -> np.ndarray:
    """'1101' -> [True, True, False, True]."""
    return np.array([c == "1" for c in text])


def evidence(exit_right: str, sent: dict[int, str], uncut: str | None = None, **changes):
    """Tasks in the order of falling separability n, n - 1, …, 1, each a video of its own."""
    n = len(exit_right)
    facts = {
        "separability": np.arange(n, 0, -1.0),
        "exit_right": bools(exit_right),
        "sent": {bits: bools(text) for bits, text in sent.items()},
        "bits": max(sent),
        "uncut_right": bools(uncut or "1" * n),
        "video": np.arange(n),
        "reference": np.arange(n, 0, -1.0),
    }
    return Evidence(**(facts | changes))


def test_the_largest_set_within_the_limit():
    # S = 4, 3, 2, 1; the second and the fourth task lose 1/4 each.
    s, loss = np.array([4.0, 3.0, 2.0, 1.0]), np.array([0, 0.25, 0, 0.25])
    assert admitting(s, loss, limit=0.0) == 3  # S > 3: the first task
    assert admitting(s, loss, limit=0.25) == 1  # S > 1: three tasks
    assert admitting(s, loss, limit=0.5) == -inf  # all
    assert admitting(s, loss + 0.25, limit=0.1) == inf  # not even the first


def test_what_is_won_back_later_counts():
    # The first loses, the next two win: the set of three is the largest that loses nothing.
    assert admitting(np.array([4.0, 3.0, 2.0, 1.0]), np.array([0.25, -0.25, 0, 0.25]), 0.0) == 1


def test_equals_are_admitted_together():
    s, loss = np.array([4.0, 3.0, 3.0, 1.0]), np.array([0, 0, 0.25, 0])
    assert admitting(s, loss, limit=0.0) == 3
    assert admitting(s, loss, limit=0.25) == -inf


def test_paper_spends_the_limit_on_exits_and_on_each_width():
    # Plan at 4 bits, always right. One of ten may be lost: exits lose task 3, 3 bits lose none,
    # 2 bits lose tasks 5 and 6.
    given = evidence("1101111100", {4: "1" * 10, 3: "1" * 10, 2: "1111001111"})
    chosen = thresholds(given, Limits("paper", 0.1))
    assert chosen.exit == 2  # the ninth task, S = 2, would be the second loss
    assert chosen.adjust == {3: -inf, 2: 5}  # the sixth task, S = 5, would be the second
    assert answers_right(given, chosen).sum() == 10 - 1  # task 5 exits: only task 3 is lost


def test_joint_counts_everything_against_the_uncut_model():
    # The plan loses one of ten already, as much as may be lost: nothing more is spent.
    given = evidence("0111111110", {3: "1111111110", 2: "0111111110"})
    assert thresholds(given, Limits("joint", 0.1)) == Thresholds(inf, {2: inf})
    # Two may be lost: half of what is left is no whole task, so only harmless exits, of which the
    # first task is none; then 2 bits may lose the first.
    chosen = thresholds(given, Limits("joint", 0.2))
    assert chosen == Thresholds(inf, {2: -inf})
    assert answers_right(given, chosen).mean() == 0.8


def test_parts_switch_off_separately():
    given = evidence("1111", {3: "1111", 2: "1111"})
    for budget in ("paper", "joint"):
        assert thresholds(given, Limits(budget, 0.1, exits=False)) == Thresholds(inf, {2: -inf})
        assert thresholds(given, Limits(budget, 0.1, adjust=False)) == Thresholds(0, {})


def test_a_task_without_separability_never_exits():
    given = evidence("1111", {3: "1111"}, separability=np.array([2.0, 1.0, 0.0, 0.0]))
    assert thresholds(given, Limits("paper", 0.5)).exit == 0  # S > 0 fails for S = 0
    none = evidence("1111", {3: "1111"}, separability=np.zeros(4))
    assert thresholds(none, Limits("paper", 0.5)).exit == inf


@pytest.mark.parametrize("budget", ["paper", "joint"])
def test_what_inseparable_tasks_would_win_pays_for_no_exit(budget: str):
    # The first task would lose as an exit; the second would win, but S = 0 is never answered.
    given = evidence("01", {3: "10"}, uncut="10", separability=np.array([2.0, 0.0]))
    assert thresholds(given, Limits(budget, 0.0)).exit == inf


def test_curves_show_what_every_threshold_admits():
    given = evidence("1011", {4: "1111", 3: "1110"})
    exits, bits = curves(given, Thresholds(2.0, {3: -inf}), Limits())
    assert (exits.name, bits.name) == ("exit", "3 bits")
    assert exits.threshold.tolist() == [4, 3, 2, 1]
    assert exits.share.tolist() == [0.25, 0.5, 0.75, 1]
    assert exits.loss_points.tolist() == [0, 25, 25, 25]
    assert bits.loss_points.tolist() == [0, 0, 0, 25]
    assert (exits.chosen, bits.chosen) == (2.0, -inf)


# --- Guarantee ------------------------------------------------------------------------------------


def test_without_any_loss_the_number_of_videos_decides():
    # ln(10) / 0.9 = 2.56: about 128 videos for 2 points, 512 for half a point; the first bets are
    # smaller than the largest, so a few more.
    for limit, videos in ((0.02, 128), (0.005, 512)):
        assert not rejects_excess(np.zeros(videos - 10), limit, 0.1)
        assert rejects_excess(np.zeros(videos + 30), limit, 0.1)


def test_losses_above_the_limit_are_never_certified_and_small_ones_are():
    rng = np.random.default_rng(0)
    harmed = (rng.random(400) < 0.01).astype(float)
    assert rejects_excess(harmed, 0.05, 0.1)
    assert not rejects_excess(np.full(400, 0.05), 0.05, 0.1)


def test_gains_pay_for_losses():
    losses = np.tile([0.2, -0.2], 300)
    assert rejects_excess(losses, 0.03, 0.1)
    assert not rejects_excess(np.maximum(losses, 0), 0.03, 0.1)


def test_a_false_certificate_is_as_rare_as_promised():
    # The true loss is exactly the limit; the test may say "less" in at most δ of the trials.
    rng, trials, delta = np.random.default_rng(1), 600, 0.1
    false = sum(
        rejects_excess((rng.random(150) < 0.04).astype(float), 0.04, delta) for _ in range(trials)
    )
    assert false <= binom.ppf(0.999, trials, delta)
    assert false > 0  # or the test would have no power


def test_the_order_ends_at_the_first_failure():
    good, bad = np.zeros(200), np.ones(200)
    assert followed([good, good, bad, good], 0.05, 0.1) == 2
    assert followed([bad, good], 0.05, 0.1) == 0


def test_the_smallest_limit_is_the_edge():
    losses = np.zeros(154)
    least = smallest_limit(losses, 0.1)
    assert least == pytest.approx(0.0178, abs=2e-3)
    assert rejects_excess(losses, least, 0.1)
    assert not rejects_excess(losses, least - 1e-4, 0.1)
    assert smallest_limit(np.ones(50), 0.1) is None


def test_the_ladder_admits_more_and_more():
    given = evidence("1" * 40, {4: "1" * 40, 3: "1" * 40, 2: "1" * 40})
    policies = list(ladder(given, Limits("guarantee")))
    s = given.separability
    shares = np.array(
        [
            [(s > p.adjust[3]).mean(), (s > p.adjust[2]).mean(), (s > p.exit).mean()]
            for p in policies
        ]
    )
    assert (np.diff(shares, axis=0) >= 0).all()
    assert (np.diff(shares, axis=1) <= 0).all()  # the more a rung spares, the fewer
    assert shares[-1].tolist() == [1, 1, 1]
    assert shares[0].max() < 0.1


def test_a_guarantee_admits_nothing_where_there_are_too_few_videos():
    given = evidence("1" * 100, {3: "1" * 100, 2: "1" * 100})
    assert thresholds(given, Limits("guarantee", 0.005)) == Thresholds()
    told = certificates(given, Limits("guarantee", 0.005))
    assert [(each.limit_points, each.exit_share) for each in told] == [(0.5, 0), (2, 0), (3, 1)]
    least = min_certificate(given, Limits("guarantee", 0.005))
    assert least.limit_points == pytest.approx(2.69, abs=0.2)
    assert least.exit_share == 1  # no exit is wrong, so all are kept


def test_a_few_videos_certify_nothing_below_a_large_limit():
    few = evidence("1" * 20, {3: "1" * 20})
    assert min_certificate(few, Limits("guarantee")).limit_points > 10
    wrong = evidence("0" * 40, {3: "1" * 40})
    assert min_certificate(wrong, Limits("guarantee", adjust=False)).limit_points > 4
    assert min_certificate(few, Limits("guarantee", exits=False, adjust=False)) is None
