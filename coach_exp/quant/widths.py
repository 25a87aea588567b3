"""How the bit-widths of crossing tensors are found, as `conf/precision` says it.

In: the answers of the model on the calibration split, where there is a trained model. Out: a
`BitTable`. Any class with a method `table` will do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pydantic import PositiveFloat, PositiveInt

from coach_exp.quant.precision import FixedBits, SearchedBits
from coach_exp.types.outcomes import BitTable, Outcomes, Width


class Precision(Protocol):
    """Chooses the bit-widths."""

    @property
    def bits(self) -> int:
        """The width of a tensor where no model can be asked."""

    def table(
        self, answers: Callable[[], Outcomes] | None, input_layer: str, input_bits: int
    ) -> BitTable:
        """The widths of every layer's output, and of the raw input its own. `answers` yields those
        of the model on the calibration split; None where no model is trained."""


@dataclass(frozen=True, slots=True)
class FixedPrecision:
    """The same width for every crossing tensor."""

    bits: Width = 4

    def table(
        self, answers: Callable[[], Outcomes] | None, input_layer: str, input_bits: int
    ) -> BitTable:
        """This width, whatever the model answers."""
        return FixedBits(self.bits, input_layer, input_bits)


@dataclass(frozen=True, slots=True)
class SearchedPrecision:
    """The fewest bits that lose at most `limit_points` percentage points of accuracy (Eq. 1).

    `bits` is the width where no model is trained; `cuts` is how many boundaries job=precision looks
    at.
    """

    limit_points: PositiveFloat = 0.5
    bits: Width = 4
    cuts: PositiveInt = 12

    def table(
        self, answers: Callable[[], Outcomes] | None, input_layer: str, input_bits: int
    ) -> BitTable:
        """Widths searched when they are first needed; fixed ones where there are no answers."""
        if answers is None:
            return FixedBits(self.bits, input_layer, input_bits)
        return SearchedBits(answers, self.limit_points, input_layer, input_bits)
