"""One job of the command line: what every kind of job is given.

A kind of job is a component: a frozen dataclass whose fields are its settings (`conf/job`), called
with a `Job`. It returns the number that a sweep may optimise.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from coach_exp.results.progress import Display
from coach_exp.setup.builder import Builder
from coach_exp.setup.config import Config
from coach_exp.setup.invocation import Invocation
from coach_exp.tracking.tracker import Tracker


@dataclass(frozen=True)
class Job:
    """The config, the command line it comes from, and the screen."""

    config: Config
    call: Invocation
    display: Display

    @cached_property
    def tracker(self) -> Tracker:
        """Where runs are kept, opened when it is first asked for: a cloud that only serves keeps
        none. Raises ConfigError when the store cannot be used."""
        return self.config.tracking.open(self.config.output.root)

    @property
    def directory(self) -> Path:
        """Where the job's files go."""
        return self.call.directory

    def builder(self) -> Builder:
        """What makes the objects that the config names."""
        return Builder(self.config, self.display.progress)
