"""The config of a run within a job.

In: the job's command line and what a run changes of it. Out: a checked config, composed from the
primary config that the user gave.
"""

from collections.abc import Sequence
from dataclasses import replace

from coach_exp.setup.config import Config, validated
from coach_exp.setup.invocation import Invocation
from coach_exp.types.component import TARGET

RUN = {TARGET: "coach_exp.jobs.run.Run"}  # what a nested config does, whatever its parent does


def composed_run(call: Invocation, overrides: Sequence[str]) -> Config:
    """Returns the config of the parent's command line with further overrides, less what concerns
    the parent's job alone. Raises ConfigError when one does not fit."""
    kept = tuple(each for each in call.overrides if not _of_job(each))
    raw = replace(call, overrides=kept).with_overrides(overrides)
    raw["job"] = RUN
    return validated(raw)


def _of_job(override: str) -> bool:
    """Whether an override chooses or changes the job.

    >>> [_of_job(each) for each in ("job=table", "~job.rows.coach", "+job.rows.a=[]", "jobs=1")]
    [True, True, True, False]
    """
    key = override.lstrip("+~").partition("=")[0]
    return key == "job" or key.startswith("job.")
