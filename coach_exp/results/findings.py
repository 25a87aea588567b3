"""What a study or a job has found, before anything is written: tables, figures, data.

One place (`jobs.keep`) turns findings into files and logs them; whoever finds decides what stands
in them and draws nothing to disk.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from coach_exp.results.tables import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


__all__ = ["Findings", "Table"]


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that is to be shown, written and logged under `name`.

    `tables` are shown and written as one Markdown file, `figures` (matplotlib figures by the name
    of their file, without its ending) as PNG files, `data` as one JSON file. `notes` are sentences
    that belong under the tables, `metrics` numbers by which runs are compared, and `value` is the
    one that a sweep may optimise. `broken` are rules that do not hold, in words: they fail the job,
    once all of this is written.
    """

    name: str
    tables: tuple[Table, ...] = ()
    figures: Mapping[str, "Figure"] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    value: float | None = None
    broken: tuple[str, ...] = ()
