"""What tests of studies start from."""

from collections.abc import Iterator

import pytest
from rich.console import Console

from coach_exp.results.progress import Display


@pytest.fixture(scope="module")
def display() -> Iterator[Display]:
    """One that shows nothing."""
    with Display(Console(quiet=True)) as shown:
        yield shown
