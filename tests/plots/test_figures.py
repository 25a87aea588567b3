"""The pictures show what they should, judged by the colours of their pixels."""

import pytest
from helpers.paths import CONF
from helpers.pictures import pixels
from helpers.records import pipelined, records, row

from coach_exp.network.trace import Trace
from coach_exp.plots.figures import COLOURS, IDLE, method_colour, method_line
from coach_exp.plots.gantt import gantt
from coach_exp.plots.throughput import throughput_plot


def test_a_gantt_chart_shows_each_task_and_the_bubbles(tmp_path):
    # Of 3 × 10 lane seconds, 6 + 6 + 2 are held: tasks 0 and 2 for 6 s, task 1 for 2 s.
    rows = [
        row(0, (0, 2), (2, 5), (5, 6)),
        row(1, (2, 4), None, None, decision="exit"),
        row(2, (4, 6), (6, 9), (9, 10)),
    ]
    gantt(records(rows), title="coach").savefig(tmp_path / "gantt.png")
    seen = pixels(tmp_path / "gantt.png")
    held = [seen[colour] for colour in COLOURS[:3]]
    assert COLOURS[3] not in seen
    assert seen[IDLE] / (seen[IDLE] + sum(held)) == pytest.approx(16 / 30, rel=0.05)
    assert held[1] / sum(held) == pytest.approx(2 / 14, rel=0.1)


def test_a_gantt_chart_cuts_what_outlasts_its_tasks(tmp_path):
    # Until task 0 is answered at 3 s, the end works on all the time, for later tasks too.
    gantt(pipelined(50, 1, 1, 1), tasks=1).savefig(tmp_path / "gantt.png")
    seen = pixels(tmp_path / "gantt.png")
    assert {colour for colour in COLOURS if colour in seen} == set(COLOURS[:3])
    assert seen[IDLE] / sum(seen[c] for c in (IDLE, *COLOURS[:3])) == pytest.approx(3 / 9, rel=0.05)


@pytest.mark.slow
def test_throughput_is_drawn_per_method_over_the_bandwidth(tmp_path):
    runs = {"coach": pipelined(200, 0.01, 0.02, 0.01), "ns": pipelined(200, 0.03, 0.02, 0.01)}
    trace = Trace((0.0, 2.0), (20e6, 10e6))
    throughput_plot(runs, trace).savefig(tmp_path / "with.png")
    throughput_plot(runs, None).savefig(tmp_path / "without.png")
    shaded, bare = pixels(tmp_path / "with.png"), pixels(tmp_path / "without.png")
    for seen in (shaded, bare):
        assert {colour for colour in COLOURS if colour in seen} == {*map(method_colour, runs)}
    # 20 Mbps for 2 s, 10 for 4 s, on an axis to 22 Mbps and 6 s of 10 × 4.4 inches at 150 dpi.
    assert shaded[IDLE] > 0.3 * 1500 * 660
    assert bare.get(IDLE, 0) < 1000


def test_every_method_has_a_line_of_its_own():
    names = sorted(path.stem for path in (CONF / "method").glob("*.yaml"))
    lines = {(line["color"], str(line["ls"])) for line in map(method_line, names)}
    assert len(lines) == len(names)
    assert all(isinstance(method_line(name)["ls"], str) for name in names), "known by its name"


def test_a_method_of_a_user_keeps_its_colour():
    assert method_line("halves") == method_line("halves")
    assert method_colour("halves") in COLOURS
