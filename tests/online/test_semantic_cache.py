"""Eqs. 7-10 on cases a person can work out, then properties on random ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coach_exp.online.semantic_cache import Match, SemanticCache, separabilities, similarities
from coach_exp.types.online import Centres


def centres(*features, counts=None) -> Centres:
    rows = np.array(features, float)
    return Centres(rows, np.array(counts if counts is not None else [1] * len(rows)))


def test_a_task_between_two_centres():
    # F = (8, 6), T_0 = (5, 0), T_1 = (0, 2): t = (0.8, 0.6), ‖t‖ = 1, S = 1·0.2·0.8/0.6.
    match = SemanticCache(centres([5, 0], [0, 2])).match(np.array([8.0, 6.0]))
    assert match == Match(0, pytest.approx(0.2 * 0.8 / 0.6))


def test_three_labels_and_a_norm():
    # t = (1, 0.6, 0.8): ‖t‖ = √2, S = √2 · 0.2 · 1 / 0.8.
    match = SemanticCache(centres([1, 0], [0.6, 0.8], [0.8, -0.6])).match(np.array([3.0, 0.0]))
    assert match == Match(0, pytest.approx(np.sqrt(2) * 0.2 / 0.8))


def test_a_tie_is_not_separable_and_goes_to_the_lowest_label():
    assert SemanticCache(centres([0, 1], [1, 0])).match(np.array([1.0, 1.0])) == Match(0, 0.0)


def test_one_label_has_no_rival():
    assert SemanticCache(centres([1, 0])).match(np.array([1.0, 0.0])) == Match(0, 0.0)
    only_label_1 = centres([0, 0], [1, 0], counts=[0, 4])
    assert SemanticCache(only_label_1).match(np.array([1.0, 0.0])) == Match(1, 0.0)


def test_a_label_without_a_centre_is_never_answered():
    # Label 0 has no sample; the task resembles nothing that is known.
    cache = SemanticCache(centres([0, 0], [0, 1], [-1, 1], counts=[0, 1, 1]))
    assert cache.match(np.array([1.0, 0.0])) == Match(1, 0.0)
    assert SemanticCache(centres([0, 0], [0, 0], counts=[0, 0])).match(np.ones(2)) == Match(-1, 0)


def test_a_zero_vector_resembles_nothing():
    assert SemanticCache(centres([1, 0], [0, 1])).match(np.zeros(2)) == Match(0, 0.0)
    assert SemanticCache(centres([0, 0], [0, 1])).match(np.array([0.0, 3.0])).label == 1


def test_negative_similarities_count_as_none():
    # cos = (-1, 1/√2): t = (0, 0.71); the second is 0, so S is huge but finite.
    label, separability = SemanticCache(centres([-1, 0], [1, 1])).match(np.array([2.0, 0.0]))
    assert label == 1
    assert 1e6 < separability < 1e13


def test_similarity_is_1_for_the_centre_itself_and_does_not_depend_on_length():
    t = similarities(np.array([[3.0, 4.0], [0.3, 0.4]]), np.array([[0.6, 0.8]]))
    assert t == pytest.approx(np.ones((2, 1)))
    assert t.max() <= 1


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
def test_a_float32_feature_is_judged_as_the_same_numbers_in_float64(scale: float):
    cache = SemanticCache(centres([1, 0, 0.3], [0, 1, 0.7]))
    feature = (scale * np.array([0.9, 0.2, 0.1])).astype(np.float32)
    label, separability = cache.match(feature.astype(np.float64))
    assert cache.match(feature) == Match(label, pytest.approx(separability, rel=1e-12))
    assert separability > 1


def test_eq_7_moves_a_centre_by_its_share():
    # T = (2, 0) of 3 tasks, F = (6, 4): (3·(2, 0) + (6, 4)) / 4 = (3, 1).
    cache = SemanticCache(centres([2, 0], [0, 1], counts=[3, 1]))
    cache.learn(0, np.array([6.0, 4.0]))
    assert cache.feature[0].tolist() == [3, 1]
    assert cache.count.tolist() == [4, 1]
    assert cache.match(np.array([3.0, 1.0])).label == 0
    assert cache.match(np.array([0.0, 1.0])).label == 1


def test_a_count_cap_lets_old_tasks_fade():
    # m is capped at 1: T = (0 + 1) / 2, then (0.5 + 1) / 2.
    cache = SemanticCache(centres([0.0], [-1.0], counts=[50, 1]), count_cap=1)
    for expected in (0.5, 0.75):
        cache.learn(0, np.ones(1))
        assert cache.feature[0] == expected


def test_the_stream_can_bring_a_new_label():
    cache = SemanticCache(centres([1, 0], [0, 0], counts=[5, 0]))
    cache.learn(1, np.array([0.0, 2.0]))
    assert cache.feature[1].tolist() == [0, 2]
    assert cache.match(np.array([0.0, 1.0])).label == 1


def test_a_cache_leaves_its_centres_alone():
    start = centres([1, 0], [0, 1])
    SemanticCache(start).learn(0, np.array([5.0, 5.0]))
    assert start.feature.tolist() == [[1, 0], [0, 1]]


@given(st.integers(0, 1000), st.integers(1, 60), st.integers(0, 20))
def test_after_n_updates_a_centre_is_the_batch_mean(seed: int, updates: int, before: int):
    rng = np.random.default_rng(seed)
    tasks, label = rng.normal(size=(before + updates, 5)), rng.integers(3, size=before + updates)
    cache = SemanticCache(Centres.of(tasks[:before], label[:before], 3))
    for feature, j in zip(tasks[before:], label[before:], strict=True):
        cache.learn(int(j), feature)
    for j in range(3):
        assert cache.count[j] == (label == j).sum()
        if cache.count[j]:
            assert cache.feature[j] == pytest.approx(tasks[label == j].mean(axis=0), abs=1e-12)


@given(st.integers(0, 1000))
def test_many_tasks_at_once_are_judged_as_one_by_one(seed: int):
    rng = np.random.default_rng(seed)
    cache = SemanticCache(Centres(rng.normal(size=(6, 4)), rng.integers(0, 3, 6)))
    tasks = rng.normal(size=(9, 4))
    nearest, separability = cache.match_all(tasks)
    singly = [cache.match(task) for task in tasks]
    assert [match.label for match in singly] == nearest.tolist()
    assert [match.separability for match in singly] == pytest.approx(separability.tolist())


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=5))
def test_separability_is_eq_9_written_out(rows):
    for row, s in zip(rows, separabilities(np.array(rows)), strict=True):
        *_, second, highest = sorted(row)
        norm = sum(t * t for t in row) ** 0.5
        if second > 1e-9:
            assert s == pytest.approx(norm * (highest - second) * highest / second, abs=1e-12)
        assert 0 <= s < 1e13
