"""Studies from their settings, and what they found as it is written."""

import json
from typing import Any

from coach_exp.results.findings import Findings
from coach_exp.types.component import built


def study(name: str, **settings: Any) -> Any:
    """The study `module.Class` of `coach_exp.studies`, its settings checked like a config's."""
    return built({"_target_": f"coach_exp.studies.{name}", **settings}, "study")


def written(found: Findings) -> Any:
    """The data, after it was JSON."""
    return json.loads(json.dumps(found.data))


def row(found: Findings, *names: str) -> list[str]:
    """The one row of all tables that begins with these cells."""
    rows = [list(cells) for table in found.tables for cells in table.rows]
    (wanted,) = [cells for cells in rows if cells[: len(names)] == list(names)]
    return wanted
