from pathlib import Path

import av
import numpy as np
import pytest
from helpers.data_roots import DATA, RATE, clip_name, write_clips, write_video

from coach_exp.learning.datasets import load_splits
from coach_exp.learning.ucf101 import Ucf101, decode
from coach_exp.types.component import of_class
from coach_exp.types.errors import ConfigError, DataError

LOSS = 3  # grey levels by which the codec may change a flat frame


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_clips(tmp_path / "ucf")
    return tmp_path / "ucf"


def small(root: Path, **changes) -> Ucf101:
    return Ucf101(**{"root": str(root), "size": 16, "fps": RATE, **changes})


def lists(root: Path) -> Path:
    return root / "ucfTrainTestlist"


# --- which frames of a clip


@pytest.mark.parametrize(
    ("fps", "kept"),
    [
        # the frame on screen at 0, 40, 80 … ms; at 0, 50, 100 … ms; at 0, 80, 160 … ms
        (25, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (20, [0, 1, 2, 3, 5, 6, 7, 8]),
        (12.5, [0, 2, 4, 6, 8]),
        (1, [0]),
        (60, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),  # none twice
    ],
)
def test_the_frames_on_screen_at_each_tick_are_kept(tmp_path: Path, fps, kept):
    write_video(tmp_path / "v.avi", [20 * i for i in range(10)])
    frames = decode(tmp_path / "v.avi", Ucf101(fps=fps, size=16))
    assert frames.shape == (len(kept), 16, 16, 3)
    assert frames.mean(axis=(1, 2, 3)) == pytest.approx([20 * i for i in kept], abs=LOSS)


def test_a_clip_stops_after_its_most_frames(tmp_path: Path):
    write_video(tmp_path / "v.avi", [20 * i for i in range(10)])
    frames = decode(tmp_path / "v.avi", Ucf101(fps=12.5, size=16, max_frames=3))
    assert frames.mean(axis=(1, 2, 3)) == pytest.approx([0, 40, 80], abs=LOSS)


def test_the_central_square_is_shown(tmp_path: Path):
    # 96 × 32, black but for 32 white columns in the middle
    with av.open(str(tmp_path / "v.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 96, 32, "yuv420p"
        pixels = np.zeros((32, 96, 3), np.uint8)
        pixels[:, 32:64] = 255
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    assert decode(tmp_path / "v.avi", Ucf101(size=16)).min() > 200


@pytest.mark.parametrize(
    ("name", "duration_s", "rate_hz"),
    [
        ("v_ApplyEyeMakeup_g01_c01", 6.56, 25),
        ("v_BaseballPitch_g01_c01", 107 * 1001 / 30000, 30000 / 1001),
        ("v_Rowing_g16_c03", 5.40, 25),
    ],
)
def test_the_real_clips(name: str, duration_s: float, rate_hz: float):
    path = DATA / "video" / f"{name}.avi"
    if not path.is_file():
        pytest.skip(f"no {path}; set COACH_DATA")
    frames = decode(path, Ucf101(size=64))
    assert frames.shape[1:] == (64, 64, 3)
    assert len(frames) == pytest.approx(duration_s * 20, abs=1)
    assert len(decode(path, Ucf101(size=16, fps=60))) == round(duration_s * rate_hz)
    assert 30 < frames.mean() < 220
    assert frames.std() > 20
    assert (frames.mean(axis=(0, 1, 2)).std()) > 1  # no grey film
    steps = np.abs(np.diff(frames.astype(int), axis=0)).mean()
    skips = np.abs(frames[2:].astype(int) - frames[:-2]).mean()
    assert steps < skips < 40  # in order of time: neighbours are most alike


# --- splits


def test_the_test_list_is_the_stream_and_groups_stay_together(root: Path, tmp_path: Path):
    splits = load_splits(small(root), tmp_path / "cache")
    assert splits.class_names == ("Archery", "Biking")
    videos = {name: [data.label[v[0]] for v in data.videos()] for name, data in splits.items()}
    # 6 groups of a class in the train list: 4.2, 0.6 and 1.2 by share
    assert videos == {
        "train": [0] * 4 + [1] * 4,
        "centres": [0, 1],
        "calib": [0, 1],
        "stream": [0, 0, 1, 1],
    }
    assert np.unique(splits.stream.video).tolist() == [0, 1, 8, 9]  # groups 1 and 2 of 8


def test_the_clips_of_a_group_follow_one_another(root: Path, tmp_path: Path):
    splits = load_splits(small(root), tmp_path / "cache")
    for _, data in splits.items():
        for video in data.videos():
            assert video.tolist() == list(range(video[0], video[0] + 20))
            assert data.frame[video].tolist() == list(range(20))
            label = data.label[video[0]]
            told = 100 * label + np.array([50 * c + 4 * i for c in range(2) for i in range(10)])
            assert data.frames[video].mean(axis=(1, 2, 3)) == pytest.approx(told, abs=LOSS)


def test_a_trial_takes_some_classes_and_frames(root: Path, tmp_path: Path):
    write_clips(tmp_path / "three", ("Archery", "Biking", "Fencing"), clips=1)
    splits = load_splits(small(tmp_path / "three", classes=2, max_frames=4), tmp_path / "cache")
    assert splits.class_names == ("Archery", "Biking")
    assert {len(v) for _, data in splits.items() for v in data.videos()} == {4}


def test_a_trial_needs_the_clips_of_its_classes_alone(tmp_path: Path):
    write_clips(tmp_path, ("Archery", "Biking", "Fencing"), clips=1)
    for clip in (tmp_path / "UCF-101" / "Fencing").iterdir():
        clip.unlink()
    assert len(small(tmp_path, classes=2).read().class_names) == 2
    with pytest.raises(DataError, match=r"Fencing.*as are 8 of 24 clips.*data\.classes=N"):
        small(tmp_path).read()


def test_the_name_of_the_contents_changes_with_settings_lists_and_clips(root: Path):
    names = {small(root, **change).fingerprint() for change in ({}, {"fps": 5}, {"seed": 1})}
    train, test = lists(root) / "trainlist01.txt", lists(root) / "testlist01.txt"
    moved = [line for line in train.read_text().splitlines() if "Biking_g08" in line]
    train.write_text("".join(x + "\n" for x in train.read_text().splitlines() if x not in moved))
    test.write_text(test.read_text() + "".join(line.split()[0] + "\n" for line in moved))
    names.add(small(root).fingerprint())
    write_video(root / "UCF-101" / clip_name("Biking", 1, 1), [0] * 30)
    names.add(small(root).fingerprint())
    assert len(names) == 5


# --- mistakes


def test_a_group_in_both_lists_is_refused(root: Path):
    with (lists(root) / "testlist01.txt").open("a") as file:
        file.write(f"{clip_name('Biking', 7, 2)}\n")
    with pytest.raises(
        DataError, match=r"group 7 of class Biking is in both lists of data\.split=1"
    ):
        small(root).read()


@pytest.mark.parametrize("where", [None, "elsewhere"])
def test_a_wrong_root_names_the_key_and_the_layout(where, tmp_path: Path):
    given = None if where is None else str(tmp_path / where)
    with pytest.raises(DataError, match=r"data\.root.*UCF-101/"):
        Ucf101(root=given).fingerprint()


@pytest.mark.parametrize("name", ["classInd.txt", "trainlist01.txt", "testlist01.txt"])
def test_a_missing_list_names_where_it_comes_from(name: str, root: Path):
    (lists(root) / name).unlink()
    with pytest.raises(DataError, match=rf"{name} is missing.*UCF101TrainTestSplits"):
        small(root).fingerprint()


def test_a_list_for_another_split_is_asked_for(root: Path):
    with pytest.raises(DataError, match=r"trainlist02\.txt is missing"):
        small(root, split=2).fingerprint()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Biking/biking.avi 2", r"trainlist01\.txt:25: .* is not <Class>/v_<Class>_g<group>_c"),
        (clip_name("Fencing", 9, 1), r"trainlist01\.txt:25: class 'Fencing' is not in"),
    ],
)
def test_a_line_that_says_nothing_is_refused(line: str, words: str, root: Path):
    with (lists(root) / "trainlist01.txt").open("a") as file:
        file.write(line)
    with pytest.raises(DataError, match=words):
        small(root).fingerprint()


def test_broken_clips_are_refused_by_name(root: Path, tmp_path: Path):
    (root / "UCF-101" / clip_name("Biking", 3, 2)).write_bytes(b"no video")
    with pytest.raises(DataError, match=r"v_Biking_g03_c02\.avi cannot be read as a video"):
        load_splits(small(root), tmp_path / "cache")
    assert not list((tmp_path / "cache" / "data").iterdir())  # nothing half-made stays behind


def test_a_clip_that_breaks_off_is_refused_unless_enough_of_it_is_there(tmp_path: Path):
    path = tmp_path / "v.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for noise in np.random.default_rng(0).integers(256, size=(20, 64, 64, 3), dtype=np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"v\.avi breaks off: \d+ of its 20 frames can be decoded"):
        decode(path, Ucf101(size=16, fps=RATE))
    assert len(decode(path, Ucf101(size=16, fps=RATE, max_frames=3))) == 3


def test_a_file_of_sound_alone_is_refused(tmp_path: Path):
    with av.open(str(tmp_path / "v.avi"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(DataError, match=r"v\.avi holds no moving pictures"):
        decode(tmp_path / "v.avi", Ucf101())


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"split": 4}, r"data\.split = 4: should be 1, 2 or 3"),
        ({"fps": 0}, r"data\.fps = 0: should be greater than 0"),
        ({"size": 8}, r"data\.size = 8: should be greater than or equal to 16"),
        ({"classes": 1}, r"data\.classes = 1: should be greater than or equal to 2"),
        ({"max_frames": 0}, r"data\.max_frames = 0: should be greater than 0"),
        ({"shares": {"train": 1.0}}, "give each of train, centres, calib a positive share"),
    ],
)
def test_settings_are_refused(wrong, words):
    with pytest.raises(ConfigError, match=words):
        of_class(Ucf101, wrong, "data")()
