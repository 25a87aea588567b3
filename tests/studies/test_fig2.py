"""Fig. 2's four schemes, worked out by hand; and what the planner's Fig. 4 says of layer 7."""

import json
from io import StringIO

import pytest
from helpers.graphs import FIGURE_4_ORDER, figure_4
from helpers.paths import ROOT
from helpers.pictures import pixels
from hydra import compose, initialize_config_dir
from PIL import Image
from rich.console import Console

from coach_exp.network.estimator import Ewma
from coach_exp.network.trace import constant
from coach_exp.pipeline.simulator import simulate
from coach_exp.planner.planning import Planner
from coach_exp.plots.figures import COLOURS, IDLE
from coach_exp.results.metrics import RESOURCES
from coach_exp.results.progress import Display
from coach_exp.setup.config import validated
from coach_exp.studies.fig2 import SCHEMES, Played, play, problem, study
from coach_exp.types.errors import ConfigError
from coach_exp.types.method import FixedPlans
from coach_exp.types.plan import PlanSet, StageTimes
from coach_exp.types.workload import Workload

# One time unit is one second; tasks arrive at 0, 2, 4 and 6. The link carries 72 bytes a second.
#
# Scheme 1, (4, 1, 1): the end is never free in time, so tasks wait 0, 2, 4 and 6 before it.
#         0       4       8      12      16  18
#   end   |---0---|---1---|---2---|---3---|
#   link          |0|     |1|     |2|     |3|
#   cloud           |0|     |1|     |2|     |3|
#
# Scheme 2, (2, 3, 2): the link works without a pause from 2 on; the cloud waits 1 for each task.
#         0   2   4 5 6   8    11    14  16
#   end   |-0-|-1-|-2-|-3-|
#   link      |--0--|--1--|--2--|--3--|
#   cloud           |-0-| |-1-| |-2-| |-3-|
#
# Scheme 3, (2, 2, 2) at 5 bits and (2, 1, 2) at 2: nothing waits but task 3, 1 before the cloud.
#         0   2   4   6   8 9 10  12
#   end   |-0-|-1-|-2-|-3-|
#   link      |-0-|-1-|-2-|3|
#   cloud         |-0-|-1-|-2-|-3-|
#
# Scheme 4: tasks 1 and 3 are answered at the cut, at 4 and 8.
#         0   2   4   6   8   10
#   end   |-0-|-1-|-2-|-3-|
#   link      |-0-|   |-2-|
#   cloud         |-0-|   |-2-|
#
# Bytes: 24 of header and, of layer 1, 192 elements: 192 bytes at 8 bits, 120 at 5, 48 at 2; of
# layer 2, 48 elements: 48 bytes at 8.
LOGS = {
    "scheme 1": [  # arrival, end, link, cloud, finish, decision, bits, bytes
        (0, (0, 4), (4, 5), (5, 6), 6, "send", 8, 72),
        (2, (4, 8), (8, 9), (9, 10), 10, "send", 8, 72),
        (4, (8, 12), (12, 13), (13, 14), 14, "send", 8, 72),
        (6, (12, 16), (16, 17), (17, 18), 18, "send", 8, 72),
    ],
    "scheme 2": [
        (0, (0, 2), (2, 5), (5, 7), 7, "send", 8, 216),
        (2, (2, 4), (5, 8), (8, 10), 10, "send", 8, 216),
        (4, (4, 6), (8, 11), (11, 13), 13, "send", 8, 216),
        (6, (6, 8), (11, 14), (14, 16), 16, "send", 8, 216),
    ],
    "scheme 3": [
        (0, (0, 2), (2, 4), (4, 6), 6, "send", 5, 144),
        (2, (2, 4), (4, 6), (6, 8), 8, "send", 5, 144),
        (4, (4, 6), (6, 8), (8, 10), 10, "send", 5, 144),
        (6, (6, 8), (8, 9), (10, 12), 12, "send", 2, 72),
    ],
    "scheme 4": [
        (0, (0, 2), (2, 4), (4, 6), 6, "send", 5, 144),
        (2, (2, 4), (4, 4), (4, 4), 4, "exit", 0, 0),
        (4, (4, 6), (6, 8), (8, 10), 10, "send", 5, 144),
        (6, (6, 8), (8, 8), (8, 8), 8, "exit", 0, 0),
    ],
}


@pytest.fixture(scope="module")
def played() -> tuple[Played, ...]:
    return play()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The study's directory, what it returned, and what it said."""
    directory = tmp_path_factory.mktemp("fig2")
    console = Console(highlight=False, width=130, file=StringIO())
    with Display(console) as display:
        value = study({"kind": "fig2"}, directory, display, None)
    return directory, value, console.file.getvalue()


def log(each: Played):
    return [
        (
            row.arrival_s,
            *((getattr(row, f"{r}_start_s"), getattr(row, f"{r}_end_s")) for r in RESOURCES),
            *(row.finish_s, row.decision, row.bits, row.payload_bytes),
        )
        for row in each.records
    ]


def test_four_schemes_by_hand(played):
    assert {each.scheme.name: log(each) for each in played} == LOGS


def test_the_planner_finds_both_cuts(played):
    # Cuts by what crosses, (end, link, cloud): the input (0, 8, 3), sum 11; layer 1 (2, 3, 2), sum
    # 7; layer 2 (4, 1, 1), sum 6; nothing, device-only (7, 0, 0). Least sum 6, least maximum 3.
    stages = [(each.plan.cut_name, each.plan.stage_s) for each in played]
    assert stages == [("2", StageTimes(4, 1, 1)), *[("1", StageTimes(2, 3, 2))] * 3]
    planner = Planner(search="exhaustive", objective="latency", release="after_decision")
    assert planner.plan(problem()).latency_s == 6
    every = [("input",), ("input", "1"), ("input", "1", "2"), ("input", "1", "2", "3")]
    cuts = [planner.plan_for(problem(), layers).stage_s for layers in every]
    expected = [(0, 8, 3), (2, 3, 2), (4, 1, 1), (7, 0, 0)]
    assert cuts == [StageTimes(*times) for times in expected]


def test_what_the_paper_prints(played):
    one, two, three, _ = played
    assert [each.largest_stage_s for each in played] == [4, 3, 2, 2]
    assert set(one.latencies_alone_s) == {6}
    assert set(two.latencies_alone_s) == {7}
    assert [each.less_percent(one) for each in (two, three)] == [25, 50]
    for each in played:
        ours = (each.latencies_alone_s[0], each.largest_stage_s, each.less_percent(one))
        printed = each.scheme.printed
        theirs = (printed.latency_s, printed.largest_stage_s, printed.less_percent)
        assert all(b is None or a == b for a, b in zip(ours, theirs, strict=True))


def test_latencies_and_bubbles(played):
    assert [each.latencies_s for each in played] == [
        [6, 8, 10, 12],
        [7, 8, 9, 10],
        [6, 6, 6, 6],
        [6, 2, 6, 2],
    ]
    # Alone, task 3 of scheme 3 saves the second that its fewer bits save on the link.
    assert [each.latencies_alone_s for each in played[2:]] == [[6, 6, 6, 5], [6, 2, 6, 2]]
    assert [each.makespan_s for each in played] == [18, 16, 12, 10]
    # Between a resource's first task and its last: 13 - 4 on scheme 1's link (4-17) and cloud
    # (5-18), 11 - 8 on scheme 2's cloud (5-16), 6 - 4 on scheme 4's link (2-8) and cloud (4-10).
    assert [tuple(each.bubbles_s.values()) for each in played] == [
        (0, 9, 9),
        (0, 0, 3),
        (0, 0, 0),
        (0, 2, 2),
    ]
    # Of the whole: 1 - 16/18 and 1 - 4/18; 1 - 8/16, 1 - 12/16; 1 - 8/12, 1 - 7/12; 1 - 8/10, …
    shares = [[round(share, 1) for share in each.idle_percent.values()] for each in played]
    assert shares == [[11.1, 77.8, 77.8], [50, 25, 50], [33.3, 41.7, 33.3], [20, 60, 60]]


def test_schemes_2_to_4_differ_by_their_decisions_alone():
    # All three plan 216 bytes at 8 bits; what the logs show instead was decided at the cut.
    second, third, fourth = (scheme.plan(problem()).plans[0] for scheme in SCHEMES[1:])
    assert second == third == fourth
    assert third.payload_bytes == (216,)


def test_the_study_says_writes_and_draws(made):
    directory, value, said = made
    assert value == 50
    for words in ("3 (3)", "25 (25)", "50 (50)", "6/2/6/2", "0/0/3", "every second task exits"):
        assert words in said
    assert "reconstructed" in said
    assert "scripted" in said
    content = json.loads((directory / "fig2.json").read_text())
    assert "reconstructed" in content["caveat"]
    third = content["schemes"][2]
    assert [task["payload_bytes"] for task in third["tasks"]] == [144, 144, 144, 72]
    assert (third["largest_stage_s"], third["paper"]["largest_stage_s"]) == (2, 2)
    assert content["schemes"][3]["paper"]["largest_stage_s"] is None


def test_the_picture_shows_each_task_in_its_share(made):
    # Lane seconds of task 0, 1, 2, 3 over the schemes: 6 + 7 + 6 + 6, 6 + 7 + 6 + 2, as 0, and
    # 6 + 7 + 5 + 2; grey is the rest of 3 × (18 + 16 + 12 + 10) = 168: 168 - 25 - 21 - 25 - 20.
    directory, _, _ = made
    seen = pixels(directory / "fig2.png")
    held = [seen[colour] for colour in COLOURS[:4]]
    assert COLOURS[4] not in seen
    total = sum(held) + seen[IDLE]
    shares = [n / total for n in (*held, seen[IDLE])]
    assert shares == pytest.approx([k / 168 for k in (25, 21, 25, 20, 77)], rel=0.06)
    with Image.open(directory / "fig2.png") as image:
        assert image.width == 1500


def test_settings_are_refused(tmp_path):
    with (
        Display(Console(quiet=True)) as display,
        pytest.raises(ConfigError, match=r"study\.tasks: .* no settings"),
    ):
        study({"kind": "fig2", "tasks": 5}, tmp_path, display, None)


def test_the_experiment_composes():
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        config = validated(compose("config", overrides=["experiment=fig2"]))
    assert config.job == "study"
    assert config.study is not None
    assert config.study.kind == "fig2"


# --- Fig. 4 ---------------------------------------------------------------------------------------


#          0    1    2    3    4    5    6    7    8    9   10   11   12
#   end    |-1--|-2--|-3--|-5--|----6----|
#   link                  |-----V_0^1----|V_0^2V_1^2|
#   cloud                                |-4--|    |----7----|-8--|-9--|
def test_figure_4_in_the_simulator_waits_before_layer_7():
    # `test_planner` holds the planner against this drawing. The same plan, run as one task: sending
    # starts at 3, beside layers 5 and 6; the cloud starts at 6, when V_0^1 is there, holds layer 4
    # for 1 while V_0^2 travels, and 7, 8 and 9 for 4 from 8 on. Of its 6 to 12 it works 5.
    world = figure_4(workload=Workload("single_stream", 1))
    plan = Planner(release="per_tensor").plan(world)
    assert plan.end_layers == FIGURE_4_ORDER
    rate_bps = world.link.bandwidth_bps
    (row,) = simulate(world, FixedPlans(PlanSet((plan,))), constant(rate_bps), Ewma(rate_bps))
    assert (row.end_start_s, row.end_end_s, row.end_busy_s) == (0, 6, 6)
    assert (row.link_start_s, row.link_end_s, row.link_busy_s) == (3, 8, 5)
    assert (row.cloud_start_s, row.cloud_end_s, row.cloud_busy_s) == (6, 12, 5)
