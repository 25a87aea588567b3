"""Read a JSON file that a user wrote; a mistake in it is named with the place where it stands."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from coach_exp.types.component import rule_of
from coach_exp.types.errors import CoachError


class Checked(BaseModel):
    """Base of the descriptions of such files: exact types, no unknown keys, finite numbers."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


Described = TypeVar("Described", bound=Checked)


def read_text(path: Path, error: type[CoachError]) -> str:
    """The text of the file at `path`. Raises `error` when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as cause:
        raise error(f"{path} cannot be read: {cause}") from cause


def read_checked(path: Path, description: type[Described], error: type[CoachError]) -> Described:
    """The JSON file at `path` as a `description`. Raises `error` with all that is wrong in it."""
    text = read_text(path, error)
    try:
        return description.model_validate_json(text)
    except ValidationError as found:
        raise error(f"{path} is not as it must be: {mistakes(found)}") from None


def mistakes(found: ValidationError, limit: int = 5) -> str:
    """The first few mistakes in words: `layers.2.end_s = -1: should be greater than 0; ...`."""
    return "; ".join(map(_mistake, found.errors()[:limit]))


def _mistake(error: Mapping[str, Any]) -> str:
    place = ".".join(map(str, error["loc"])) or "the file"
    value = error["input"]
    scalar = error["loc"] and isinstance(value, str | int | float)
    shown = f" = {value}" if scalar else ""
    return f"{place}{shown}: {rule_of(error)}"
