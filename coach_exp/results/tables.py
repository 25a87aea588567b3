"""A table of strings, for a terminal and for Markdown: the one place that makes either.

In: heads, rows, and which columns are words. Out: a rich table, or lines of Markdown. A head may
break into lines; words stand on the left of their column, numbers on the right.
"""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.table import Table

FIRST = (0,)  # column


def text_table(
    title: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    words: Collection[int] = FIRST,
    narrow: bool = False,
    caption: str = "",
) -> "Table":
    """For a terminal. `words` are the columns that stand on the left; the first column is never
    broken, the others fold where the terminal is too narrow. `narrow` leaves one space between
    columns. Without heads, all columns are words.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    # Text, because rich would read [95 %] as markup.
    table = Table(box=box.SIMPLE_HEAD, show_header=bool(heads))
    table.title = Text(title, style="table.title") if title else None
    table.caption = Text(caption, style="table.caption") if caption else None
    if narrow:
        table.pad_edge, table.padding = False, (0, 1, 0, 0)
    for k, head in enumerate(heads or [""] * max(map(len, rows), default=0)):
        justify: Literal["left", "right"] = "left" if k in words or not heads else "right"
        # Folded, because "…" hides numbers.
        table.add_column(Text(head), justify=justify, overflow="fold", no_wrap=k == 0)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def markdown(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, words: Collection[int] = FIRST
) -> str:
    """GitHub-flavoured Markdown, ending in a newline.

    >>> print(markdown(["cut", "quan-\\ntised\\nbits"], [["conv1", "4"]]), end="")
    | cut | quantised bits |
    | :-- | --: |
    | conv1 | 4 |
    """
    rules = [":--" if k in words else "--:" for k in range(len(heads))]
    cells = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    lines = [[_one_line(head) for head in heads], rules, *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _one_line(head: str) -> str:
    return head.replace("-\n", "").replace("/\n", "/").replace("+\n", "+").replace("\n", " ")
