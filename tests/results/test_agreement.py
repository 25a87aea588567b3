"""Simulator against sockets: differences and the bottleneck's hold, worked out by hand."""

from pathlib import Path

import pytest
from helpers.pictures import pixels
from helpers.records import pipelined, records, row

from coach_exp.network.trace import constant, steps
from coach_exp.plots.agreement import agreement_plot
from coach_exp.plots.figures import BLUE, IDLE
from coach_exp.results.agreement import (
    agreement,
    allowed_latency_ms,
    bottleneck_hold,
    rows,
    sentence,
    verdict,
)
from coach_exp.results.metrics import Estimate, Summary


def test_a_link_that_is_held_longer_on_sockets():
    # Link-bound, task k starts at k s: answered at 1 + 2 (k + 1) + 1 and at 1 + 2.5 (k + 1) + 1.
    found = agreement(pipelined(20, 1, 2, 1), pipelined(20, 1, 2.5, 1))
    assert found["diff_link_ms"].value == pytest.approx(500)
    assert found["diff_link_ms"].lo == pytest.approx(found["diff_link_ms"].hi)
    assert found["diff_end_ms"].value == found["diff_cloud_ms"].value == 0
    assert found["sim_latency_mean_ms"].value == pytest.approx(1e3 * (4 + 9.5))
    assert found["net_latency_mean_ms"].value == pytest.approx(1e3 * (4.5 + 1.5 * 9.5))
    assert found["diff_latency_ms"].value == pytest.approx(5250)
    assert found["diff_queued_ms"].value == pytest.approx(4750)
    assert found["sim_throughput_its"].value == pytest.approx(20 / 42)
    assert found["net_throughput_its"].value == pytest.approx(20 / 52)
    rate = found["diff_throughput_percent"]
    assert rate.value == pytest.approx(100 * (42 / 52 - 1))
    assert rate.lo == pytest.approx(rate.hi)  # every gap between answers is as much longer


def test_equal_records_do_not_differ():
    found = agreement(pipelined(20, 1, 2, 1), pipelined(20, 1, 2, 1))
    assert {found[name].value for name in found if name.startswith("diff_")} == {0}
    assert found["same_decision_ratio"].value == found["same_answer_ratio"].value == 1
    assert "100.00 % of the tasks were decided alike" in sentence(found)
    assert rows(found)[1] == ["latency, ms", "13500.00", "13500.00", "+0.000 ms [+0.000, +0.000]"]


def test_one_stall_moves_the_mean_and_not_the_median():
    def side(stall_s: float):
        return records(
            [
                row(k, (k, k + 0.5), None, None, finish_s=k + 0.5 + stall_s * (k == 3))
                for k in range(9)
            ]
        )

    found = agreement(side(0.0), side(0.9))
    assert found["diff_latency_ms"].value == pytest.approx(100)
    assert found["diff_latency_median_ms"].value == pytest.approx(0, abs=1e-9)


def test_tasks_that_one_side_dropped_do_not_count_nor_do_answers_to_other_decisions():
    spans = ((0, 1), (1, 2), (2, 3))

    def side(*given):
        return records([row(task, *spans, **changes) for task, changes in enumerate(given)])

    same, other = {"predicted": 7}, {"predicted": 3}
    found = agreement(
        side(same, same, same, same, same),
        side(same, other, other | {"bits": 2}, other | {"decision": "exit"}, {"dropped": True}),
    )
    assert found["same_decision_ratio"].value == pytest.approx(2 / 4)
    assert found["same_answer_ratio"].value == pytest.approx(1 / 2)


def two_pieces():
    #            0         8   10   12     15          20
    #   end      |000000000000000000000000|1111111|             8 s, then 12 to 15
    #   link              |..0..0..|      |11111111|            2 of the 4 s from 8 to 12; 15 to 20
    return records(
        [
            row(0, (0, 8), (8, 12), None, link_busy_s=2.0),
            row(1, (12, 15), (15, 20), None),
        ]
    )


def test_hold_is_that_of_the_bottleneck_of_each_piece():
    # 0 to 10: the end 8 s, the link 1 s. 10 to 20: the end 3 s, the link 1 s + 5 s.
    hold = bottleneck_hold(two_pieces(), steps((8e6, 4e6), step_s=10))
    assert hold.value == pytest.approx((8 + 6) / 20)


@pytest.mark.parametrize(
    "trace",
    [
        constant(8e6),
        steps((8e6, 4e6), step_s=0.5),  # a piece of half a second is none of its own
        steps((8e6, 4e6), step_s=19.5),
        steps((8e6, 4e6), step_s=30),  # nor one after the run
    ],
)
def test_hold_of_one_piece(trace):
    assert bottleneck_hold(two_pieces(), trace).value == pytest.approx((8 + 3) / 20)


def test_a_dropped_task_ends_no_window():
    dropped = row(2, (90, 90), None, None, dropped=True)
    found = records([row(0, (0, 8), (8, 10), None), dropped])
    assert bottleneck_hold(found, constant(8e6)).value == pytest.approx(8 / 10)


def cell(rate_percent: float, late_ms: float, latency_ms: float) -> Summary:
    return Summary(
        {
            "diff_throughput_percent": Estimate(rate_percent, rate_percent - 1, rate_percent + 1),
            "diff_latency_ms": Estimate(late_ms, late_ms - 1, late_ms + 1),
            "sim_latency_mean_ms": Estimate(latency_ms),
        }
    )


def test_of_the_latency_five_percent_are_allowed_or_a_millisecond():
    assert allowed_latency_ms(cell(0, 0, 10)) == 1
    assert allowed_latency_ms(cell(0, 0, 100)) == 5


def test_the_verdict_names_the_worst_cells():
    fine = {"a": cell(-4, 0.5, 10), "b": cell(2, 4, 100), "simulated alone": Summary({})}
    found = verdict(fine)
    assert "in throughput: a, -4.000 % [-5.000, -3.000], of 5 % allowed" in found
    assert "in mean latency: b, +4.000 ms [+3.000, +5.000], of 5.00 ms allowed" in found
    assert found.endswith("all 2 cells are within")
    beyond = {"a": cell(-6, 2, 10), "b": cell(1, 2, 100), "c": cell(0, -1.5, 20)}
    assert verdict(beyond).endswith("beyond it: a, c")


def test_without_sockets_there_is_no_verdict():
    assert verdict({"a": Summary({"throughput_its": Estimate(3.0)})}) == ""


def test_the_picture_shows_what_is_allowed_and_the_cells_of_both_sides(tmp_path: Path):
    grey, blue = IDLE, BLUE
    one, two = {"a": cell(1, 0.2, 10)}, {"a": cell(1, 0.2, 10), "b": cell(2, 0.5, 10)}
    agreement_plot(one).savefig(tmp_path / "one.png")
    agreement_plot(two | {"c": Summary({})}, title="a table").savefig(tmp_path / "two.png")
    few, more = (pixels(tmp_path / f"{name}.png") for name in ("one", "two"))
    assert few[grey] > 0
    assert more[blue] > 1.5 * few[blue]
