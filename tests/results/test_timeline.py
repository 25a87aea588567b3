"""The timeline is one that Perfetto can draw: one track per resource, no slices across another."""

import json
from dataclasses import replace

from helpers.records import pipelined, records, row
from hypothesis import given
from hypothesis import strategies as st

from coach_exp.results.timeline import save_timeline


def saved(run, path, **options):
    file = path / "timeline.json"
    save_timeline(run, file, **options)
    return json.loads(file.read_text())


def slices(trace):
    return [event for event in trace["traceEvents"] if event["ph"] == "X"]


def test_one_task_by_hand(tmp_path):
    run = records([row(7, (0.001, 0.003), (0.003, 0.006), (0.006, 0.0065), payload_bytes=2048)])
    trace = saved(run, tmp_path, name="coach")
    names = {
        e["tid"]: e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "thread_name"
    }
    drawn = [(names[e["tid"]], e["ts"], e["dur"]) for e in slices(trace)]
    assert drawn == [("end", 1000, 2000), ("link", 3000, 3000), ("cloud", 6000, 500)]
    assert {
        (e["args"]["task"], e["args"]["bits"], e["args"]["payload_bytes"]) for e in slices(trace)
    } == {(7, 4, 2048)}


def test_what_the_end_finishes_after_a_task_gave_up_is_a_slice_of_its_own(tmp_path):
    # seconds 0-1 and 4-7 on the end, which ran another task meanwhile
    late = row(0, (0, 1), (1, 3), None, decision="local", fallback=True)
    late = replace(late, finish_s=7.0, end_busy_s=4.0)
    other = row(1, (1, 4), None, None, decision="local")
    trace = saved(records([late, other]), tmp_path)
    on_end = [(e["name"], e["ts"], e["dur"]) for e in slices(trace) if e["tid"] == 1]
    assert on_end == [("task 0", 0, 1e6), ("task 1", 1e6, 3e6), ("task 0", 4e6, 3e6)]


def test_a_resource_that_was_not_used_has_no_slice(tmp_path):
    trace = saved(records([row(0, (0, 1), None, None, decision="exit")]), tmp_path)
    assert [(e["name"], e["cat"]) for e in slices(trace)] == [("task 0", "exit")]


def test_a_long_run_is_cut_and_says_so(tmp_path):
    lost = replace(row(0, (0, 0), None, None), task=100, dropped=True)
    run = records([lost, *pipelined(100, 1, 1, 1)])
    trace = saved(run, tmp_path, limit=10)
    assert {event["args"]["task"] for event in slices(trace)} == set(range(10))
    assert trace["otherData"]["note"] == "the first 10 of 100 answered tasks"


times = st.floats(0, 0.01).map(lambda s: round(s, 7))


@given(st.lists(st.tuples(times, times), min_size=1, max_size=20))
def test_slices_of_a_track_never_overlap(tmp_path_factory, spans):
    # Clocks of two machines: spans in any order, some across others.
    rows = [row(i, (a, a + b), None, None) for i, (a, b) in enumerate(spans)]
    drawn = slices(saved(records(rows), tmp_path_factory.mktemp("t")))
    ends = [round((e["ts"] + e["dur"]) * 1e3) for e in drawn]
    starts = [round(e["ts"] * 1e3) for e in drawn]
    assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))
    assert all(e["dur"] > 0 for e in drawn)
