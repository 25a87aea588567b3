"""The packer: hand-written bytes, then a big integer as the judge of every width and length."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coach_exp.quant.bitpack import pack, packed_bytes, unpack
from coach_exp.types.errors import CodecError

WIDTHS = range(1, 9)


@st.composite
def widths_and_codes(draw):
    bits = draw(st.integers(1, 8))
    codes = draw(st.lists(st.integers(0, 2**bits - 1), max_size=70))
    return bits, np.array(codes, np.uint8)


def test_one_bit_codes_fill_a_byte_from_its_low_end():
    assert pack(np.array([1, 0, 0, 0, 0, 0, 1, 1, 1], np.uint8), 1) == bytes([0b11000001, 0b1])


def test_three_bit_codes_cross_bytes():
    # codes 1 2 3 4 5, low bits first: 001 | 010<<3 | 011<<6 | 100<<9 | 101<<12
    assert pack(np.array([1, 2, 3, 4, 5], np.uint8), 3) == (0b101_100_011_010_001).to_bytes(
        2, "little"
    )


def test_eight_bit_codes_are_the_bytes_themselves():
    assert pack(np.array([0, 255, 7], np.uint8), 8) == b"\x00\xff\x07"


@pytest.mark.parametrize("bits", WIDTHS)
def test_no_codes_are_no_bytes(bits):
    assert pack(np.zeros(0, np.uint8), bits) == b""
    assert unpack(b"", 0, bits).shape == (0,)


@given(widths_and_codes())
def test_payload_is_the_sum_of_shifted_codes_and_unpacks_to_them(case):
    bits, codes = case
    payload = pack(codes, bits)
    whole = sum(int(code) << (bits * k) for k, code in enumerate(codes))
    assert payload == whole.to_bytes(-(-len(codes) * bits // 8), "little")
    assert unpack(payload, len(codes), bits).tolist() == codes.tolist()


@pytest.mark.parametrize("bits", WIDTHS)
def test_long_payloads_come_back(bits):
    codes = np.random.default_rng(bits).integers(0, 2**bits, 100_003).astype(np.uint8)
    before = codes.copy()
    payload = pack(codes, bits)
    assert len(payload) == packed_bytes(len(codes), bits) == (100_003 * bits + 7) // 8
    assert np.array_equal(unpack(payload, len(codes), bits), codes)
    assert np.array_equal(codes, before), "packing must not write into the caller's codes"


def test_unpacked_codes_may_be_written():
    for bits in WIDTHS:
        unpack(pack(np.zeros(9, np.uint8), bits), 9, bits)[:] = 1


def test_strided_codes_are_packed_in_their_order():
    codes = np.arange(16, dtype=np.uint8)
    assert pack(codes[::-2], 4) == pack(codes[::-2].copy(), 4)


@pytest.mark.parametrize("bits", range(1, 8))
def test_a_code_too_large_is_refused(bits):
    codes = np.array([0, 2**bits], np.uint8)
    with pytest.raises(CodecError, match=f"code {2**bits} does not fit {bits} bits"):
        pack(codes, bits)


@pytest.mark.parametrize("bits", [-1, 0, 9, 16])
def test_other_widths_are_refused(bits):
    with pytest.raises(CodecError, match="width must be 1 to 8"):
        pack(np.zeros(3, np.uint8), bits)
    with pytest.raises(CodecError, match="width must be 1 to 8"):
        unpack(b"\0", 3, bits)


@pytest.mark.parametrize("codes", [np.zeros(3, np.int64), np.zeros((2, 2), np.uint8)])
def test_other_arrays_are_refused(codes):
    with pytest.raises(CodecError, match=r"must be uint8 \[n\]"):
        pack(codes, 4)


@pytest.mark.parametrize(
    ("payload", "count"), [(b"\1\2", 5), (b"\1\2\3\4", 5), (b"", 1), (b"\1", 0), (b"", -1)]
)
def test_payloads_of_another_length_are_refused(payload, count):
    with pytest.raises(CodecError, match="cannot hold"):
        unpack(payload, count, 4)


def test_bits_after_the_last_code_must_be_zero():
    assert unpack(b"\x0f", 1, 4).tolist() == [15]
    with pytest.raises(CodecError, match="last 4 bits"):
        unpack(b"\x1f", 1, 4)
