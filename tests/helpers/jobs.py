"""A job in this process, which saves what a process of its own takes to start."""

from pathlib import Path

from hydra import compose

from coach_exp.jobs.start import run_job
from coach_exp.setup.invocation import Invocation
from helpers.store import lay_out


def do(directory: Path, *overrides: str) -> float | None:
    """What the job returns: its metric. Its files lie in `directory`, and what runs share
    beside it. Needs the fixture `hydra`."""
    directory.mkdir(parents=True, exist_ok=True)
    if not any(each.startswith("tracking") for each in overrides):
        lay_out(directory.parent)
    given = (f"output.root={directory.parent}", *overrides)
    return run_job(compose("config", overrides=list(given)), Invocation(directory, "test", given))
