"""Settings from a config: the fields of their class are the schema."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from coach_exp.types.errors import ConfigError

Settings = TypeVar("Settings")


def checked(settings: type[Settings], given: Mapping[str, Any], group: str) -> Settings:
    """The `given` fields as their annotations want them. Raises ConfigError that names each wrong
    key below `group`, its value and the rule, or the fields that do not go together."""
    try:
        return TypeAdapter(settings).validate_python(dict(given))
    except ConfigError as error:
        raise ConfigError(f"{group}: {error}") from None
    except ValidationError as error:
        wrong = (
            f"{group}.{'.'.join(map(str, e['loc']))} = {e['input']}: "
            f"{e['msg'].replace('Input should', 'should')}"
            for e in error.errors()
        )
        raise ConfigError("\n".join(wrong)) from None
