"""Tests of times on a machine that others use too."""

from collections.abc import Callable
from functools import wraps
from typing import Any

ATTEMPTS = 3


def attempted(test: Callable[..., Any]) -> Callable[..., Any]:
    """The test, tried again where it fails, three times at most. A core that is taken away for some
    milliseconds makes a run late; what is wrong by construction is wrong every time."""

    @wraps(test)
    def tried(*args: Any, **kwargs: Any) -> None:
        for _ in range(ATTEMPTS - 1):
            try:
                return test(*args, **kwargs)
            except AssertionError:
                continue
        return test(*args, **kwargs)

    return tried
