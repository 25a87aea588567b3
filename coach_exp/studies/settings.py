"""The settings of a study, checked: what `conf/experiment` and the command line may say of it."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from coach_exp.profiling.checked_json import mistakes
from coach_exp.types.errors import ConfigError


class StudySettings(BaseModel):
    """Base of every study's settings; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Self:
        """From the `study` group. Raises ConfigError naming each wrong key, its value, the rule."""
        try:
            return cls.model_validate(dict(given))
        except ValidationError as found:
            raise ConfigError(f"study: {mistakes(found)}") from None
