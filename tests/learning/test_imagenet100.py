from pathlib import Path

import numpy as np
import pytest
from helpers.data_roots import unpacked, write_images
from PIL import Image

from coach_exp.learning.datasets import load_splits
from coach_exp.learning.imagenet100 import ImageNet100, long_tail
from coach_exp.types.component import of_class
from coach_exp.types.errors import ConfigError, DataError


def small(root: Path, **changes) -> ImageNet100:
    return ImageNet100(**{"root": str(root), "size": 16, "imbalance": 1, **changes})


def test_every_image_is_a_video_of_its_own_class(tmp_path: Path):
    write_images(tmp_path, {"tench": 10, "kite": 20})
    splits = load_splits(small(tmp_path), tmp_path / "cache")
    assert splits.class_names == ("kite", "tench")
    sizes = {name: np.bincount(data.label).tolist() for name, data in splits.items()}
    assert sizes == {"train": [10, 5], "centres": [2, 1], "calib": [4, 2], "stream": [4, 2]}
    for _, data in splits.items():
        assert len(data.videos()) == len(data)
        assert not data.frame.any()
        red = data.frames[:, 0, 0, 0]  # the class, in the order of writing
        assert (red == np.where(data.label == 0, 10, 0)).all()


def test_the_central_square_is_shown(tmp_path: Path):
    # 60 × 20, black but for 20 white columns in the middle
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = 255
    for number in range(4):
        path = tmp_path / "train" / "all" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    assert load_splits(small(tmp_path), tmp_path / "cache").train.frames.min() > 230


def test_images_may_lie_deeper_and_other_files_are_passed_over(tmp_path: Path):
    write_images(tmp_path, {"kite": 4})
    (tmp_path / "train" / "kite" / "images").mkdir()
    for path in list((tmp_path / "train" / "kite").glob("*.png")):
        path.rename(path.parent / "images" / path.name)
    (tmp_path / "train" / "kite" / "boxes.txt").write_text("no picture")
    assert small(tmp_path).read().count == 4


# --- the long tail


def test_class_sizes_fall_exponentially():
    # 100 · 100^(-r/4): 100, 31.6, 10, 3.2, 1
    labels = np.repeat(np.arange(5), 100)
    kept = long_tail(labels, 100, seed=0)
    assert sorted(np.bincount(labels[kept]), reverse=True) == [100, 32, 10, 3, 1]
    assert (np.diff(kept) > 0).all()


def test_the_ratio_holds_for_classes_of_other_sizes():
    # 1, 1/2 and 1/4 of m: where the class of 20 is the head, m is 20; in the middle 40; the tail 80
    labels = np.repeat(np.arange(3), [20, 80, 160])
    heads = set()
    for seed in range(12):
        counts = sorted(np.bincount(labels[long_tail(labels, 4, seed)]))
        heads.add(counts[2])
        assert counts == [counts[2] / 4, counts[2] / 2, counts[2]]
    assert heads == {20, 40, 80}


def test_another_seed_makes_another_class_common():
    labels = np.repeat(np.arange(5), 100)
    heads = {
        np.bincount(labels[long_tail(labels, 100, seed)]).argmax().item() for seed in range(12)
    }
    assert len(heads) > 1
    assert (long_tail(labels, 10, 1) == long_tail(labels, 10, 1)).all()


def test_without_imbalance_all_are_kept():
    labels = np.repeat(np.arange(3), [10, 40, 80])
    assert long_tail(labels, 1, 0).tolist() == list(range(130))


def test_a_tail_longer_than_the_images_is_refused_with_what_there_is():
    labels = np.repeat(np.arange(3), 5)
    with pytest.raises(ConfigError, match=r"data\.imbalance=10: .* 5 images.*imbalance=5 or less"):
        long_tail(labels, 10, 0)
    assert sorted(np.bincount(labels[long_tail(labels, 5, 0)])) == [1, 2, 5]


def test_only_the_stream_is_thinned(tmp_path: Path):
    write_images(tmp_path, {name: 40 for name in "abc"})
    whole = load_splits(small(tmp_path), tmp_path / "cache")
    thinned = load_splits(small(tmp_path, imbalance=4), tmp_path / "cache")
    for (name, before), (_, after) in zip(whole.items(), thinned.items(), strict=True):
        if name != "stream":
            assert after.fingerprint == before.fingerprint
    assert sorted(np.bincount(thinned.stream.label)) == [2, 4, 8]
    assert set(thinned.stream.video) < set(whole.stream.video)


# --- mistakes


@pytest.mark.parametrize("where", [None, "elsewhere"])
def test_a_wrong_root_names_the_key_and_the_layout(where, tmp_path: Path):
    given = None if where is None else str(tmp_path / where)
    with pytest.raises(DataError, match=r"data\.root.*train/<class>/<image>"):
        ImageNet100(root=given).fingerprint()


def test_a_class_without_pictures_is_refused(tmp_path: Path):
    write_images(tmp_path, {"kite": 4, "tench": 0})
    with pytest.raises(DataError, match=r"tench holds no pictures .*1 of 2 classes"):
        small(tmp_path).fingerprint()


@pytest.mark.parametrize("kept", [0, 20, 60])
def test_a_broken_picture_is_refused(kept: int, tmp_path: Path):
    write_images(tmp_path, {"kite": 4})
    broken = tmp_path / "train" / "kite" / "002.png"
    broken.write_bytes(broken.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"002\.png cannot be read as a picture"):
        load_splits(small(tmp_path), tmp_path / "cache")


def test_too_few_images_for_four_splits_are_refused(tmp_path: Path):
    write_images(tmp_path, {"kite": 3, "tench": 3})
    with pytest.raises(DataError, match="no video is left for the splits centres"):
        load_splits(small(tmp_path), tmp_path / "cache")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"imbalance": 0.5}, r"data\.imbalance = 0\.5: should be greater than or equal to 1"),
        ({"size": 8}, r"data\.size = 8: should be greater than or equal to 16"),
        ({"shares": {"train": 1.0}}, "train, centres, calib, stream a positive share"),
    ],
)
def test_settings_are_refused(wrong, words):
    with pytest.raises(ConfigError, match=words):
        of_class(ImageNet100, wrong, "data")()


@pytest.mark.slow
def test_the_real_images(tmp_path: Path):
    unpacked("imagenet100", tmp_path)
    splits = load_splits(small(tmp_path, imbalance=5, size=64), tmp_path / "cache")
    assert len(splits.class_names) == 100
    assert splits.train.frames.shape == (
        1300,
        64,
        64,
        3,
    )  # half of 25, and who is asked first rounds up
    counts = np.bincount(splits.stream.label)
    assert (counts.max(), counts.min()) == (5, 1)
    colours = splits.train.frames.mean(axis=(0, 1, 2))
    assert ((colours > 90) & (colours < 150)).all()
    assert splits.train.frames.std() > 40
