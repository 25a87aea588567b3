"""How tasks were answered: by the cache, by the end alone, or by the cloud at some bit-width.

In: `Records`. Out: the way of each task, and the share of each way over time.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from coach_exp.types.task import Records

EXIT, LOCAL = "exit", "on the end"


def way(records: Records) -> NDArray[np.str_]:
    """How each task was answered [n]: `exit`, `on the end`, or the number of bits sent."""
    sent = np.char.add(records.bits.astype(np.str_), " bits")
    early = records.decision == "exit"
    unsent = np.where(early, EXIT, LOCAL)
    found: NDArray[np.str_] = np.where(early | (records.bits == 0), unsent, sent)
    return found


def ways(runs: Iterable[Records]) -> list[str]:
    """The ways that occur in any run: widths first, the fewest bits foremost, then what was not
    sent.
    """
    found = set[str]().union(*(np.unique(way(records)).tolist() for records in runs))
    bits = sorted(int(each.split()[0]) for each in found - {EXIT, LOCAL})
    return [*(f"{b} bits" for b in bits), *(each for each in (EXIT, LOCAL) if each in found)]


def way_shares(
    records: Records, names: Sequence[str], edges_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Of the tasks answered in each bin of time, how many per cent in which way: [ways, bins]."""
    own, finish_s = way(records), records.finish_s
    answers = np.maximum(np.histogram(finish_s, edges_s)[0], 1)
    rows = [100 * np.histogram(finish_s[own == name], edges_s)[0] / answers for name in names]
    return np.array(rows).reshape(len(names), len(edges_s) - 1)
