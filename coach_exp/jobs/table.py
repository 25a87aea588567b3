"""A table of the paper, cell by cell: every cell is a run of its own under one parent.

In: named groups and rows of overrides. Out: one printed table for each group, `table.md` and
`table.json`; where cells ran over sockets, `agreement.png` as well. A cell whose config, weights,
data and code are those of a finished run is taken from there, so a table that was interrupted is
gone on with. A row that cannot run is left out, aloud.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from pydantic import AfterValidator

from coach_exp.jobs.job import Job
from coach_exp.jobs.keep import Work, keep
from coach_exp.jobs.nested import Named, Nested, Parent
from coach_exp.plots.agreement import agreement_plot
from coach_exp.results import agreement, report
from coach_exp.results.findings import Findings
from coach_exp.types.errors import CoachError, ConfigError


def _known(columns: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [name for name in columns if name not in report.COLUMNS]
    if unknown or not columns:
        raise ValueError(f"no columns {unknown}; there are {', '.join(report.COLUMNS)}")
    return columns


Columns = Annotated[tuple[str, ...], AfterValidator(_known)]
Cells = Mapping[str, Mapping[str, Nested]]
Rows = Mapping[str, list[report.Row]]


@dataclass(frozen=True)
class Table:
    """`groups` × `rows` are the cells, both names with the overrides they mean; `columns` are those
    of `results.report`."""

    title: str
    columns: Columns
    groups: Named
    rows: Named

    def __call__(self, job: Job) -> float | None:
        """Returns the number of cells filled."""
        cells = {
            group: {
                row: Nested.of(job.call, f"{group}/{row}", [*more, *overrides])
                for row, overrides in self.rows.items()
            }
            for group, more in self.groups.items()
        }
        return keep(job, "table", lambda work: self._filled(cells, job, work), self.title)

    def _filled(self, cells: Cells, job: Job, work: Work) -> Findings:
        parent = Parent(job, work.run.id)
        done: dict[str, list[report.Row]] = {}
        tables = []
        for group, nested in cells.items():
            rows = list(_rows(nested, parent))
            if rows:
                done[group] = rows
                title = f"{self.title}: {group}"
                shown = report.result_table(rows, title, columns=self.columns)
                tables.append(work.show(shown))
        if not done:
            raise ConfigError("no row of the table could run; the reasons stand above")
        found = {
            f"{group}/{row.method}": row.summary for group, rows in done.items() for row in rows
        }
        verdict = agreement.verdict(found)
        count = float(sum(map(len, done.values())))
        return Findings(
            name="table",
            tables=tuple(tables),
            figures={"agreement": agreement_plot(found, title=self.title)} if verdict else {},
            data=_json(done),
            notes=(verdict,) if verdict else (),
            metrics={"cells": count},
            value=count,
        )


def _rows(cells: Mapping[str, Nested], parent: Parent) -> Iterator[report.Row]:
    """The rows of a group that can run; a reason that several rows share is given once."""
    said = set()
    for row, cell in cells.items():
        try:
            outcome = parent.outcome(cell)
        except CoachError as error:
            reason = "for the same reason" if str(error) in said else str(error)
            said.add(str(error))
            parent.job.display.say(f"{cell.name} is left out: {reason}")
            continue
        yield report.Row(row, outcome.summary, outcome.cut)


def _json(groups: Rows) -> dict[str, Any]:
    return {
        group: [
            {
                "row": row.method,
                "cut": row.cut,
                "metrics": {name: asdict(estimate) for name, estimate in row.summary.items()},
            }
            for row in rows
        ]
        for group, rows in groups.items()
    }
