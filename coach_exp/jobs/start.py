"""From a composed config to a job that is done."""

from omegaconf import DictConfig
from rich.console import Console

from coach_exp.jobs.job import Job
from coach_exp.results.progress import Display
from coach_exp.setup.config import validated
from coach_exp.setup.invocation import Invocation

PLAIN_WIDTH = 130  # columns of a table that goes to a file


def run_job(raw: DictConfig, call: Invocation) -> float | None:
    """Check the config and do its job; returns what a sweep may optimise. Raises ConfigError naming
    what is wrong before any work begins."""
    config = validated(raw)
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PLAIN_WIDTH)
    with Display(console) as display:
        return config.job(Job(config, call, display))
