"""A table of strings, for a terminal and for Markdown."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def text_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> "Table":
    """For a terminal: the first column to the left and unbroken, the others to the right."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD)
    for k, head in enumerate(heads):
        # Folded, because "…" hides numbers.
        table.add_column(head, justify="right" if k else "left", overflow="fold", no_wrap=k == 0)
    for row in rows:
        table.add_row(*row)
    return table


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """GitHub-flavoured Markdown, ending in a newline.

    >>> print(markdown(["cut", "bits"], [["conv1", "4"]]), end="")
    | cut | bits |
    | :-- | --: |
    | conv1 | 4 |
    """
    rules = [":--", *["--:"] * (len(heads) - 1)]
    lines = [[head.replace("/\n", "/").replace("\n", " ") for head in heads], rules, *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
