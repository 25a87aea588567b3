"""SPINN's codec: planes drawn by hand, what any tensor keeps, sizes, then hostile payloads."""

import struct
import tracemalloc

import lz4.block
import numpy as np
import pytest
from helpers.tensors import WIDTHS, exact_scale, floats, tensors
from hypothesis import given
from hypothesis import strategies as st

from coach_exp.quant.affine import HEADER_BYTES, UniformAffine
from coach_exp.quant.bitplanes import from_planes, planes_bytes, to_planes
from coach_exp.quant.bitshuffle import BitshuffleLz4
from coach_exp.types.errors import CodecError, ConfigError
from coach_exp.types.outcomes import Codec

CODEC = BitshuffleLz4()
UAQ = UniformAffine()


# Planes


def test_planes_by_hand():
    #  bit 0 of codes 0 … 8, then bit 1, then bit 2; nine codes take two bytes a plane
    codes = np.array([1, 0, 3, 4, 7, 0, 0, 5, 6], np.uint8)
    expected = "95 00" + "14 01" + "98 01"
    assert to_planes(codes, 3) == bytes.fromhex(expected)


@given(st.lists(st.integers(0, 255), max_size=70), WIDTHS)
def test_codes_come_back_from_their_planes(values, bits):
    codes = np.array(values, np.uint8) >> (8 - bits)
    planes = to_planes(codes, bits)
    assert len(planes) == planes_bytes(len(codes), bits)
    assert from_planes(planes, len(codes), bits).tolist() == codes.tolist()
    for k in range(bits):
        plane = np.frombuffer(planes, np.uint8).reshape(bits, -1)[k] if len(codes) else []
        assert np.array_equal(plane, np.packbits((codes >> k) & 1, bitorder="little"))


def test_planes_of_another_size_or_with_stray_bits_are_refused():
    with pytest.raises(CodecError, match="5 bytes are not 3 planes of 9 codes, which take exactly"):
        from_planes(bytes(5), 9, 3)
    with pytest.raises(CodecError, match="last 7 bits of a plane"):
        from_planes(bytes([0, 2]), 9, 1)


# What a tensor keeps


def test_payload_byte_by_byte():
    payload = CODEC.encode(floats(0, 1, 2, 3), 2)
    expected = (
        "a2 02 01"  # magic, bits, axes
        "04000000 00000000 00000000 00000000"  # shape
        "0000803f 00"  # scale 1.0, zero point 0
        "0a 0c"  # bit 0 of the codes 0 1 2 3, then bit 1; too short for LZ4
    )
    assert payload == bytes.fromhex(expected)


@given(tensors(), WIDTHS)
def test_nothing_is_lost_beyond_the_grid(tensor, bits):
    payload = CODEC.encode(tensor, bits)
    back = CODEC.decode(payload)
    assert np.array_equal(back, UAQ.decode(UAQ.encode(tensor, bits)))
    assert back.shape == tensor.shape
    error = np.abs(back.astype(np.float64) - tensor)
    assert error.max(initial=0) <= exact_scale(tensor, bits) * (0.5 + 2.0 ** (bits - 20))
    assert not back[tensor == 0].any()
    assert len(payload) <= CODEC.expected_bytes(tensor.size, bits)


@pytest.mark.parametrize("bits", [16, 32])
def test_wide_tensors_go_as_floats_and_are_not_compressed(bits):
    tensor = np.zeros((2, 3), np.float32)
    payload = CODEC.encode(tensor + 1.5, bits)
    assert len(payload) == CODEC.expected_bytes(6, bits) == HEADER_BYTES + 6 * bits // 8
    assert CODEC.decode(payload).tolist() == (tensor + 1.5).tolist()


# Sizes


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_nothing_but_zeros_compresses_a_hundredfold(bits):
    tensor = np.zeros((256, 28, 28), np.float32)
    assert 100 * len(CODEC.encode(tensor, bits)) < CODEC.expected_bytes(tensor.size, 8)
    assert not CODEC.decode(CODEC.encode(tensor, bits)).any()


def test_planes_that_hold_nothing_cost_nothing():
    # One large value stretches the grid; the others use the codes 0 … 3 at random. Two planes of
    # noise are left, of 10,000 bytes each, where LZ4 alone gets half of the 80,000 codes at best.
    codes = np.random.default_rng(0).integers(0, 4, 80_000)
    codes[0] = 255
    payload = CODEC.encode(codes.astype(np.float32), 8)
    assert 20_000 < len(payload) < 20_500
    assert len(lz4.block.compress(codes.astype(np.uint8))) > 1.5 * len(payload)
    assert CODEC.decode(payload).tolist() == codes.tolist()


@pytest.mark.parametrize("bits", [2, 8])
def test_what_does_not_compress_costs_the_header_and_its_planes(bits):
    # 0 … 2^bits − 1 at random: the grid is the whole numbers, and every plane is noise.
    codes = np.random.default_rng(1).integers(0, 2**bits, 10_001)
    codes[:2] = 0, 2**bits - 1
    payload = CODEC.encode(codes.astype(np.float32), bits)
    assert len(payload) == CODEC.expected_bytes(codes.size, bits)
    assert len(payload) == HEADER_BYTES + bits * 1251
    assert CODEC.decode(payload).tolist() == codes.tolist()


def test_a_wider_header_is_padded_and_a_smaller_one_only_planned_with():
    wide, none = BitshuffleLz4(header_bytes=64), BitshuffleLz4(header_bytes=0)
    payload = wide.encode(np.zeros(1000, np.float32), 8)
    assert payload[HEADER_BYTES:64] == bytes(40)
    assert wide.decode(payload).shape == (1000,)
    assert none.expected_bytes(1000, 4) == 500
    with pytest.raises(CodecError, match="planning only"):
        none.encode(floats(1, 2), 4)
    with pytest.raises(CodecError, match="planning only"):
        none.decode(payload)
    with pytest.raises(CodecError):
        CODEC.decode(payload)
    with pytest.raises(CodecError, match="padding"):
        wide.decode(payload[:30] + b"\1" + payload[31:])
    with pytest.raises(ConfigError, match="never negative"):
        BitshuffleLz4(header_bytes=-1)


@pytest.mark.parametrize("bits", [0, 9, 12])
def test_other_widths_are_refused(bits):
    codec: Codec = CODEC
    for ask in (lambda: codec.encode(floats(1), bits), lambda: codec.expected_bytes(1, bits)):
        with pytest.raises(CodecError, match="1 to 8, 16 or 32"):
            ask()


# Hostile payloads

STORED = CODEC.encode(floats(*range(11)), 3)
ZEROS = CODEC.encode(np.zeros(5000, np.float32), 8)


def with_data(payload, data):
    return payload[:HEADER_BYTES] + data


def block_of(planes):
    return lz4.block.compress(planes, store_size=False)


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"", "begins with nothing, not 0xa2"),
        (UAQ.encode(floats(1), 8), "begins with 0xa1, not 0xa2; bitshuffle_lz4 did not encode it"),
        (STORED[:23], "header alone takes 24"),
        (STORED[:1] + b"\x00" + STORED[2:], "1 to 8, 16 or 32"),
        (STORED[:2] + b"\x81" + STORED[3:], "a grid for each row"),
        (STORED[:3] + b"\xff\xff\xff\xff" + STORED[7:], "too large"),
        (STORED + b"\0", "cannot hold the 6 bytes"),
        (STORED[:-1] + b"\xf8", "last 5 bits of a plane"),
        (STORED[:19] + struct.pack("<f", np.nan) + STORED[23:], "scale is positive and finite"),
        (ZEROS + b"\0", "no LZ4 block"),
        (with_data(ZEROS, bytes(4999)), "no LZ4 block|holds"),
        (
            with_data(ZEROS, block_of(bytes(4999))),
            "holds 4999 bytes; its shape and width",
        ),
        (with_data(ZEROS, block_of(bytes(5001))), "no LZ4 block"),
        (with_data(ZEROS, lz4.block.compress(bytes(5000))), "no LZ4 block"),  # begins with a size
        (CODEC.encode(floats(1), 32)[:-4] + struct.pack("<f", np.inf), "NaN or Inf"),
    ],
)
def test_spoilt_payloads_are_refused(payload, words):
    with pytest.raises(CodecError, match=words):
        CODEC.decode(payload)


@pytest.mark.parametrize("payload", [STORED, ZEROS, CODEC.encode(floats(1, 2), 16)])
def test_a_payload_that_is_cut_is_refused_wherever_it_is(payload):
    for length in range(len(payload)):
        with pytest.raises(CodecError):
            CODEC.decode(payload[:length])


@given(st.binary(max_size=80), st.sampled_from([b"", ZEROS[:HEADER_BYTES], STORED[:HEADER_BYTES]]))
def test_random_bytes_decode_to_a_finite_tensor_or_are_refused(data, head):
    try:
        tensor = CODEC.decode(head + data)
    except CodecError:
        return
    assert np.isfinite(tensor).all()


def test_nothing_is_allocated_for_a_shape_that_the_payload_cannot_hold():
    liar = ZEROS[:3] + struct.pack("<I", 2**31 - 1) + ZEROS[7:]
    tracemalloc.start()
    with pytest.raises(CodecError, match="cannot hold the 2147483648 bytes"):
        CODEC.decode(liar)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000
