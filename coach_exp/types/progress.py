"""How long work says how far it is."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]  # what is being done, how much of it, of how much


def silent(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""
