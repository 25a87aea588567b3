import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coach_exp.learning.streams import stream_samples
from coach_exp.learning.video import VideoDataset
from coach_exp.types.errors import ConfigError


def videos(*lengths: int) -> VideoDataset:
    """Videos of these lengths, in order, with blank frames of one pixel."""
    video = np.repeat(np.arange(len(lengths)), lengths)
    frame = np.concatenate([np.arange(n) for n in lengths])
    return VideoDataset(
        np.zeros((len(video), 1, 1, 3), np.uint8), np.zeros_like(video), video, frame, ("all",)
    )


def test_high_is_whole_videos_in_dataset_order_and_wraps_around():
    stream = stream_samples(videos(2, 3, 1), "high", tasks=8).tolist()
    assert stream in (
        [0, 1, 2, 3, 4, 5, 0, 1],
        [2, 3, 4, 5, 0, 1, 2, 3],
        [5, 0, 1, 2, 3, 4, 5, 0],
    )


def test_high_begins_with_another_video_for_another_seed():
    data = videos(*[2] * 20)
    assert len({stream_samples(data, "high", 1, seed)[0] for seed in range(10)}) > 1


def test_medium_is_runs_of_consecutive_frames():
    stream = stream_samples(videos(4, 5), "medium", tasks=9, run_length=2).tolist()
    runs = [[0, 1], [2, 3], [4, 5], [6, 7], [8]]
    while stream:
        (run,) = (r for r in runs if r == stream[: len(r)])
        stream = stream[len(run) :]
        runs.remove(run)
    assert not runs


def test_low_seldom_keeps_neighbours_together():
    stream = stream_samples(videos(*[30] * 10), "low", tasks=300)
    assert np.mean(np.diff(stream) == 1) < 0.05


def test_interleaved_videos_are_put_in_order_of_time():
    data = VideoDataset(
        frames=np.zeros((4, 1, 1, 3), np.uint8),
        label=np.zeros(4, np.int64),
        video=np.array([7, 3, 7, 3]),
        frame=np.array([1, 1, 0, 0]),
        class_names=("all",),
    )
    assert [v.tolist() for v in data.videos()] == [[2, 0], [3, 1]]


@given(
    kind=st.sampled_from(["low", "medium", "high"]),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    seed=st.integers(0, 99),
    more=st.integers(0, 30),
)
def test_one_pass_serves_every_sample_once_and_then_begins_again(kind, lengths, seed, more):
    data = videos(*lengths)
    once = stream_samples(data, kind, len(data), seed)
    longer = stream_samples(data, kind, len(data) + more, seed)
    assert sorted(once) == list(range(len(data)))
    assert (longer[: len(data)] == once).all()
    assert (longer[len(data) :] == longer[:more]).all()


@pytest.mark.parametrize("lengths", [(4, 5, 1), (1, 1, 1, 1)])
def test_the_same_samples_come_in_all_three_orders(lengths: tuple[int, ...]):
    # a stream as long as its split: comparisons over orders rest on it
    data = videos(*lengths)
    orders = [stream_samples(data, kind, len(data), seed=5) for kind in ("low", "medium", "high")]
    assert {tuple(sorted(order)) for order in orders} == {tuple(range(len(data)))}


def test_where_every_video_is_an_image_classes_stand_in_for_videos():
    data = VideoDataset(
        frames=np.zeros((20, 1, 1, 3), np.uint8),
        label=np.array([1, 0] * 10),
        video=np.arange(20),
        frame=np.zeros(20, np.int64),
        class_names=("even", "odd"),
    )
    even, odd = list(range(1, 20, 2)), list(range(0, 20, 2))
    assert stream_samples(data, "high", 20).tolist() in (even + odd, odd + even)
    medium = stream_samples(data, "medium", 20, run_length=5).tolist()
    runs = sorted(medium[i : i + 5] for i in range(0, 20, 5))
    assert runs == [odd[:5], even[:5], odd[5:], even[5:]]
    assert stream_samples(data, "low", 20).tolist() not in (even + odd, odd + even)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match="'middle' is not one of low, medium, high"):
        stream_samples(videos(2), "middle", 1)


def test_an_empty_stream_is_refused():
    with pytest.raises(ConfigError, match="must be at least 1"):
        stream_samples(videos(2), "low", 0)
