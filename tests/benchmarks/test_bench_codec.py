"""Time of UAQ, of SPINN's codec and of the task feature on the output of ResNet101's layer3
(1024×14×14), one thread.

python -m pytest tests/benchmarks/test_bench_codec.py --benchmark-only
"""

from statistics import median
from time import perf_counter

import numpy as np
import pytest

from coach_exp.quant.affine import UniformAffine
from coach_exp.quant.bitshuffle import BitshuffleLz4
from coach_exp.types.feature import task_feature

SHAPE = (1024, 14, 14)
WIDTHS = range(1, 9)
UAQ = UniformAffine()
BITSHUFFLE = BitshuffleLz4()


@pytest.fixture(scope="module")
def tensor():
    """Rectified noise: half zeros, as after a ReLU."""
    noise = np.random.default_rng(0).standard_normal(SHAPE, dtype=np.float32)
    return np.maximum(noise, 0)


@pytest.mark.parametrize("bits", WIDTHS)
def test_encode(benchmark, tensor, bits):
    payload = benchmark(UAQ.encode, tensor, bits)
    assert len(payload) == UAQ.expected_bytes(tensor.size, bits)


@pytest.mark.parametrize("bits", WIDTHS)
def test_decode(benchmark, tensor, bits):
    assert benchmark(UAQ.decode, UAQ.encode(tensor, bits)).shape == SHAPE


def test_bitshuffle_encode(benchmark, tensor):
    payload = benchmark(BITSHUFFLE.encode, tensor, 8)
    assert len(payload) < BITSHUFFLE.expected_bytes(tensor.size, 8)


def test_bitshuffle_decode(benchmark, tensor):
    assert benchmark(BITSHUFFLE.decode, BITSHUFFLE.encode(tensor, 8)).shape == SHAPE


def test_four_bits_both_ways(benchmark, tensor):
    payload = UAQ.encode(tensor, 4)
    encode_s, decode_s = [], []

    def both_ways():
        encode_s.append(seconds(UAQ.encode, tensor, 4))
        decode_s.append(seconds(UAQ.decode, payload))

    benchmark.pedantic(both_ways, rounds=200, warmup_rounds=5)
    benchmark.extra_info["encode_ms"] = 1e3 * median(encode_s)
    benchmark.extra_info["decode_over_encode"] = median(decode_s) / median(encode_s)


@pytest.mark.parametrize("way", ["encode", "decode"])
def test_every_width_over_the_time_of_four_bits(benchmark, tensor, way):
    calls = {
        bits: (UAQ.encode, tensor, bits) if way == "encode" else (UAQ.decode, payload)
        for bits in WIDTHS
        for payload in [UAQ.encode(tensor, bits)]
    }
    taken_s = {bits: [] for bits in WIDTHS}

    def one_round():  # all widths in turn, so that a busy machine slows them alike
        for bits, call in calls.items():
            taken_s[bits].append(seconds(*call))

    benchmark.pedantic(one_round, rounds=100, warmup_rounds=3)
    medians_s = {bits: median(taken) for bits, taken in taken_s.items()}
    benchmark.extra_info["over_four_bits"] = {
        bits: round(taken / medians_s[4], 2) for bits, taken in medians_s.items()
    }


def seconds(function, *arguments):
    start = perf_counter()
    function(*arguments)
    return perf_counter() - start


def test_task_feature(benchmark, tensor):
    assert benchmark(task_feature, [tensor], [0]).shape == (1024,)
