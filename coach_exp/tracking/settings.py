"""Where runs are kept, as `conf/tracking` says it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from coach_exp.tracking.mlflow_tracker import MlflowTracker
from coach_exp.tracking.provenance import code
from coach_exp.tracking.store import connect
from coach_exp.tracking.tracker import NoTracker, Tracker


class Tracking(Protocol):
    """Opens the store of runs."""

    def open(self, outputs: Path) -> Tracker:
        """The tracker, whose own files go under `outputs`. Raises ConfigError where the store
        cannot be used."""

    def viewer(self, outputs: Path) -> str | None:
        """The command by which a person looks at the runs, if there is one."""


@dataclass(frozen=True, slots=True)
class Mlflow:
    """Every run in MLflow: in the database or server `uri`; without one, in sqlite under the
    outputs. `resume`: a finished run of the same config, weights, data and code is not run again.
    """

    uri: str | None = None
    experiment: str = "coach"
    resume: bool = True

    def open(self, outputs: Path) -> Tracker:
        """The store, initialised if it is new; runs that dead processes left behind end, as
        KILLED."""
        outputs.mkdir(parents=True, exist_ok=True)
        lock = outputs.resolve() / ".mlflow.lock"
        uri = self.uri or f"sqlite:///{lock.parent}/mlflow.db"
        client, experiment_id = connect(uri, self.experiment, lock)
        tracker = MlflowTracker(client, experiment_id, lock, code(), self.resume)
        tracker.reap()
        return tracker

    def viewer(self, outputs: Path) -> str:
        """MLflow's own pages."""
        store = self.uri or f"sqlite:///{outputs / 'mlflow.db'}"
        return f"mlflow ui --backend-store-uri {store}"


@dataclass(frozen=True, slots=True)
class NoTracking:
    """Files in the run's directory only; nothing is known of earlier runs."""

    def open(self, outputs: Path) -> Tracker:
        """A tracker that keeps nothing."""
        return NoTracker()

    def viewer(self, outputs: Path) -> None:
        """Nothing to look at."""
