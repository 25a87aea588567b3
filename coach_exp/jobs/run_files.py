"""The files of a run: of each method on the stream, and pictures of all; written and logged.

In: a `Result` and its World. Out: config, plans, metrics, provenance, every task, a timeline; where
something was decided online, its thresholds and how the bits followed the link.
"""

from collections.abc import Sequence
from pathlib import Path

from coach_exp.jobs.keep import write_json
from coach_exp.jobs.result import Result
from coach_exp.plots.gantt import gantt
from coach_exp.plots.online import adaptation_plot, threshold_curves
from coach_exp.plots.throughput import throughput_plot
from coach_exp.results.curves import curves_json
from coach_exp.results.explain import main_plan
from coach_exp.results.timeline import save_timeline
from coach_exp.setup.world import World
from coach_exp.tracking.provenance import provenance
from coach_exp.tracking.storage import save_tasks
from coach_exp.tracking.tracker import Run

FILES = (  # of each method
    "config.yaml",
    "plan.json",
    "summary.json",
    "provenance.json",
    "tasks.parquet",
    "timeline.json",
)


def keep_result(result: Result, world: World, directory: Path, run: Run) -> None:
    """Write the files of one method, and log them with its metrics."""
    directory.mkdir(parents=True, exist_ok=True)
    result.config.save(directory / "config.yaml")
    write_json(directory / "plan.json", result.plans.as_json())
    write_json(directory / "summary.json", result.metrics())
    write_json(directory / "provenance.json", provenance() | {"identity": world.identity})
    save_tasks(result.records, directory / "tasks.parquet")
    save_timeline(result.records, directory / "timeline.json", name=result.method)
    files = [directory / name for name in FILES]
    if result.simulated is not None:
        files.append(directory / "simulated.parquet")
        save_tasks(result.simulated, files[-1])
    files += _online_files(result, world, directory)
    run.log_metrics(result.metrics())
    run.log_files(files)


def keep_pictures(results: Sequence[Result], world: World, directory: Path, run: Run) -> None:
    """The main method's first tasks, and every method's throughput over time."""
    files = [directory / "gantt.png", directory / "throughput.png"]
    gantt(results[0].records, title=results[0].method).savefig(files[0])
    runs = {r.method: r.records for r in results}
    throughput_plot(runs, world.true_trace).savefig(files[1])
    run.log_files(files)


def _online_files(result: Result, world: World, directory: Path) -> list[Path]:
    """Thresholds and their curves, and how the bits followed the link."""
    table = main_plan(result.plans).online
    if table is None:
        return []
    names = ("calibration.json", "calibration.png", "adaptation.png")
    data, curves, adaptation = (directory / name for name in names)
    write_json(data, curves_json(table))
    limit_points = getattr(world.config.cache, "limit_points", None)
    threshold_curves(table, limit_points, title=result.method).savefig(curves)
    adaptation_plot({result.method: result.records}, world.true_trace).savefig(adaptation)
    return [data, curves, adaptation]
