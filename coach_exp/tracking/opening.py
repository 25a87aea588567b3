"""The tracker that a config describes, opened."""

from pathlib import Path
from typing import Literal

from coach_exp.tracking.mlflow_tracker import MlflowTracker
from coach_exp.tracking.provenance import code
from coach_exp.tracking.store import connect
from coach_exp.tracking.tracker import NoTracker, Tracker


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
        return NoTracker()
    outputs.mkdir(parents=True, exist_ok=True)
    lock = outputs.resolve() / ".mlflow.lock"
    client, experiment_id = connect(uri or f"sqlite:///{lock.parent}/mlflow.db", experiment, lock)
    tracker = MlflowTracker(client, experiment_id, lock, code(), resume)
    tracker.reap()
    return tracker
