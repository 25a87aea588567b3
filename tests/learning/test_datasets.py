import errno
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from shutil import make_archive
from threading import Thread

import numpy as np
import pytest
from helpers.data_roots import unpacked, write_tracks
from helpers.paths import ROOT
from omegaconf import OmegaConf

from coach_exp.learning import split_store
from coach_exp.learning.datasets import load_splits
from coach_exp.learning.dividing import divide
from coach_exp.learning.footage import Clip, DataSet, Footage
from coach_exp.learning.gtsrb import Gtsrb
from coach_exp.learning.imagenet100 import ImageNet100
from coach_exp.learning.synthetic import SyntheticVideo
from coach_exp.learning.ucf101 import Ucf101
from coach_exp.learning.video import SPLIT_NAMES, Splits, VideoDataset
from coach_exp.types.component import built
from coach_exp.types.errors import ConfigError, DataError

GTSRB = "coach_exp.learning.gtsrb.Gtsrb"


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
    counts = [[np.sum(split[labels == c] == name) for name in SPLIT_NAMES] for c in range(4)]
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


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address at which loopback serves it."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.socket
@pytest.mark.parametrize("intact", [True, False])
def test_signs_are_downloaded_and_checked(intact: bool, served, tmp_path: Path, monkeypatch):
    from torchvision.datasets import gtsrb as torchvision_gtsrb

    folder, address = served
    write_tracks(tmp_path, {0: 4, 1: 4})
    archive = make_archive(str(folder / "GTSRB-Training_fixed"), "zip", tmp_path / "gtsrb")
    md5 = hashlib.md5(Path(archive).read_bytes()).hexdigest() if intact else "0" * 32
    fetch = torchvision_gtsrb.download_and_extract_archive

    def from_loopback(url: str, download_root: str, md5: str, _md5: str = md5) -> None:
        fetch(f"{address}/{url.rpartition('/')[2]}", download_root=download_root, md5=_md5)

    monkeypatch.setattr(torchvision_gtsrb, "download_and_extract_archive", from_loopback)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    new = Gtsrb(root=str(tmp_path / "new"), size=16, download=True)
    if not intact:
        with pytest.raises(DataError, match=r"could not be downloaded.*check the network"):
            load_splits(new, tmp_path / "cache")
        return
    fetched = load_splits(new, tmp_path / "cache")
    written = load_splits(Gtsrb(root=str(tmp_path), size=16), tmp_path / "other")
    assert fetched.train.fingerprint == written.train.fingerprint
    for archive in folder.iterdir():
        archive.unlink()  # what is there already is not fetched again
    assert len(load_splits(new, tmp_path / "third").stream) == len(fetched.stream)


@pytest.mark.slow
def test_the_real_signs(tmp_path):
    unpacked("gtsrb", tmp_path)
    splits = load_splits(Gtsrb(root=str(tmp_path), size=32), tmp_path / "cache")
    assert len(splits.class_names) == 43
    for _, data in splits.items():
        assert len(np.unique(data.label)) == 43
        assert {len(video) for video in data.videos()} <= {29, 30}


# --- configs


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("synthetic", SyntheticVideo()),
        ("gtsrb", Gtsrb()),
        ("ucf101", Ucf101()),
        ("imagenet100", ImageNet100()),
    ],
)
def test_the_config_files_state_the_defaults(name, settings):
    config = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "data" / f"{name}.yaml"))
    assert built(config.get("data", config), "data", DataSet) == settings


def test_an_unknown_kind_or_key_is_refused():
    with pytest.raises(ConfigError, match=r"data\._target_ = .*Mnist: cannot be imported"):
        built({"_target_": "coach_exp.learning.gtsrb.Mnist"}, "data", DataSet)
    with pytest.raises(ConfigError, match=r"data\.sise = 3: .* did you mean 'size'\?"):
        built({"_target_": GTSRB, "sise": 3}, "data", DataSet)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"_target_": GTSRB, "size": "big"}, r"data\.size = big: should be a valid integer"),
        (
            {"_target_": GTSRB, "shares": {"train": "x"}},
            r"data\.shares\.train = x: should be a valid",
        ),
        (
            {"_target_": "coach_exp.learning.ucf101.Ucf101", "split": 7},
            r"data\.split = 7: should be 1, 2 or 3",
        ),
        ({"_target_": "nowhere.Data"}, r"nowhere\.Data: cannot be imported.*full name of a class"),
        ({"_target_": "pathlib.Path"}, r"pathlib\.Path: is of Python's own library"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key_and_rule(config, words):
    with pytest.raises(ConfigError, match=words):
        built(config, "data", DataSet)


def test_synthetic_data_is_kept_by_its_settings(tmp_path):
    videos = dict.fromkeys(SPLIT_NAMES, 1)
    small = SyntheticVideo(classes=2, size=16, frames=2, videos=videos)
    other = SyntheticVideo(classes=2, size=16, frames=2, videos=videos, seed=1)
    first = load_splits(small, tmp_path)
    assert load_splits(small, tmp_path).stream.fingerprint == first.stream.fingerprint
    assert load_splits(other, tmp_path).stream.fingerprint != first.stream.fingerprint
    assert len(list((tmp_path / "data").iterdir())) == 2


# --- one's own, and what is kept of it


@dataclass(frozen=True)
class Greys:
    """A data set of two classes, dark and light; one video of each for every split."""

    size: int = 16
    order: tuple[str, ...] = SPLIT_NAMES
    odd: bool = False

    def fingerprint(self) -> str:
        return f"{self.size}-{'-'.join(self.order)}-{self.odd}"

    def read(self) -> Footage:
        return Footage(("dark", "light"), 2 * len(self.order), self.clips())

    def clips(self) -> Iterator[Clip]:
        for place, split in enumerate(self.order):
            for label in (0, 1):
                side = self.size + (self.odd and place == 2)
                frames = np.full((3, side, side, 3), 40 + 100 * label, np.uint8)
                yield Clip(split, label, 2 * place + label, np.arange(3), frames)


def test_ones_own_data_set_is_named_by_its_class(tmp_path: Path):
    settings = built({"_target_": f"{__name__}.Greys", "size": 20}, "data", DataSet)
    assert settings == Greys(size=20)
    told: list[tuple[int, int]] = []
    splits = load_splits(settings, tmp_path, lambda _, done, total: told.append((done, total)))
    assert told == [(n, 8) for n in range(1, 9)]
    assert splits.class_names == ("dark", "light")
    assert splits.calib.video.tolist() == [4, 4, 4, 5, 5, 5]
    assert splits.calib.frames[:, 0, 0, 0].tolist() == [40, 40, 40, 140, 140, 140]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            Greys(order=("train", "centres", "stream", "calib")),
            "after one of 'stream'",
        ),
        (Greys(order=("train", "centres", "stream")), "no video is left for the splits calib"),
        (Greys(odd=True), r"video 4 has frames of uint8 \[17, 17, 3\] after some of \[16, 16, 3\]"),
        (Greys(order=()), "no video is left for the splits train, centres, calib, stream"),
    ],
)
def test_footage_that_makes_no_four_splits_is_refused(settings, words, tmp_path: Path):
    with pytest.raises(DataError, match=words):
        load_splits(settings, tmp_path)
    assert not list((tmp_path / "data").iterdir())


def test_a_full_disk_says_what_to_do(tmp_path: Path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("coach_exp.learning.split_store.write", full)
    with pytest.raises(DataError, match=r"is full.*output\.root on a larger disk"):
        load_splits(Greys(), tmp_path)


def test_a_process_that_was_faster_is_not_disturbed(tmp_path: Path, monkeypatch):
    write, processes = split_store.write, count()

    def overtaken(*args) -> None:
        write(*args)
        monkeypatch.setattr(split_store, "write", write)
        load_splits(Greys(), tmp_path)

    monkeypatch.setattr("coach_exp.learning.datasets.getpid", lambda: next(processes))
    monkeypatch.setattr(split_store, "write", overtaken)
    assert len(load_splits(Greys(), tmp_path).train) == 6
    assert next(processes) == 2
    assert len(list((tmp_path / "data").iterdir())) == 1
