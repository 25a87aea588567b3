"""What a job has found: shown, written, and logged as a run of its own.

In: `Findings`. Out: tables and notes on the screen; `<name>.md`, `<name>.json`, `<figure>.png`,
`summary.json`, `provenance.json` and `config.yaml` in the job's directory; the same files with the
config, its hash and the metrics in MLflow. Files are written before MLflow is asked to take them.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coach_exp.jobs.job import Job
from coach_exp.results.findings import Findings, Table
from coach_exp.results.progress import Display
from coach_exp.results.tables import markdown, text_table
from coach_exp.tracking.params import config_hash
from coach_exp.tracking.provenance import code, provenance
from coach_exp.tracking.tracker import Run
from coach_exp.types.errors import CoachError


@dataclass(frozen=True)
class Work:
    """What a job has while it works: its run, to nest others under it, and the screen."""

    run: Run
    display: Display
    shown: list[Table] = field(default_factory=list)

    def show(self, table: Table) -> Table:
        """Show a table now; among the findings it is not shown again."""
        self.display.say(text_table(table))
        self.shown.append(table)
        return table


def keep(
    job: Job, kind: str, find: Callable[[Work], Findings], title: str | None = None
) -> float | None:
    """Find, show, write and log; returns the findings' value. `kind` is the job's name in tags,
    `title` the run's name outside a sweep, where a child is called by its overrides.

    The run is FAILED or KILLED where `find` is. Raises CoachError where a rule is broken, after
    everything is kept.
    """
    params = job.config.plain
    digest = config_hash(params, code=code().commit)
    name = job.call.name if title is None or job.call.sweep else title
    with (
        under_sweep(job) as parent,
        job.tracker.run(
            name, config_hash=digest, params=params, tags={"coach.job": kind}, parent=parent
        ) as run,
    ):
        work = Work(run, job.display)
        found = find(work)
        show(found, work)
        files = list(write(found, job.directory))
        files.append(job.config.save(job.directory / "config.yaml"))
        job.display.say(_where(found, job.directory))
        run.log_metrics(found.metrics)
        run.log_files(files)
        if found.broken:
            raise CoachError("\n".join(found.broken))
    return found.value


def under_sweep(job: Job) -> AbstractContextManager[str | None]:
    """The run under which a job of a sweep goes; none outside a sweep."""
    sweep = job.call.sweep
    return job.tracker.sweep(str(sweep), sweep.name) if sweep else nullcontext()


def show(found: Findings, work: Work) -> None:
    """The tables that were not shown yet, and the notes under them."""
    for table in found.tables:
        if not any(table is shown for shown in work.shown):
            work.show(table)
    for note in found.notes:
        work.display.say(note)


def write(found: Findings, directory: Path) -> Iterator[Path]:
    """Write all files; yields each when it is written."""
    directory.mkdir(parents=True, exist_ok=True)
    if found.tables or found.notes:
        path = directory / f"{found.name}.md"
        path.write_text(as_markdown(found))
        yield path
    if found.data:
        yield write_json(directory / f"{found.name}.json", found.data)
    if found.metrics:
        yield write_json(directory / "summary.json", found.metrics)
    for name, figure in found.figures.items():
        path = directory / f"{name}.png"
        figure.savefig(path)
        yield path
    yield write_json(directory / "provenance.json", provenance())


def _where(found: Findings, directory: Path) -> str:
    """The line that says where everything lies."""
    if not found.figures:
        return f"files: {directory}"
    plural = "s" * (len(found.figures) > 1)
    pictures = ", ".join(f"{name}.png" for name in found.figures)
    return f"picture{plural}: {pictures}; files: {directory}"


def as_markdown(found: Findings) -> str:
    """Headings, tables, notes; ends in a newline."""
    parts = [f"## {found.name}\n"]
    for table in found.tables:
        heading = f"### {table.title}\n\n" if table.title else ""
        parts.append(heading + markdown(table))
    parts += [f"{note}\n" for note in found.notes]
    return "\n".join(parts)


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Write it with an indent of two; returns the path."""
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path
