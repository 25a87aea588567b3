import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.branches import BOTH, CODEC, SPEC, STEM, Branches
from torch import nn

from coach_exp.learning.array_cache import digest
from coach_exp.learning.jpeg import Jpeg
from coach_exp.learning.models import ModelSpec, preprocess, resize
from coach_exp.learning.video import VideoDataset
from coach_exp.learning.weights import Weights
from coach_exp.live.model_answers import ModelOnData
from coach_exp.live.outcomes import TorchOutcomes, torch_outcomes
from coach_exp.quant.affine import UniformAffine
from coach_exp.quant.bitshuffle import BitshuffleLz4
from coach_exp.types.errors import ConfigError, CutError, GraphError
from coach_exp.types.outcomes import Crossing, Prediction, TensorSize

SAMPLES = 37


@pytest.fixture(scope="module")
def data() -> VideoDataset:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (SAMPLES, 16, 16, 3), dtype=np.uint8)
    label = rng.integers(0, 20, SAMPLES)
    names = tuple(map(str, range(20)))
    return VideoDataset(frames, label, np.arange(SAMPLES) // 4, np.arange(SAMPLES) % 4, names)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Weights:
    path = tmp_path_factory.mktemp("weights") / "branches.pt"
    torch.manual_seed(0)
    torch.save(Branches(20).state_dict(), path)
    return Weights(SPEC, 20, "checkpoint", "branches", path)


@pytest.fixture
def outcomes(weights, data, tmp_path) -> TorchOutcomes:
    return torch_outcomes(ModelOnData(weights, data), CODEC, tmp_path, batch_size=10)


def labels(outcomes: TorchOutcomes, crossing: tuple[Crossing, ...]) -> list[int]:
    return [outcomes.predict(i, crossing).label for i in range(SAMPLES)]


def uncut(outcomes: TorchOutcomes) -> list[int]:
    return [outcomes.uncut(i) for i in range(SAMPLES)]


def test_uncut_is_the_model_itself(outcomes, weights, data):
    with torch.inference_mode():
        expected = weights.load()(preprocess(data.frames, 16)).argmax(dim=1)
    assert uncut(outcomes) == expected.tolist()
    assert [outcomes.true_label(i) for i in range(SAMPLES)] == data.label.tolist()
    assert outcomes.classes == 20
    assert len(set(uncut(outcomes))) > 2  # or the tests below would show nothing


def test_device_only_answers_as_uncut_and_sends_nothing(outcomes):
    assert outcomes.predict(3, ()) == Prediction(outcomes.uncut(3), ())
    assert labels(outcomes, ()) == uncut(outcomes)


@pytest.mark.parametrize(("bits", "size"), [(8, 3 * 16 * 16), (32, 4 * 3 * 16 * 16)])
def test_the_raw_input_loses_nothing(outcomes, bits, size):
    crossing = (Crossing("input", bits),)
    assert outcomes.predict(0, crossing).payload_bytes == (CODEC.header_bytes + size,)
    assert labels(outcomes, crossing) == uncut(outcomes)


def test_a_coarser_input_goes_through_the_codec(outcomes):
    crossing = (Crossing("input", 1),)
    assert outcomes.predict(0, crossing).payload_bytes == (CODEC.expected_bytes(768, 1),)
    assert labels(outcomes, crossing) != uncut(outcomes)


@pytest.mark.parametrize("layers", [("relu",), ("left", "right"), ("flatten",)])
def test_floats_cross_without_loss(outcomes, layers):
    assert labels(outcomes, tuple(Crossing(layer, 32) for layer in layers)) == uncut(outcomes)


def test_fewer_bits_change_some_answers(outcomes):
    same = [
        np.mean(np.equal(labels(outcomes, (Crossing("relu", bits),)), uncut(outcomes)))
        for bits in (16, 8, 1)
    ]
    assert same[0] >= same[1] >= 0.9
    assert same[2] < 0.9


def test_predictions_are_those_of_a_model_that_quantises_inside(outcomes, weights, data):
    model = weights.load()
    quantised = {t.layer: t.bits for t in BOTH}
    for name, bits in quantised.items():
        getattr(model, name).register_forward_hook(
            lambda _, __, out, bits=bits: torch.stack(
                [torch.from_numpy(CODEC.decode(CODEC.encode(t.numpy(), bits))) for t in out]
            )
        )
    with torch.inference_mode():
        expected = model(preprocess(data.frames, 16)).argmax(dim=1)
    assert labels(outcomes, BOTH) == expected.tolist()
    assert labels(outcomes, BOTH[::-1]) == expected.tolist()


def test_payloads_are_counted_for_each_tensor_in_the_order_given(outcomes):
    right, left = CODEC.expected_bytes(5 * 49, 8), CODEC.expected_bytes(4 * 49, 4)
    assert outcomes.predict(0, BOTH).payload_bytes == (right, left)
    assert outcomes.predict(0, BOTH[::-1]).payload_bytes == (left, right)


def test_features_are_channel_means_side_by_side(outcomes, weights, data):
    model = weights.load()
    with torch.inference_mode():
        x = model.relu(model.stem(preprocess(data.frames, 16)))
        expected = torch.cat([m(x).mean(dim=(2, 3)) for m in (model.right, model.left)], dim=1)
    found = np.stack([outcomes.feature(i, ("right", "left")) for i in range(SAMPLES)])
    assert found == pytest.approx(expected.numpy(), abs=1e-6)
    assert outcomes.feature(2, ["scores"]).shape == (20,)


def test_features_of_token_models_are_means_over_tokens(data, tmp_path):
    weights = Weights(ModelSpec(f"{__name__}.Tokens", input_size=16), 20, "none", "tokens")
    feature = torch_outcomes(ModelOnData(weights, data), CODEC, tmp_path).feature
    model = weights.load()
    tokens = model.embed(model.patches(preprocess(data.frames[:1], 16)).flatten(2).mT)
    assert feature(0, ("embed",)) == pytest.approx(tokens[0].mean(dim=0).detach().numpy(), abs=1e-6)


class Last(nn.Module):
    """An image of 5 channels, in the order [height, width, channels] before the scores."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 4, stride=4)
        self.scores = nn.Linear(5, num_classes)

    def forward(self, x):
        return self.scores(self.conv(x).permute(0, 2, 3, 1).relu()).mean((1, 2))


LAST = Weights(ModelSpec(f"{__name__}.Last", input_size=16), 20, "none", "last")


def test_features_follow_the_channels_wherever_they_are(data, tmp_path):
    outcomes = torch_outcomes(ModelOnData(LAST, data), CODEC, tmp_path)
    with torch.inference_mode():
        images = LAST.load().conv(preprocess(data.frames, 16)).relu().numpy()
    found = np.stack([outcomes.feature(i, ("relu",)) for i in range(SAMPLES)])
    assert found == pytest.approx(images.mean(axis=(2, 3)), abs=1e-6)


def test_a_feature_kept_for_another_axis_is_no_answer(data, tmp_path):
    outcomes = torch_outcomes(ModelOnData(LAST, data), CODEC, tmp_path)
    outcomes.uncut(0)
    (folder,) = (tmp_path / "outcomes").iterdir()
    for layer in ("conv", "relu"):  # the name alone stands for the first of three axes
        np.savez(folder / f"feature-{digest(layer)}.npz", feature=np.full((SAMPLES, 4), 7))
    assert outcomes.feature(0, ("conv",)).tolist() == [7] * 4
    assert outcomes.feature(0, ("relu",)).shape == (5,)


class Tokens(nn.Module):
    """16 patches as tokens of 7 channels."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 5, 4, stride=4)
        self.embed = nn.Linear(5, 7)
        self.scores = nn.Linear(7, num_classes)

    def forward(self, x):
        return self.scores(self.embed(self.patches(x).flatten(2).mT).mean(dim=1))


def test_tensors_that_make_no_cut_are_refused(outcomes):
    with pytest.raises(CutError, match=r"\['left'\] are not all that crosses .*\['relu', 'left'\]"):
        outcomes.predict(0, (Crossing("left", 4),))
    with pytest.raises(CutError, match=r"\['scores'\] are not all"):
        outcomes.predict(0, (Crossing("scores", 4),))
    with pytest.raises(GraphError, match="no layer 'rihgt'"):
        outcomes.predict(0, (Crossing("rihgt", 4),))
    with pytest.raises(GraphError, match="no layer 'rihgt'"):
        outcomes.feature(0, ("rihgt",))


def test_known_answers_need_no_model(outcomes, weights, data, tmp_path):
    first = (uncut(outcomes), labels(outcomes, STEM), outcomes.feature(5, ("relu",)))
    gone = replace(weights, checkpoint=tmp_path / "gone.pt")
    again = torch_outcomes(ModelOnData(gone, data), CODEC, tmp_path)
    assert (uncut(again), labels(again, STEM)) == first[:2]
    assert (again.feature(5, ("relu",)) == first[2]).all()
    with pytest.raises(ConfigError, match=r"gone\.pt"):
        again.predict(0, BOTH)


def test_known_answers_do_not_import_torch(outcomes, data, tmp_path):
    expected = (outcomes.uncut(0), outcomes.predict(0, STEM).label)
    np.savez(tmp_path / "data.npz", **{k: v for k, v in vars(data).items() if k != "fingerprint"})
    script = f"""
import sys, numpy as np
from coach_exp.learning.models import ModelSpec
from coach_exp.live.model_answers import ModelOnData
from coach_exp.live.outcomes import torch_outcomes
from coach_exp.learning.video import VideoDataset
from coach_exp.learning.weights import Weights
from coach_exp.quant.affine import UniformAffine
from coach_exp.types.outcomes import Crossing
from pathlib import Path
columns = dict(np.load("data.npz"))
names = tuple(map(str, columns.pop("class_names")))
weights = Weights(ModelSpec({SPEC.target!r}, 16), 20, "checkpoint", "branches", Path("gone.pt"))
data = VideoDataset(**columns, class_names=names)
outcomes = torch_outcomes(ModelOnData(weights, data), UniformAffine(), Path("."))
outcomes.feature(0, ("relu",))
print(outcomes.uncut(0), outcomes.predict(0, (Crossing("relu", 4),)).label, "torch" in sys.modules)
"""
    outcomes.feature(0, ("relu",))
    run = [sys.executable, "-c", script]
    env = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(run, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [*map(str, expected), "False"]


def test_answers_are_kept_by_weights_data_resolution_and_codec(weights, data, tmp_path):
    def folders(weights, data, codec) -> int:
        torch_outcomes(ModelOnData(weights, data), codec, tmp_path).uncut(0)
        return len(list((tmp_path / "outcomes").iterdir()))

    assert folders(weights, data, CODEC) == 1
    assert folders(replace(weights, fingerprint="others"), data, CODEC) == 2
    assert folders(weights, data.subset(slice(9)), CODEC) == 3
    assert folders(replace(weights, model=replace(SPEC, input_size=20)), data, CODEC) == 4
    assert folders(weights, data, UniformAffine(per_channel=True)) == 5
    assert folders(weights, data, UniformAffine()) == 5


def test_a_codec_without_a_telling_repr_is_refused(weights, data, tmp_path):
    class Nameless:
        header_bytes = 0

    with pytest.raises(ConfigError, match="Nameless has no repr"):
        torch_outcomes(ModelOnData(weights, data), Nameless(), tmp_path)


def test_the_head_runs_once_for_a_search_over_bits(weights, data, tmp_path):
    passes = []
    subject = ModelOnData(weights, data)
    outcomes = torch_outcomes(
        subject, CODEC, tmp_path, batch_size=10, progress=lambda *at: passes.append(at)
    )
    for bits in (8, 4, 2):
        outcomes.predict(0, (Crossing("relu", bits),))
    outcomes.feature(0, ("relu",))
    assert passes == [("relu", n, SAMPLES) for n in (10, 20, 30, SAMPLES)]


def test_tensors_that_do_not_fit_are_computed_again_to_the_same_answers(
    outcomes, weights, data, tmp_path
):
    passes = []
    small = torch_outcomes(
        ModelOnData(weights, data),
        CODEC,
        tmp_path / "small",
        batch_size=10,
        held_bytes=20 * 6 * 49 * 4,
        progress=lambda *at: passes.append(at),
    )
    crossings = [(Crossing("relu", bits),) for bits in (8, 2)]
    assert [labels(small, c) for c in crossings] == [labels(outcomes, c) for c in crossings]
    assert len(passes) == 8


def test_flips_are_the_answers_that_differ_when_asked_alone(outcomes, weights, data, tmp_path):
    assert outcomes.flips(SAMPLES) == 0
    (kept,) = tmp_path.glob("outcomes/*/uncut.npz")
    batched = np.load(kept)["labels"]
    batched[[3, 5, 36]] += 1
    np.savez(kept, labels=batched)
    again = torch_outcomes(ModelOnData(weights, data), CODEC, tmp_path)
    assert (again.flips(SAMPLES), again.flips(5)) == (3, 1)


# Another codec


def test_another_codec_sends_other_bytes_of_the_same_model(outcomes, weights, data):
    other = outcomes.through(BitshuffleLz4())
    stem = (Crossing("relu", 8),)
    model = weights.load()
    with torch.inference_mode():
        tensors = model.relu(model.stem(preprocess(data.frames, 16))).numpy()
    sizes = [len(BitshuffleLz4().encode(tensor, 8)) for tensor in tensors]
    assert [other.predict(i, stem).payload_bytes for i in range(SAMPLES)] == [(n,) for n in sizes]
    assert len(set(sizes)) > 1
    assert labels(other, stem) == labels(outcomes, stem)  # nothing is lost beyond the grid
    assert uncut(other) == uncut(outcomes)
    assert (other.feature(3, ("relu",)) == outcomes.feature(3, ("relu",))).all()
    assert other.true_label(5) == outcomes.true_label(5)


def test_the_same_codec_gives_the_same_answers_object(outcomes):
    other = outcomes.through(BitshuffleLz4())
    assert other is not outcomes
    assert outcomes.through(BitshuffleLz4()) is other
    assert other.through(BitshuffleLz4(30)).through(UniformAffine()) is outcomes


def test_what_no_codec_touches_is_computed_once(weights, data, tmp_path):
    passes = []
    subject = ModelOnData(weights, data)
    first = torch_outcomes(
        subject, CODEC, tmp_path, batch_size=SAMPLES, progress=lambda *at: passes.append(at)
    )
    other = first.through(BitshuffleLz4())
    for each in (other, first):
        each.uncut(0)
        each.predict(0, STEM)
        each.feature(0, ("relu",))
    assert [what for what, *_ in passes] == ["uncut model", "relu"]


def test_answers_through_another_codec_are_kept_as_well(outcomes, weights, data, tmp_path):
    expected = labels(outcomes.through(BitshuffleLz4()), STEM)
    assert outcomes.tensor_size("relu") == TensorSize(6 * 49, 6)
    gone = replace(weights, checkpoint=tmp_path / "gone.pt")
    again = torch_outcomes(ModelOnData(gone, data), CODEC, tmp_path).through(BitshuffleLz4())
    assert labels(again, STEM) == expected
    assert again.tensor_size("relu") == TensorSize(6 * 49, 6)


def test_sizes_of_tensors_are_those_of_the_model(outcomes):
    assert outcomes.tensor_size("input") == TensorSize(3 * 16 * 16, 3)
    assert outcomes.tensor_size("left") == TensorSize(4 * 49, 4)
    assert outcomes.tensor_size("scores") == TensorSize(20, 20)
    with pytest.raises(GraphError, match="no layer 'rihgt'"):
        outcomes.tensor_size("rihgt")


# The raw input as a JPEG file

INPUT = (Crossing("input", 8),)


@pytest.fixture
def smooth(data) -> VideoDataset:
    """Pictures of a few soft patches, as a camera's are: noise would not be JPEG's business."""
    coarse = np.random.default_rng(2).integers(0, 256, (SAMPLES, 4, 4, 3), dtype=np.uint8)
    return replace(data, frames=resize(coarse, 16))


@pytest.mark.parametrize("side", [16, 24])
def test_the_input_goes_through_real_files(weights, smooth, tmp_path, side):
    jpeg = Jpeg(quality=5, side=side)
    outcomes = torch_outcomes(ModelOnData(weights, smooth, jpeg), CODEC, tmp_path, batch_size=10)
    files = jpeg.encode(smooth.frames)
    assert all(file.startswith(b"\xff\xd8") for file in files)
    pictures = jpeg.decode(files)
    assert pictures.shape == (SAMPLES, side, side, 3)
    model = weights.load()
    with torch.inference_mode():
        expected, whole = (
            model(preprocess(seen, 16)).argmax(dim=1).tolist() for seen in (pictures, smooth.frames)
        )
    found = [outcomes.predict(i, INPUT) for i in range(SAMPLES)]
    assert [each.label for each in found] == expected
    assert [each.payload_bytes for each in found] == [(24 + len(file),) for file in files]
    assert outcomes.tensor_size("input") == TensorSize(3 * side**2, 3)
    assert expected != whole  # quality 5 costs something
    assert uncut(outcomes) == whole
    assert labels(outcomes, (Crossing("input", 32),)) == whole  # as floats it is no file


def test_a_file_counts_the_header_of_the_codec_that_is_asked(weights, smooth, tmp_path):
    jpeg = Jpeg(90, 16)
    outcomes = torch_outcomes(ModelOnData(weights, smooth, jpeg), CODEC, tmp_path)
    wide = outcomes.through(BitshuffleLz4(header_bytes=100))
    (plain,), (padded,) = (each.predict(4, INPUT).payload_bytes for each in (outcomes, wide))
    assert padded - plain == 100 - 24
    sizes = [outcomes.predict(i, INPUT).payload_bytes[0] - 24 for i in range(SAMPLES)]
    assert jpeg.mean_bytes(smooth, tmp_path) == pytest.approx(np.mean(sizes))


def test_files_of_other_quality_and_size_have_answers_of_their_own(weights, smooth, tmp_path):
    def first_bytes(jpeg: Jpeg | None) -> int:
        outcomes = torch_outcomes(ModelOnData(weights, smooth, jpeg), CODEC, tmp_path)
        return outcomes.predict(0, INPUT).payload_bytes[0]

    ways = [None, Jpeg(90, 16), Jpeg(40, 16), Jpeg(90, 40)]
    assert len({first_bytes(way) for way in ways}) == 4
    assert [first_bytes(way) for way in ways] == [first_bytes(way) for way in ways]
    assert len(list((tmp_path / "outcomes").iterdir())) == 1


class Skips(nn.Module):
    """The input is needed twice: by the first layer and, pooled, by the last."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 4, stride=4)
        self.small = nn.AvgPool2d(4)
        self.scores = nn.Linear(9, num_classes)

    def forward(self, x):
        both = torch.cat([self.stem(x), self.small(x)], dim=1)
        return self.scores(both.mean((2, 3)))


@pytest.mark.parametrize("jpeg", [None, Jpeg(10, 16)])
def test_an_input_that_crosses_beside_a_tensor_keeps_its_own_way(smooth, tmp_path, jpeg):
    skips = Weights(ModelSpec(f"{__name__}.Skips", input_size=16), 20, "none", "skips")
    outcomes = torch_outcomes(ModelOnData(skips, smooth, jpeg), CODEC, tmp_path, batch_size=10)
    found = [outcomes.predict(i, (*INPUT, Crossing("stem", 32))) for i in range(SAMPLES)]
    model, frames = skips.load(), smooth.frames
    seen = frames if jpeg is None else jpeg.decode(jpeg.encode(frames))
    with torch.inference_mode():
        x, raw = preprocess(seen, 16), preprocess(frames, 16)
        both = torch.cat([model.stem(raw), model.small(x)], dim=1)
        expected = model.scores(both.mean((2, 3))).argmax(dim=1).tolist()
    assert [each.label for each in found] == expected
    first = 768 if jpeg is None else len(jpeg.encode(frames[7:8])[0])
    assert found[7].payload_bytes == (24 + first, CODEC.expected_bytes(96, 32))
