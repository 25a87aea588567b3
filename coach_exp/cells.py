"""A table of the paper, cell by cell: every cell is a run of its own under one parent.

In: named groups and rows of overrides. Out: one printed table for each group, `table.md` and
`table.json`. A cell whose config, weights, data and code are those of a finished run is taken from
there, so a table that was interrupted is gone on with. A group that cannot run is left out, aloud.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from omegaconf import DictConfig

from coach_exp.assembly import Builder
from coach_exp.config import Config, validated
from coach_exp.launch import Invocation
from coach_exp.results import report, tracking
from coach_exp.results.metrics import Summary
from coach_exp.results.progress import Display
from coach_exp.single_run import keep, method_of, plain, simulated, write_json
from coach_exp.types.errors import CoachError, ConfigError


@dataclass(frozen=True)
class Cell:
    """One run of the table, its config checked."""

    group: str
    row: str
    config: DictConfig

    @property
    def name(self) -> str:
        """What its run is called."""
        return f"{self.group}/{self.row}"


def table_of_cells(raw: DictConfig, config: Config, call: Invocation, display: Display) -> float:
    """`job=table`; returns the number of cells filled."""
    if config.table is None:
        raise ConfigError("job=table needs a table; choose one with experiment=NAME")
    groups = {
        group: [_cell(call, group, more, row, overrides) for row, overrides in rows.items()]
        for rows in [config.table.rows]
        for group, more in config.table.groups.items()
    }
    tracker = tracking.open_tracker(config.output.root, **config.tracking.model_dump())
    done: dict[str, list[report.Row]] = {}
    tags = {"coach.job": "table"}
    with tracker.run(config.table.title, params=plain(raw), tags=tags) as parent:
        for group, cells in groups.items():
            try:
                done[group] = [_filled(cell, call, tracker, parent.id, display) for cell in cells]
            except CoachError as error:
                display.say(f"{group} is left out: {error}")
                continue
            display.say(report.result_table(done[group], title=f"{config.table.title}: {group}"))
        files = [call.directory / "table.md", call.directory / "table.json"]
        files[0].write_text(_markdown(config.table.title, done))
        write_json(files[1], {group: [_json(row) for row in rows] for group, rows in done.items()})
        parent.log_files(files)
        if not done:
            raise ConfigError("no group of the table could run; the reasons stand above")
    display.say(f"files: {call.directory}")
    return float(sum(map(len, done.values())))


def _cell(
    call: Invocation, group: str, more: Sequence[str], row: str, overrides: Sequence[str]
) -> Cell:
    """Composed and checked before any cell runs."""
    raw = call.with_overrides([*more, *overrides, "job=run", "table=null"])
    validated(raw)
    return Cell(group, row, raw)


def _filled(
    cell: Cell, call: Invocation, tracker: tracking.Tracker, parent: str, display: Display
) -> report.Row:
    """The cell's line, from a finished run of the same config or from one made now."""
    config = validated(cell.config)
    world = Builder(config, display.progress).world()
    params = plain(cell.config)
    digest = tracking.config_hash(params, **world.identity)
    found = tracker.finished_run(digest)
    if found is not None and "coach.cut" in found.tags:
        display.say(f"{cell.name}: finished before as run {found.id}, not run again")
        return report.Row(cell.row, Summary.of(found.metrics), found.tags["coach.cut"])
    method = method_of(cell.config)
    tags = {"coach.method": method.name, "coach.job": "run", "coach.cell": cell.name}
    with tracker.run(cell.name, config_hash=digest, params=params, tags=tags, parent=parent) as run:
        result = simulated(method, cell.config, world, display)
        keep(result, world, call.directory / cell.group / cell.row, run)
        cut = report.cut(result.records)
        run.log_tags({"coach.cut": cut})
    return report.Row(cell.row, result.summary, cut)


def _markdown(title: str, groups: dict[str, list[report.Row]]) -> str:
    parts = [f"### {group}\n\n{report.markdown_table(rows)}" for group, rows in groups.items()]
    return "\n".join([f"## {title}\n", *parts])


def _json(row: report.Row) -> dict[str, Any]:
    return {
        "row": row.method,
        "cut": row.cut,
        "metrics": {name: asdict(estimate) for name, estimate in row.summary.items()},
    }
