import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from coach_exp.learning.datasets import data_settings, load_splits
from coach_exp.learning.gtsrb import Gtsrb, divide
from coach_exp.learning.synthetic import SyntheticVideo
from coach_exp.learning.video import SPLIT_NAMES, Splits, VideoDataset
from coach_exp.types.errors import ConfigError, DataError

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("COACH_DATA", ROOT / "../shared/data"))


def dataset(videos, labels=None, names=("a", "b")) -> VideoDataset:
    """One frame of 2 × 2 pixels for each entry of `videos`."""
    video = np.array(videos)
    label = np.zeros_like(video) if labels is None else np.array(labels)
    return VideoDataset(
        np.zeros((len(video), 2, 2, 3), np.uint8), label, video, np.arange(len(video)), names
    )


# --- splits


def test_splits_that_share_a_video_are_refused():
    with pytest.raises(DataError, match="'centres' and 'calib' share 1 videos, such as video 4"):
        Splits(dataset([1, 2]), dataset([3, 4]), dataset([4, 5]), dataset([6]))


def test_splits_with_other_classes_are_refused():
    with pytest.raises(DataError, match="name different classes"):
        Splits(dataset([1]), dataset([2]), dataset([3]), dataset([4], names=("a", "c")))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"frames": np.zeros((2, 2, 2, 3))}, "must be uint8"),
        ({"label": np.array([0])}, "every sample needs a label"),
        ({"label": np.array([0, 2])}, r"labels \[2\] are outside 0 … 1"),
    ],
)
def test_columns_that_do_not_fit_are_refused(change, words):
    with pytest.raises(DataError, match=words):
        VideoDataset(**{**vars(dataset([1, 1])), **change})


def test_fingerprint_tells_contents_apart():
    assert dataset([1, 2]).fingerprint == dataset([1, 2]).fingerprint
    assert dataset([1, 2]).fingerprint != dataset([1, 2], labels=[0, 1]).fingerprint


# --- traffic signs


def write_tracks(root: Path, tracks: dict[int, int], frames: int = 3) -> None:
    """`tracks[c]` tracks for class c. Pixels tell class, track and frame; files are 20 × 30."""
    for label, count in tracks.items():
        folder = root / "gtsrb" / "GTSRB" / "Training" / f"{label:05d}"
        folder.mkdir(parents=True)
        for track in range(count):
            for frame in range(frames):
                colour = (10 * label, 10 * track, 10 * frame)
                picture = Image.new("RGB", (20, 30), colour)
                picture.save(folder / f"{track:05d}_{frame:05d}.ppm")


def test_signs_are_read_and_keep_their_names(tmp_path):
    write_tracks(tmp_path, {0: 4, 2: 5})
    splits = load_splits(Gtsrb(root=str(tmp_path), size=16), tmp_path / "cache")
    assert splits.class_names == ("00000", "00001", "00002")
    tracks = 0
    for _, data in splits.items():
        assert data.frames.shape[1:] == (16, 16, 3)
        assert set(data.label) == {0, 2}
        assert (data.frames[:, 0, 0, 0] == 10 * data.label).all()
        assert (data.frames[:, 0, 0, 2] == 10 * data.frame).all()
        for video in data.videos():
            assert data.frame[video].tolist() == [0, 1, 2]
            assert len(np.unique(data.frames[video][:, 0, 0, 1])) == 1
            tracks += 1
    assert tracks == 9


def test_the_second_load_reads_the_cache_and_new_files_make_a_new_one(tmp_path):
    write_tracks(tmp_path, {0: 4})
    settings = Gtsrb(root=str(tmp_path), size=16)
    first = load_splits(settings, tmp_path / "cache")
    (folder,) = (tmp_path / "cache" / "data").iterdir()
    made = folder.stat().st_mtime_ns
    again = load_splits(settings, tmp_path / "cache")
    assert folder.stat().st_mtime_ns == made
    assert again.stream.fingerprint == first.stream.fingerprint
    write_tracks(tmp_path, {1: 4})
    assert load_splits(settings, tmp_path / "cache").class_names == ("00000", "00001")


def test_every_class_with_four_tracks_is_in_every_split():
    labels = np.repeat(np.arange(4), [4, 10, 2, 40])
    split = divide(labels, {"train": 0.5, "centres": 0.1, "calib": 0.2, "stream": 0.2}, seed=3)
    counts = [np.bincount(split[labels == c], minlength=4).tolist() for c in range(4)]
    assert counts == [[1, 1, 1, 1], [5, 1, 2, 2], [1, 0, 0, 1], [20, 4, 8, 8]]


def test_another_seed_divides_otherwise():
    labels = np.repeat(0, 40)
    shares = dict.fromkeys(SPLIT_NAMES, 0.25)
    assert (divide(labels, shares, 1) == divide(labels, shares, 1)).all()
    assert (divide(labels, shares, 1) != divide(labels, shares, 2)).any()


@pytest.mark.parametrize("root", [None, "nowhere"])
def test_a_missing_folder_names_the_key_the_layout_and_the_remedy(root, tmp_path):
    where = None if root is None else str(tmp_path / root)
    with pytest.raises(DataError, match=r"data\.root.*data\.download=true") as caught:
        load_splits(Gtsrb(root=where), tmp_path / "cache")
    if root:
        assert "gtsrb/GTSRB/Training/<class, 5 digits>" in str(caught.value)


def test_a_misnamed_picture_is_refused(tmp_path):
    write_tracks(tmp_path, {0: 4})
    folder = tmp_path / "gtsrb" / "GTSRB" / "Training" / "00000"
    (folder / "00000_00000.ppm").rename(folder / "first.ppm")
    with pytest.raises(DataError, match=r"first\.ppm does not fit the layout"):
        load_splits(Gtsrb(root=str(tmp_path)), tmp_path / "cache")


def test_a_broken_picture_is_refused(tmp_path):
    write_tracks(tmp_path, {0: 4})
    broken = tmp_path / "gtsrb" / "GTSRB" / "Training" / "00000" / "00000_00000.ppm"
    broken.write_bytes(b"P6\n20 30\n255\n\0\0")
    with pytest.raises(DataError, match=r"00000_00000\.ppm cannot be read"):
        load_splits(Gtsrb(root=str(tmp_path)), tmp_path / "cache")


@pytest.mark.slow
def test_the_real_signs(tmp_path):
    unpack = DATA / "unpack.py"
    if not unpack.is_file():
        pytest.skip(f"no {unpack}; set COACH_DATA")
    subprocess.run([sys.executable, unpack, "gtsrb", tmp_path], check=True, capture_output=True)
    splits = load_splits(Gtsrb(root=str(tmp_path), size=32), tmp_path / "cache")
    assert len(splits.class_names) == 43
    for _, data in splits.items():
        assert len(np.unique(data.label)) == 43
        assert {len(video) for video in data.videos()} <= {29, 30}


# --- configs


@pytest.mark.parametrize(
    ("name", "settings"), [("synthetic", SyntheticVideo()), ("gtsrb", Gtsrb())]
)
def test_the_config_files_state_the_defaults(name, settings):
    config = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "data" / f"{name}.yaml"))
    assert data_settings(config.get("data", config)) == settings


def test_an_unknown_kind_or_key_is_refused():
    with pytest.raises(ConfigError, match=r"data\.kind='mnist' is not one of synthetic, gtsrb"):
        data_settings({"kind": "mnist"})
    with pytest.raises(ConfigError, match=r"has no keys \['sise'\]; it has .*size"):
        data_settings({"kind": "gtsrb", "sise": 3})


def test_synthetic_data_is_kept_by_its_settings(tmp_path):
    videos = dict.fromkeys(SPLIT_NAMES, 1)
    small = SyntheticVideo(classes=2, size=16, frames=2, videos=videos)
    other = SyntheticVideo(classes=2, size=16, frames=2, videos=videos, seed=1)
    first = load_splits(small, tmp_path)
    assert load_splits(small, tmp_path).stream.fingerprint == first.stream.fingerprint
    assert load_splits(other, tmp_path).stream.fingerprint != first.stream.fingerprint
    assert len(list((tmp_path / "data").iterdir())) == 2
