"""Payload sizes that only the real bytes tell: of entropy-coded tensors, on average and at another
resolution.

In: sizes measured on samples of one resolution. Out: sizes at the resolution that is timed. A
payload keeps its share of what the codec expects at most, which is exact for codecs whose sizes do
not depend on content.
"""

from collections.abc import Mapping

import numpy as np

from coach_exp.types.graph import Layer, LayerGraph
from coach_exp.types.outcomes import Codec, Crossing, Outcomes, TensorSize


def rescaled_bytes(
    payload_bytes: float, bits: int, codec: Codec, measured: TensorSize, timed: Layer
) -> int:
    """Bytes of a payload at the timed resolution, rounded.

    `payload_bytes` × expected bytes of the timed layer / expected bytes of the measured one.
    """
    there = codec.expected_bytes(timed.elements, bits, timed.rows)
    here = codec.expected_bytes(measured.elements, bits, measured.rows)
    return round(payload_bytes * there / here)


def mean_bytes(
    answers: Outcomes, crossing: tuple[Crossing, ...], timed: LayerGraph, codec: Codec
) -> Mapping[str, int]:
    """Mean payload of each tensor of a cut over all samples, at the timed resolution: by layer.

    `codec` is the one that `answers` went through.
    """
    sizes = [answers.predict(i, crossing).payload_bytes for i in range(answers.samples)]
    return {
        tensor.layer: rescaled_bytes(
            mean, tensor.bits, codec, answers.tensor_size(tensor.layer), timed[tensor.layer]
        )
        for tensor, mean in zip(crossing, np.mean(sizes, axis=0).tolist(), strict=True)
    }
