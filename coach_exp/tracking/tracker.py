"""Where runs are kept: what any store offers, and the store that keeps nothing.

A run has parameters, metrics, tags and files, and ends in a status that is true: FINISHED, FAILED
or KILLED. A sweep is one parent with its children.
"""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


class Run(Protocol):
    """A run that is going on."""

    @property
    def id(self) -> str:
        """Its name in the store, to nest other runs under it."""

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Log all metrics at once; those that are not finite are left out."""

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Set or change tags."""

    def log_files(self, files: Iterable[Path]) -> None:
        """Copy files to the run's artifacts."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that has finished, its metrics and its tags."""

    id: str
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


class Tracker(Protocol):
    """Where runs are kept."""

    def sweep(self, sweep_id: str, name: str) -> AbstractContextManager[str | None]:
        """Take part in a sweep; yields the run under which its children go.

        Safe when children run in several processes at once: the first makes the parent, and
        whoever leaves last gives it the worst status among its newest children.
        """

    def run(
        self,
        name: str,
        *,
        config_hash: str | None = None,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        parent: str | None = None,
    ) -> AbstractContextManager[Run]:
        """A run; `params` may be a nested config.

        It is FINISHED when the block ends, FAILED when an exception or a non-zero `sys.exit` leaves
        it, KILLED after Ctrl-C or SIGTERM. A process that dies otherwise leaves it RUNNING until a
        tracker is next opened on this host.
        """

    def finished_run(self, config_hash: str) -> Finished | None:
        """The newest FINISHED run of this config, made by committed code as this is; else None."""

    def fetch(self, run: Finished, file: str, directory: Path) -> Path:
        """Copy a file that a finished run has logged into `directory`.

        Raises ConfigError when the store does not have it any more.
        """


class NoRun:
    """Nothing is kept."""

    id = ""

    def log_metrics(self, metrics: Mapping[str, float]) -> None: ...

    def log_tags(self, tags: Mapping[str, str]) -> None: ...

    def log_files(self, files: Iterable[Path]) -> None: ...


class NoTracker:
    """Runs that leave nothing in a store."""

    def sweep(self, sweep_id: str, name: str) -> AbstractContextManager[str | None]:
        return nullcontext()

    def run(self, name: str, **_: Any) -> AbstractContextManager[Run]:
        return nullcontext(NoRun())

    def finished_run(self, config_hash: str) -> Finished | None:
        return None

    def fetch(self, run: Finished, file: str, directory: Path) -> Path:
        raise AssertionError("without a store no run is found")
