"""From what was noted of each task to its record: what the data says of the sample comes in here.

In: the columns that a run knows, the samples, the model's answers. Out: `Records`, alike for the
simulator and the executor.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coach_exp.types.outcomes import Outcomes
from coach_exp.types.plan import Plan
from coach_exp.types.task import COLUMNS, NOT_SIMULATED, Records


def records_of(
    columns: dict[str, NDArray[Any]],
    plans: tuple[Plan, ...],
    samples: NDArray[np.int64],
    outcomes: Outcomes | None,
) -> Records:
    """All columns of the tasks, one row for each sample, in the order of the tasks."""
    known = {
        **columns,
        "sample": samples,
        "label": _asked(outcomes, samples, lambda model, sample: model.true_label(sample)),
        "uncut": _asked(outcomes, samples, lambda model, sample: model.uncut(sample)),
        "video": _asked(outcomes, samples, lambda model, sample: model.video(sample)),
    }
    return Records({name: known[name] for name in COLUMNS}, plans)


def _asked(
    outcomes: Outcomes | None,
    samples: NDArray[np.int64],
    ask: Callable[[Outcomes, int], int],
) -> NDArray[np.int64]:
    """What the data or the uncut model says of each task, asked once for every sample."""
    if outcomes is None:
        return np.full(len(samples), NOT_SIMULATED)
    known, where = np.unique(samples, return_inverse=True)
    return np.array([ask(outcomes, int(sample)) for sample in known], dtype=np.int64)[where]
