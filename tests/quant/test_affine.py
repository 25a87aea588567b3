"""UAQ: grids small enough to draw, then its promises on any tensor, then hostile payloads."""

import struct
import tracemalloc

import numpy as np
import pytest
from helpers.tensors import WIDTHS, exact_scale, floats, tensors
from hypothesis import example, given
from hypothesis import strategies as st

from coach_exp.quant.affine import HEADER_BYTES, UniformAffine
from coach_exp.types.errors import CodecError, ConfigError
from coach_exp.types.outcomes import Codec

UAQ = UniformAffine()
PER_CHANNEL = UniformAffine(per_channel=True)
SCALE_AT, ZERO_AT = 19, 23
DATA_AT = HEADER_BYTES


def through(tensor, bits, codec=UAQ):
    return codec.decode(codec.encode(tensor, bits))


def grid(payload):
    """(scale, zero point) of a payload with one grid, read by the layout in the documentation."""
    return struct.unpack_from("<fB", payload, SCALE_AT)


def codes_and_zero(payload):
    return payload[DATA_AT:], grid(payload)[1]


# By hand


def test_payload_byte_by_byte():
    payload = UAQ.encode(floats(0, 1, 2, 3), 2)
    expected = (
        "a1 02 01"  # magic, bits, axes
        "04000000 00000000 00000000 00000000"  # shape
        "0000803f 00"  # scale 1.0, zero point 0
        "e4"  # 0b11_10_01_00
    )
    assert payload == bytes.fromhex(expected)


def test_zero_moves_to_a_grid_point():
    #  -1 … 3 in three steps of 4/3: zero falls on 0.75 steps, so code 1 becomes zero
    payload = UAQ.encode(floats(-1, 0, 3), 2)
    assert grid(payload) == (np.float32(4 / 3), 1)
    assert UAQ.decode(payload) == pytest.approx([-4 / 3, 0, 8 / 3])


@pytest.mark.parametrize(
    ("given", "bits", "expected"),
    [
        ([0, 0, 0], 4, [0, 0, 0]),
        ([5, 5], 1, [5, 5]),  # a constant: its range is 0 … 5
        ([-7, -7], 3, [-7, -7]),
        ([1, 2, 6], 1, [0, 0, 6]),  # two points: 0 and 6
        ([-0.0, 1], 8, [0, 1]),
    ],
)
def test_ranges_with_an_end_at_zero(given, bits, expected):
    assert through(floats(*given), bits).tolist() == expected


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (0, 5), (0, 0, 0, 0), (1, 1, 1, 1), (2, 3)])
@pytest.mark.parametrize("codec", [UAQ, PER_CHANNEL])
@pytest.mark.parametrize("bits", [1, 5, 8, 16, 32])
def test_every_shape_comes_back(shape, codec, bits):
    back = through(np.full(shape, 2, np.float32), bits, codec)
    assert back.shape == shape
    assert back.dtype == np.float32
    assert (back == 2).all()


def test_each_channel_has_its_own_grid():
    tensor = floats(0, 1, 2, 3, 0, 100, 200, 300).reshape(2, 4)
    payload = PER_CHANNEL.encode(tensor, 2)
    assert PER_CHANNEL.decode(payload).tolist() == tensor.tolist()
    assert len(payload) == HEADER_BYTES + 5 + 2 == PER_CHANNEL.expected_bytes(8, 2, rows=2)
    assert through(tensor, 2)[0].tolist() == [0, 0, 0, 0]  # one grid of step 100 for both


def test_the_decoder_needs_no_setting_to_know_the_grids():
    tensor = floats(0, 1, 0, 100).reshape(2, 2)
    assert UAQ.decode(PER_CHANNEL.encode(tensor, 1)).tolist() == tensor.tolist()


def test_views_are_encoded_in_their_own_order():
    tensor = np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1)
    for codec in (UAQ, PER_CHANNEL):
        assert codec.encode(tensor, 8) == codec.encode(tensor.copy("C"), 8)


@pytest.mark.parametrize(
    "shape", [(200_003,), (67, 3001), (3, 70_001), (50_021, 2), (9, 1, 28_673)]
)
@pytest.mark.parametrize("bits", [1, 3, 8])
def test_large_tensors_are_quantised_as_small_ones_are(shape, bits):
    # Pieces of a tensor that is worked on in tiles, against each channel encoded alone.
    tensor = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    whole = through(tensor, bits, PER_CHANNEL)
    for channel in (0, 7 % len(tensor), len(tensor) // 2, len(tensor) - 1):
        assert np.array_equal(whole[channel], through(tensor[channel], bits))
    scale = exact_scale(tensor, bits)
    assert np.abs(through(tensor, bits) - tensor).max() <= scale * (0.5 + 2.0 ** (bits - 20))


def test_sixteen_bits_round_to_float16_and_thirty_two_are_exact():
    tensor = floats(1 / 3, -65504, 1e-5)
    assert through(tensor, 16).tolist() == tensor.astype(np.float16).tolist()
    assert through(tensor, 32).tolist() == tensor.tolist()
    assert UAQ.encode(floats(1.5, -2), 16)[DATA_AT:] == struct.pack("<2e", 1.5, -2)


# Promises on any tensor


@given(tensors(), WIDTHS)
@example(floats(-0.5, 2.5), 2)
@example(floats(-1, 1), 1)
@example(floats(1e-45, 3e-45), 8)
@example(floats(-(2.0**125), 2.0**125), 1)
def test_error_is_at_most_half_a_step(tensor, bits):
    payload = UAQ.encode(tensor, bits)
    scale = exact_scale(tensor, bits)
    assert grid(payload)[0] == pytest.approx(scale, rel=2.0**-23, abs=0)
    error = np.abs(UAQ.decode(payload).astype(np.float64) - tensor)
    assert error.max(initial=0) <= scale * (0.5 + 2.0 ** (bits - 20))


@given(tensors(min_dims=1), WIDTHS)
def test_error_of_a_channel_is_at_most_half_of_its_own_step(tensor, bits):
    back = through(tensor, bits, PER_CHANNEL)
    for channel, decoded in zip(tensor, back, strict=True):
        error = np.abs(decoded.astype(np.float64) - channel)
        assert error.max(initial=0) <= exact_scale(channel, bits) * (0.5 + 2.0 ** (bits - 20))


@given(tensors(min_dims=1), WIDTHS)
def test_zeros_stay_zeros(tensor, bits):
    tensor.flat[::2] = 0
    assert not through(tensor, bits).flat[::2].any()


@given(tensors(min_dims=1, max_dims=1, max_side=40), WIDTHS)
def test_order_is_kept(tensor, bits):
    assert (np.diff(through(np.sort(tensor), bits)) >= 0).all()


@given(tensors(), WIDTHS)
@example(floats(-0.5, 0, 1, 2.5), 2)
@example(floats(-1, 1, 0.3), 1)
@example(floats(-3.5, 11.5, 4.5, 5.5), 4)
def test_quantising_again_changes_no_code(tensor, bits):
    first = UAQ.encode(tensor, bits)
    again = UAQ.encode(UAQ.decode(first), bits)
    assert codes_and_zero(again) == codes_and_zero(first)
    one_unit = np.spacing(np.float32(grid(first)[0]))
    assert abs(grid(again)[0] - grid(first)[0]) <= one_unit


@pytest.mark.parametrize("bits", range(1, 9))
def test_a_range_that_ends_between_two_codes_gets_the_first_and_the_last(bits):
    # Both ends lie half a step off the grid, give or take float32 rounding.
    top = 2**bits - 1
    rng = np.random.default_rng(bits)
    for _ in range(300):
        step, zero = rng.uniform(0.1, 10), rng.integers(0, top)
        ends = step * np.array([-(zero + 0.5), top - zero - 0.5]) * (1 + rng.normal(0, 1e-7, 2))
        payload = UAQ.encode(ends.astype(np.float32), bits)
        assert int.from_bytes(payload[DATA_AT:], "little") == top << bits


@given(tensors(largest=65504.0), st.sampled_from([*range(1, 9), 16, 32]), st.booleans())
def test_expected_bytes_are_the_bytes(tensor, bits, per_channel):
    codec: Codec = UniformAffine(per_channel=per_channel)
    rows = tensor.shape[0] if tensor.ndim else 1
    expected = UniformAffine(per_channel=per_channel).expected_bytes(tensor.size, bits, rows)
    assert len(codec.encode(tensor, bits)) == expected
    assert UAQ.expected_bytes(tensor.size, bits) == HEADER_BYTES + -(-tensor.size * bits // 8)


# What is refused


@pytest.mark.parametrize("bits", [1, 4, 16, 32])
@pytest.mark.parametrize("codec", [UAQ, PER_CHANNEL])
@pytest.mark.parametrize(
    ("value", "words"),
    [(np.nan, "2 of the tensor's 6 elements are NaN"), (-np.inf, "elements are Inf")],
)
def test_what_is_not_finite_is_named(value, words, codec, bits):
    tensor = np.ones((3, 2), np.float32)
    tensor[1:, 0] = value
    with pytest.raises(CodecError, match=words):
        codec.encode(tensor, bits)


@pytest.mark.parametrize(
    ("tensor", "bits", "words"),
    [
        (np.zeros(3), 4, "float64.*takes float32"),
        (np.zeros((1,) * 5, np.float32), 4, "5 axes.*at most 4"),
        (np.zeros(3, np.float32), 0, "1 to 8, 16 or 32"),
        (np.zeros(3, np.float32), 12, "1 to 8, 16 or 32"),
        (floats(70_000), 16, r"reaches ±70000.*16 bits carry at most ±65504"),
        (floats(-(2.0**126)), 8, "8 bits carry at most"),
        (np.zeros((0, 2**16, 2**16), np.float32), 4, "too large"),
    ],
)
def test_tensors_that_cannot_be_sent_are_refused(tensor, bits, words):
    with pytest.raises(CodecError, match=words):
        UAQ.encode(tensor, bits)


def test_a_larger_header_is_padded_and_a_smaller_one_only_planned_with():
    wide, none = UniformAffine(header_bytes=64), UniformAffine(header_bytes=0)
    payload = wide.encode(floats(1, 2), 4)
    assert len(payload) == 65 == wide.expected_bytes(2, 4)
    assert wide.decode(payload).shape == (2,)
    assert none.expected_bytes(1000, 4) == 500
    with pytest.raises(CodecError, match="planning only"):
        none.encode(floats(1, 2), 4)
    with pytest.raises(CodecError, match="planning only"):
        none.decode(payload)
    with pytest.raises(CodecError, match="another header_bytes"):
        UAQ.decode(payload)
    with pytest.raises(CodecError, match="padding"):
        wide.decode(payload[:30] + b"\1" + payload[31:])
    with pytest.raises(ConfigError, match="never negative"):
        UniformAffine(header_bytes=-1)


# Hostile payloads

SOUND = UAQ.encode(np.linspace(-1, 2, 11, dtype=np.float32), 3)  # 33 bits in five bytes


def spoilt(at, value):
    return SOUND[:at] + value + SOUND[at + len(value) :]


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"", "header alone takes 24"),
        (SOUND[:23], "header alone takes 24"),
        (SOUND[:-1], "take exactly 29"),
        (SOUND + b"\0", "take exactly 29"),
        (spoilt(0, b"\x50"), "begins with 0x50"),
        (spoilt(1, b"\x00"), "1 to 8, 16 or 32"),
        (spoilt(1, b"\xff"), "1 to 8, 16 or 32"),
        (spoilt(2, b"\x05"), "5 axes"),
        (spoilt(2, b"\x00"), "no tensor is like that"),  # a size without its axis
        (spoilt(2, b"\x80"), "no tensor is like that"),  # channels without axes
        (
            UAQ.encode(np.ones((), np.float32), 4)[:2] + b"\x80" + bytes(22),
            "no tensor is like that",
        ),
        (UAQ.encode(floats(1), 32)[:2] + b"\x81" + bytes(25), "no tensor is like that"),
        (spoilt(3, b"\xff\xff\xff\xff"), "too large"),
        (spoilt(3, b"\xff\xff\xff\x7f"), "take exactly"),
        (spoilt(SCALE_AT, struct.pack("<f", 0)), "scale is positive and finite"),
        (spoilt(SCALE_AT, struct.pack("<f", -1)), "scale is positive and finite"),
        (spoilt(SCALE_AT, struct.pack("<f", np.nan)), "scale is positive and finite"),
        (spoilt(SCALE_AT, struct.pack("<f", np.inf)), "scale is positive and finite"),
        (spoilt(SCALE_AT, struct.pack("<f", 1e-40)), "no 3-bit points in float32"),
        (spoilt(SCALE_AT, struct.pack("<f", 3e38)), "no 3-bit points in float32"),
        (spoilt(SCALE_AT, b"\1\0\x80\x7f"), "scale is positive and finite"),  # signalling NaN
        (UAQ.encode(floats(1), 32)[:19] + struct.pack("<fBf", np.inf, 0, 1), "positive and finite"),
        (spoilt(ZERO_AT, b"\x08"), "zero point is a code"),
        (spoilt(28, b"\xfe"), "last 7 bits"),
        (UAQ.encode(floats(1), 32)[:24] + struct.pack("<f", np.nan), "NaN or Inf"),
        (UAQ.encode(floats(1), 16)[:24] + b"\x00\x7c", "NaN or Inf"),
    ],
)
def test_spoilt_payloads_are_refused(payload, words):
    with pytest.raises(CodecError, match=words):
        UAQ.decode(payload)


def refused_or_finite(payload, codec=UAQ):
    try:
        tensor = codec.decode(payload)
    except CodecError:
        return
    assert np.isfinite(tensor).all()


@given(st.binary(max_size=80))
def test_random_bytes_raise_codec_error_alone(noise):
    refused_or_finite(noise)
    refused_or_finite(SOUND[:3] + noise)


@given(
    tensors(largest=65504.0),
    st.sampled_from([1, 3, 4, 8, 16, 32]),
    st.sampled_from([UAQ, PER_CHANNEL]),
    st.data(),
)
def test_changed_payloads_raise_codec_error_alone(tensor, bits, codec, data):
    payload = bytearray(codec.encode(tensor, bits))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, min(len(payload), 48) - 1))
        payload[at] = data.draw(st.integers(0, 255))
    refused_or_finite(bytes(payload), codec)
    refused_or_finite(bytes(payload[: data.draw(st.integers(0, len(payload)))]), codec)


def test_no_header_makes_the_decoder_allocate_more_than_its_payload_warrants():
    tracemalloc.start()
    try:
        for at in range(HEADER_BYTES):
            for value in (0, 1, 4, 0x7F, 0x80, 0x81, 0x84, 0xFF):
                refused_or_finite(spoilt(at, bytes([value])))
        for axes in (1, 2, 3, 4, 0x81, 0x84):
            for size in (2**31 - 1, 2**32 - 1, 46_340, 1290, 215):
                sizes = [size] * (axes & 7) + [0] * (4 - (axes & 7))
                head = struct.pack("<BBB4IfB", 0xA1, 8, axes, *sizes, 1, 0)
                refused_or_finite(head + bytes(1000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000
