"""From a composed config to a job that is done."""

from omegaconf import DictConfig
from rich.console import Console

from coach_exp.jobs.composed import Composed
from coach_exp.jobs.job import Job
from coach_exp.results.progress import Display
from coach_exp.setup.component import TARGET, built
from coach_exp.setup.invocation import Invocation
from coach_exp.types.errors import ConfigError

PLAIN_WIDTH = 130  # columns of a table that goes to a file


def run_job(raw: DictConfig, call: Invocation) -> float | None:
    """Check the config and do its job; returns what a sweep may optimise. Raises ConfigError naming
    what is wrong before any work begins."""
    config = Composed.of(raw)
    given = config.plain["job"]
    do = built(given, "job")
    if not callable(do):
        raise ConfigError(
            f"job.{TARGET} = {given[TARGET]}: cannot be called with a Job; give one of the files "
            "of conf/job, or a class with __call__(self, job)"
        )
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PLAIN_WIDTH)
    with Display(console) as display:
        value: float | None = do(Job(config, call, display))
        return value
