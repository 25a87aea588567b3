from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.paths import CONF
from omegaconf import OmegaConf
from torch import fx, nn

from coach_exp.learning.classifier import accuracy, fit, hold_out, predict, vary
from coach_exp.learning.models import MEAN, STD, ModelSpec, build_model, preprocess, resize
from coach_exp.learning.small_resnet import small_resnet
from coach_exp.learning.training import Training
from coach_exp.learning.video import VideoDataset
from coach_exp.learning.weights import Weights, resolve_weights
from coach_exp.types.component import of_class
from coach_exp.types.errors import ConfigError, DataError

CONF = CONF / "model"
QUICK = Training(epochs=6, frames_per_epoch=48, batch_size=16, patience=6)


class BrightestChannel(nn.Module):
    """Scores are the channel means, scaled: trained in a moment, wrong until then."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.scale = nn.Linear(3, num_classes)

    def forward(self, x):
        return self.scale(x.mean(dim=(2, 3)))


SPEC = ModelSpec(f"{__name__}.BrightestChannel", input_size=8)


def coloured(videos_per_class: int = 6, frames: int = 4) -> VideoDataset:
    """Three classes: reddish, greenish, bluish videos."""
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(3), videos_per_class * frames)
    pixels = rng.integers(60, 100, (len(label), 8, 8, 3))
    pixels[np.arange(len(label)), :, :, label] += 60
    video = np.arange(len(label)) // frames
    names = ("red", "green", "blue")
    return VideoDataset(
        pixels.astype(np.uint8), label, video, np.arange(len(label)) % frames, names
    )


# --- models


def no_module(num_classes: int) -> dict[str, int]:
    """What builds something else."""
    return {"classes": num_classes}


@pytest.mark.parametrize("config", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_model_config_builds_its_classes(config):
    keys = OmegaConf.to_container(OmegaConf.load(config))
    if "input_size" not in keys:
        pytest.skip("no torch module")
    spec = ModelSpec.of(keys)
    with torch.device("meta"):  # shapes only
        scores = spec.build(7)(torch.empty(2, *spec.input_shape))
    assert scores.shape == (2, 7)


def test_small_resnet_halves_resolution_and_doubles_channels():
    model = small_resnet(10, width=4).eval()
    image, shapes = torch.randn(1, 3, 32, 32), []
    assert (fx.symbolic_trace(model)(image) == model(image)).all()
    x = model.stem(image)
    for stage in model.stages:
        x = stage(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(4, 16, 16), (8, 8, 8), (16, 4, 4), (32, 2, 2)]


@pytest.mark.parametrize(
    ("target", "kwargs", "words"),
    [
        ("torchvision.models.resnet1", {}, r"model\._target_ = torchvision.models.resnet1: cannot"),
        ("resnet18", {}, "give the full name"),
        ("nowhere.at.all", {}, "No module named 'nowhere'"),
        ("math.pi", {}, "is a float, not a class"),
        (f"{__name__}.no_module", {}, "made a dict; it must make a torch.nn.Module"),
        ("torchvision.models.resnet18", {"depth": 3}, "refuses its arguments .*depth"),
    ],
)
def test_a_target_that_makes_no_model_is_refused(target, kwargs, words):
    with pytest.raises(ConfigError, match=words):
        build_model(target, kwargs, num_classes=3)


def test_a_model_config_needs_target_and_size():
    with pytest.raises(ConfigError, match="lacks \\['input_size'\\]"):
        ModelSpec.of({"_target_": "torchvision.models.resnet18"})


def test_preprocess_normalises_each_channel():
    frames = np.full((1, 4, 4, 3), 255, np.uint8)
    image = preprocess(frames, 4)
    assert image.shape == (1, 3, 4, 4)
    expected = [(1 - m) / s for m, s in zip(MEAN, STD, strict=True)]
    assert image[0, :, 0, 0].tolist() == pytest.approx(expected)


def test_resize_gives_the_bytes_of_the_models_resolution():
    frames = np.full((2, 4, 6, 3), 9, np.uint8)
    assert (resize(frames, 8) == np.full((2, 8, 8, 3), 9)).all()
    assert resize(frames[:, :, :4], 4).base is frames


# --- training


def test_held_out_videos_are_whole_and_of_every_class():
    data = coloured()
    rows, held = hold_out(data, QUICK)
    assert sorted([*rows, *held]) == list(range(len(data)))
    assert not set(data.video[rows]) & set(data.video[held])
    assert set(data.label[held]) == {0, 1, 2}
    assert len(np.unique(data.video[held])) == 3  # a tenth of 6, at least one of each class


def test_a_class_with_one_video_keeps_it_for_training():
    data = coloured()
    data = data.subset((data.label > 0) | (data.video == 0))
    rows, held = hold_out(data, QUICK)
    assert 0 in data.label[rows]
    assert 0 not in data.label[held]


def test_classes_of_few_videos_give_one_each_only_where_none_has_more():
    _, held = hold_out(coloured(videos_per_class=3), QUICK)
    assert len(held) == 3 * 4
    few_and_many = coloured(videos_per_class=10)
    few_and_many = few_and_many.subset((few_and_many.label == 1) | (few_and_many.video % 5 == 0))
    _, held = hold_out(few_and_many, QUICK)
    assert set(few_and_many.label[held]) == {1}


def test_one_video_a_class_is_too_few():
    with pytest.raises(DataError, match="none can be held out"):
        hold_out(coloured(videos_per_class=1), QUICK)


def test_frames_for_less_than_one_batch_are_too_few():
    rows, _ = hold_out(coloured(), QUICK)
    training = Training(**{**vars(QUICK), "batch_size": len(rows) + 1, "frames_per_epoch": 999})
    with pytest.raises(DataError, match=rf"training\.batch_size={len(rows)} or less"):
        fit(nn.Linear(1, 1), coloured(), 8, training)


def test_training_learns_leaves_no_files_and_repeats(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    states = []
    for _ in range(2):
        torch.manual_seed(1)
        model = BrightestChannel(3)
        before = torch.get_rng_state()
        report = fit(model, coloured(), 8, Training(**{**vars(QUICK), "learning_rate": 0.5}))
        assert (torch.get_rng_state() == before).all()
        states.append(model.state_dict())
    assert accuracy(model, coloured(), 8) == report.validation_accuracy == 1
    assert report.epochs == 6
    assert not model.training
    assert all((states[0][name] == states[1][name]).all() for name in states[0])
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_the_best_epoch_is_kept_not_the_last():
    class Forgetful(nn.Module):
        """Right for two epochs of 3 steps, wrong ever after."""

        def __init__(self):
            super().__init__()
            self.register_buffer("steps", torch.zeros(()))
            self.weight = nn.Parameter(torch.zeros(()))

        def forward(self, x):
            self.steps += float(self.training)
            scores = x.mean(dim=(2, 3)) + 0 * self.weight
            return scores if self.steps <= 6 else -scores

    model = Forgetful()
    report = fit(model, coloured(), 8, Training(**{**vars(QUICK), "patience": 2}))
    assert (model.steps, report.validation_accuracy, report.epochs) == (6, 1, 3)


def test_variation_keeps_a_plain_image_plain():
    varied = vary(torch.zeros(5, 3, 8, 8))
    assert varied.std(dim=(1, 2, 3)).max() < 1e-6
    assert varied.std() > 0


def test_predict_counts_every_sample_once():
    class FirstPixel(nn.Module):
        def forward(self, x):
            return -(x[:, :1, 0, 0] - torch.arange(3)).abs()

    data = coloured(videos_per_class=10, frames=10)  # 300 samples: five batches
    data.frames[:, 0, 0, 0] = 124 + 58.4 * data.label  # 0.0, 1.0, 2.0 once normalised
    assert predict(FirstPixel(), data, 8).tolist() == data.label.tolist()
    assert accuracy(FirstPixel(), data, 8) == 1


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"epochs": 0}, r"training\.epochs = 0: should be greater than 0"),
        ({"frames_per_epoch": 8}, r"training\.frames_per_epoch = 8: is less than one batch of 32"),
        ({"learning_rate": 2.0}, "should be less than or equal to 1"),
        ({"validation": 1.0}, "should be less than 1"),
        ({"epoch": 3}, r"training\.epoch = 3: .* did you mean 'epochs'"),
    ],
)
def test_training_settings_are_refused(wrong, words):
    with pytest.raises(ConfigError, match=words):
        of_class(Training, wrong, "training")()


# --- weights


def resolve(source: str, cache: Path, spec: ModelSpec = SPEC, **changes) -> Weights:
    return resolve_weights(source, spec, coloured(), Training(**{**vars(QUICK), **changes}), cache)


def test_trained_weights_are_made_once_for_each_setting(tmp_path):
    first = resolve("train", tmp_path)
    made = first.checkpoint.stat().st_mtime_ns
    again = resolve("train", tmp_path)
    assert again == first
    assert again.checkpoint.stat().st_mtime_ns == made
    assert first.measured
    assert torch.load(first.checkpoint, weights_only=True)["fit"]["epochs"] == 6
    assert resolve("train", tmp_path, seed=1).fingerprint != first.fingerprint
    assert sorted(path.suffix for path in (tmp_path / "weights").iterdir()) == [".pt", ".pt"]


def test_a_checkpoint_is_loaded_with_or_without_our_wrapping(tmp_path):
    model = BrightestChannel(3)
    torch.save(model.state_dict(), tmp_path / "bare.pt")
    loaded = resolve(str(tmp_path / "bare.pt"), tmp_path).load()
    assert (loaded.scale.weight == model.scale.weight).all()
    trained = resolve("train", tmp_path)
    copy = resolve(str(trained.checkpoint), tmp_path)
    assert (copy.load().scale.weight == trained.load().scale.weight).all()
    assert copy.fingerprint == trained.fingerprint


def test_random_weights_are_the_same_every_time_and_not_measured(tmp_path):
    weights = resolve("none", tmp_path)
    assert (weights.load().scale.weight == weights.load().scale.weight).all()
    assert not weights.measured


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    torch.save(BrightestChannel(4).state_dict(), tmp_path / "four.pt")
    weights = resolve(str(tmp_path / "four.pt"), tmp_path)
    with pytest.raises(ConfigError, match=r"another model or number of classes: 2 of 2 .*'scale"):
        weights.load()


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "text.pt").write_text("hello")
    weights = resolve(str(tmp_path / "text.pt"), tmp_path)
    with pytest.raises(ConfigError, match="not a checkpoint of plain tensors"):
        weights.load()


def test_a_missing_checkpoint_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"weights=best\.pt: there is no such file"):
        resolve("best.pt", tmp_path)


def test_hub_weights_are_refused_for_other_classes_and_models(tmp_path):
    with pytest.raises(ConfigError, match="is not one of torchvision's models"):
        resolve("hub", tmp_path)
    with pytest.raises(ConfigError, match="1000 classes apart and the data has 3"):
        resolve("hub", tmp_path, ModelSpec("torchvision.models.mobilenet_v2", 224))


def test_hub_weights_come_through_torchvisions_own_loading(tmp_path, monkeypatch):
    from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

    torch.manual_seed(5)
    stored = mobilenet_v2(num_classes=1000)
    name = MobileNet_V2_Weights.DEFAULT.url.rpartition("/")[2]
    (tmp_path / "checkpoints").mkdir()
    torch.save(stored.state_dict(), tmp_path / "checkpoints" / name)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    weights = Weights(ModelSpec("torchvision.models.mobilenet_v2", 224), 1000, "hub", "any")
    x = torch.randn(1, 3, 64, 64)
    assert (weights.load()(x) == stored.eval()(x)).all()
