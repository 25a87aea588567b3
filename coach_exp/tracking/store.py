"""The connection to MLflow's store, and the lock of whoever lays it out.

mlflow is imported when a store is first opened, never before: it takes seconds. Only its client is
used, so that no active run or environment variable decides for us.
"""

import fcntl
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from coach_exp.types.errors import ConfigError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


def connect(uri: str, experiment: str, lock: Path) -> tuple["MlflowClient", str]:
    """A client of the store at `uri` and the id of its experiment, made if need be under `lock`.
    Raises ConfigError when the store cannot be used.
    """
    MlflowClient, MlflowException = mlflow_client()
    location = None
    if uri.startswith("sqlite:///"):
        database = Path(uri.removeprefix("sqlite:///")).resolve()
        uri = f"sqlite:///{database}"
        location = (database.parent / "mlartifacts" / experiment).as_uri()
    try:
        # Of processes that open a new database together, all but one would fail.
        with locked(lock), _impatient():
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


def mlflow_client() -> tuple[type["MlflowClient"], type[Exception]]:
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
def locked(path: Path) -> Iterator[None]:
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
