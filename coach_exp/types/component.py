"""A component is its class: `_target_` names it, its parameters are its schema.

In: a config group, `{_target_: package.Class, field: value, ...}`. Out: the object, or a
ConfigError that names every wrong key, its value and the rule. A component of a user's own package
is read in the same way as ours: any importable class or function will do, and the annotations of
its parameters, those of pydantic included, are the rules for its values. What only a run knows (the
link's initial rate, say) a component receives by asking for it: by a parameter of that name.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, is_dataclass
from difflib import get_close_matches
from importlib import import_module
from traceback import extract_tb
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import SchemaError

from coach_exp.types.errors import CoachError, ConfigError

TARGET = "_target_"


@dataclass(frozen=True, slots=True)
class Facts:
    """Beside `Component` in an annotation: the names of what the run will give."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Component:
    """A class with its settings, which are checked; `asks` are the facts of the run that it wants.

    Calling it makes the object.
    """

    key: str
    target: str
    make: Callable[..., Any]
    settings: Mapping[str, Any]
    asks: frozenset[str]

    def __call__(self, wanted: type | None = None, /, **facts: Any) -> Any:
        """The object, with those of the run's `facts` that it asks for.

        Raises ConfigError when the class refuses its settings, or when the object is not one of
        `wanted`: of that class, or with all members of that protocol.
        """
        known = {name: facts[name] for name in self.asks if name in facts}
        try:
            made = self.make(**self.settings, **known)
        except CoachError as error:
            raise type(error)(_under(self.key, str(error), self.settings)) from None
        except Exception as error:  # whatever a class of the user's own raises
            why = f"{self.target} cannot be made: {_failure(error)}"
            raise ConfigError(f"{self.key}: {why}" if self.key else why) from error
        words = None if wanted is None else misfit(made, wanted)
        if words is not None:
            raise ConfigError(f"{self.key}.{TARGET} = {self.target}: {words}")
        return made


def read(given: Any, key: str, facts: Iterable[str] = ()) -> Component:
    """The component that the config holds under `key`, its settings checked, components among
    them made. `facts` names what the run will give.

    Raises ConfigError naming each wrong key, its value and the rule.
    """
    if not isinstance(given, Mapping) or TARGET not in given:
        raise ConfigError(_no_component(given, key))
    target = str(given[TARGET])
    make = imported(target, f"{key}.{TARGET}")
    return of_class(make, {k: v for k, v in given.items() if k != TARGET}, key, facts)


def of_class(
    make: Callable[..., Any], given: Mapping[str, Any], key: str, facts: Iterable[str] = ()
) -> Component:
    """The component of a known class with the settings that the config holds under `key`.

    Raises ConfigError as `read`.
    """
    target = f"{make.__module__}.{make.__qualname__}"
    parameters, open_ended = _parameters(make)
    asked = frozenset(facts) & set(parameters)
    rules = {name: rule for name, rule in parameters.items() if name not in asked}
    wrong = [] if open_ended else _unknown(given, rules, key)
    wrong += [
        f"{_join(key, name)}: is not set; {target} needs it"
        for name, rule in rules.items()
        if rule.required and name not in given
    ]
    settings = {}
    for name, value in given.items():
        if name in rules or open_ended:
            try:
                settings[name] = _checked(value, rules.get(name, ANYTHING).hint, _join(key, name))
            except ConfigError as error:
                wrong.append(str(error))
    if wrong:
        raise ConfigError("\n".join(wrong))
    return Component(key, target, make, settings, asked)


def built(given: Any, key: str, wanted: type | None = None) -> Any:
    """The object of a component that needs no facts of the run. Raises ConfigError as `read`."""
    return read(given, key)(wanted)


def imported(target: str, key: str) -> Callable[..., Any]:
    """The class or function of this full name. Raises ConfigError when there is none."""
    module, _, name = target.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except Exception as error:  # importing runs a module of the user's own
        raise ConfigError(
            f"{key} = {target}: cannot be imported: {_failure(error)}; give the full name of a "
            "class, and run where Python finds its package"
        ) from error
    if not callable(found):
        raise ConfigError(f"{key} = {target}: is a {type(found).__name__}, not a class")
    if str(found.__module__).partition(".")[0] in sys.stdlib_module_names:
        raise ConfigError(
            f"{key} = {target}: is of Python's own library, which has no components; a config that "
            "comes from elsewhere is to run no commands"
        )
    return found  # type: ignore[no-any-return]


def nearest(name: str, known: Iterable[str]) -> str:
    """What a misspelt name may have meant, in words; all there is where nothing is near.

    >>> nearest("wieght", ["weight", "name"]), nearest("x", ["weight", "name"])
    ("did you mean 'weight'?", 'there are name, weight')
    """
    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"there are {', '.join(names)}" if names else "there are none"


@dataclass(frozen=True, slots=True)
class _Rule:
    """What a parameter's annotation says of its values."""

    hint: Any
    required: bool


ANYTHING = _Rule(Any, False)


def _parameters(make: Callable[..., Any]) -> tuple[dict[str, _Rule], bool]:
    """The named parameters of a class or function, and whether it takes any others as well."""
    try:
        given = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):  # written in C: it will say itself what it refuses
        return {}, True
    hints = _hints(make)
    named = {
        each.name: _Rule(hints.get(each.name, Any), each.default is inspect.Parameter.empty)
        for each in given
        if each.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    }
    return named, any(each.kind is inspect.Parameter.VAR_KEYWORD for each in given)


def _hints(make: Callable[..., Any]) -> dict[str, Any]:
    """Annotations of the parameters; none where they name what was imported for a type checker."""
    plain_class = inspect.isclass(make) and not is_dataclass(make)
    where = make.__init__ if plain_class else make
    try:
        return get_type_hints(where, include_extras=True)
    except (NameError, TypeError):
        return {}


def _failure(error: Exception) -> str:
    """What went wrong in words; what a user's code did not say on purpose, with its kind and place.

    >>> _failure(ValueError("too small")), _failure(KeyError("x"))
    ('too small', "KeyError: 'x'")
    """
    if isinstance(error, ImportError | AttributeError | TypeError | ValueError):
        return str(error)
    frames = extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    within = "" if isinstance(error, SyntaxError) else place  # which names its own
    return f"{type(error).__name__}: {error}{within}"


def _no_component(given: Any, key: str) -> str:
    return (
        f"{key} = {given}: a component is a class and its fields; give {key}={{{TARGET}: "
        "package.Class, ...}, or one of the files of its config group"
    )


def _under(key: str, message: str, settings: Mapping[str, Any]) -> str:
    """A class's own words about its settings, under their key.

    >>> _under("cache", "rule = eq12: is unknown", {"rule": "eq12"}), _under("cache", "No.", {})
    ('cache.rule = eq12: is unknown', 'cache: No.')
    """
    told = re.match(r"(\w+) = ", message)
    if told and told[1] in settings:
        return _join(key, message)
    return f"{key}: {message}" if key else message


def _unknown(given: Mapping[str, Any], rules: Mapping[str, _Rule], key: str) -> list[str]:
    return [
        f"{_join(key, name)}{_shown(value)}: there is no such key; {nearest(name, rules)}"
        for name, value in given.items()
        if name not in rules
    ]


def _checked(value: Any, hint: Any, key: str) -> Any:
    """The value as its annotation wants it, a component made. Raises ConfigError."""
    plain, marks = _stripped(hint)
    if value is None and NoneType in get_args(plain):
        return None
    if plain is Component:
        return read(value, key, next((mark.names for mark in marks if isinstance(mark, Facts)), ()))
    wanted = _class_of(plain)
    if isinstance(value, Mapping):
        if plain == Mapping[str, Any]:  # somebody else's to read, later
            return value
        if TARGET in value:
            return built(value, key, wanted)
        if inspect.isclass(plain) and is_dataclass(plain):
            return of_class(plain, value, key)()
    if isinstance(value, list) and any(isinstance(v, Mapping) and TARGET in v for v in value):
        return [_checked(each, Any, f"{key}.{k}") for k, each in enumerate(value)]
    if wanted is not None and _is_protocol(wanted):  # which says nothing of any plain value
        raise ConfigError(_no_component(value, key))
    try:
        return _adapter(hint).validate_python(value)
    except ValidationError as found:
        raise ConfigError("\n".join(mistakes(found, key))) from None


def _class_of(plain: Any) -> type | None:
    """The class that an annotation names, alone or as what may be None."""
    members = get_args(plain) if get_origin(plain) in (Union, UnionType) else (plain,)
    named = [each for each in members if each is not NoneType]
    if len(named) != 1 or named[0] is Any or not inspect.isclass(named[0]):
        return None
    found: type = named[0]
    return found


def _stripped(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """An annotation's type, and what `Annotated` says besides."""
    if get_origin(hint) is Annotated:
        plain, *marks = get_args(hint)
        return plain, tuple(marks)
    return hint, ()


def _adapter(hint: Any) -> TypeAdapter[Any]:
    """What checks values by an annotation; by one that pydantic cannot read it takes any."""
    for config in (ConfigDict(arbitrary_types_allowed=True), None):
        with suppress(PydanticUserError, SchemaError):  # a dataclass or model has its own config
            return TypeAdapter(hint, config=config)
    return TypeAdapter(Any)


def _is_protocol(wanted: type) -> bool:
    return getattr(wanted, "_is_protocol", False)


def mistakes(found: ValidationError, key: str) -> list[str]:
    """Each wrong value in words: its key below `key`, the value, the rule."""
    said: dict[str, str] = {}
    for error in found.errors():
        place = _join(key, *(str(part) for part in error["loc"] if _is_key(part)))
        rule = rule_of(dict(error))
        missing = error["input"] is None and error["type"] != "value_error"
        wrong = ": is not set; it must be given" if missing else f"{_shown(error['input'])}: {rule}"
        said.setdefault(place, place + wrong)
    return list(said.values())


def rule_of(error: Mapping[str, Any]) -> str:
    """Returns the rule that one of pydantic's errors tells of, as it stands behind a value.

    >>> rule_of({"type": "int_type", "msg": "Input should be a valid integer"})
    'should be a valid integer'
    """
    own = {"path_type": "should be a path"}  # pydantic names the class here
    told: str = error["msg"].removeprefix("Value error, ").replace("Input should", "should")
    return own.get(error["type"], told)


def _shown(value: Any) -> str:
    """A value in an error; whole groups are left out."""
    return "" if isinstance(value, Mapping) else f" = {value}"


def _join(*keys: str) -> str:
    return ".".join(filter(None, keys))


def _is_key(part: object) -> bool:
    """Whether a part of pydantic's location is a key of the user's, not a member of a union or the
    place in a list, whose value is shown."""
    return isinstance(part, str) and part.isidentifier()


def misfit(made: object, wanted: type) -> str | None:
    """In words, why an object is none of `wanted`: not of that class, or without all members of
    that protocol. None where it fits."""
    rule = f"see {wanted.__module__}.{wanted.__name__}"
    if not _is_protocol(wanted):
        fits = isinstance(made, wanted)
        return None if fits else f"makes a {type(made).__name__}, which does not fit; {rule}"
    members = ["__call__"] if "__call__" in vars(wanted) else []
    members += [name for name in vars(wanted) if not name.startswith("_")]
    missing = [name for name in members if not hasattr(made, name)]
    return f"has no {', '.join(missing)}; {rule}" if missing else None
