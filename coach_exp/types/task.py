"""Task records: one row per task, written alike by the simulator and by the executor. Metrics come
from these alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from numpy.typing import NDArray

from coach_exp.types.plan import Plan

NOT_SIMULATED = -1  # label of a task whose model was not run


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """What happened to one task. Times are seconds since the run began; a stage that was not used
    has start = end.

    `end_busy_s`, `link_busy_s` and `cloud_busy_s` are the seconds the task held the resource (less
    than end - start where it waited inside the stage). `bits` is the widest crossing tensor's, 0
    when nothing was sent. `decision` is `local` (answered by the whole model on the end), `exit`
    (answered early) or `send`. `decided_s` is when the controller was last asked on the end about
    the task, and `estimated_bps` and `true_bps` are of that moment. Labels and `video`, which the
    sample belongs to, are -1 where the model was not run.

    `fallback` marks a task that gave up on the link. `payload_bytes` and `bits` are then of the
    tensors that had left whole, `link_busy_s` counts the abandoned transfer too, and the cloud's
    work on what arrived is spent. `end_end_s` stays the end of its end part; if the end finished
    the task (`local`), `end_busy_s` includes that, which took the last seconds before `finish_s`.
    """

    task: int
    sample: int
    plan: int
    arrival_s: float
    end_start_s: float
    end_end_s: float
    end_busy_s: float
    link_start_s: float
    link_end_s: float
    link_busy_s: float
    cloud_start_s: float
    cloud_end_s: float
    cloud_busy_s: float
    finish_s: float
    decision: str
    bits: int
    payload_bytes: int
    decided_s: float
    estimated_bps: float
    true_bps: float
    separability: float
    predicted: int
    label: int
    uncut: int
    video: int
    dropped: bool
    fallback: bool


COLUMNS = tuple(f.name for f in fields(TaskRecord))


@dataclass(frozen=True)
class Records:
    """The records of one run as columns of equal length, and the plans that `plan` counts."""

    columns: Mapping[str, NDArray[Any]]
    plans: tuple[Plan, ...]

    def __post_init__(self) -> None:
        assert tuple(self.columns) == COLUMNS, f"records have columns {tuple(self.columns)}"

    def __len__(self) -> int:
        return len(self.columns["task"])

    def __getitem__(self, row: int) -> TaskRecord:
        return TaskRecord(*(self.columns[name][row].item() for name in COLUMNS))

    def __iter__(self) -> Iterator[TaskRecord]:
        return (self[row] for row in range(len(self)))

    def __getattr__(self, name: str) -> NDArray[Any]:
        if name in COLUMNS:
            return self.columns[name]
        raise AttributeError(name)
