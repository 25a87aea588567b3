"""Runs in MLflow: parameters, metrics, files, and whether a run was made before.

In: a resolved config, metrics and files. Out: runs that always end in a status that is true,
children under one parent per sweep, and the finished run that makes a new one needless.
"""

import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coach_exp.tracking.endings import birth, gone, process_tags, status_of, terminable, undisturbed
from coach_exp.tracking.params import flat
from coach_exp.tracking.provenance import Code
from coach_exp.tracking.store import locked, mlflow_client
from coach_exp.tracking.tracker import Finished, Run
from coach_exp.types.errors import ConfigError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

_PARAMS_PER_CALL = 100
_METRICS_PER_CALL = 1000


class MlflowRun:
    """A run of MlflowTracker that is going on; the methods are those of `tracker.Run`."""

    def __init__(self, client: "MlflowClient", run_id: str) -> None:
        self._client = client
        self.id = run_id

    def log_params(self, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        entries = [Param(name, value) for name, value in params.items()]
        with undisturbed():
            for first in range(0, len(entries), _PARAMS_PER_CALL):
                self._client.log_batch(self.id, params=entries[first : first + _PARAMS_PER_CALL])

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1e3)
        # MLflow would store infinity as 1.8e308.
        entries = [Metric(k, float(v), now_ms, 0) for k, v in metrics.items() if isfinite(v)]
        with undisturbed():
            for first in range(0, len(entries), _METRICS_PER_CALL):
                self._client.log_batch(self.id, metrics=entries[first : first + _METRICS_PER_CALL])

    def log_tags(self, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        with undisturbed():
            self._client.log_batch(self.id, tags=[RunTag(*tag) for tag in tags.items()])

    def log_files(self, files: Iterable[Path]) -> None:
        with undisturbed():
            for file in files:
                self._client.log_artifact(self.id, str(file))


class MlflowTracker:
    """Runs in one experiment of MLflow's store; the methods are those of `tracker.Tracker`."""

    def __init__(
        self, client: "MlflowClient", experiment_id: str, lock: Path, origin: Code, resume: bool
    ) -> None:
        self._client = client
        self._experiment = experiment_id
        self._lock = lock
        self._code = origin
        self._resume = resume

    @contextmanager
    def sweep(self, sweep_id: str, name: str) -> Iterator[str | None]:
        with terminable():
            with locked(self._lock):
                parent = self._join(sweep_id.replace("'", "_"), name)
            status = "FAILED"
            try:
                yield parent
                status = "FINISHED"
            except BaseException as error:
                status = status_of(error)
                raise
            finally:
                self._settle(parent, status)

    @contextmanager
    def run(
        self,
        name: str,
        *,
        config_hash: str | None = None,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        parent: str | None = None,
    ) -> Iterator[Run]:
        own = process_tags() | _code_tags(self._code)
        if config_hash is not None:
            own["config_hash"] = config_hash
        if parent is not None:
            own["mlflow.parentRunId"] = parent
        with terminable():
            run, status = None, "FAILED"
            try:
                with undisturbed():
                    created = self._client.create_run(
                        self._experiment, tags=own | dict(tags or {}), run_name=name
                    )
                    run = MlflowRun(self._client, created.info.run_id)
                run.log_params(flat(params or {}))
                yield run
                status = "FINISHED"
            except BaseException as error:
                status = status_of(error)
                if status != "FINISHED" and run is not None:
                    run.log_tags({"error": f"{type(error).__name__}: {error}"[:500]})
                raise
            finally:
                if run is not None:
                    with undisturbed():
                        self._client.set_terminated(run.id, status)

    def finished_run(self, config_hash: str) -> Finished | None:
        if not (self._resume and self._code.reproducible):
            return None
        found = self._search(
            f"attributes.status = 'FINISHED' and tags.config_hash = '{config_hash}' "
            "and tags.git_dirty = 'false'"
        )
        if not found:
            return None
        newest = found[0]
        return Finished(newest.info.run_id, dict(newest.data.metrics), dict(newest.data.tags))

    def fetch(self, run: Finished, file: str, directory: Path) -> Path:
        _, MlflowException = mlflow_client()
        directory.mkdir(parents=True, exist_ok=True)
        try:
            return Path(self._client.download_artifacts(run.id, file, str(directory)))
        except (MlflowException, OSError) as error:
            raise ConfigError(
                f"run {run.id} was finished before, but its {file} cannot be had from the store: "
                f"{str(error)[:300].rstrip('.')}; tracking.resume=false makes the run again"
            ) from error

    def reap(self) -> None:
        """End the runs of processes of this host that are no more."""
        if birth(os.getpid()) is None:
            return  # this system does not tell which processes live
        host = socket.gethostname()
        running = self._search(f"attributes.status = 'RUNNING' and tags.host = '{host}'")
        dead = [run for run in running if gone(run.data.tags)]
        for run in dead:
            if "sweep" not in run.data.tags:
                self._client.set_terminated(run.info.run_id, "KILLED")
        for run in dead:
            if "sweep" in run.data.tags:
                self._settle(run.info.run_id, "KILLED")

    def _join(self, sweep: str, name: str) -> str:
        """The parent of a sweep, made if need be, and marked as run by this process."""
        found = self._search(f"tags.sweep = '{sweep}'")
        if not found:
            tags = process_tags() | _code_tags(self._code) | {"sweep": sweep}
            run_id = self._client.create_run(self._experiment, tags=tags, run_name=name).info.run_id
            return str(run_id)
        parent = str(found[0].info.run_id)
        self._client.update_run(parent, status="RUNNING")
        MlflowRun(self._client, parent).log_tags(process_tags())
        return parent

    def _settle(self, parent: str, own: str) -> None:
        """End a parent none of whose children runs: with the worst status of the newest child of
        each name and of the process that leaves.
        """
        with locked(self._lock):
            newest: dict[str, str] = {}
            for child in self._search(f"tags.`mlflow.parentRunId` = '{parent}'"):
                newest.setdefault(child.info.run_name, child.info.status)
            found = {own, *newest.values()}
            if "RUNNING" not in found:
                worst = next((s for s in ("FAILED", "KILLED") if s in found), "FINISHED")
                self._client.set_terminated(parent, worst)

    def _search(self, query: str) -> list[Any]:
        """Every run that matches, the newest first."""
        found: list[Any] = []
        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment], query, order_by=["attributes.start_time DESC"], page_token=token
            )
            found += page
            token = page.token
            if not token:
                return found


def _code_tags(origin: Code) -> dict[str, str]:
    tags = {"git_dirty": "unknown" if origin.dirty is None else str(origin.dirty).lower()}
    if origin.commit is not None:
        tags["mlflow.source.git.commit"] = origin.commit
    if origin.diff_sha256 is not None:
        tags["git_diff_sha256"] = origin.diff_sha256
    return tags
