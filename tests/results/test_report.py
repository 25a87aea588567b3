"""The table says what was measured, with its unit, and nothing else."""

from dataclasses import replace
from io import StringIO

import numpy as np
from helpers.records import pipelined, plan, records, row
from rich.console import Console

from coach_exp.results.report import Row, cut, result_table
from coach_exp.results.tables import markdown, text_table


def judged():
    """A hundred tasks of 10 ms stages, a fifth of them exits; the model is right on 80, uncut on
    82.
    """
    right, uncut = np.arange(100) < 80, np.arange(100) < 82
    run = pipelined(100, 0.010, 0.010, 0.005, exits=5)
    columns = dict(run.columns) | {
        "label": np.ones(100, int),
        "predicted": right.astype(int),
        "uncut": uncut.astype(int),
    }
    return replace(run, columns=columns)


def device_only():
    rows = [row(i, (0.06 * i, 0.06 * i + 0.06), None, None) for i in range(10)]
    return records(rows, (plan(layer=""),))


def cells(text):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def printed(table, width):
    console = Console(width=width, file=StringIO())
    console.print(table)
    return console.file.getvalue()


def plain(text):
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_one_line_per_method_with_units_in_the_head():
    text = markdown(result_table([Row.of("coach", judged()), Row.of("device_only", device_only())]))
    head, _, coach, device = cells(plain(text))
    lines = [dict(zip(head, line, strict=True)) for line in (coach, device)]
    assert lines[0]["acc. %"] == "80.0"
    assert lines[0]["drop points [95 %]"].startswith("2.00 [")
    assert lines[0]["sent KiB/task"] == "0.80"
    assert lines[0]["exits %"] == "20.0"
    assert lines[0]["width bits"] == "4.00"
    assert lines[0]["cut"] == "cut (3 layers)"
    assert lines[1]["rate it/s"] == "16.7"
    assert lines[1]["latency mean/p95, ms"] == "60.0 / –"  # ten tasks support no p95
    assert lines[1]["idle, % end/link/cloud"] == "0/100/100"


def test_a_dash_stands_for_what_was_not_measured():
    _, _, line = cells(markdown(result_table([Row.of("device_only", device_only())])))
    assert line[1:3] == ["–", "–"]
    assert line[-2:] == ["–", "device-only"]


def test_the_terminal_shows_the_same_cells():
    rows = [Row.of("coach", judged()), Row.of("device_only", device_only())]
    text = printed(text_table(result_table(rows, title="a [title]")), width=200)
    assert "a [title]" in text
    for cell in cells(markdown(result_table(rows)))[2]:
        assert cell in text
    assert "[95 %]" in text  # not taken for markup


def test_a_narrow_terminal_loses_no_number():
    text = printed(text_table(result_table([Row.of("coach_bottleneck", judged())])), width=80)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert {"80.0", "2.00", "0.80", "20.0", "4.00"} <= set(text.split())


def test_the_cut_names_the_plans_that_ran_the_most_used_first():
    plans = (plan(layer="a"), plan(layer="b"), plan(layer="never"), plan(layer=""))
    rows = [row(i, (i, i + 1), None, None, plan=p) for i, p in enumerate([0, 1, 1, 1, 3])]
    assert plain(cut(records(rows, plans))) == "60 % b (3 layers); 20 % a (3 layers); 1 more"


def test_plans_with_the_same_cut_are_one():
    plans = (plan(layer="b"), plan(layer="a"), plan(layer="b", bits=8))
    rows = [row(i, (i, i + 1), None, None, plan=p) for i, p in enumerate([0, 1, 2, 2])]
    assert plain(cut(records(rows, plans))) == "75 % b (3 layers); 25 % a (3 layers)"
