"""One table, in a terminal and in Markdown."""

from io import StringIO

from rich.console import Console

from coach_exp.results.tables import Table, markdown, text_table

HEADS = ("cut", "quan-\ntised\nbits", "end/\nlink", "why")
ROWS = [["conv1", "4", "0/1", "least [95 %]"], ["layer1.0.relu", "16", "10/2", "a|b"]]


def printed(table, width=80):
    console = Console(width=width, file=StringIO())
    console.print(table)
    return console.file.getvalue()


def test_words_stand_on_the_left_and_numbers_on_the_right():
    lines = printed(text_table(Table("cuts", HEADS, ROWS, words=(0, 3)))).splitlines()
    assert lines[0].strip() == "cuts"
    first, second = (line.rstrip() for line in lines[-3:-1])
    assert first == "  conv1               4    0/1   least [95 %]"
    assert second == "  layer1.0.relu      16   10/2   a|b"


def test_a_narrow_table_folds_and_loses_nothing():
    table = text_table(Table("", HEADS, ROWS, narrow=True, caption="see [1]"))
    text = printed(table, width=32)
    assert max(map(len, text.splitlines())) <= 32
    assert "…" not in text
    assert "layer1.0.relu" in text
    assert "see [1]" in text


def test_without_heads_there_is_no_rule():
    assert printed(text_table(Table("", (), [["T_e, ms", "3.1"]]))).split() == ["T_e,", "ms", "3.1"]


def test_markdown_has_heads_in_a_line_and_no_stray_bars():
    head, rule, _, last = markdown(Table("", HEADS, ROWS, words=(0, 3))).splitlines()
    assert head == "| cut | quantised bits | end/link | why |"
    assert rule == "| :-- | --: | --: | :-- |"
    assert last == r"| layer1.0.relu | 16 | 10/2 | a\|b |"
