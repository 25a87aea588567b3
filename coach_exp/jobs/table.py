"""A table of the paper, cell by cell: every cell is a run of its own under one parent.

In: named groups and rows of overrides. Out: one printed table for each group, `table.md` and
`table.json`; where cells ran over sockets, `agreement.png` as well. A cell whose config, weights,
data and code are those of a finished run is taken from there, so a table that was interrupted is
gone on with. A row that cannot run is left out, aloud.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from omegaconf import DictConfig

from coach_exp.jobs.nested import Nested, Parent
from coach_exp.jobs.single_run import plain, write_json
from coach_exp.plots.agreement import agreement_plot
from coach_exp.results import agreement, report
from coach_exp.results.progress import Display
from coach_exp.setup.config import Config, Table
from coach_exp.setup.invocation import Invocation
from coach_exp.tracking import tracker as tracking
from coach_exp.types.errors import CoachError, ConfigError


def fill_table(raw: DictConfig, config: Config, call: Invocation, display: Display) -> float:
    """`job=table`; returns the number of cells filled."""
    if config.table is None:
        raise ConfigError("job=table needs a table; choose one with experiment=NAME")
    groups = {
        group: {
            row: Nested.of(call, f"{group}/{row}", [*more, *overrides])
            for row, overrides in config.table.rows.items()
        }
        for group, more in config.table.groups.items()
    }
    tracker = tracking.open_tracker(config.output.root, **config.tracking.model_dump())
    done: dict[str, list[report.Row]] = {}
    tags = {"coach.job": "table"}
    with tracker.run(config.table.title, params=plain(raw), tags=tags) as run:
        parent = Parent(call, tracker, run.id, display)
        for group, cells in groups.items():
            rows = list(_filled(cells, parent))
            if rows:
                done[group] = rows
                title = f"{config.table.title}: {group}"
                display.say(report.result_table(rows, title, columns=config.table.columns))
        files = [call.directory / "table.md", call.directory / "table.json"]
        found = {
            f"{group}/{row.method}": row.summary for group, rows in done.items() for row in rows
        }
        verdict = agreement.verdict(found)
        if verdict:
            display.say(verdict)
            files.append(call.directory / "agreement.png")
            agreement_plot(found, files[-1], title=config.table.title)
        files[0].write_text(_markdown(config.table, done, verdict))
        write_json(files[1], {group: [_json(row) for row in rows] for group, rows in done.items()})
        run.log_files(files)
        if not done:
            raise ConfigError("no row of the table could run; the reasons stand above")
    display.say(f"files: {call.directory}")
    return float(sum(map(len, done.values())))


def _filled(cells: Mapping[str, Nested], parent: Parent) -> Iterator[report.Row]:
    """The rows of a group that can run; a reason that several rows share is given once."""
    said = set()
    for row, cell in cells.items():
        try:
            outcome = parent.outcome(cell)
        except CoachError as error:
            reason = "for the same reason" if str(error) in said else str(error)
            said.add(str(error))
            parent.display.say(f"{cell.name} is left out: {reason}")
            continue
        yield report.Row(row, outcome.summary, outcome.cut)


def _markdown(table: Table, groups: dict[str, list[report.Row]], verdict: str) -> str:
    parts = [
        f"### {group}\n\n{report.markdown_table(rows, table.columns)}"
        for group, rows in groups.items()
    ]
    below = [f"{verdict}\n"] if verdict else []
    return "\n".join([f"## {table.title}\n", *parts, *below])


def _json(row: report.Row) -> dict[str, Any]:
    return {
        "row": row.method,
        "cut": row.cut,
        "metrics": {name: asdict(estimate) for name, estimate in row.summary.items()},
    }
