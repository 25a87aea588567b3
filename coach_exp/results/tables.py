"""A table of strings, for a terminal and for Markdown: the one place that makes either.

In: heads, rows, and which columns are words. Out: a rich table, or lines of Markdown. A head may
break into lines; words stand on the left of their column, numbers on the right.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.table import Table as ScreenTable

FIRST = (0,)  # column


@dataclass(frozen=True, slots=True)
class Table:
    """Text in rows under heads; the first column names the row, and is never broken. `words` are
    the columns that stand on the left; without heads all do. On a terminal, `narrow` leaves one
    space between columns, and `caption` stands below."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Collection[int] = FIRST
    narrow: bool = False
    caption: str = ""

    @property
    def columns(self) -> int:
        """How many there are."""
        return max(map(len, (self.heads, *self.rows)), default=0)


def text_table(table: Table) -> "ScreenTable":
    """Returns the table for a terminal; its cells fold where that is too narrow."""
    from rich import box
    from rich.table import Table as ScreenTable
    from rich.text import Text

    # Text, because rich would read [95 %] as markup.
    shown = ScreenTable(box=box.SIMPLE_HEAD, show_header=bool(table.heads))
    shown.title = Text(table.title, style="table.title") if table.title else None
    shown.caption = Text(table.caption, style="table.caption") if table.caption else None
    if table.narrow:
        shown.pad_edge, shown.padding = False, (0, 1, 0, 0)
    for k, head in enumerate(table.heads or [""] * table.columns):
        on_left = k in table.words or not table.heads
        justify: Literal["left", "right"] = "left" if on_left else "right"
        # Folded, because "…" hides numbers.
        shown.add_column(Text(head), justify=justify, overflow="fold", no_wrap=k == 0)
    for row in table.rows:
        shown.add_row(*map(Text, row))
    return shown


def markdown(table: Table) -> str:
    """Returns the table without its title as GitHub-flavoured Markdown, ending in a newline.

    >>> print(markdown(Table("", ["cut", "quan-\\ntised\\nbits"], [["conv1", "4"]])), end="")
    | cut | quantised bits |
    | :-- | --: |
    | conv1 | 4 |
    """
    heads = [_one_line(head) for head in table.heads or [""] * table.columns]
    rules = [":--" if k in table.words else "--:" for k in range(len(heads))]
    cells = [[cell.replace("|", r"\|") for cell in row] for row in table.rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in (heads, rules, *cells))


def _one_line(head: str) -> str:
    return head.replace("-\n", "").replace("/\n", "/").replace("+\n", "+").replace("\n", " ")
