"""How far the simulator and the sockets disagree about the same tasks.

In: the records of one run, simulated and executed. Out: differences, executed minus simulated, each
with a 95 % interval: of every stage task by task, of latency, of throughput; and how many tasks
were decided and answered alike.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from coach_exp.network.trace import Trace
from coach_exp.results.metrics import RESOURCES, Estimate, Floats, Summary, mean, ratio
from coach_exp.types.task import Records

MIN_PIECE_S: Final = 1.0  # of the run, over which the busiest resource is looked for

ROWS: Final = (  # what the table shows: its words, metric of both sides, their difference
    ("throughput, it/s", "throughput_its", "diff_throughput_percent", " %"),
    ("latency, ms", "latency_mean_ms", "diff_latency_ms", " ms"),
    ("end held, ms/task", "end_mean_ms", "diff_end_ms", " ms"),
    ("link held, ms/task", "link_mean_ms", "diff_link_ms", " ms"),
    ("cloud held, ms/task", "cloud_mean_ms", "diff_cloud_ms", " ms"),
    ("in queues, ms/task", "queued_mean_ms", "diff_queued_ms", " ms"),
)
WITHIN_PERCENT: Final = 5.0  # the two agree, in throughput;
WITHIN_MS: Final = 1.0  # in mean latency up to this as well, where it is more
HEADS: Final = ("", "simulated", "sockets", "difference [95 %]")


def agreement(simulated: Records, executed: Records) -> Summary:
    """Metrics of both sides as `sim_*` and `net_*`, differences as `diff_*`; over the tasks that
    both have answered. `same_decision_ratio`: of those tasks, decided alike and with the same bits;
    `same_answer_ratio`: of these, answered alike.
    """
    both = ~(simulated.dropped | executed.dropped)
    sides = {"sim": _series(simulated, both), "net": _series(executed, both)}
    metrics: dict[str, Estimate] = {}
    for name in sides["sim"]:
        a, b = sides["sim"][name], sides["net"][name]
        metrics[f"sim_{name}_mean_ms"] = mean(1e3 * a)
        metrics[f"net_{name}_mean_ms"] = mean(1e3 * b)
        metrics[f"diff_{name}_ms"] = mean(1e3 * (b - a))
    late_s = sides["net"]["latency"] - sides["sim"]["latency"]
    metrics["diff_latency_median_ms"] = Estimate(float(np.median(1e3 * late_s)))
    metrics |= _throughput(simulated, executed, both)
    alike = (simulated.decision == executed.decision) & (simulated.bits == executed.bits) & both
    metrics["same_decision_ratio"] = ratio(alike[both])
    if alike.any():
        metrics["same_answer_ratio"] = ratio((simulated.predicted == executed.predicted)[alike])
    latency_ms = metrics["sim_latency_mean_ms"].value
    if latency_ms > 0:
        metrics["diff_latency_percent"] = metrics["diff_latency_ms"].scaled(100 / latency_ms)
    return Summary(metrics)


def _series(records: Records, rows: NDArray[np.bool_]) -> dict[str, Floats]:
    """Seconds of each task."""
    held = {name: getattr(records, f"{name}_busy_s")[rows] for name in RESOURCES}
    latency = (records.finish_s - records.arrival_s)[rows]
    return {**held, "latency": latency, "queued": latency - np.sum(list(held.values()), axis=0)}


def _throughput(
    simulated: Records, executed: Records, rows: NDArray[np.bool_]
) -> dict[str, Estimate]:
    """Of whole runs; the interval of the difference is that of the gaps between answers, task for
    task in the order of the answers."""
    finish = [np.sort(each.finish_s[rows]) for each in (simulated, executed)]
    window = [
        float(done[-1] - each.end_start_s[rows].min())
        for done, each in zip(finish, (simulated, executed), strict=True)
    ]
    if min(window) <= 0 or len(finish[0]) < 2:
        return {}
    rates = [len(done) / seconds for done, seconds in zip(finish, window, strict=True)]
    gaps = mean(np.diff(finish[1]) - np.diff(finish[0]))
    percent = 100 * (rates[1] / rates[0] - 1)
    difference = Estimate(percent)
    if gaps.lo is not None and gaps.hi is not None:
        half = 100 * (gaps.hi - gaps.lo) / 2 * rates[0]
        difference = Estimate(percent, percent - half, percent + half)
    return {
        "sim_throughput_its": Estimate(rates[0]),
        "net_throughput_its": Estimate(rates[1]),
        "diff_throughput_percent": difference,
    }


def rows(found: Summary) -> list[list[str]]:
    """The rows of the table with the columns HEADS."""
    lines = []
    for words, name, difference, unit in ROWS:
        if difference in found:
            shown = [found[f"{side}_{name}"].value for side in ("sim", "net")]
            lines.append(
                [words, *(f"{value:.2f}" for value in shown), _shown(found[difference], unit)]
            )
    return lines


def sentence(found: Summary) -> str:
    """How alike the two decided and answered."""
    alike = f"{100 * found['same_decision_ratio'].value:.2f} % of the tasks were decided alike"
    if "same_answer_ratio" not in found:
        return alike
    return f"{alike}; of these {100 * found['same_answer_ratio'].value:.2f} % were answered alike"


def allowed_latency_ms(found: Summary) -> float:
    """How far the mean latencies may be from one another."""
    return max(WITHIN_MS, WITHIN_PERCENT / 100 * found["sim_latency_mean_ms"].value)


def verdict(cells: Mapping[str, Summary]) -> str:
    """The cells, by name, that disagree most, and which are beyond what is allowed; empty where
    none was run on both sides."""
    rates = {
        name: found["diff_throughput_percent"]
        for name, found in cells.items()
        if "diff_throughput_percent" in found
    }
    latencies = {
        name: found["diff_latency_ms"]
        for name, found in cells.items()
        if "diff_latency_ms" in found
    }
    if not rates or not latencies:
        return ""
    allowed_ms = {name: allowed_latency_ms(cells[name]) for name in latencies}
    rate = max(rates, key=lambda name: abs(rates[name].value))
    late = max(latencies, key=lambda name: abs(latencies[name].value) / allowed_ms[name])
    beyond = [name for name, each in rates.items() if abs(each.value) > WITHIN_PERCENT]
    beyond += [
        name
        for name, each in latencies.items()
        if abs(each.value) > allowed_ms[name] and name not in beyond
    ]
    judged = (
        f"beyond it: {', '.join(beyond)}" if beyond else f"all {len(latencies)} cells are within"
    )
    return (
        f"farthest apart in throughput: {rate}, {_shown(rates[rate], ' %')}, of "
        f"{WITHIN_PERCENT:g} % allowed; in mean latency: {late}, {_shown(latencies[late], ' ms')}, "
        f"of {allowed_ms[late]:.2f} ms allowed (the greater of {WITHIN_PERCENT:g} % and "
        f"{WITHIN_MS:g} ms); {judged}"
    )


def _shown(difference: Estimate, unit: str) -> str:
    value = f"{difference.value:+z.3f}{unit}"
    if difference.lo is None or difference.hi is None:
        return value
    return f"{value} [{difference.lo:+z.3f}, {difference.hi:+z.3f}]"


def bottleneck_hold(records: Records, trace: Trace) -> Estimate:
    """The share of the run's window for which its bottleneck was held: nominal seconds of the
    tasks that held it. The bottleneck is the busiest of end, link and cloud, looked for anew
    wherever the link's rate changes (pieces of less than a second join the one before)."""
    rows = ~records.dropped
    begin_s, end_s = float(records.end_start_s[rows].min()), float(records.finish_s[rows].max())
    starts_s, _ = trace.steps(end_s)
    edges = [begin_s]
    for start_s in np.asarray(starts_s).tolist():
        if edges[-1] + MIN_PIECE_S <= start_s <= end_s - MIN_PIECE_S:
            edges.append(start_s)
    edges.append(end_s)
    held_s = sum(
        max(_held_s(records, name, low, high) for name in RESOURCES)
        for low, high in pairwise(edges)
    )
    return Estimate(held_s / (end_s - begin_s))


def _held_s(records: Records, resource: str, low_s: float, high_s: float) -> float:
    """Seconds of a window for which tasks held a resource, each spread over its stay there."""
    start, end, busy = (
        getattr(records, f"{resource}_{what}_s") for what in ("start", "end", "busy")
    )
    stay = np.maximum(end - start, 1e-12)
    inside = np.clip(np.minimum(end, high_s) - np.maximum(start, low_s), 0.0, None)
    return float((busy * np.minimum(inside / stay, 1.0)).sum())
