"""Streams of tasks from a split: how much neighbouring tasks resemble each other (Table II).

In: a split and the number of tasks. Out: the sample of each task. One pass serves every sample
once; a stream longer than the split begins again with the same order.
"""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from coach_exp.learning.video import VideoDataset
from coach_exp.types.errors import ConfigError

Correlation = Literal["low", "medium", "high"]
RUN_LENGTH = 8


def stream_samples(
    data: VideoDataset,
    correlation: Correlation,
    tasks: int,
    seed: int = 0,
    run_length: int = RUN_LENGTH,
) -> NDArray[np.int64]:
    """Sample number of each task: [tasks].

    `low`: frames in random order. `medium`: each video is cut into runs of `run_length` consecutive
    frames, and the runs come in random order. `high`: whole videos in dataset order, from a random
    video on. Where every video is a single image, all images of a class stand in for a video. The
    same seed gives the same stream, and a shorter stream is the beginning of a longer one.
    """
    if tasks < 1 or run_length < 1 or not len(data):
        raise ConfigError(
            f"a stream of {tasks} tasks in runs of {run_length} from {len(data)} samples: "
            "all three must be at least 1"
        )
    sequences = alike(data.videos(), data.label)
    return np.resize(ordered(sequences, correlation, seed, run_length), tasks)


def ordered(
    sequences: list[NDArray[np.int64]],
    correlation: Correlation,
    seed: int,
    run_length: int = RUN_LENGTH,
) -> NDArray[np.int64]:
    """Every sample of the sequences once, in the order that `correlation` names."""
    rng = np.random.default_rng(seed)
    if correlation == "low":
        return rng.permutation(np.sort(np.concatenate(sequences)))
    if correlation == "medium":
        runs = [s[i : i + run_length] for s in sequences for i in range(0, len(s), run_length)]
        return np.concatenate([runs[i] for i in rng.permutation(len(runs))])
    if correlation == "high":
        first = int(rng.integers(len(sequences)))
        return np.concatenate(sequences[first:] + sequences[:first])
    raise ConfigError(
        f"stream correlation {correlation!r} is not one of {', '.join(get_args(Correlation))}"
    )


def alike(videos: list[NDArray[np.int64]], label: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """What resembles itself from sample to sample: the videos (sample numbers of each in order of
    time) or, where every video is a single image, the classes: [samples] labels."""
    if len(videos) < len(label):
        return videos
    return [np.flatnonzero(label == each) for each in np.unique(label)]
