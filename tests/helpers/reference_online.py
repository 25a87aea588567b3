"""The online part's arithmetic done a second time, slowly and plainly (paper, Section III-C,
Eqs. 7-11; Waudby-Smith and Ramdas 2024 for the betting test).

In: task features, labels, thresholds, answers in the order of time. Out: what a right controller
and a right calibration must find. Nothing here uses either of them: every label and every width is
compared, every threshold is tried.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import inf, log, sqrt

from coach_exp.types.online import Rung

SMALLEST_SECOND = 1e-12
Feature = Sequence[float]


@dataclass
class Cache:
    """Semantic centres: of each label with a centre, the sum of its features and their number m_j.
    `cap` bounds the m_j that Eq. 7 weighs the old centre with."""

    cap: int | None = None
    sums: dict[int, list[float]] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)

    def warm_up(self, features: Sequence[Feature], labels: Sequence[int]) -> None:
        """Centres are means over the tasks seen before the first one, however many."""
        for feature, label in zip(features, labels, strict=True):
            self._add(label, feature)

    def update(self, label: int, feature: Feature) -> None:
        """Eq. 7. A mean over more tasks than `cap` weighs as if it were over `cap` tasks."""
        if self.cap is not None and self.counts.get(label, 0) > self.cap:
            self.sums[label] = [self.cap * x for x in self.centre(label)]
            self.counts[label] = self.cap
        self._add(label, feature)

    def centre(self, label: int) -> list[float]:
        """T_j."""
        return [x / self.counts[label] for x in self.sums[label]]

    def similarities(self, feature: Feature) -> dict[int, float]:
        """t_j of every label with a centre (Eq. 8)."""
        return {j: max(0.0, cosine(feature, self.centre(j))) for j in sorted(self.counts)}

    def _add(self, label: int, feature: Feature) -> None:
        old = self.sums.get(label, [0.0] * len(feature))
        self.sums[label] = [a + float(b) for a, b in zip(old, feature, strict=True)]
        self.counts[label] = self.counts.get(label, 0) + 1


def cosine(a: Feature, b: Feature) -> float:
    """Of two vectors; a zero vector is like nothing."""
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    lengths = length(a) * length(b)
    return dot / lengths if lengths else 0.0


def length(a: Feature) -> float:
    """Euclidean."""
    return sqrt(sum(float(x) * float(x) for x in a))


def separability(similarities: Mapping[int, float]) -> float:
    """S (Eq. 9)."""
    if len(similarities) < 2:
        return 0.0
    *_, second, highest = sorted(similarities.values())
    ratio = highest / max(second, SMALLEST_SECOND)
    return length(list(similarities.values())) * (highest - second) * ratio


def nearest(similarities: Mapping[int, float]) -> int:
    """R (Eq. 10), the first of equals."""
    return max(similarities, key=lambda label: (similarities[label], -label))


def required(rungs: Sequence[Rung], s: float) -> Rung:
    """Q_r: the fewest bits whose threshold is passed; a threshold of -inf passes any task."""
    passed = [rung for rung in rungs if s > rung.threshold]
    return min(passed, key=lambda rung: rung.bits)


def chosen(rule: str, rungs: Sequence[Rung], s: float, rate_bps: float, compute_s: float) -> Rung:
    """Q_c by Eq. 11 or by `fill`; `compute_s` is max{T_e, T_c}."""
    least = required(rungs, s)
    allowed = [rung for rung in rungs if rung.bits >= least.bits]
    if rule == "fill":
        fitting = [rung for rung in allowed if transfer_s(rung, rate_bps) <= compute_s]
        return max(fitting, key=lambda rung: rung.bits, default=least)
    assert rule == "eq11"

    def bubble_s(rung: Rung) -> float:
        takes_s = transfer_s(rung, rate_bps)
        return abs(takes_s - max(compute_s, takes_s))

    return min(allowed, key=lambda rung: (bubble_s(rung), rung.bits))


def transfer_s(rung: Rung, rate_bps: float) -> float:
    """T'_t."""
    return 8 * rung.payload_bytes / rate_bps


@dataclass(frozen=True)
class Told:
    """What is decided about a task: `label` if it exits, `rung` if it is sent."""

    separability: float
    label: int | None
    rung: Rung | None


@dataclass
class Story:
    """The online part of one plan, asked and told in the order of time."""

    cache: Cache
    exit_threshold: float
    rungs: Sequence[Rung]
    compute_s: float
    rule: str = "eq11"
    moved_by: str = "exits"
    waiting: dict[int, Feature] = field(default_factory=dict)

    def at_cut(self, task: int, feature: Feature, rate_bps: float) -> Told:
        """Algorithm 1, lines 20-27."""
        t = self.cache.similarities(feature)
        s = separability(t)
        if t and s > self.exit_threshold:
            label = nearest(t)
            if self.moved_by in ("exits", "results"):
                self.cache.update(label, feature)
            return Told(s, label, None)
        self.waiting[task] = feature
        return Told(s, None, chosen(self.rule, self.rungs, s, rate_bps, self.compute_s))

    def answered(self, task: int, label: int) -> None:
        """The cloud's answer is known on the end; -1: no model was run."""
        feature = self.waiting.pop(task, None)
        if feature is not None and self.moved_by == "results" and label >= 0:
            self.cache.update(label, feature)


# --- Thresholds -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """One task of the calibration split: its separability and whether each way to answer it is
    right: the uncut float model, the plan's own bits, the nearest centre, fewer bits by width."""

    separability: float
    uncut: bool
    planned: bool
    nearest: bool
    sent: Mapping[int, bool]


@dataclass(frozen=True)
class Thresholds:
    """S_ext, and S_adj of each width below the plan's."""

    exits: float
    widths: Mapping[int, float]


def paper_budget(trials: Sequence[Trial], limit_points: Fraction) -> Thresholds:
    """Exits, and each width, lose at most the limit against the plan's own bits."""

    def width(bits: int) -> float:
        return boldest(trials, lambda s: lost(trials, inf, {bits: s}), limit_points)

    exits = boldest(trials, lambda s: lost(trials, s, {}), limit_points, least=0.0)
    return Thresholds(exits, {bits: width(bits) for bits in trials[0].sent})


def joint_budget(
    trials: Sequence[Trial], limit_points: Fraction, adjust: bool = True
) -> Thresholds:
    """Plan's bits, exits and fewer bits together lose at most the limit against the uncut model.
    Exits have half of what the plan's bits leave, all of it without `adjust`; widths come from the
    widest down."""
    planned = points(trials, sum(trial.uncut - trial.planned for trial in trials))
    left = limit_points - planned
    share = left / 2 if adjust else left
    exits = boldest(trials, lambda s: lost(trials, s, {}), share, least=0.0)
    widths: dict[int, float] = {}
    for bits in sorted(trials[0].sent if adjust else (), reverse=True):

        def together(s: float, bits: int = bits) -> Fraction:
            return lost(trials, exits, {**widths, bits: s})

        widths[bits] = boldest(trials, together, left)
    return Thresholds(exits, widths)


def boldest(
    trials: Sequence[Trial],
    loss: Callable[[float], Fraction],
    limit_points: Fraction,
    least: float = -inf,
) -> float:
    """The threshold from `least` on that admits the most tasks and loses at most the limit; inf: it
    admits none. An exit needs a separability, so there `least` is 0."""
    best, admitted = inf, 0
    for threshold in [least, *(trial.separability for trial in trials)]:
        above = sum(trial.separability > threshold for trial in trials)
        if above > admitted and loss(threshold) <= limit_points:
            best, admitted = threshold, above
    return best


def lost(trials: Sequence[Trial], exits: float, widths: Mapping[int, float]) -> Fraction:
    """Percentage points lost, against the plan's own bits, when a task exits if it may and else is
    sent with the fewest bits it may have."""
    total = 0
    for trial in trials:
        may = [bits for bits, threshold in widths.items() if trial.separability > threshold]
        right = trial.sent[min(may)] if may else trial.planned
        if trial.separability > exits:
            right = trial.nearest
        total += trial.planned - right
    return points(trials, total)


def points(trials: Sequence[Trial], tasks: int) -> Fraction:
    """Tasks as percentage points of all."""
    return Fraction(100 * tasks, len(trials))


# --- The betting test -----------------------------------------------------------------------------


def bet_rejects(losses: Sequence[float], limit: float, delta: float) -> bool:
    """Whether a bettor against "the mean loss exceeds `limit`" ever multiplies a capital of 1 by
    1/δ: predictable plug-in, each stake from the losses before it alone."""
    capital = 1.0
    for t, loss in enumerate(losses):
        stake = sqrt(2 * log(1 / delta) / (len(losses) * variance_before(losses[:t])))
        capital *= 1 + min(stake, 0.9 / (1 - limit)) * (limit - loss)
        if capital >= 1 / delta:
            return True
    return False


def variance_before(seen: Sequence[float]) -> float:
    """σ²_t, from a guess of mean 1/2 and variance 1/4 on; each loss is held against the mean of
    those up to it."""
    total = 1 / 4
    for i, loss in enumerate(seen):
        mean = (1 / 2 + sum(seen[: i + 1])) / (i + 2)
        total += (loss - mean) ** 2
    return total / (len(seen) + 1)
