"""Runs in MLflow: parameters, metrics, files, and whether a run was made before.

In: a resolved config, metrics and files. Out: runs that always end in a status that
is true (FINISHED, FAILED or KILLED), children under one parent per sweep, and the finished run that
makes a new one needless. mlflow is imported when a tracker is opened, never before: it takes
seconds. Only its client is used, so that no active run or environment variable decides for us.
"""

import fcntl
import hashlib
import json
import logging
import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, Protocol

from coach_exp.tracking.provenance import Code, code, masked
from coach_exp.types.errors import ConfigError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

NOT_HASHED = frozenset({"output", "tracking", "launcher", "hydra"})  # these change no result
_LONGEST_PARAM = 6000
_PARAMS_PER_CALL = 100
_METRICS_PER_CALL = 1000


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


def open_tracker(
    outputs: Path,
    *,
    kind: Literal["mlflow", "none"] = "mlflow",
    uri: str | None = None,
    experiment: str = "coach",
    resume: bool = True,
) -> Tracker:
    """The tracker that `conf/tracking` describes; without `uri`, sqlite in `outputs`.

    Opening it initialises a new store and ends, as KILLED, the runs that dead processes left
    behind. Raises ConfigError when the store cannot be used.
    """
    if kind == "none":
        return _NoTracker()
    outputs.mkdir(parents=True, exist_ok=True)
    lock = outputs.resolve() / ".mlflow.lock"
    client, experiment_id = _connect(uri or f"sqlite:///{lock.parent}/mlflow.db", experiment, lock)
    tracker = _MlflowTracker(client, experiment_id, lock, code(), resume)
    tracker.reap()
    return tracker


def config_hash(config: Mapping[str, Any], **identifiers: str | None) -> str:
    """sha256 of a resolved config, less what changes no result, and of `identifiers` for weights,
    data, code: all that decides a run's numbers.

    >>> config_hash({"seed": 0, "tracking": {"kind": "none"}}) == config_hash({"seed": 0})
    True
    >>> config_hash({"seed": 0}, code="c0ffee") == config_hash({"seed": 0}, code="decade")
    False
    """
    counted = {name: value for name, value in config.items() if name not in NOT_HASHED}
    text = json.dumps([counted, identifiers], sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A nested config as parameters: dotted names, secrets masked, values that MLflow can hold.

    >>> flat({"model": {"name": "vgg16", "shape": [3, 224]}, "token": "abc"})
    {'model.name': 'vgg16', 'model.shape': '[3, 224]', 'token': '***'}
    """
    params: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            params |= flat(value, f"{name}.")
            continue
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        text = masked(f"{name}={text}").removeprefix(f"{name}=")
        cut = len(text) > _LONGEST_PARAM
        params[name] = f"{text[: _LONGEST_PARAM - 1]}…" if cut else text
    return params


# --- Without MLflow -------------------------------------------------------------------------------


class _NoRun:
    id = ""

    def log_metrics(self, metrics: Mapping[str, float]) -> None: ...

    def log_tags(self, tags: Mapping[str, str]) -> None: ...

    def log_files(self, files: Iterable[Path]) -> None: ...


class _NoTracker:
    def sweep(self, sweep_id: str, name: str) -> AbstractContextManager[str | None]:
        return nullcontext()

    def run(self, name: str, **_: Any) -> AbstractContextManager[Run]:
        return nullcontext(_NoRun())

    def finished_run(self, config_hash: str) -> Finished | None:
        return None

    def fetch(self, run: Finished, file: str, directory: Path) -> Path:
        raise AssertionError("without a store no run is found")


# --- With MLflow ----------------------------------------------------------------------------------


class _MlflowRun:
    def __init__(self, client: "MlflowClient", run_id: str) -> None:
        self._client = client
        self.id = run_id

    def log_params(self, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        entries = [Param(name, value) for name, value in params.items()]
        with _undisturbed():
            for first in range(0, len(entries), _PARAMS_PER_CALL):
                self._client.log_batch(self.id, params=entries[first : first + _PARAMS_PER_CALL])

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1e3)
        # MLflow would store infinity as 1.8e308.
        entries = [Metric(k, float(v), now_ms, 0) for k, v in metrics.items() if isfinite(v)]
        with _undisturbed():
            for first in range(0, len(entries), _METRICS_PER_CALL):
                self._client.log_batch(self.id, metrics=entries[first : first + _METRICS_PER_CALL])

    def log_tags(self, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        with _undisturbed():
            self._client.log_batch(self.id, tags=[RunTag(*tag) for tag in tags.items()])

    def log_files(self, files: Iterable[Path]) -> None:
        with _undisturbed():
            for file in files:
                self._client.log_artifact(self.id, str(file))


class _MlflowTracker:
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
        with _terminable():
            with _locked(self._lock):
                parent = self._join(sweep_id.replace("'", "_"), name)
            status = "FAILED"
            try:
                yield parent
                status = "FINISHED"
            except BaseException as error:
                status = _status(error)
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
        own = _process_tags() | _code_tags(self._code)
        if config_hash is not None:
            own["config_hash"] = config_hash
        if parent is not None:
            own["mlflow.parentRunId"] = parent
        with _terminable():
            run, status = None, "FAILED"
            try:
                with _undisturbed():
                    created = self._client.create_run(
                        self._experiment, tags=own | dict(tags or {}), run_name=name
                    )
                    run = _MlflowRun(self._client, created.info.run_id)
                run.log_params(flat(params or {}))
                yield run
                status = "FINISHED"
            except BaseException as error:
                status = _status(error)
                if status != "FINISHED" and run is not None:
                    run.log_tags({"error": f"{type(error).__name__}: {error}"[:500]})
                raise
            finally:
                if run is not None:
                    with _undisturbed():
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
        _, MlflowException = _mlflow()
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
        if _birth(os.getpid()) is None:
            return  # this system does not tell which processes live
        host = socket.gethostname()
        running = self._search(f"attributes.status = 'RUNNING' and tags.host = '{host}'")
        dead = [run for run in running if _gone(run.data.tags)]
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
            tags = _process_tags() | _code_tags(self._code) | {"sweep": sweep}
            run_id = self._client.create_run(self._experiment, tags=tags, run_name=name).info.run_id
            return str(run_id)
        parent = str(found[0].info.run_id)
        self._client.update_run(parent, status="RUNNING")
        _MlflowRun(self._client, parent).log_tags(_process_tags())
        return parent

    def _settle(self, parent: str, own: str) -> None:
        """End a parent none of whose children runs: with the worst status of the newest child of
        each name and of the process that leaves.
        """
        with _locked(self._lock):
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


def _connect(uri: str, experiment: str, lock: Path) -> tuple["MlflowClient", str]:
    MlflowClient, MlflowException = _mlflow()
    location = None
    if uri.startswith("sqlite:///"):
        database = Path(uri.removeprefix("sqlite:///")).resolve()
        uri = f"sqlite:///{database}"
        location = (database.parent / "mlartifacts" / experiment).as_uri()
    try:
        # Of processes that open a new database together, all but one would fail.
        with _locked(lock), _impatient():
            client = MlflowClient(tracking_uri=uri)
            known = client.get_experiment_by_name(experiment)
            if known is None:
                return client, client.create_experiment(experiment, artifact_location=location)
    except MlflowException as error:
        raise ConfigError(
            f"tracking.uri={uri} cannot be used: {str(error)[:300]}; give a server "
            "(http://host:5000), a database (sqlite:////path/mlflow.db), or tracking=none"
        ) from error
    if known.lifecycle_stage != "active":
        raise ConfigError(
            f"tracking.experiment={experiment} was deleted in {uri}; restore it with `mlflow "
            f"experiments restore -x {known.experiment_id}` or give another tracking.experiment"
        )
    return client, known.experiment_id


def _mlflow() -> tuple[type["MlflowClient"], type[Exception]]:
    """The client's class and the error it raises, imported quietly; with the slow part of sqlite's
    support, which would otherwise be imported under the lock.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # we have our own
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of MLflow's own ways
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    for chatty in ("mlflow.store", "alembic"):  # they tell how a new database is laid out
        logging.getLogger(chatty).setLevel(logging.WARNING)
    return MlflowClient, MlflowException


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone among the processes of this host."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _impatient() -> Iterator[None]:
    """Let a server that is not there fail at once; once reached, it gets MLflow's minutes."""
    name = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
    before = os.environ.get(name)
    os.environ.setdefault(name, "1")
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]


# --- How runs end ---------------------------------------------------------------------------------


class Terminated(SystemExit):
    """SIGTERM, raised where the program stands so that its blocks are left in order."""


@contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into `Terminated`, unless someone handles it already."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait until the store has been written.

    An exception in the middle of a transaction becomes some other error, or leaves a run RUNNING.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: waiting.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if waiting:
            signal.raise_signal(waiting[0])


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated(128 + number)


def _status(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt | Terminated):
        return "KILLED"
    if isinstance(error, SystemExit) and not error.code:
        return "FINISHED"
    return "FAILED"


def _process_tags() -> dict[str, str]:
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "pid": str(pid),
        "process_start": _birth(pid) or "unknown",
    }


def _code_tags(origin: Code) -> dict[str, str]:
    tags = {"git_dirty": "unknown" if origin.dirty is None else str(origin.dirty).lower()}
    if origin.commit is not None:
        tags["mlflow.source.git.commit"] = origin.commit
    if origin.diff_sha256 is not None:
        tags["git_diff_sha256"] = origin.diff_sha256
    return tags


def _gone(tags: Mapping[str, str]) -> bool:
    return _birth(int(tags["pid"])) != tags["process_start"]


def _birth(pid: int) -> str | None:
    """When a process of this host began, in ticks since the system started (its id may be used
    again); None when it is dead, or where the system has no /proc.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]
