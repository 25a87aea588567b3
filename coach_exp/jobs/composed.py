"""A config as the command line composed it: its checked values, and the objects that a job needs.

In: Hydra's config. Out: one frozen value; no job reads Hydra's own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from coach_exp.planner.planning import Planner
from coach_exp.setup.component import TARGET
from coach_exp.setup.config import Config, validated
from coach_exp.setup.invocation import Invocation
from coach_exp.types.errors import CoachError, ConfigError
from coach_exp.types.method import Method

RUN = {TARGET: "coach_exp.jobs.run.Run"}  # what a nested config does, whatever its parent does


@dataclass(frozen=True)
class Composed:
    """`values` are checked; `plain` is the resolved config as it is hashed and logged."""

    values: Config
    plain: Mapping[str, Any]

    @staticmethod
    def of(raw: DictConfig) -> "Composed":
        """Raises ConfigError naming each wrong key, its value and the rule."""
        values = validated(raw)
        return Composed(values, cast(dict[str, Any], OmegaConf.to_container(raw, resolve=True)))

    def method(self) -> Method:
        """The method that the config names. Raises ConfigError when it cannot be made, in the
        method's own words where it has any."""
        given = self.plain["method"]
        try:
            return cast(Method, instantiate(given, _convert_="all"))
        except Exception as error:
            if isinstance(error.__cause__, CoachError):
                raise error.__cause__ from None
            raise ConfigError(f"method._target_ = {given[TARGET]}: {error}") from error

    def planner(self) -> Planner:
        """The planner that the config describes."""
        return cast(Planner, instantiate(self.plain["planner"], _convert_="all"))

    def save(self, path: Path) -> Path:
        """Write it as YAML, nothing left to resolve; returns the path."""
        OmegaConf.save(OmegaConf.create(dict(self.plain)), path)
        return path


def composed_run(call: Invocation, overrides: Sequence[str]) -> Composed:
    """The config of the parent's command line with further overrides, less what concerns the
    parent's job alone. Raises ConfigError when one does not fit."""
    kept = tuple(each for each in call.overrides if not _of_job(each))
    raw = replace(call, overrides=kept).with_overrides(overrides)
    raw["job"] = RUN
    return Composed.of(raw)


def _of_job(override: str) -> bool:
    """Whether an override chooses or changes the job.

    >>> [_of_job(each) for each in ("job=table", "~job.rows.coach", "+job.rows.a=[]", "jobs=1")]
    [True, True, True, False]
    """
    key = override.lstrip("+~").partition("=")[0]
    return key == "job" or key.startswith("job.")
