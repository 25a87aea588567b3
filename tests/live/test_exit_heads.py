"""Exit heads: training on a frozen backbone, temperatures, answers on either side of a cut."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from coach_exp.learning.jpeg import Jpeg
from coach_exp.learning.models import ModelSpec, preprocess
from coach_exp.learning.training import Training
from coach_exp.learning.video import VideoDataset
from coach_exp.learning.weights import Weights
from coach_exp.live import exit_fitting
from coach_exp.live.exit_cost import host_exit_s
from coach_exp.live.exit_fitting import best_temperature, fit_heads, nll, split_scores
from coach_exp.live.exit_heads import ExitHeads
from coach_exp.live.exit_training import ExitTraining
from coach_exp.live.model_answers import ModelOnData
from coach_exp.live.outcomes import TorchOutcomes, torch_outcomes
from coach_exp.profiling.capture import CapturedModel, capture
from coach_exp.quant.affine import UniformAffine
from coach_exp.types.component import of_class
from coach_exp.types.errors import ConfigError, CutError, DataError, GraphError
from coach_exp.types.outcomes import Crossing, ExitAnswer

CODEC = UniformAffine()
SETTINGS = Training(epochs=4, frames_per_epoch=96, batch_size=16, learning_rate=0.02)
LAYERS = ("relu", "cat", "out")


class Backbone(nn.Module):
    """in ─ stem ─ relu ┬ left ─┬ cat ─ out ─ pool ─ flatten ─ scores
    └ right ┘
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.relu = nn.ReLU()
        self.left = nn.Conv2d(6, 4, 3, padding=1)
        self.right = nn.Conv2d(6, 5, 1)
        self.out = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.scores = nn.Linear(9, num_classes)

    def forward(self, x):
        x = self.relu(self.norm(self.stem(x)))
        x = self.out(torch.cat([self.left(x), self.right(x)], dim=1))
        return self.scores(self.pool(x).flatten(1))


class Tokens(nn.Module):
    """16 patches as tokens of 7 channels."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 5, 3, stride=3)
        self.embed = nn.Linear(5, 7)
        self.act = nn.GELU()
        self.scores = nn.Linear(7, num_classes)

    def forward(self, x):
        return self.scores(self.act(self.embed(self.patches(x).flatten(2).mT)).mean(dim=1))


WEIGHTS = Weights(ModelSpec(f"{__name__}.Backbone", input_size=12), 3, "none", "backbone")
TOKENS = Weights(ModelSpec(f"{__name__}.Tokens", input_size=12), 3, "none", "tokens")


def coloured(videos: int, seed: int) -> VideoDataset:
    """Three classes, more or less reddish, greenish, bluish; videos of 4 frames."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(3), videos * 4)
    pixels = rng.integers(60, 100, (len(label), 12, 12, 3))
    tint = rng.integers(0, 30, len(label))
    pixels[np.arange(len(label)), :, :, label] += tint[:, None, None]
    video, frame = np.arange(len(label)) // 4 + 1000 * seed, np.arange(len(label)) % 4
    return VideoDataset(pixels.astype(np.uint8), label, video, frame, ("red", "green", "blue"))


TRAIN, CALIB, STREAM = coloured(12, 0), coloured(6, 1), coloured(5, 2)
EXIT_TRAINING = ExitTraining(TRAIN, CALIB, SETTINGS)


def captured(weights: Weights = WEIGHTS) -> CapturedModel:
    return capture(weights.load(), weights.model.input_shape)


def answers(cache: Path, data: VideoDataset = STREAM, weights: Weights = WEIGHTS) -> TorchOutcomes:
    subject = ModelOnData(weights, data, exit_training=EXIT_TRAINING)
    return torch_outcomes(subject, CODEC, cache, batch_size=25)


def said(outcomes: TorchOutcomes, layer: str, crossing=()) -> list[ExitAnswer]:
    return [outcomes.at_exit(i, layer, crossing) for i in range(outcomes.samples)]


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    """Heads are trained in the first test that asks."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def outcomes(cache) -> TorchOutcomes:
    return answers(cache).with_exits(LAYERS)


@pytest.fixture(scope="module")
def fitted() -> tuple[CapturedModel, ExitHeads]:
    backbone = captured()
    heads, _ = fit_heads(backbone, LAYERS, TRAIN, CALIB, SETTINGS)
    return backbone, heads


# --- training


def test_heads_learn_while_the_backbone_stays_as_it_is(monkeypatch):
    backbone = captured()
    before = {name: value.clone() for name, value in backbone.module.state_dict().items()}
    generator = torch.get_rng_state()
    heads, report = fit_heads(backbone, LAYERS, TRAIN, CALIB, SETTINGS)
    assert (torch.get_rng_state() == generator).all()
    after = backbone.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(module.training for module in (*backbone.module.modules(), *heads.modules()))
    right = split_scores(heads, backbone, STREAM).argmax(axis=2) == STREAM.label
    assert right.mean(axis=1).min() > 0.6  # of three classes; tints below 5 are noise
    assert report.validation_accuracy > 0.6
    assert report.validation_samples == 3 * 4
    again, _ = fit_heads(captured(), LAYERS[::-1], TRAIN, CALIB, SETTINGS)
    assert again.layers == heads.layers == LAYERS
    states = heads.state_dict(), again.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_temperatures_lower_the_nll(fitted):
    backbone, heads = fitted
    scores = split_scores(heads, backbone, CALIB)
    for (_, head), each in zip(heads.by_layer(), scores, strict=True):
        own = nll(each, CALIB.label, float(head.temperature))
        assert own < nll(each, CALIB.label)
        near = [float(head.temperature) * factor for factor in (0.98, 1.02)]
        assert all(own < nll(each, CALIB.label, other) for other in near)


def test_the_temperature_of_scores_known_to_be_right_two_times_in_three():
    # P = 1 / (1 + e^(−3/T)) = 2/3 where 3 / T = ln 2
    scores = np.tile(np.array([[3.0, 0.0]], np.float32), (3, 1))
    assert best_temperature(scores, np.array([0, 0, 1])) == pytest.approx(3 / np.log(2), rel=1e-3)


def test_a_head_behind_no_layer_is_refused():
    with pytest.raises(GraphError, match="no layer 'rleu'"):
        fit_heads(captured(), ("rleu",), TRAIN, CALIB, SETTINGS)


def test_frames_for_less_than_one_batch_are_too_few():
    settings = replace(SETTINGS, batch_size=500, frames_per_epoch=500)
    with pytest.raises(DataError, match=r"use exit_training\.batch_size=132 or less"):
        fit_heads(captured(), LAYERS, TRAIN, CALIB, settings)


def test_settings_are_refused_under_their_own_name():
    with pytest.raises(ConfigError, match=r"exit_training\.epochs = 0: should be greater than 0"):
        of_class(Training, {"epochs": 0}, "exit_training")
    with pytest.raises(ConfigError, match=r"exit_training\.epoch = 1: .* did you mean 'epochs'"):
        of_class(Training, {"epoch": 1}, "exit_training")


# --- keys


def test_heads_are_kept_by_all_that_decides_them():
    other = coloured(4, 7)
    keys = {
        EXIT_TRAINING.key(WEIGHTS, LAYERS),
        EXIT_TRAINING.key(TOKENS, LAYERS),
        EXIT_TRAINING.key(WEIGHTS, LAYERS[:2]),
        ExitTraining(other, CALIB, SETTINGS).key(WEIGHTS, LAYERS),
        ExitTraining(TRAIN, other, SETTINGS).key(WEIGHTS, LAYERS),
        ExitTraining(TRAIN, CALIB, replace(SETTINGS, seed=1)).key(WEIGHTS, LAYERS),
    }
    assert len(keys) == 6
    assert EXIT_TRAINING.key(WEIGHTS, LAYERS[::-1]) in keys


def test_heads_are_trained_once_and_only_when_asked(tmp_path, monkeypatch):
    fits = []
    real = exit_fitting.fit_heads
    monkeypatch.setattr(exit_fitting, "fit_heads", lambda *given: fits.append(1) or real(*given))
    stream = answers(tmp_path).with_exits(LAYERS)
    assert (fits, list(tmp_path.iterdir())) == ([], [])
    first = said(stream, "relu")
    calib = answers(tmp_path, CALIB).with_exits(LAYERS[::-1])
    assert np.mean([a.label for a in said(calib, "out")] == CALIB.label) > 0.6
    assert said(answers(tmp_path).with_exits(LAYERS), "relu") == first
    assert len(fits) == len(list((tmp_path / "exits").iterdir())) == 1


# --- answers


def test_answers_are_label_and_calibrated_confidence(outcomes, cache):
    backbone = captured()
    heads = EXIT_TRAINING.heads(WEIGHTS, backbone, LAYERS, cache)
    with torch.no_grad():
        scores = heads(backbone.features(preprocess(STREAM.frames, 12), LAYERS))
    for (layer, head), each in zip(heads.by_layer(), scores, strict=True):
        confidences, labels = (each / head.temperature).softmax(dim=1).max(dim=1)
        found = said(outcomes, layer)
        assert [answer.label for answer in found] == labels.tolist()
        assert [a.confidence for a in found] == pytest.approx(confidences.tolist(), abs=1e-5)


def test_heads_change_nothing_else(outcomes, cache):
    plain = answers(cache)
    crossing = (Crossing("relu", 4),)
    for i in range(outcomes.samples):
        assert outcomes.uncut(i) == plain.uncut(i)
        assert outcomes.predict(i, crossing) == plain.predict(i, crossing)


@pytest.mark.parametrize(
    ("cut", "behind"),
    [
        (("input",), LAYERS),
        (("relu",), ("cat", "out")),
        (("left", "right"), ("cat", "out")),
        (("cat",), ("out",)),
    ],
)
def test_heads_on_the_cloud_are_those_on_the_end_where_nothing_is_lost(outcomes, cut, behind):
    crossing = tuple(Crossing(layer, 32) for layer in cut)
    for layer in behind:
        assert said(outcomes, layer, crossing) == said(outcomes, layer)


def test_heads_hear_what_their_own_codec_makes_of_a_tensor(outcomes, cache):
    other = UniformAffine(per_channel=True)
    crossing = (Crossing("relu", 1),)
    through = outcomes.through(other)
    assert said(through, "relu") == said(outcomes, "relu")  # on the end there is no codec
    assert said(through, "out", crossing) != said(outcomes, "out", crossing)
    alone = torch_outcomes(ModelOnData(WEIGHTS, STREAM, None, EXIT_TRAINING), other, cache)
    assert said(alone.with_exits(LAYERS), "out", crossing) == said(through, "out", crossing)
    assert answers(cache).through(other).with_exits(LAYERS).predict(0, crossing) == through.predict(
        0, crossing
    )
    assert through.through(CODEC) is outcomes


def test_one_set_of_heads_answers_through_every_codec(outcomes, monkeypatch):
    loads = []
    real = ExitTraining.heads
    monkeypatch.setattr(ExitTraining, "heads", lambda *given: loads.append(1) or real(*given))
    for bits in (2, 3):
        for codec in (CODEC, UniformAffine(per_channel=True)):
            outcomes.through(codec).at_exit(0, "out", (Crossing("relu", bits),))
    assert len(loads) == 1


def test_heads_on_the_cloud_see_what_comes_out_of_a_file(cache):
    jpeg, crossing = Jpeg(5, 12), (Crossing("input", 8),)
    subject = ModelOnData(WEIGHTS, STREAM, jpeg, EXIT_TRAINING)
    outcomes = torch_outcomes(subject, CODEC, cache, batch_size=25).with_exits(LAYERS)
    seen = replace(STREAM, frames=jpeg.decode(jpeg.encode(STREAM.frames)))
    expected = said(answers(cache, seen).with_exits(LAYERS), "out")
    assert said(outcomes, "out", crossing) == expected
    assert said(outcomes, "out") != expected


def test_the_raw_image_loses_nothing_either(outcomes):
    assert said(outcomes, "relu", (Crossing("input", 8),)) == said(outcomes, "relu")


def test_heads_on_the_cloud_see_what_the_codec_leaves(outcomes):
    def away(bits: int) -> float:
        crossing = (Crossing("left", bits), Crossing("right", bits))
        pairs = zip(said(outcomes, "out", crossing), said(outcomes, "out"), strict=True)
        return max(abs(a.confidence - b.confidence) for a, b in pairs)

    assert 0 < away(8) < 0.05 < away(1)


def test_one_pass_serves_all_heads_of_a_crossing(cache, tmp_path):
    passes = []
    subject = ModelOnData(WEIGHTS, STREAM, exit_training=EXIT_TRAINING)
    whole = torch_outcomes(
        subject, CODEC, cache / "one", batch_size=60, progress=lambda *at: passes.append(at)
    )
    outcomes = whole.with_exits(LAYERS)
    for layer in LAYERS:
        outcomes.at_exit(3, layer)
    for layer in LAYERS[1:]:
        outcomes.at_exit(3, layer, (Crossing("relu", 4),))
    assert passes == [("exit heads", 60, 60), ("relu", 60, 60)]


def test_tokens_have_heads_too(tmp_path):
    outcomes = answers(tmp_path, weights=TOKENS).with_exits(("embed", "act"))
    labels = [answer.label for answer in said(outcomes, "act")]
    assert np.mean(labels == STREAM.label) > 0.6
    assert said(outcomes, "act", (Crossing("embed", 32),)) == said(outcomes, "act")


def test_what_cannot_be_asked_is_refused(outcomes, cache):
    with pytest.raises(GraphError, match=r"no exit head behind 'pool'.*\['relu', 'cat', 'out'\]"):
        outcomes.at_exit(0, "pool")
    with pytest.raises(GraphError, match=r"no exit head behind 'relu'.*heads to \[\]"):
        answers(cache).at_exit(0, "relu")
    with pytest.raises(CutError, match=r"'relu' is on the end when \['relu'\] .*\['cat', 'out'\]"):
        outcomes.at_exit(0, "relu", (Crossing("relu", 4),))
    with pytest.raises(CutError, match=r"\['left'\] are not all that crosses"):
        outcomes.at_exit(0, "out", (Crossing("left", 4),))
    with pytest.raises(CutError, match=r"behind 'out' is on the end .*behind \[\]"):
        outcomes.at_exit(0, "out", (Crossing("flatten", 4),))
    with pytest.raises(ConfigError, match="without data to train exit heads"):
        torch_outcomes(ModelOnData(WEIGHTS, STREAM), CODEC, cache).with_exits(LAYERS)


def test_known_answers_do_not_import_torch(outcomes, cache, tmp_path):
    crossing = (Crossing("relu", 4),)
    expected = (outcomes.at_exit(7, "relu"), outcomes.at_exit(7, "out", crossing))
    splits = {"train": TRAIN, "calib": CALIB, "stream": STREAM}
    for name, data in splits.items():
        columns = {k: v for k, v in vars(data).items() if k != "fingerprint"}
        np.savez(tmp_path / f"{name}.npz", **columns)
    script = f"""
import sys, numpy as np
from coach_exp.live.exit_training import ExitTraining
from coach_exp.learning.models import ModelSpec
from coach_exp.live.model_answers import ModelOnData
from coach_exp.live.outcomes import torch_outcomes
from coach_exp.learning.training import Training
from coach_exp.learning.video import VideoDataset
from coach_exp.learning.weights import Weights
from coach_exp.quant.affine import UniformAffine
from coach_exp.types.outcomes import Crossing
from pathlib import Path
def split(name):
    columns = dict(np.load(name + ".npz"))
    names = tuple(map(str, columns.pop("class_names")))
    return VideoDataset(**columns, class_names=names)
weights = Weights(ModelSpec({WEIGHTS.model.target!r}, 12), 3, "none", "backbone")
exits = ExitTraining(split("train"), split("calib"), Training(**{vars(SETTINGS)!r}))
subject = ModelOnData(weights, split("stream"), None, exits)
outcomes = torch_outcomes(subject, UniformAffine(), Path({str(cache)!r})).with_exits({LAYERS!r})
print(outcomes.at_exit(7, "relu"), outcomes.at_exit(7, "out", (Crossing("relu", 4),)), sep="|")
print("torch" in sys.modules)
"""
    run = [sys.executable, "-c", script]
    env = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(run, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["|".join(map(str, expected)), "False"]


# --- costs


def test_a_head_is_timed_once_for_each_shape(monkeypatch):
    graph = captured().graph
    times = host_exit_s(graph, "cpu")
    assert set(times) == {layer.name for layer in graph.layers}
    assert min(times.values()) > 0
    assert times["stem"] == times["relu"]  # both 6 × 12 × 12
    assert times["left"] != times["right"]
