"""Bit-widths of crossing tensors: Q(v) of Eq. 1."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FixedBits:
    """The same width for every tensor, and the input's own for the raw input."""

    width: int
    input_layer: str
    input_bits: int = 8

    def bits(self, layer: str) -> int:
        """Bit-width for `layer`."""
        return self.input_bits if layer == self.input_layer else self.width
