"""The small network with two branches, what it sees, and its answers."""

import numpy as np
import pytest
from helpers.branches import CODEC, HEADS, SAMPLES, SPEC, WEIGHTS, Untrained

from coach_exp.learning.video import VideoDataset
from coach_exp.live.model_answers import ModelOnData
from coach_exp.live.outcomes import torch_outcomes
from coach_exp.profiling.capture import capture


@pytest.fixture(scope="module")
def model():
    return capture(WEIGHTS.load(), SPEC.input_shape)


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (SAMPLES, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def outcomes(frames, tmp_path_factory):
    zeros = np.zeros(SAMPLES, np.int64)
    data = VideoDataset(frames, zeros, np.arange(SAMPLES), zeros, ("only",))
    folder = tmp_path_factory.mktemp("cache")
    subject = ModelOnData(WEIGHTS, data, exit_training=Untrained())
    return torch_outcomes(subject, CODEC, folder, batch_size=1).with_exits(HEADS)
