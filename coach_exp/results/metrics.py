"""What a run achieved, from its task records alone: the measures of the paper's tables and figures.

In: `Records`. Out: a `Summary` of named metrics, each with a 95 % interval where one can be had,
and series over time for pictures. What was not measured is absent, never zero or NaN.

The tasks of a stream are not independent: queues carry over, frames of a video resemble each other.
Every interval therefore rests on the variance of overlapping batch means, and those of accuracy and
exits on that of whole videos where it is greater: in a shuffled stream, neighbours hide what frames
of a video have in common. On an AR(1) series of 100 values with correlation 0.5, 0.9 between
neighbours, the 95 % interval of `mean` held the truth in 96, 86 % of trials; that of a block
bootstrap in 87, 71 %.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from coach_exp.results.estimation import estimate_error
from coach_exp.types.plan import StageTimes
from coach_exp.types.task import NOT_SIMULATED, Records

RESOURCES = ("end", "link", "cloud")
MIN_FOR = {50: 1, 95: 20, 99: 100}  # answered tasks a percentile needs: one beyond it
MIN_FOR_INTERVAL = 8  # two batches of four
_Z95 = float(ndtri(0.975))

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured value and, where the sample allows, its 95 % confidence interval."""

    value: float
    lo: float | None = None
    hi: float | None = None

    def __str__(self) -> str:
        """
        >>> print(Estimate(0.5), Estimate(0.5, 0.25, 0.75))
        0.5 0.5 [0.25, 0.75]
        """
        known = self.lo is not None and self.hi is not None
        interval = f" [{self.lo:.6g}, {self.hi:.6g}]" if known else ""
        return f"{self.value:.6g}{interval}"

    def scaled(self, factor: float) -> "Estimate":
        """The same in another unit.

        >>> Estimate(0.5, 0.25, 0.75).scaled(100)
        Estimate(value=50.0, lo=25.0, hi=75.0)
        """
        if self.lo is None or self.hi is None:
            return Estimate(self.value * factor)
        return Estimate(self.value * factor, self.lo * factor, self.hi * factor)


@dataclass(frozen=True)
class Summary(Mapping[str, Estimate]):
    """The metrics of one run by name; a name that is missing was not measured."""

    metrics: Mapping[str, Estimate]

    def __getitem__(self, name: str) -> Estimate:
        return self.metrics[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.metrics)

    def __len__(self) -> int:
        return len(self.metrics)

    def __str__(self) -> str:
        """A line for each metric: name, value, and its interval where there is one."""
        width = max(map(len, self.metrics), default=0)
        return "\n".join(f"{name:{width}}  {each}" for name, each in self.metrics.items())

    @staticmethod
    def of(flat: Mapping[str, float]) -> "Summary":
        """What `as_dict` made flat.

        >>> Summary.of({"x": 2.0, "x_lo": 1.0, "x_hi": 3.0})["x"]
        Estimate(value=2.0, lo=1.0, hi=3.0)
        """
        bounds = {name for name in flat if name[-3:] in ("_lo", "_hi") and name[:-3] in flat}
        return Summary(
            {
                name: Estimate(value, flat.get(f"{name}_lo"), flat.get(f"{name}_hi"))
                for name, value in flat.items()
                if name not in bounds
            }
        )

    def as_dict(self) -> dict[str, float]:
        """The flat `summary.json`: `name`, and `name_lo`, `name_hi` where there is an interval."""
        flat = {}
        for name, estimate in self.metrics.items():
            flat[name] = estimate.value
            if estimate.lo is not None and estimate.hi is not None:
                flat[f"{name}_lo"], flat[f"{name}_hi"] = estimate.lo, estimate.hi
        return flat


def summarise(records: Records) -> Summary:
    """Every metric of a run.

    * `tasks`, `answered`, `dropped`, `fallback`: counts. All else is over the answered tasks.
    * `stage_sum_mean_ms`: seconds that a task held end, link and cloud, added: T_e + T_t + T_c as
      it came, without queues and as if nothing overlapped.
    * `latency_*_ms`: answer minus arrival, queue included. `service_latency_*_ms`: answer minus
      start on the end. Each as mean, p50, p95 (from 20 tasks) and p99 (from 100).
    * `throughput_its`, `makespan_per_task_ms`: tasks and the window, which runs from the first
      start on the end to the last answer, so that filling and draining the pipeline count.
    * `idle_ratio_{end,link,cloud}`: 1 - busy seconds / window. `planned_idle_ratio_*`: what the
      plans that ran promise for a full pipeline.
    * `transmission_kib_per_task`: exits send nothing and count. `bits_mean`: over tasks that sent.
    * `bandwidth_bias_percent`, `bandwidth_error_percent`, `bandwidth_lag_s`: how far the estimated
      bandwidth was from the true one when the tasks that sent were decided; `bandwidth_outages` of
      them were decided while the true rate was 0 and are left out.
    * `exit_ratio`, and `accuracy`, `accuracy_drop_points` (percentage points below the uncut model
      on the same tasks): the last two only if the model answered every task.
    """
    rows = _answered(records)
    count = len(rows["task"])
    metrics = {
        "tasks": Estimate(len(records)),
        "answered": Estimate(count),
        "dropped": Estimate(len(records) - count),
        "fallback": Estimate(int(rows["fallback"].sum())),
    }
    if count:
        metrics |= _latency("latency", rows["finish_s"] - rows["arrival_s"])
        metrics |= _latency("service_latency", rows["finish_s"] - rows["end_start_s"])
        held_s = np.sum([rows[f"{resource}_busy_s"] for resource in RESOURCES], axis=0)
        metrics["stage_sum_mean_ms"] = mean(held_s).scaled(1e3)
        metrics |= _rates(rows)
        metrics |= _planned_idle(records, rows)
        metrics |= _traffic(rows)
        metrics |= _bandwidth(rows)
        metrics |= _accuracy(rows)
    return Summary(metrics)


def _answered(records: Records) -> dict[str, NDArray[Any]]:
    """The columns of the tasks that were not dropped, in the order of the stream."""
    kept = np.flatnonzero(~records.dropped.astype(bool))
    kept = kept[np.argsort(records.task[kept], kind="stable")]
    return {name: column[kept] for name, column in records.columns.items()}


def _latency(name: str, latency_s: Floats) -> dict[str, Estimate]:
    metrics = {f"{name}_mean_ms": mean(latency_s).scaled(1e3)}
    for percent, min_tasks in MIN_FOR.items():
        if len(latency_s) >= min_tasks:
            value = float(np.percentile(latency_s, percent))
            metrics[f"{name}_p{percent}_ms"] = Estimate(value * 1e3)
    return metrics


def _rates(rows: Mapping[str, NDArray[Any]]) -> dict[str, Estimate]:
    window_s = float(rows["finish_s"].max() - rows["end_start_s"].min())
    if window_s <= 0:
        return {}
    count = len(rows["task"])
    metrics = {
        "throughput_its": Estimate(count / window_s),
        "makespan_per_task_ms": Estimate(1e3 * window_s / count),
    }
    for resource in RESOURCES:
        busy_s = float(rows[f"{resource}_busy_s"].sum())
        metrics[f"idle_ratio_{resource}"] = Estimate(1 - busy_s / window_s)
    return metrics


def _planned_idle(records: Records, rows: Mapping[str, NDArray[Any]]) -> dict[str, Estimate]:
    if not records.plans:
        return {}
    share = np.bincount(rows["plan"], minlength=len(records.plans)) / len(rows["plan"])
    stage_s = np.array(
        [(p.stage_s.end_s, p.stage_s.link_s, p.stage_s.cloud_s) for p in records.plans]
    )
    idle = StageTimes(*(share @ stage_s).tolist()).idle_ratios
    return {
        "planned_idle_ratio_end": Estimate(idle.end_s),
        "planned_idle_ratio_link": Estimate(idle.link_s),
        "planned_idle_ratio_cloud": Estimate(idle.cloud_s),
    }


def _traffic(rows: Mapping[str, NDArray[Any]]) -> dict[str, Estimate]:
    metrics = {
        "transmission_kib_per_task": mean(rows["payload_bytes"] / 1024),
        "exit_ratio": ratio(rows["decision"] == "exit", rows["video"]),
    }
    sent_bits = rows["bits"][rows["bits"] > 0]
    if len(sent_bits):
        metrics["bits_mean"] = Estimate(float(sent_bits.mean()))
    return metrics


def _bandwidth(rows: Mapping[str, NDArray[Any]]) -> dict[str, Estimate]:
    sent = rows["payload_bytes"] > 0
    series = (rows[name][sent] for name in ("decided_s", "estimated_bps", "true_bps"))
    error = estimate_error(*series)
    if error is None:
        return {}
    return {
        "bandwidth_bias_percent": Estimate(error.bias_percent),
        "bandwidth_error_percent": Estimate(error.error_percent),
        "bandwidth_lag_s": Estimate(error.lag_s),
        "bandwidth_outages": Estimate(error.outages),
    }


def _accuracy(rows: Mapping[str, NDArray[Any]]) -> dict[str, Estimate]:
    label, predicted, uncut = rows["label"], rows["predicted"], rows["uncut"]
    if (label == NOT_SIMULATED).any() or (predicted == NOT_SIMULATED).any():
        return {}
    video = rows["video"]
    metrics = {"accuracy": ratio(predicted == label, video)}
    if not (uncut == NOT_SIMULATED).any():
        lost = drop(uncut == label, predicted == label, video)
        metrics["accuracy_drop_points"] = lost.scaled(100)
    return metrics


# --- Estimates with intervals ---------------------------------------------------------------------


def mean(values: NDArray[Any]) -> Estimate:
    """Mean of a correlated series with a Student interval from overlapping batch means (Meketon and
    Schmeiser, 1984); no interval below eight values.

    >>> mean(np.array([1.0, 2.0, 3.0]))
    Estimate(value=2.0, lo=None, hi=None)
    """
    series = values.astype(np.float64)
    value = float(series.mean())
    if len(series) < MIN_FOR_INTERVAL:
        return Estimate(value)
    variance, freedom = _batch_variance(series)
    half = float(stdtrit(freedom, 0.975)) * sqrt(variance / len(series))
    return Estimate(value, value - half, value + half)


def ratio(hits: NDArray[np.bool_], video: NDArray[np.int64] | None = None) -> Estimate:
    """Fraction of hits with its Wilson interval at the effective sample size; `video` [n] tells
    which tasks are frames of one video.

    >>> ratio(np.array([True, True, True, False])).value
    0.75
    """
    value = float(hits.mean())
    return Estimate(value, *wilson(value, _effective_size(hits, video)))


def drop(
    before: NDArray[np.bool_],
    after: NDArray[np.bool_],
    video: NDArray[np.int64] | None = None,
) -> Estimate:
    """How much less often `after` hits than `before` on the same tasks, with the interval of
    Agresti and Min (2005) for matched pairs at the effective sample size.

    Only tasks on which the two differ count for the width; it is not zero even when none does.
    """
    change = before.astype(np.int8) - after.astype(np.int8)
    size = _effective_size(change, video)
    value, differing = float(change.mean()), float(np.abs(change).mean())
    centre = value * size / (size + 2)
    spread = differing * size + 1 - (value * size) ** 2 / (size + 2)
    half = _Z95 * sqrt(spread) / (size + 2)
    return Estimate(value, max(-1.0, centre - half), min(1.0, centre + half))


def wilson(fraction: float, size: float) -> tuple[float, float]:
    """95 % Wilson interval of a fraction of `size` trials.

    >>> [round(bound, 3) for bound in wilson(0.8, 10)]
    [0.49, 0.943]
    """
    z2 = _Z95**2
    centre = (fraction + z2 / (2 * size)) / (1 + z2 / size)
    half = _Z95 * sqrt(fraction * (1 - fraction) / size + z2 / (4 * size**2)) / (1 + z2 / size)
    low = 0.0 if fraction == 0 else max(0.0, centre - half)  # not what rounding leaves of zero
    return low, 1.0 if fraction == 1 else min(1.0, centre + half)


def _effective_size(values: NDArray[Any], video: NDArray[np.int64] | None) -> float:
    """How many independent values tell as much about the mean as this series: at most all.

    Neighbours in the stream resemble each other, and so do the frames of a video wherever they
    stand: the greater of both variances counts.
    """
    series = values.astype(np.float64)
    plain = float(series.var())
    if len(series) < MIN_FOR_INTERVAL or plain == 0:
        return float(len(series))
    variance = max(_batch_variance(series)[0], _video_variance(series, video))
    return len(series) / max(1.0, variance / plain)


def _video_variance(series: Floats, video: NDArray[np.int64] | None) -> float:
    """n times the variance of the mean when whole videos are drawn; 0 where they are not known or
    there is only one."""
    if video is None or (video == NOT_SIMULATED).any():
        return 0.0
    _, which = np.unique(video, return_inverse=True)
    sums = np.bincount(which, weights=series - series.mean())
    if len(sums) < 2:
        return 0.0
    return float(sums @ sums) * len(sums) / (len(sums) - 1) / len(series)


def _batch_variance(series: Floats) -> tuple[float, float]:
    """Long-run variance (n times that of the mean) from the means of all runs of n^(2/3)
    neighbours, and its degrees of freedom.
    """
    count = len(series)
    batch = round(count ** (2 / 3))
    sums = np.concatenate([[0.0], np.cumsum(series - series.mean())])
    means = (sums[batch:] - sums[:-batch]) / batch
    variance = count * batch / ((count - batch + 1) * (count - batch)) * float(means @ means)
    return variance, 1.5 * (count / batch - 1)


# --- Series over time -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Steps:
    """A step function of time: `values[i]` holds from `edges_s[i]` to `edges_s[i + 1]`."""

    edges_s: Floats
    values: Floats

    def __post_init__(self) -> None:
        assert len(self.edges_s) == len(self.values) + 1, "n steps have n + 1 edges"


def throughput_over_time(records: Records, bin_s: float) -> Steps:
    """Answers per second in bins of `bin_s` seconds from the run's start; the last bin takes what
    is left and is up to twice as long.
    """
    finish_s = _answered(records)["finish_s"]
    edges_s = _bins(finish_s, bin_s)
    return Steps(edges_s, np.histogram(finish_s, edges_s)[0] / np.diff(edges_s))


def _bins(finish_s: Floats, bin_s: float) -> Floats:
    end_s = float(finish_s.max()) if len(finish_s) else bin_s
    edges_s = bin_s * np.arange(max(1, int(end_s / bin_s)) + 1, dtype=np.float64)
    edges_s[-1] = end_s or bin_s
    return edges_s
