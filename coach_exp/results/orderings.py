"""Orderings between methods that hold whatever the numbers: what a wrong implementation breaks.

In: what each method costs at one setting (a model, a device, a rate, a division). Out: for every
rule, the settings in which it holds and those in which it does not. Sums and stages are those of
the plans, rates are simulated; a mixture of plans counts by its weights.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ROUNDING = 1e-9  # relative
WINDOW = 0.01  # relative: filling and draining the pipeline, in a run of a few hundred tasks


@dataclass(frozen=True, slots=True)
class Cost:
    """One method at one setting, by its own payload.

    `end_s`, `link_s`, `cloud_s`: stage times, averaged over its plans by weight; `latency_s`: one
    task alone; `rate_its`: answers per second of a saturated pipeline. Of all cuts at this payload:
    `min_total_s` the least T_e + T_t + T_c, `min_period_s` the least longest stage, and
    `min_local_s` the least max{T_e, T_t}.
    """

    end_s: float
    link_s: float
    cloud_s: float
    latency_s: float
    rate_its: float
    min_total_s: float
    min_period_s: float
    min_local_s: float
    planning_s: float
    cut: str

    @property
    def total_s(self) -> float:
        """T_e + T_t + T_c."""
        return self.end_s + self.link_s + self.cloud_s

    @property
    def period_s(self) -> float:
        """The longest stage."""
        return max(self.end_s, self.link_s, self.cloud_s)

    @property
    def local_s(self) -> float:
        """The longer of end and link: the period that JPS plans for."""
        return max(self.end_s, self.link_s)


Costs = Mapping[str, Cost]


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting; `equal_payload`: every method sends at the same widths."""

    name: str
    mbps: float
    equal_payload: bool
    costs: Costs


@dataclass(frozen=True, slots=True)
class Rule:
    """An ordering in words, the methods it speaks of, and whether it holds. `where` leaves out the
    settings that it does not speak of."""

    words: str
    methods: tuple[str, ...]
    holds: Callable[[Costs], bool]
    where: Callable[[Setting], bool] = lambda setting: True


@dataclass(frozen=True, slots=True)
class Verdict:
    """A rule with the settings it was looked at in, and those that break it."""

    rule: Rule
    looked_at: int
    broken: tuple[Setting, ...]


def _at_most(low: float, high: float, slack: float = ROUNDING) -> bool:
    return low <= high * (1 + slack)


def _same(one: float, other: float) -> bool:
    return _at_most(one, other) and _at_most(other, one)


def _all_answer_within_bound(costs: Costs) -> bool:
    return all(_at_most(c.rate_its * c.min_total_s, 3, WINDOW) for c in costs.values())


def _no_cut_beats(what: str, oracle: str) -> Callable[[Costs], bool]:
    single = ("ns", "ns_prefix", "dads_light", "dads_heavy", "pipebalance", "device_only")

    def holds(costs: Costs) -> bool:
        best = getattr(costs[oracle], what)
        return all(_at_most(best, getattr(costs[name], what)) for name in single if name in costs)

    return holds


RULES = (
    Rule(
        "dads_light has the least T_e + T_t + T_c of all cuts",
        ("dads_light",),
        lambda c: _same(c["dads_light"].total_s, c["dads_light"].min_total_s),
    ),
    Rule(
        "T_e + T_t + T_c: dads_light ≤ ns_prefix ≤ ns",
        ("dads_light", "ns_prefix", "ns"),
        lambda c: (
            _at_most(c["dads_light"].total_s, c["ns_prefix"].total_s)
            and _at_most(c["ns_prefix"].total_s, c["ns"].total_s)
        ),
    ),
    Rule(
        "longest stage: best cut ≤ dads_heavy ≤ 3 × best cut",
        ("dads_heavy",),
        lambda c: (
            _at_most(c["dads_heavy"].min_period_s, c["dads_heavy"].period_s)
            and _at_most(c["dads_heavy"].period_s, 3 * c["dads_heavy"].min_period_s)
        ),
    ),
    Rule(
        "longest stage: dads_heavy ≤ dads_light",
        ("dads_heavy", "dads_light"),
        lambda c: _at_most(c["dads_heavy"].period_s, c["dads_light"].period_s),
    ),
    Rule(
        "end and link: jps ≤ jps_adjacent",
        ("jps", "jps_adjacent"),
        lambda c: _at_most(c["jps"].local_s, c["jps_adjacent"].local_s),
    ),
    Rule(
        "end and link: jps_path ≤ best cut, jps_path ≤ jps",
        ("jps", "jps_path"),
        lambda c: (
            _at_most(c["jps_path"].local_s, c["jps_path"].min_local_s)
            and _at_most(c["jps_path"].local_s, c["jps"].local_s)
        ),
    ),
    Rule(
        "answers per second ≤ 3 / least (T_e + T_t + T_c), every method",
        (),
        _all_answer_within_bound,
    ),
    Rule(
        "dads_heavy answers at least as often as ns_sequential",
        ("dads_heavy", "ns_sequential"),
        lambda c: _at_most(c["ns_sequential"].rate_its, c["dads_heavy"].rate_its, WINDOW),
    ),
    Rule(
        "jps answers at least as often as ns_sequential, where the cloud is not its longest stage",
        ("jps", "ns_sequential"),
        lambda c: _at_most(c["ns_sequential"].rate_its, c["jps"].rate_its, WINDOW),
        lambda setting: setting.costs["jps"].cloud_s <= setting.costs["jps"].local_s,
    ),
    Rule(
        "longest stage: oracle_bottleneck ≤ every single cut, at equal payloads",
        ("oracle_bottleneck",),
        _no_cut_beats("period_s", "oracle_bottleneck"),
        lambda setting: setting.equal_payload,
    ),
    Rule(
        "one task alone: oracle_latency ≤ every single cut, at equal payloads",
        ("oracle_latency",),
        _no_cut_beats("latency_s", "oracle_latency"),
        lambda setting: setting.equal_payload,
    ),
)


def judged(settings: Sequence[Setting]) -> list[Verdict]:
    """Every rule in every setting where all its methods could run."""
    verdicts = []
    for rule in RULES:
        known = [s for s in settings if set(rule.methods) <= set(s.costs)]
        spoken_of = [s for s in known if rule.where(s)]
        broken = tuple(s for s in spoken_of if not rule.holds(s.costs))
        verdicts.append(Verdict(rule, len(spoken_of), broken))
    return verdicts


HEADS = ("ordering", "settings", "holds in", "broken in")


def verdict_row(verdict: Verdict) -> list[str]:
    """One line of the table of orderings."""
    count, wrong = verdict.looked_at, verdict.broken
    places = "; ".join(f"{s.name} {s.mbps:g} Mbps" for s in wrong)
    return [verdict.rule.words, str(count), str(count - len(wrong)), places or "–"]


def cost_heads(rates: Sequence[float]) -> list[str]:
    """A column for each rate."""
    return ["method", *(f"{rate:g} Mbps" for rate in rates)]


def cost_rows(settings: Sequence[Setting]) -> list[list[str]]:
    """A line for each method: T_e + T_t + T_c, the longest stage, and answers per second."""
    names = list(dict.fromkeys(name for each in settings for name in each.costs))
    return [[name, *(_cost(each.costs.get(name)) for each in settings)] for name in names]


def _cost(cost: Cost | None) -> str:
    if cost is None:
        return "–"
    return f"{1e3 * cost.total_s:.1f} ms, {1e3 * cost.period_s:.1f} ms, {cost.rate_its:.1f} it/s"


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """For `orderings.json`."""
    return {
        "ordering": verdict.rule.words,
        "settings": verdict.looked_at,
        "broken": [{"setting": s.name, "mbps": s.mbps} for s in verdict.broken],
    }
