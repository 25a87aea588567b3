"""Task records as `tasks.parquet`, one row per task, and back."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from coach_exp.types.errors import DataError
from coach_exp.types.plan import Plan
from coach_exp.types.task import COLUMNS, Records


def save_tasks(records: Records, path: Path) -> None:
    """Write every column. The plans that `plan` counts are in `plan.json`."""
    import pyarrow as pa
    from pyarrow import parquet

    columns = {name: pa.array(records.columns[name]) for name in COLUMNS}
    parquet.write_table(pa.table(columns), path)


def load_tasks(path: Path, plans: Sequence[Plan] = ()) -> Records:
    """Read what `save_tasks` wrote. Raises DataError for another kind of file."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read as task records: {error}") from error
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise DataError(f"{path} lacks the columns {missing}; give the tasks.parquet of a run")
    columns = {name: table[name].to_numpy() for name in COLUMNS}
    columns["decision"] = columns["decision"].astype(np.str_)  # Arrow gives Python objects
    return Records(columns, tuple(plans))
