"""Time of a frame with 100 KB of payload: encode, decode in the pieces of a socket.

python -m pytest tests/benchmarks/test_bench_wire.py --benchmark-only
"""

import random

import pytest

from coach_exp.network.wire import FrameDecoder, encode
from coach_exp.network.wire_messages import Tensor

PAYLOAD_BYTES = 100_000
PIECE_BYTES = 65_536
TENSOR = Tensor(7, 3, "layer3.22.relu", 0, 1, random.Random(0).randbytes(PAYLOAD_BYTES))


def test_encode(benchmark):
    assert len(benchmark(encode, TENSOR)) > PAYLOAD_BYTES


@pytest.mark.parametrize("piece_bytes", [PIECE_BYTES, 1460])
def test_decode(benchmark, piece_bytes):
    data = encode(TENSOR)
    pieces = [data[at : at + piece_bytes] for at in range(0, len(data), piece_bytes)]
    decoder = FrameDecoder()

    def decode():
        for piece in pieces:
            decoder.feed(piece)
            message = decoder.next_message()
        return message

    assert benchmark(decode) == TENSOR
