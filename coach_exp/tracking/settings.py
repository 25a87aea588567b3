"""Where runs are kept, as `conf/tracking` says it."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from coach_exp.tracking.tracker import Tracker, open_tracker


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

    kind: ClassVar[str] = "mlflow"

    uri: str | None = None
    experiment: str = "coach"
    resume: bool = True

    def open(self, outputs: Path) -> Tracker:
        """The store, initialised if it is new."""
        return open_tracker(
            outputs, kind="mlflow", uri=self.uri, experiment=self.experiment, resume=self.resume
        )

    def viewer(self, outputs: Path) -> str:
        """MLflow's own pages."""
        store = self.uri or f"sqlite:///{outputs / 'mlflow.db'}"
        return f"mlflow ui --backend-store-uri {store}"


@dataclass(frozen=True, slots=True)
class NoTracking:
    """Files in the run's directory only; nothing is known of earlier runs."""

    kind: ClassVar[str] = "none"

    def open(self, outputs: Path) -> Tracker:
        """A tracker that keeps nothing."""
        return open_tracker(outputs, kind="none")

    def viewer(self, outputs: Path) -> None:
        """Nothing to look at."""
