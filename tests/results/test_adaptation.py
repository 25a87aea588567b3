"""Dynamic against static throughput, on records whose answers can be counted by hand."""

import pytest
from helpers.pictures import pixels
from helpers.records import records, row

from coach_exp.network.trace import Trace
from coach_exp.plots.figures import ORANGE, OTHER, RED
from coach_exp.plots.online import adaptation_plot
from coach_exp.results.adaptation import adapted, step_rows, windows

STEPS = windows([20e6, 10e6], step_s=10)


def answered_at(*finish_s: float, **given):
    return records([row(i, (0, t), None, None, **given) for i, t in enumerate(finish_s)])


def test_a_step_holds_the_answers_given_before_its_end():
    # An answer at 10 s is in the second window, one at 20 s in none.
    dynamic = answered_at(4, 8, 10, 15, 20)
    static = {20e6: dynamic, 10e6: answered_at(2, 4, 6, 8, 10)}
    first, second = adapted(dynamic, static, STEPS)
    assert (first.answers, second.answers) == (2, 2)
    assert first.dynamic_its == 0.2
    assert second.dynamic_its == 0.2
    assert [int(s.summary["answered"].value) for s in (first, second)] == [2, 2]


def test_a_step_is_compared_with_the_same_answers_of_the_static_run():
    # Dynamic: answers 1 and 2, then 3 and 4, in ten seconds each. Static at 10 Mbps: answers 3 and
    # 4 come between 8 and 16 s: 0.25 a second, of which 0.2 are a fifth less.
    dynamic = answered_at(5, 9, 15, 19, 24)
    static = {20e6: dynamic, 10e6: answered_at(1, 8, 12, 16, 99)}
    first, second = adapted(dynamic, static, STEPS)
    assert first.static_its == pytest.approx(2 / 9)
    assert second.static_its == pytest.approx(0.25)
    assert second.reduction_percent == pytest.approx(20)


def test_answers_count_in_the_order_in_which_they_are_given():
    # Task 1 exits and overtakes task 0.
    dynamic = answered_at(9, 3, 12)
    first, second = adapted(dynamic, {20e6: dynamic, 10e6: dynamic}, STEPS)
    assert (first.answers, second.answers) == (2, 1)
    assert second.static_its == pytest.approx(1 / 3)


def test_a_rate_that_comes_back_has_one_static_run():
    steps = windows([20e6, 10e6, 20e6], step_s=10)
    dynamic = answered_at(5, 15, 25)
    static = {20e6: answered_at(1, 2, 3), 10e6: answered_at(2, 4, 6)}
    assert [s.static_its for s in adapted(dynamic, static, steps)] == pytest.approx([1, 0.5, 1])


def test_the_table_and_the_json_say_the_same_and_leave_out_what_was_not_measured():
    dynamic = answered_at(5, 15, 24, decision="send", bits=4, payload_bytes=2048)
    static = {20e6: dynamic, 10e6: answered_at(5, 10, 15)}
    _, second = adapted(dynamic, static, STEPS)
    assert step_rows("coach", second)[:8] == [
        *("coach", "10", "1", "0.1", "0.2", "50.0", "2.00", "4.00"),
    ]
    assert step_rows("coach", second)[9] == "–"
    entry = second.as_json()
    assert (entry["from_s"], entry["to_s"], entry["mbps"]) == (10, 20, 10)
    assert entry["reduction_percent"] == 50
    assert entry["metrics"]["bits_mean"]["value"] == 4
    assert "accuracy_drop_points" not in entry["metrics"]


@pytest.mark.slow
def test_the_picture_shows_how_tasks_were_answered_and_the_static_run_where_there_is_one(tmp_path):
    # One task a second; every fourth exits, the others are answered on the end.
    rows = [
        row(i, (i, i + 1), None, None, decision="exit" if i % 4 == 3 else "local")
        for i in range(21)
    ]
    run, trace = records(rows), Trace((0.0, 10.0), (20e6, 10e6))
    steps = tuple(adapted(run, {20e6: run, 10e6: run}, STEPS))
    adaptation_plot({"coach": run}, trace).savefig(tmp_path / "one.png")
    both = {"coach": run, "other": run}
    adaptation_plot(both, trace, dict.fromkeys(both, steps)).savefig(tmp_path / "two.png")
    alone, beside = pixels(tmp_path / "one.png"), pixels(tmp_path / "two.png")
    exits, local, static = ORANGE, OTHER, RED
    for seen in (alone, beside):
        assert seen[exits] / (seen[exits] + seen[local]) == pytest.approx(1 / 4, rel=0.15)
    assert static in beside
    assert static not in alone
