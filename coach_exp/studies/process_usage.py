"""What a process takes, looked at again and again: memory, threads, open files; does it grow?

In: process ids. Out: samples from /proc, and the slope of memory over time.
"""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Final

import numpy as np
from numpy.typing import NDArray

from coach_exp.types.errors import ConfigError

PROC: Final = Path("/proc")


def need_proc() -> None:
    """Raises ConfigError where there is no /proc."""
    if not PROC.joinpath("self", "status").exists():
        raise ConfigError(
            f"a soak reads memory, threads and files from /proc, and {sys.platform} has "
            "none; run it on Linux"
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """What /proc says at one moment; NaN for a cloud that does not run. `answered` counts from the
    beginning of the soak, whole streams and the one at hand."""

    at_s: float
    end_kib: float
    end_threads: float
    end_files: float
    cloud_kib: float
    cloud_threads: float
    cloud_files: float
    answered: int


def usage(pid: int) -> tuple[float, float, float]:
    """Resident KiB, threads and open files of a process; NaN for one that is gone."""
    try:
        status = (PROC / str(pid) / "status").read_text()
        files = len(os.listdir(PROC / str(pid) / "fd"))
        said = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        return float(said["VmRSS"].split()[0]), float(said["Threads"]), float(files)
    except (OSError, KeyError):
        return (float("nan"),) * 3


class Watch:
    """Samples this process and the cloud's every `pause_s`, in a thread of its own."""

    def __init__(self, pause_s: float, began_s: float, cloud: Callable[[], int]) -> None:
        self.samples: list[Sample] = []
        self._answered = self._before = 0
        self._pause_s, self._began_s, self._cloud = pause_s, began_s, cloud
        self._over = Event()
        self._thread = Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    @property
    def elapsed_s(self) -> float:
        """Since it all began."""
        return monotonic() - self._began_s

    def begin(self) -> None:
        """Another stream begins."""
        self._before = self._answered

    def count(self, answered: int) -> None:
        """So many tasks of the stream at hand are answered by now."""
        self._answered = self._before + answered

    def stop(self) -> None:
        """Sample no more."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._pause_s):
            at_s = self.elapsed_s
            self.samples.append(
                Sample(at_s, *usage(os.getpid()), *usage(self._cloud()), self._answered)
            )


def slope(at_s: Sequence[float], kib: Sequence[float], warm_s: float) -> tuple[float, float, float]:
    """KiB a minute after `warm_s`, by Theil and Sen, and the 95 % interval of it by 200 bootstraps
    of blocks of a minute; what a cloud that does not run takes is not asked."""
    at, taken = np.asarray(at_s), np.asarray(kib)
    kept = (at >= warm_s) & np.isfinite(taken)
    minutes, values = at[kept] / 60, taken[kept]
    if len(values) < 10:
        return (float("nan"),) * 3
    found = _theil_sen(minutes, values)
    blocks = [np.flatnonzero(minutes.astype(int) == k) for k in np.unique(minutes.astype(int))]
    random_ = np.random.default_rng(0)
    drawn = []
    for _ in range(200):
        rows = np.concatenate([blocks[k] for k in random_.integers(0, len(blocks), len(blocks))])
        drawn.append(_theil_sen(minutes[rows], values[rows]))
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return found, float(low), float(high)


def _theil_sen(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    step = max(1, len(x) // 300)
    x, y = x[::step], y[::step]
    dx = x[:, None] - x[None, :]
    with np.errstate(invalid="ignore", divide="ignore"):
        slopes = (y[:, None] - y[None, :]) / dx
    return float(np.median(slopes[dx > 0]))
