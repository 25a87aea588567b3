"""What crosses the link for one task, held against what `outcomes` counts and feeds to its tail."""

import tracemalloc

import numpy as np
import pytest
import torch
from helpers.branches import SPEC, Branches

from coach_exp.learning.jpeg import Jpeg
from coach_exp.learning.models import preprocess
from coach_exp.learning.video import VideoDataset
from coach_exp.learning.weights import Weights
from coach_exp.live.model_answers import ModelOnData
from coach_exp.live.outcomes import torch_outcomes
from coach_exp.live.payloads import Payloads
from coach_exp.profiling.capture import capture
from coach_exp.quant.affine import UniformAffine
from coach_exp.quant.bitshuffle import BitshuffleLz4
from coach_exp.types.errors import CodecError, GraphError
from coach_exp.types.outcomes import Crossing

SIDE = 16
CODECS = [UniformAffine(), UniformAffine(40, per_channel=True), BitshuffleLz4(32)]
SAMPLES = 6


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return capture(Branches(20).eval(), (3, SIDE, SIDE))


def frames(side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (SAMPLES, side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize("codec", CODECS, ids=repr)
@pytest.mark.parametrize("jpeg", [None, Jpeg(80, SIDE)], ids=["raw", "jpeg"])
@pytest.mark.parametrize("side", [SIDE, 20])
@pytest.mark.parametrize("bits", [3, 8, 32])
def test_the_input_crosses_as_outcomes_counts_and_feeds_it(
    model, tmp_path, codec, jpeg, side, bits
):
    given = frames(side)
    labels = np.zeros(SAMPLES, np.int64)
    data = VideoDataset(given, labels, np.arange(SAMPLES), labels, ("only",))
    weights = Weights(SPEC, 20, "none", "branches")
    subject = ModelOnData(weights, data, jpeg)
    outcomes = torch_outcomes(subject, codec, tmp_path)
    normalised = preprocess(given, SIDE).numpy()
    fed, sizes = outcomes._sending.received(Crossing("input", bits), normalised, 0)
    payloads = Payloads(codec, model.graph, jpeg, SIDE)
    for frame, expected, size in zip(given, fed, sizes, strict=True):
        payload = payloads.encode("input", frame, bits)
        assert len(payload) == size
        assert torch.equal(payloads.decode("input", payload), expected[None])


@pytest.mark.parametrize("codec", CODECS, ids=repr)
def test_other_tensors_cross_through_the_codec(model, codec):
    payloads = Payloads(codec, model.graph, None, SIDE)
    for layer, tensor in model.stream(preprocess(frames()[:1], SIDE), ("relu", "flatten")):
        one = tensor[0].numpy()
        payload = payloads.encode(layer, one, 4)
        assert payload == codec.encode(one, 4)
        assert np.array_equal(payloads.decode(layer, payload)[0].numpy(), codec.decode(payload))


def test_what_another_side_made_is_refused_by_what_differs(model):
    codec, frame = UniformAffine(), frames()[0]
    raw, files = (Payloads(codec, model.graph, jpeg, SIDE) for jpeg in (None, Jpeg(80, SIDE)))
    as_raw, as_file = raw.encode("input", frame, 8), files.encode("input", frame, 8)
    with pytest.raises(CodecError, match=r"is a JPEG file and this side takes a frame.*encoding"):
        raw.decode("input", as_file)
    with pytest.raises(CodecError, match="is a frame and this side takes a JPEG file"):
        files.decode("input", as_raw)
    with pytest.raises(CodecError, match=r"767 pixel bytes; a frame of 16 × 16 takes 768"):
        raw.decode("input", as_raw[:-1])
    with pytest.raises(CodecError, match="padding"):
        raw.decode("input", as_raw[:1] + b"x" + as_raw[2:])
    with pytest.raises(CodecError, match="cannot be read"):
        files.decode("input", as_file[: len(as_file) // 2])
    with pytest.raises(CodecError, match="cannot be read"):
        files.decode("input", as_file[:24] + b"GIF89a" + bytes(100))
    with pytest.raises(CodecError, match="24 × 24 pixels; this side takes 16 × 16"):
        files.decode(
            "input", Payloads(codec, model.graph, Jpeg(80, 24), 24).encode("input", frame, 8)
        )
    with pytest.raises(CodecError, match="uint8 frame, not as float32"):
        raw.encode("input", np.zeros((3, 16, 16), np.float32), 8)
    with pytest.raises(GraphError, match="no layer 'nowhere'"):
        raw.decode("nowhere", as_raw)
    with pytest.raises(CodecError, match="good for planning only"):
        Payloads(UniformAffine(0), model.graph, None, SIDE).encode("input", frame, 8)


@pytest.mark.parametrize("codec", [UniformAffine(), BitshuffleLz4()], ids=repr)
def test_a_payload_of_another_shape_takes_no_memory(model, codec):
    large = codec.encode(np.zeros((64, 256, 256), np.float32), 1)  # 16 MiB unpacked
    payloads = Payloads(codec, model.graph, None, SIDE)
    tracemalloc.start()
    with pytest.raises(CodecError, match=r"describes shape \[64, 256, 256\], not \[6, 7, 7\]"):
        payloads.decode("relu", large)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize("jpeg", [None, Jpeg(80, SIDE)], ids=["raw", "jpeg"])
@pytest.mark.parametrize("bits", [4, 8, 32])
def test_damaged_payloads_raise_nothing_but_codec_errors(model, jpeg, bits):
    rng, payloads = np.random.default_rng(2), Payloads(UniformAffine(), model.graph, jpeg, SIDE)
    whole = np.frombuffer(payloads.encode("input", frames()[0], bits), np.uint8)
    refused = 0
    for _ in range(300):
        damaged = whole.copy()
        damaged[rng.integers(0, min(len(whole), 600), 3)] = rng.integers(0, 256, 3)
        cut = damaged[: rng.integers(0, len(whole) + 1)] if rng.random() < 0.3 else damaged
        try:
            tensor = payloads.decode("input", cut.tobytes())
        except CodecError:
            refused += 1
        else:
            assert tensor.shape == (1, 3, SIDE, SIDE)
    assert refused > 50
