"""Bit-widths of crossing tensors: Q(v), the fewest bits whose accuracy loss is at most ε (Eq. 1).

In: answers of the real model on a calibration split. Out: a width per tensor. Only tensors that a
plan uses are searched; until then a tensor counts as having the least width, which bounds every
plan from below, so planning and searching in turn ends at a plan whose widths are all known.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from coach_exp.types.outcomes import Crossing, Outcomes

MIN_BITS, MAX_BITS = 2, 8
FLOAT16, FLOAT32 = 16, 32


@dataclass(frozen=True, slots=True)
class FixedBits:
    """The same width for every tensor, and the input's own for the raw input."""

    width: int
    input_layer: str
    input_bits: int = 8

    def bits(self, layer: str) -> int:
        """Bit-width for `layer`."""
        return self.input_bits if layer == self.input_layer else self.width

    def fresh(self) -> "FixedBits":
        """The same: there is nothing to forget."""
        return self

    def settle(self, crossing: Sequence[str]) -> bool:
        """Nothing is searched, so nothing changes."""
        return False


@dataclass(frozen=True)
class SearchedBits:
    """Widths found by dichotomous search on what `calibration` yields when it is first needed.

    The loss is that of the predicted labels' accuracy against the uncut float model, in percentage
    points. A width counts only if the one above it passes as well: accuracy need not grow with
    every bit. A tensor that needs more than 8 bits goes as float16. What the raw input loses on its
    way, as a JPEG file, is not counted: how it crosses is the user's choice, the same for all.
    """

    calibration: Callable[[], Outcomes]
    limit_points: float
    input_layer: str
    input_bits: int = 8
    found: dict[str, int] = field(default_factory=dict)
    losses: dict[tuple[Crossing, ...], float] = field(default_factory=dict)

    def bits(self, layer: str) -> int:
        """Bit-width for `layer`: the one found, or the least while it was not searched."""
        if layer == self.input_layer:
            return self.input_bits
        return self.found.get(layer, MIN_BITS)

    def fresh(self) -> "SearchedBits":
        """The same losses, no widths: what is found does not depend on who searched before."""
        return replace(self, found={})

    def settle(self, crossing: Sequence[str]) -> bool:
        """Search the widths that a cut with these crossing tensors needs; True if any changed.

        Each tensor alone first, the others as floats; then all together, and while they lose too
        much, the widest is raised.
        """
        before = [self.bits(layer) for layer in crossing]
        for layer in crossing:
            if layer != self.input_layer and layer not in self.found:
                self.found[layer] = self._search(layer, crossing)
        raised = [layer for layer in crossing if layer != self.input_layer]
        while self.loss_points(self._sent(crossing)) > self.limit_points:
            growing = [layer for layer in raised if self.found[layer] < FLOAT32]
            if not growing:
                break
            widest = max(growing, key=self.found.__getitem__)
            self.found[widest] = _wider(self.found[widest])
        return before != [self.bits(layer) for layer in crossing]

    def loss_points(self, crossing: tuple[Crossing, ...]) -> float:
        """Accuracy lost on the calibration split when these tensors are sent so, in points."""
        if crossing not in self.losses:
            ask = self.calibration()
            drop = np.mean(
                [
                    (ask.uncut(i) == ask.true_label(i))
                    - (ask.predict(i, crossing).label == ask.true_label(i))
                    for i in range(ask.samples)
                ]
            )
            self.losses[crossing] = 100 * float(drop)
        return self.losses[crossing]

    def _sent(self, crossing: Sequence[str]) -> tuple[Crossing, ...]:
        return tuple(
            Crossing(layer, FLOAT32 if layer == self.input_layer else self.bits(layer))
            for layer in crossing
        )

    def _search(self, layer: str, crossing: Sequence[str]) -> int:
        def passes(width: int) -> bool:
            sent = tuple(
                Crossing(other, width if other == layer else FLOAT32) for other in crossing
            )
            return self.loss_points(sent) <= self.limit_points

        low, high = MIN_BITS, FLOAT16 if not passes(MAX_BITS) else MAX_BITS
        while low < high <= MAX_BITS:
            middle = (low + high) // 2
            low, high = (low, middle) if passes(middle) else (middle + 1, high)
        while high < MAX_BITS and not (passes(high) and passes(high + 1)):
            high += 1
        return high


def _wider(width: int) -> int:
    """The next width: one bit more up to 8, then float16, then float32.

    >>> [_wider(w) for w in (3, 8, 16)]
    [4, 16, 32]
    """
    if width < MAX_BITS:
        return width + 1
    return FLOAT16 if width == MAX_BITS else FLOAT32
