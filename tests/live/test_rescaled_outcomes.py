"""Bytes of one resolution from answers measured at another."""

from dataclasses import dataclass

import numpy as np
import pytest

from coach_exp.pipeline.outcomes import RescaledOutcomes, SelectedOutcomes
from coach_exp.quant.affine import UniformAffine
from coach_exp.quant.bitshuffle import BitshuffleLz4
from coach_exp.quant.sizes import mean_bytes, rescaled_bytes
from coach_exp.types.graph import Layer, LayerGraph
from coach_exp.types.outcomes import Codec, Crossing, Prediction, TensorSize

UAQ, SPINN = UniformAffine(), BitshuffleLz4()
TIMED = LayerGraph.of(
    [
        Layer("in", elements=3 * 28 * 28, shape=(3, 28, 28)),
        Layer("conv", ("in",), elements=8 * 14 * 14, shape=(8, 14, 14)),
        Layer("out", ("conv",), elements=10, shape=(10,)),
    ]
)
MEASURED = {"in": TensorSize(3 * 14 * 14, 3), "conv": TensorSize(8 * 7 * 7, 8)}
CONV = (Crossing("conv", 8),)


@dataclass(frozen=True)
class Small:
    """Answers of a graph of half the side: bytes of each sample, half of them through another
    codec."""

    sizes: tuple[int, ...]
    codec: Codec

    @property
    def samples(self):
        return len(self.sizes)

    def through(self, codec):
        return Small(tuple(size // 2 for size in self.sizes), codec)

    def tensor_size(self, layer):
        return MEASURED[layer]

    def predict(self, sample, crossing):
        return Prediction(sample, (self.sizes[sample],))


@pytest.mark.parametrize("codec", [UAQ, UniformAffine(per_channel=True), UniformAffine(100)])
@pytest.mark.parametrize("bits", [*range(1, 9), 16, 32])
@pytest.mark.parametrize("layer", ["in", "conv"])
def test_sizes_that_content_does_not_change_are_exactly_the_timed_ones(codec, bits, layer):
    size, timed = MEASURED[layer], TIMED[layer]
    answers = Small((codec.expected_bytes(size.elements, bits, size.rows),), codec)
    found = RescaledOutcomes(answers, TIMED, codec).predict(0, (Crossing(layer, bits),))
    assert found.payload_bytes == (codec.expected_bytes(timed.elements, bits, timed.rows),)


def test_a_compressed_tensor_keeps_its_share_of_the_whole():
    # 392 codes and a header are 416 bytes at most, of which 104 are a quarter; 1568 and it 1592.
    rescaled = RescaledOutcomes(Small((104, 416, 100), SPINN), TIMED, SPINN)
    found = [rescaled.predict(i, CONV) for i in range(3)]
    assert [each.payload_bytes for each in found] == [(398,), (1592,), (383,)]  # 382.7
    assert [each.label for each in found] == [0, 1, 2]
    assert rescaled.tensor_size("conv") == TensorSize(8 * 14 * 14, 8)


def test_a_picture_measured_at_the_timed_size_stays_as_it_is():
    whole = TensorSize(3 * 28 * 28, 3)
    assert rescaled_bytes(1234, 8, UAQ, whole, TIMED["in"]) == 1234


def test_mean_sizes_are_those_of_the_timed_graph():
    assert mean_bytes(Small((104, 312), SPINN), CONV, TIMED, SPINN) == {"conv": 796}


def test_another_codec_passes_through_every_view():
    pool = SelectedOutcomes.all_of(Small((400, 300), UAQ), Small((200,), UAQ))
    some = pool.of(np.array([2, 0]))
    other = RescaledOutcomes(some, TIMED, UAQ).through(SPINN)
    assert other.codec == SPINN
    sizes = [other.predict(i, CONV).payload_bytes[0] for i in range(2)]
    assert sizes == [round(half * 1592 / 416) for half in (100, 200)]
    assert some.tensor_size("conv") == MEASURED["conv"]
