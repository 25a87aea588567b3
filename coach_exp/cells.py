"""A table of the paper, cell by cell: every cell is a run of its own under one parent.

In: named groups and rows of overrides. Out: one printed table for each group, `table.md` and
`table.json`. A cell whose config, weights, data and code are those of a finished run is taken from
there, so a table that was interrupted is gone on with. A group that cannot run is left out, aloud.
"""

from dataclasses import asdict
from typing import Any

from omegaconf import DictConfig

from coach_exp.config import Config
from coach_exp.launch import Invocation
from coach_exp.nested import Nested, Parent
from coach_exp.results import report, tracking
from coach_exp.results.progress import Display
from coach_exp.single_run import plain, write_json
from coach_exp.types.errors import CoachError, ConfigError


def table_of_cells(raw: DictConfig, config: Config, call: Invocation, display: Display) -> float:
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
            try:
                done[group] = [_filled(row, cell, parent) for row, cell in cells.items()]
            except CoachError as error:
                display.say(f"{group} is left out: {error}")
                continue
            display.say(report.result_table(done[group], title=f"{config.table.title}: {group}"))
        files = [call.directory / "table.md", call.directory / "table.json"]
        files[0].write_text(_markdown(config.table.title, done))
        write_json(files[1], {group: [_json(row) for row in rows] for group, rows in done.items()})
        run.log_files(files)
        if not done:
            raise ConfigError("no group of the table could run; the reasons stand above")
    display.say(f"files: {call.directory}")
    return float(sum(map(len, done.values())))


def _filled(row: str, cell: Nested, parent: Parent) -> report.Row:
    outcome = parent.outcome(cell)
    return report.Row(row, outcome.summary, outcome.cut)


def _markdown(title: str, groups: dict[str, list[report.Row]]) -> str:
    parts = [f"### {group}\n\n{report.markdown_table(rows)}" for group, rows in groups.items()]
    return "\n".join([f"## {title}\n", *parts])


def _json(row: report.Row) -> dict[str, Any]:
    return {
        "row": row.method,
        "cut": row.cut,
        "metrics": {name: asdict(estimate) for name, estimate in row.summary.items()},
    }
