"""Thresholds from evidence: whom the cache may answer and who may be sent with fewer bits, for a
limit on the accuracy that this may cost (S_ext and S_adj of Algorithm 1, line 19).

In: for every calibration task its separability and whether each way of answering it is right. Out:
thresholds. Three budgets for the limit ε:

* `paper`: exits lose at most ε, and each width below the plan's loses at most ε, as Eqs. 1 and 9-11
  read. Together with the plan's own bits, ε may be spent three times.
* `joint`: the plan's bits, exits and fewer bits lose at most ε together against the uncut float
  model. Half of what the plan's bits have left is for exits, the rest for fewer bits.
* `guarantee`: exits and fewer bits together lose more than ε, against the plan without them, with
  probability at most δ over the draw of the calibration videos; see `risk`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np
from numpy.typing import NDArray

from coach_exp.online.risk import followed, smallest_limit
from coach_exp.types.online import Budget, Certified, Curve

STEPS = 60  # policies for each rung of the ladder
SHOWN_LIMITS = (0.02, 0.03)  # certified beside the chosen limit, for comparison
CURVE_POINTS = 400

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evidence:
    """One row for each calibration task: [n]. `sent` tells by bit-width, `bits` being the plan's
    own and the greatest, whether the cloud's answer is right; `video` is the unit of chance.
    `reference` holds separabilities of other tasks, on which the ladder's steps are laid out."""

    separability: Floats
    exit_right: Bools
    sent: Mapping[int, Bools]
    bits: int
    uncut_right: Bools
    video: NDArray[np.int64]
    reference: Floats

    @property
    def plain(self) -> Bools:
        """Whether the plan without an online part is right."""
        return self.sent[self.bits]

    @property
    def fewer(self) -> tuple[int, ...]:
        """Widths below the plan's, the widest first."""
        return tuple(sorted((b for b in self.sent if b < self.bits), reverse=True))


@dataclass(frozen=True, slots=True)
class Thresholds:
    """S_ext, and S_adj by bit-width: a task must be strictly above; inf admits none."""

    exit: float = inf
    adjust: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be spent: the budget's kind, ε as a fraction, δ, and on which of the two parts."""

    budget: Budget = "paper"
    loss: float = 0.005
    delta: float = 0.1
    exits: bool = True
    adjust: bool = True


def thresholds(evidence: Evidence, limits: Limits) -> Thresholds:
    """The thresholds of a budget."""
    if limits.budget == "paper":
        return _paper(evidence, limits)
    if limits.budget == "joint":
        return _joint(evidence, limits)
    return _guarantee(evidence, limits)


def answers_right(evidence: Evidence, chosen: Thresholds) -> Bools:
    """Whether each task is answered rightly when all that may exit do, and the others are sent with
    the fewest bits they may have: [n]."""
    right = evidence.plain.copy()
    for bits in evidence.fewer:
        admitted = evidence.separability > chosen.adjust.get(bits, inf)
        right[admitted] = evidence.sent[bits][admitted]
    exits = evidence.separability > chosen.exit
    right[exits] = evidence.exit_right[exits]
    return right


def admitting(separability: Floats, loss: Floats, limit: float) -> float:
    """The threshold above which the largest set of tasks lies that loses at most `limit`: [n], [n]
    loss of each task as a share of all -> threshold; inf where even the most separable task loses
    too much, -inf where all may be admitted. Tasks of equal separability are admitted together.

    >>> admitting(np.array([3.0, 2.0, 1.0]), np.array([0.0, 0.5, 0.5]), limit=0.5)
    1.0
    """
    order = np.argsort(-separability, kind="stable")
    sorted_s = np.append(separability[order], -inf)
    whole = sorted_s[:-1] > sorted_s[1:]  # a set ends where its last task's equals end
    allowed = np.flatnonzero(whole & (np.cumsum(loss[order]) <= limit + 1e-12))
    return float(sorted_s[allowed[-1] + 1]) if len(allowed) else inf


def _loss(before: Bools, after: Bools) -> Floats:
    """Accuracy each task costs, as a share of all tasks: [n]."""
    return (before.astype(np.float64) - after) / max(len(before), 1)


def _exit_threshold(separability: Floats, loss: Floats, limit: float) -> float:
    """As `admitting`, but no task without any separability is answered from the cache, so what such
    tasks would win does not pay for others."""
    some = separability > 0
    return max(0.0, admitting(separability[some], loss[some], limit))


def _paper(evidence: Evidence, limits: Limits) -> Thresholds:
    s, plain = evidence.separability, evidence.plain
    exit_at = inf
    if limits.exits:
        exit_at = _exit_threshold(s, _loss(plain, evidence.exit_right), limits.loss)
    adjust = {
        bits: admitting(s, _loss(plain, evidence.sent[bits]), limits.loss)
        for bits in (evidence.fewer if limits.adjust else ())
    }
    return Thresholds(exit_at, adjust)


def _joint(evidence: Evidence, limits: Limits) -> Thresholds:
    s, right = evidence.separability, evidence.plain.copy()
    left = limits.loss - float(_loss(evidence.uncut_right, right).sum())
    chosen = Thresholds()
    if limits.exits:
        share = left / 2 if limits.adjust else left
        exit_at = _exit_threshold(s, _loss(right, evidence.exit_right), share)
        chosen = Thresholds(exit_at)
        right = answers_right(evidence, chosen)
        left = limits.loss - float(_loss(evidence.uncut_right, right).sum())
    for bits in evidence.fewer if limits.adjust else ():
        stays = s > chosen.exit
        loss = np.where(stays, 0.0, _loss(right, evidence.sent[bits]))
        at = admitting(s, loss, left)
        chosen = Thresholds(chosen.exit, {**chosen.adjust, bits: at})
        right = answers_right(evidence, chosen)
        left = limits.loss - float(_loss(evidence.uncut_right, right).sum())
    return chosen


# --- Guarantee ------------------------------------------------------------------------------------


def _guarantee(evidence: Evidence, limits: Limits) -> Thresholds:
    policies = list(ladder(evidence, limits))
    count = followed((_video_losses(evidence, p) for p in policies), limits.loss, limits.delta)
    return policies[count - 1] if count else Thresholds()


def certificates(evidence: Evidence, limits: Limits) -> tuple[Certified, ...]:
    """What can be certified with the chosen limit and, for comparison, with 2 and 3 points."""
    losses, policies = _losses(evidence, limits)
    tried = sorted({limits.loss, *SHOWN_LIMITS})
    return tuple(_certified(evidence, policies, losses, limit, limits.delta) for limit in tried)


def min_certificate(evidence: Evidence, limits: Limits) -> Certified | None:
    """The smallest limit at which anything can be certified, and what is kept then; None where
    there is no such limit below the whole."""
    losses, policies = _losses(evidence, limits)
    least = smallest_limit(losses[0], limits.delta) if losses else None
    if least is None:
        return None
    return _certified(evidence, policies, losses, least, limits.delta)


def _losses(evidence: Evidence, limits: Limits) -> tuple[list[Floats], list[Thresholds]]:
    policies = list(ladder(evidence, limits))
    return [_video_losses(evidence, policy) for policy in policies], policies


def _certified(
    evidence: Evidence,
    policies: Sequence[Thresholds],
    losses: Sequence[Floats],
    limit: float,
    delta: float,
) -> Certified:
    count = followed(losses, limit, delta)
    policy = policies[count - 1] if count else Thresholds()
    exits = evidence.separability > policy.exit
    fewer = evidence.separability > min(policy.adjust.values(), default=inf)
    return Certified(100 * limit, float(exits.mean()), float((fewer & ~exits).mean()))


def ladder(evidence: Evidence, limits: Limits) -> Iterator[Thresholds]:
    """Policies from cautious to bold, fixed before any answer of the calibration split is looked at
    here (the plan's widths were searched on it before).

    The rungs are the widths below the plan's, the widest first, and the exit. At position u, of L
    rungs the k-th admits the share u·(L − k + 1)/L of the tasks, at most all: fewer tasks the more
    a rung spares. Shares are those of `reference`, since the calibration tasks must not choose.
    """
    fewer = evidence.fewer if limits.adjust else ()
    top = len(fewer) + limits.exits
    for u in np.linspace(0, top, STEPS * top + 1)[1:]:
        at = [_above(evidence.reference, min(1.0, u * (top - k) / top)) for k in range(top)]
        exit_at = max(0.0, at[-1]) if limits.exits else inf
        yield Thresholds(exit_at, dict(zip(fewer, at, strict=False)))


def _above(reference: Floats, share: float) -> float:
    """The threshold that the given share of the reference tasks exceeds."""
    return -inf if share >= 1 else float(np.quantile(reference, 1 - share))


def _video_losses(evidence: Evidence, policy: Thresholds) -> Floats:
    """Mean loss of each video's frames, in random order: [videos]."""
    loss = evidence.plain.astype(np.float64) - answers_right(evidence, policy)
    return _by_video(loss, evidence.video)


def _by_video(values: Floats, video: NDArray[np.int64]) -> Floats:
    _, which = np.unique(video, return_inverse=True)
    means = np.bincount(which, weights=values) / np.bincount(which)
    return np.random.default_rng(0).permutation(means)


# --- Curves ---------------------------------------------------------------------------------------


def curves(evidence: Evidence, chosen: Thresholds, limits: Limits) -> tuple[Curve, ...]:
    """What every threshold would admit and lose, for exits and for each width below the plan's."""
    options: dict[str, tuple[Bools, float]] = {}
    if limits.exits:
        options["exit"] = (evidence.exit_right, chosen.exit)
    for bits in evidence.fewer if limits.adjust else ():
        options[f"{bits} bits"] = (evidence.sent[bits], chosen.adjust.get(bits, inf))
    return tuple(_curve(name, evidence, *option) for name, option in options.items())


def _curve(name: str, evidence: Evidence, right: Bools, at: float) -> Curve:
    order = np.argsort(-evidence.separability, kind="stable")
    loss = np.cumsum(_loss(evidence.plain, right)[order])
    count = len(order)
    kept = np.unique(np.linspace(0, count - 1, min(count, CURVE_POINTS)).round().astype(int))
    return Curve(name, evidence.separability[order][kept], (kept + 1) / count, 100 * loss[kept], at)
