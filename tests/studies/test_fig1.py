"""The two localities of Fig. 1: numbers on hand-made streams, and the study on a small fake."""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
import pytest
from helpers.answers import Answers
from helpers.studies import row, study, written

from coach_exp.studies.fig1 import cut_layer, frames_of
from coach_exp.studies.locality import (
    centre_distances,
    fewest_bits,
    spatial,
    temporal,
    video_mean,
    video_spearman,
    whole_videos,
)
from coach_exp.types.errors import ConfigError, GraphError
from coach_exp.types.graph import Layer, LayerGraph
from coach_exp.types.online import Centres

SMALL = {"bits": [2, 4], "perplexity": 5}


# --- Time -----------------------------------------------------------------------------------------


def toy(labels):
    """Two videos of two frames; all frames of a video are the same, the videos orthogonal. In
    random order, 0 2 1 3, the video changes every time."""
    return temporal(
        features=np.array([[1, 0], [2, 0], [0, 1], [0, 3]], float),
        colours=np.array([0, 0, 1, 1], float),
        labels=np.array(labels),
        videos=np.array([5, 5, 2, 2]),
        shuffled=np.array([0, 2, 1, 3]),
        seed=0,
    )


def test_neighbours_of_a_toy_stream():
    found = {
        pairs.name: (pairs.count, pairs.cosine, pairs.colour_step) for pairs in toy([0, 0, 1, 1])
    }
    assert found == {
        "neighbours in stream order": (3, pytest.approx(2 / 3), pytest.approx(1 / 3)),
        "… of one video": (2, 1, 0),
        "… of two videos": (1, 0, 1),
        "neighbours in random order": (3, 0, 1),
        "random, one label, two videos": (0, None, None),
    }


def test_pairs_of_one_label_are_of_two_videos():
    twins = toy([0, 0, 0, 0])[-1]
    assert 1 <= twins.count <= 4
    assert (twins.cosine, twins.colour_step) == (0, 1)


def test_videos_are_taken_whole_and_in_order():
    videos = np.repeat([3, 1, 2, 9], [4, 2, 3, 5])
    sizes = set()
    for seed in range(20):
        chosen = whole_videos(videos, 9, seed)
        taken = set(videos[chosen].tolist())
        assert chosen.tolist() == [i for i, video in enumerate(videos) if video in taken]
        assert len(chosen) <= 9
        sizes.add(frozenset(taken))
    assert len(sizes) > 1
    assert whole_videos(videos, 9, 4).tolist() == whole_videos(videos, 9, 4).tolist()


# --- Space ----------------------------------------------------------------------------------------


def test_the_fewest_bits_hold_with_every_larger_width(display):
    # The uncut answer is the label, wrong for frame 4 (-1). At 2, 3, 4 bits:
    #   0: kept, kept, kept -> 2    1: lost, kept, kept -> 3    2: kept, lost, kept -> 4
    #   3: kept, kept, lost -> none: 5    4: wrong as uncut is, lost, wrong as uncut is -> 4
    answers = Answers(
        features=np.eye(5, dtype=np.float32),
        label=np.array([0, 1, 0, 1, 0]),
        videos=np.arange(5),
        classes=2,
        sent={
            2: np.array([0, 0, 0, 1, -1]),
            3: np.array([0, 1, 1, 1, 0]),
            4: np.array([0, 1, 0, 0, -1]),
        },
        wrong_uncut=frozenset({4}),
    )
    frames = frames_of(answers, "cut", (2, 4), display)
    assert frames.bits.tolist() == [2, 3, 4, 5, 4]
    assert frames.right.tolist() == [True] * 4 + [False]


def test_one_width_that_keeps_is_not_enough_when_a_larger_one_does_not():
    kept = np.array([[True], [True], [False], [True], [False]])
    assert fewest_bits(kept, min_bits=2).tolist() == [7]
    assert fewest_bits(kept[:4], min_bits=2).tolist() == [5]


def test_distances_to_the_own_centre():
    # Centres along (1, 0) and (0, 1); label 2 has none. cos of (3, 4) is 0.6 and 0.8.
    centres = Centres(np.array([[2.0, 0], [0, 5], [0, 0]]), np.array([3, 1, 0]))
    features = np.array([[3.0, 4], [3, 4], [3, 4], [0, 0]])
    distance = centre_distances(features, np.array([0, 1, 2, 0]), centres)
    assert distance == pytest.approx([0.4, 0.2, np.nan, 1], nan_ok=True)


def test_groups_count_frames_and_videos_and_leave_out_unknown_distances():
    found = spatial(
        bits=np.array([2, 2, 2, 5, 5]),
        distance=np.array([0.1, 0.3, np.nan, 0.5, 0.7]),
        separability=np.array([3.0, 2, 4, 1, 0]),
        videos=np.array([0, 0, 1, 1, 1]),
        seed=0,
    )
    easy, hard = found.groups
    assert (easy.bits, easy.frames, easy.videos) == (2, 3, 2)
    assert (hard.bits, hard.frames, hard.videos) == (5, 2, 1)
    assert (easy.distance.value, easy.separability.value) == (pytest.approx(0.2), 3)
    assert (hard.distance.value, hard.separability.value) == (pytest.approx(0.6), 0.5)
    # Ranks 1.5 1.5 3.5 3.5 against 1 2 3 4: covariance 4, variances 4 and 5: 4 / sqrt(20).
    assert found.of_distance.value == pytest.approx(4 / 20**0.5)
    assert found.of_separability.value < 0


def test_more_frames_of_the_same_videos_tell_nothing_new():
    values = np.array([1.0, 4, 2, 8, 5, 7, 3, 6, 9, 11])
    ranks = np.array([2, 3, 2, 5, 3, 4, 2, 4, 3, 5])
    videos = np.arange(10) * 7
    once = video_mean(values, videos, 0)
    assert once.lo < once.value < once.hi
    again = video_mean(np.repeat(values, 6), np.repeat(videos, 6), 0)
    assert (again.value, again.lo, again.hi) == pytest.approx((once.value, once.lo, once.hi))
    ranked = video_spearman(values, ranks, videos, 0)
    more = video_spearman(np.repeat(values, 6), np.repeat(ranks, 6), np.repeat(videos, 6), 0)
    assert (more.value, more.lo, more.hi) == pytest.approx((ranked.value, ranked.lo, ranked.hi))
    assert 0 < ranked.lo < ranked.value < ranked.hi <= 1


def test_the_interval_of_a_mean_is_that_of_independent_videos():
    # 400 videos of standard deviation 1: the mean's is 1 / 20, so 1.96 / 20 on either side.
    values = np.random.default_rng(1).normal(size=400)
    found = video_mean(values, np.arange(400), 0)
    half = 1.96 * values.std() / 20
    assert (found.lo, found.hi) == pytest.approx(
        (values.mean() - half, values.mean() + half), abs=0.012
    )


def test_without_a_difference_there_is_no_correlation():
    assert video_spearman(np.arange(9.0), np.full(9, 2), np.arange(9), 0) is None


# --- The study ------------------------------------------------------------------------------------


CHAIN = LayerGraph.of(
    Layer(name, (before,) if before else (), elements=1)
    for before, name in zip(["", "in", "a", "b", "c"], ["in", "a", "b", "c", "out"], strict=True)
)


@dataclass(frozen=True)
class Fake:
    """Parts of a model whose easy frames lie 0.1 off their label's centre, and harder ones by
    `offset` and twice `offset` more; 20 videos of 6 frames."""

    trained: bool = True
    subject: str = "toy on paper"
    graph: LayerGraph = CHAIN
    offset: float = 1.0
    spoilt: bool = True  # whether few bits change answers

    def answers(self, split: str) -> Answers:
        label = np.repeat(np.arange(20) % 2, 6)
        videos = np.repeat(np.arange(20), 6) + {"centres": 100, "stream": 200}[split]
        rng = np.random.default_rng(videos[0])
        hard = np.tile([0, 0, 0, 0, 1, 2], 20)  # 2 bits, 3 bits, 4 bits
        features = np.eye(3, dtype=np.float32)[label]
        if split != "centres":
            features[:, 2] = 0.1 + self.offset * hard + 0.01 * rng.random(120)
        lost = {2: hard > 0, 3: hard > 1} if self.spoilt else {}
        sent = {bits: np.where(wrong, 1 - label, label) for bits, wrong in lost.items()}
        wrong = frozenset(range(5, 120, 12))  # every second frame of 4 bits
        return Answers(features, label, videos, 2, sent, wrong)


def made(display, parts, **changes):
    """What the study found."""
    return study("fig1.Fig1", **(SMALL | changes))(parts, display)


@pytest.fixture(scope="module")
def ran(display):
    return made(display, Fake())


def test_the_study_finds_what_was_put_in(ran):
    found = written(ran)
    assert [group["bits"] for group in found["spatial"]["groups"]] == [2, 3, 4]
    assert [group["frames"] for group in found["spatial"]["groups"]] == [80, 20, 20]
    near = [group["distance"]["value"] for group in found["spatial"]["groups"]]
    assert near == sorted(near)
    assert found["spatial"]["spearman_distance_bits"]["lo"] > 0
    assert ran.value == found["spatial"]["spearman_separability_bits"]["value"] < 0
    assert (found["cut"], found["layers_on_the_end"], found["layers"]) == ("c", 4, 5)
    assert found["temporal"]["pairs"][0]["count"] == 119
    assert [group["uncut_accuracy"] for group in found["spatial"]["groups"]] == [1, 1, 0.5]
    assert " ".join(ran.notes).count("it holds here") == 4


def test_tables_say_what_they_are_about(ran):
    assert row(ran, "4")[1:4] == ["20", "20", "50"]
    assert row(ran, "neighbours in stream order")[1] == "119"
    assert "toy on paper, stream split; cut behind c (layer 4 of 5)" in ran.notes
    assert all("120 frames of 20 videos" in table.title for table in ran.tables)


def pixels(found):
    """Of both pictures."""
    files = {name: BytesIO() for name in ("fig1a", "fig1b")}
    for name, file in files.items():
        found.figures[name].savefig(file, format="png")
    return {name: file.getvalue() for name, file in files.items()}


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers_and_pictures(ran, display):
    again = made(display, Fake())
    assert written(again) == written(ran)
    assert pixels(again) == pixels(ran)


@pytest.mark.slow
def test_a_claim_that_does_not_hold_is_said_not_to(display):
    found = made(display, Fake(offset=-0.04))  # hard frames near the centre
    assert written(found)["spatial"]["spearman_separability_bits"]["lo"] > 0
    assert "the opposite holds here" in found.notes[-1]


def test_frames_that_all_need_the_same_bits_correlate_with_nothing(display):
    found = made(display, Fake(spoilt=False))
    assert np.isnan(found.value)
    assert written(found)["spatial"]["spearman_separability_bits"] is None
    assert "cannot be told here" in found.notes[-1]


@pytest.mark.slow
def test_fewer_frames_are_drawn_than_counted(display):
    found = written(made(display, Fake(), frames=50))
    assert found["temporal"]["frames"] == 48  # eight videos of six
    assert (found["frames"], found["videos"]) == (120, 20)


def test_the_cut_is_named_or_nearest_to_the_depth():
    assert cut_layer(CHAIN, None, 0.01) == "a"
    assert cut_layer(CHAIN, None, 0.5) == "b"
    assert cut_layer(CHAIN, None, 0.99) == "c"
    assert cut_layer(CHAIN, "a", 0.99) == "a"
    with pytest.raises(GraphError, match="no layer 'z'; it has in, a, b"):
        cut_layer(CHAIN, "z", 0.5)


@pytest.mark.parametrize(
    ("settings", "parts", "message"),
    [
        ({}, Fake(trained=False), r"no weights that mean something; use .* weights=train"),
        ({"frames": 5}, Fake(), r"frames = 5: 0 of 120 .* raise the one or lower"),
        ({"perplexity": 500}, Fake(), r"perplexity = 500 asks more"),
    ],
)
def test_what_cannot_be_studied_is_refused(display, settings, parts, message):
    with pytest.raises(ConfigError, match=message):
        made(display, parts, **settings)
