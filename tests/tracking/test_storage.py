"""Task records survive the trip to disk; other files are refused."""

import numpy as np
import pytest
from helpers.records import pipelined

from coach_exp.tracking.storage import load_tasks, save_tasks
from coach_exp.types.errors import DataError
from coach_exp.types.task import COLUMNS


def test_records_come_back_as_they_were(tmp_path):
    run = pipelined(50, 0.01, 0.02, 0.01, exits=3)
    save_tasks(run, tmp_path / "tasks.parquet")
    back = load_tasks(tmp_path / "tasks.parquet", run.plans)
    assert back.plans == run.plans
    for name in COLUMNS:
        assert back.columns[name].dtype.kind == run.columns[name].dtype.kind
        np.testing.assert_array_equal(back.columns[name], run.columns[name])


def test_other_files_are_refused(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    (tmp_path / "text").write_text("task,sample\n0,0\n")
    with pytest.raises(DataError, match="cannot be read as task records"):
        load_tasks(tmp_path / "text")
    with pytest.raises(DataError, match="cannot be read as task records"):
        load_tasks(tmp_path / "absent")
    parquet.write_table(pa.table({"task": [0]}), tmp_path / "other")
    with pytest.raises(DataError, match=r"lacks the columns \['sample'.*tasks.parquet of a run"):
        load_tasks(tmp_path / "other")
