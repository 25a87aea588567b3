"""How far two clocks are apart, from pings that went to and fro (the four stamps of NTP).

In: the stamps of finished pings. Out: what to subtract from the other side's times.
"""

from collections import deque
from typing import NamedTuple

KEPT = 16  # pings; older ones say little where clocks drift


class PingSample(NamedTuple):
    """One ping: `rtt_s` without the time that the other side took to reply, and `offset_s`, the
    other clock minus this one."""

    rtt_s: float
    offset_s: float


class ClockOffset:
    """Knows the other side's clock minus this one, as the fastest of the last pings saw it: the
    less time a ping took, the less its two ways can differ.

    >>> clock = ClockOffset()
    >>> clock.add(sent_s=10.0, received_s=110.25, replied_s=110.5, back_s=10.75)
    >>> clock.offset_s, clock.rtt_s
    (100.0, 0.5)
    """

    def __init__(self) -> None:
        self._samples: deque[PingSample] = deque(maxlen=KEPT)

    def add(self, sent_s: float, received_s: float, replied_s: float, back_s: float) -> None:
        """Take in a ping: first and last are stamps of this side, the others of the other."""
        rtt_s = (back_s - sent_s) - (replied_s - received_s)
        offset_s = ((received_s - sent_s) + (replied_s - back_s)) / 2
        self._samples.append(PingSample(rtt_s, offset_s))

    @property
    def known(self) -> bool:
        """Whether any ping came back."""
        return bool(self._samples)

    @property
    def offset_s(self) -> float:
        """The difference of the clocks; 0 while no ping has come back."""
        return min(self._samples).offset_s if self._samples else 0.0

    @property
    def rtt_s(self) -> float:
        """The fastest of the last pings; 0 while none has come back."""
        return min(self._samples).rtt_s if self._samples else 0.0
