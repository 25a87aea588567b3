"""Many small cases in one test, which names the one that fails."""

from collections.abc import Callable, Iterable
from functools import wraps
from inspect import signature
from typing import Any

Test = Callable[..., None]


def looped(names: str | tuple[str, ...], values: Iterable[Any]) -> Callable[[Test], Test]:
    """As `pytest.mark.parametrize`, where thousands of tests would take longer to be collected and
    told than to run."""
    cases = list(values)
    several = isinstance(names, tuple)

    def decorate(test: Test) -> Test:
        own = signature(test)
        given = [name for name in own.parameters if name not in (names if several else (names,))]
        assert len(given) < len(own.parameters), f"{test.__name__} takes no {names}"

        @wraps(test)
        def every(**others: Any) -> None:
            for case in cases:
                arguments = dict(zip(names, case, strict=True)) if several else {names: case}
                try:
                    test(**arguments, **others)
                except BaseException as error:
                    error.add_note(", ".join(f"{name} = {arguments[name]!r}" for name in arguments))
                    raise

        del every.__wrapped__  # or pytest would ask for what is given here
        every.__signature__ = own.replace(parameters=[own.parameters[name] for name in given])
        return every

    return decorate
