from collections.abc import Callable

import numpy as np
import pytest

from coach_exp.learning.datasets import load_splits
from coach_exp.learning.synthetic import SHAPES, SyntheticVideo
from coach_exp.learning.video import Splits
from coach_exp.types.component import of_class
from coach_exp.types.errors import ConfigError

SMALL = SyntheticVideo(
    classes=3, size=32, frames=4, videos={"train": 3, "centres": 1, "calib": 2, "stream": 2}
)


@pytest.fixture
def generate(tmp_path) -> Callable[[SyntheticVideo], Splits]:
    return lambda settings: load_splits(settings, tmp_path)


def test_splits_have_the_videos_asked_for(generate):
    splits = generate(SMALL)
    sizes = {name: (len(data), len(data.videos())) for name, data in splits.items()}
    assert sizes == {"train": (36, 9), "centres": (12, 3), "calib": (24, 6), "stream": (24, 6)}
    assert splits.class_names == ("disc", "ring", "triangle")
    assert splits.centres.label.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert splits.centres.frame.tolist() == [0, 1, 2, 3] * 3


def test_same_seed_same_pixels_and_another_seed_others(generate, tmp_path):
    again = load_splits(SMALL, tmp_path / "again")
    other = generate(SyntheticVideo(**{**vars(SMALL), "seed": 1}))
    for (_, a), (_, b), (_, c) in zip(
        generate(SMALL).items(), again.items(), other.items(), strict=True
    ):
        assert a.fingerprint == b.fingerprint != c.fingerprint


def test_without_noise_and_clutter_the_brightest_pixels_are_one_object(generate):
    plain = SyntheticVideo(**{**vars(SMALL), "noise": 0.0, "clutter": 0, "contrast": 0.29})
    data = generate(plain).train
    brightest = data.frames[data.label == 0].astype(int).sum(axis=-1)
    area = (brightest > 0.85 * brightest.max(axis=(1, 2), keepdims=True)).mean(axis=(1, 2))
    assert ((area > 0.05) & (area < 0.5)).all()


def test_all_shapes_cover_the_area_of_the_unit_disc():
    for shape in SHAPES:
        area = np.mean(shape.outline**2) * (1 - shape.hollow**2)
        assert area == pytest.approx(1, abs=1e-3), shape.name


def test_frames_of_a_video_resemble_each_other_more_than_those_of_others(generate):
    data = generate(SMALL).train
    pixels = data.frames.reshape(len(data), -1).astype(float)
    alike = np.corrcoef(pixels)
    same = data.video[:, None] == data.video[None]
    np.fill_diagonal(same, False)
    assert alike[same].mean() > alike[data.video[:, None] != data.video[None]].mean() + 0.3


def test_the_object_moves(generate):
    data = generate(SyntheticVideo(**{**vars(SMALL), "noise": 0.0})).train
    for video in data.videos():
        assert (data.frames[video[0]] != data.frames[video[-1]]).any()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"classes": 11}, r"data\.classes = 11: should be less than or equal to 10"),
        ({"size": 8}, r"data\.size = 8: should be greater than or equal to 16"),
        ({"frames": 0}, r"data\.frames = 0: should be greater than 0"),
        ({"videos": {"train": 3}}, "give each of train, centres, calib, stream"),
    ],
)
def test_settings_are_refused(wrong, words):
    with pytest.raises(ConfigError, match=words):
        of_class(SyntheticVideo, wrong, "data")()
