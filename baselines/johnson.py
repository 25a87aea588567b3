"""Two-machine flow shops whose jobs choose where to be cut (Johnson 1954; Duan & Wu, IWQoS 2021).

In: for each cut the seconds that a task of it holds the device, then the link. Out: the order of
given jobs, and which cuts in which shares give the least makespan or, in the long run, the least
period. Nothing here knows layers, plans or a cloud.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

ROUNDING = 1e-12  # relative; what is less is no difference


class Load(NamedTuple):
    """Seconds that one task holds the device, and after it the link: f and g of its cut."""

    end_s: float
    link_s: float


@dataclass(frozen=True, slots=True)
class Mix:
    """Cuts by position, in Johnson's order, and the share of the tasks that each is for."""

    cuts: tuple[int, ...]
    shares: tuple[float, ...] = (1.0,)

    def mean(self, loads: Sequence[Load]) -> Load:
        """The load of an average task.

        >>> Mix((0, 1), (0.25, 0.75)).mean([Load(0, 8), Load(4, 0)])
        Load(end_s=3.0, link_s=2.0)
        """
        pairs = list(zip(self.cuts, self.shares, strict=True))
        return Load(
            sum(share * loads[cut].end_s for cut, share in pairs),
            sum(share * loads[cut].link_s for cut, share in pairs),
        )

    def jobs(self, tasks: int) -> list[int]:
        """The cuts of `tasks` tasks, in Johnson's order, where the shares are whole numbers of
        them.

        >>> Mix((0, 1), (0.25, 0.75)).jobs(4)
        [0, 1, 1, 1]
        """
        pairs = zip(self.cuts, self.shares, strict=True)
        return [cut for cut, share in pairs for _ in range(round(share * tasks))]


def johnson_order(jobs: Sequence[Load]) -> list[int]:
    """Positions of the jobs in an order of least makespan: first those with less device than link
    time, by growing device time, then the others by falling link time. Of equal jobs the first
    given comes first.

    >>> johnson_order([Load(4, 2), Load(2, 5), Load(6, 0), Load(0, 10)])
    [3, 1, 0, 2]
    """

    def place(job: int) -> tuple[bool, float]:
        end_s, link_s = jobs[job]
        return (True, -link_s) if end_s >= link_s else (False, end_s)

    return sorted(range(len(jobs)), key=place)


def makespan_s(jobs: Sequence[Load]) -> float:
    """When the link has sent the last job, all run in the given order.

    >>> makespan_s([Load(2, 5), Load(4, 2)])  # device 0-2-6, link 2-7-9
    9.0
    """
    ended_s = sent_s = 0.0
    for end_s, link_s in jobs:
        ended_s += end_s
        sent_s = max(ended_s, sent_s) + link_s
    return sent_s


def undominated(loads: Sequence[Load]) -> list[int]:
    """Positions of the cuts that no other beats or equals in both times, by growing device time:
    the monotone clean-up. Of equal cuts the first given stays.

    >>> undominated([Load(0, 10), Load(2, 12), Load(4, 2), Load(5, 2), Load(6, 0)])
    [0, 2, 4]
    """
    kept: list[int] = []
    for cut in sorted(range(len(loads)), key=loads.__getitem__):
        if not kept or loads[cut].link_s < loads[kept[-1]].link_s:
            kept.append(cut)
    return kept


def lower_hull(loads: Sequence[Load]) -> list[int]:
    """Positions of the undominated cuts on the lower left of the convex hull. Cuts on the line
    between two others stay: closer cuts mix with less waiting.

    >>> lower_hull([Load(0, 10), Load(2, 9), Load(4, 2), Load(5, 1), Load(6, 0)])
    [0, 2, 3, 4]
    """
    hull: list[int] = []
    for cut in range(len(loads)):
        while len(hull) > 1 and _above(loads[hull[-1]], loads[hull[-2]], loads[cut]):
            hull.pop()
        hull.append(cut)
    return hull


def _above(middle: Load, left: Load, right: Load) -> bool:
    """Whether `middle` lies above the line from `left` to `right`, right of it and below."""
    width, height = right.end_s - left.end_s, left.link_s - right.link_s
    over = (middle.link_s - left.link_s) * width + height * (middle.end_s - left.end_s)
    return over > ROUNDING * width * height


def adjacent_mix(loads: Sequence[Load]) -> Mix:
    """JPS's two neighbouring cuts, from undominated ones: l*, the first with f >= g, found by
    halving, and the one before it, in the ratio (f(l*) - g(l*)) : (g(l*-1) - f(l*-1)) at which
    device and link are busy alike. One cut alone where l* is the first, or where no cut has f >= g
    the last.

    >>> adjacent_mix([Load(0, 10), Load(2, 5), Load(4, 2), Load(6, 0)])
    Mix(cuts=(1, 2), shares=(0.4, 0.6))
    """
    second = bisect_left(loads, 0.0, key=lambda load: load.end_s - load.link_s)
    if second in (0, len(loads)):
        return Mix((min(second, len(loads) - 1),))
    first = second - 1
    link_ahead_s = loads[first].link_s - loads[first].end_s
    end_ahead_s = loads[second].end_s - loads[second].link_s
    share = end_ahead_s / (link_ahead_s + end_ahead_s)
    if min(share, 1 - share) < ROUNDING:
        return Mix((second if share < ROUNDING else first,))
    return Mix((first, second), (share, 1 - share))


def hull_mix(loads: Sequence[Load]) -> Mix:
    """The mix of least period of all mixes of undominated cuts: that of the two cuts at the ends of
    the hull's edge that crosses f = g.

    >>> hull_mix([Load(0, 10), Load(2, 9), Load(4, 2), Load(6, 0)])  # 1 lies above 0-2
    Mix(cuts=(0, 2), shares=(0.16666666666666666, 0.8333333333333334))
    """
    hull = lower_hull(loads)
    mix = adjacent_mix([loads[cut] for cut in hull])
    return Mix(tuple(hull[cut] for cut in mix.cuts), mix.shares)


def finite_mix(loads: Sequence[Load], mix: Mix, tasks: int) -> Mix:
    """The same two cuts in the shares of least makespan for so many tasks; of equal ones the least
    sent. Every number of tasks is tried, none and all included.

    >>> finite_mix([Load(2, 5), Load(4, 2)], Mix((0, 1), (0.4, 0.6)), tasks=1)
    Mix(cuts=(1,), shares=(1.0,))
    """
    if len(mix.cuts) == 1:
        return mix
    first, second = (loads[cut] for cut in mix.cuts)
    count = min(range(tasks + 1), key=lambda k: two_cut_makespan_s(first, second, k, tasks))
    if count in (0, tasks):
        return Mix((mix.cuts[count == 0],))
    return Mix(mix.cuts, (count / tasks, 1 - count / tasks))


def two_cut_makespan_s(first: Load, second: Load, of_first: int, tasks: int) -> float:
    """The makespan of `of_first` jobs with f <= g before others with f >= g, in closed form: the
    device waits for nothing and the link only before the first or after the last job.

    >>> two_cut_makespan_s(Load(2, 5), Load(4, 2), of_first=1, tasks=2)
    9
    """
    of_second = tasks - of_first
    opening, closing = (first if of_first else second), (second if of_second else first)
    device_s = of_first * first.end_s + of_second * second.end_s
    link_s = of_first * first.link_s + of_second * second.link_s
    return max(opening.end_s + link_s, device_s + closing.link_s)


def exact_mix(loads: Sequence[Load], tasks: int) -> Mix:
    """The mix of least makespan of all multisets of undominated cuts: these stand in Johnson's
    order already, so each number of tasks needs only its undominated pairs of the times at which
    device and link are free. Of equal ones the device is free first, then the earlier cuts win.

    >>> exact_mix([Load(0, 10), Load(2, 5), Load(4, 2), Load(6, 0)], tasks=4)  # 14 s
    Mix(cuts=(0, 2, 3), shares=(0.25, 0.5, 0.25))
    """
    fronts: list[list[_Partial]] = [[(0.0, 0.0, ())], *([] for _ in range(tasks))]
    for cut, (end_s, link_s) in enumerate(loads):
        for count in range(tasks):
            longer = [
                (ended + end_s, max(ended + end_s, sent) + link_s, (*cuts, cut))
                for ended, sent, cuts in fronts[count]
            ]
            fronts[count + 1] = _front(fronts[count + 1] + longer)
    # The front falls in the link's time, so its last has the least makespan.
    counts = Counter(fronts[tasks][-1][2])
    return Mix(tuple(counts), tuple(count / tasks for count in counts.values()))


_Partial = tuple[float, float, tuple[int, ...]]  # device free at, link free at, cuts so far


def _front(partials: list[_Partial]) -> list[_Partial]:
    front: list[_Partial] = []
    for partial in sorted(partials):
        if not front or partial[1] < front[-1][1]:
            front.append(partial)
    return front
