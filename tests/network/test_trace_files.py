"""Recorded traces: files small enough to play by hand, wrong ones, and the real ones."""

import json
import os
from collections.abc import Callable
from math import inf
from pathlib import Path

import numpy as np
import pytest
from helpers.paths import ROOT

from coach_exp.network.trace import Trace, TraceCursor
from coach_exp.network.trace_files import Playback, load_trace, read_trace
from coach_exp.types.errors import LinkError

REAL = Path(os.environ.get("COACH_DATA", ROOT / "../shared/data")) / "traces"


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "given.trace"
        path.write_text(text)
        return path

    return write


# --- every format by hand


def test_mahimahi_counts_packets_in_bins(written):
    # 12,000 bits a line; of bins of half a second the last takes what is left and lasts 0.7 s.
    path = written("0\n100\n499\n1200\n")
    assert read_trace(path, bin_s=0.5) == Trace((0, 0.5), (72e3, 12e3 / 0.7), 1.2)
    outage = read_trace(path, bin_s=0.25)
    assert outage.starts_s == (0, 0.25, 0.5, 0.75)
    assert outage.rates_bps == pytest.approx((96e3, 48e3, 0, 12e3 / 0.45))
    assert read_trace(path, bin_s=9).rates_bps == (40e3,)  # 4 packets in 1.2 s


def test_mahimahis_own_example_is_twelve_mbps(written):
    assert read_trace(written("1")) == Trace((0,), (12e6,), 0.001)


def test_pensieve_plays_a_line_until_its_time(written):
    path = written("10.0\t9\n11.0\t2\n13.0\t0.5\n")
    assert read_trace(path) == Trace((0, 1), (2e6, 0.5e6), 3)


def test_csv_plays_a_line_from_its_second_on(written):
    trace = Trace((0, 1, 2), (8e3, 0, 16e3), 3)
    assert read_trace(written("1,1000\n2,0\n3,2000\n")) == trace
    assert read_trace(written("second,bytes\r\n1,1000\r\n2,0\r\n\r\n3,2000")) == trace
    assert read_trace(written("1,1000\n3,2000\n")) == Trace((0, 2), (8e3, 16e3), 4)
    assert read_trace(written("7,1000")) == Trace((0,), (8e3,), 1)


def test_sabre_plays_each_period_for_its_duration(written):
    periods = [
        {"duration_ms": 500, "bandwidth_kbps": 1000, "latency_ms": 20},
        {"duration_ms": 1500, "bandwidth_kbps": 0, "latency_ms": 20},
        {"duration_ms": 1000, "bandwidth_kbps": 2.5},
    ]
    trace = Trace((0, 0.5, 2), (1e6, 0, 2500), 3)
    assert read_trace(written(json.dumps(periods, indent=1))) == trace
    assert read_trace(written(json.dumps(periods)), "sabre") == trace


# --- part, scale, clip, loop


FIVE = "0 0\n1 1\n2 0\n3 4\n4 8\n5 0\n"  # Pensieve: 1, 0, 4, 8, 0 Mbps for a second each


def test_without_further_wishes_the_recording_repeats(written):
    assert load_trace(written(FIVE)) == Trace((0, 1, 2, 3, 4), (1e6, 0, 4e6, 8e6, 0), 5)


def test_a_part_begins_and_ends_within_segments(written):
    part = load_trace(written(FIVE), playback=Playback(begin_s=1.5, duration_s=2.0))
    assert part == Trace((0, 0.5, 1.5), (0, 4e6, 8e6), 2)
    assert load_trace(written(FIVE), playback=Playback(begin_s=3.0)) == Trace((0, 1), (8e6, 0), 2)
    assert load_trace(written(FIVE), playback=Playback(duration_s=5.0)).period_s == 5


def test_a_clip_from_zero_keeps_outages_and_a_higher_one_lifts_them(written):
    kept = load_trace(written(FIVE), playback=Playback(scale=2, clip_bps=(0, 10e6)))
    assert kept.rates_bps == (2e6, 0, 8e6, 10e6, 0)
    lifted = load_trace(written(FIVE), playback=Playback(scale=2, clip_bps=(3e6, 10e6)))
    assert lifted.rates_bps == (3e6, 3e6, 8e6, 10e6, 3e6)


def test_without_a_loop_the_last_rate_stays(written):
    once = load_trace(written(FIVE), playback=Playback(duration_s=4, loop=False))
    assert once == Trace((0, 1, 2, 3), (1e6, 0, 4e6, 8e6), inf)
    assert TraceCursor(once).finish(100, 1_000_000) == 101


@pytest.mark.parametrize(
    ("start_s", "mbit", "end_s"),
    [
        (0, 1, 1),  # to the edge of the outage
        (0, 2, 2.25),  # through it: 1 Mbit in the first second, 1 at 4 Mbps
        (1.5, 4, 3),  # from within it
        (3, 9, 6),  # 8 until 4 s, outage, the first second of the next lap
        (3, 10, 7.25),  # and through the outage of that lap
    ],
)
def test_transfers_pass_outages_and_the_end_of_the_recording(written, start_s, mbit, end_s):
    trace = load_trace(written(FIVE))
    assert TraceCursor(trace).finish(start_s, mbit * 125_000) == pytest.approx(end_s)


# --- what is refused


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("hello\n", r"line 1: 'hello' is wrong; expected the first line of a trace.*format"),
        ("1\n\n2.5\n", r"line 3: '2\.5' is wrong; expected a whole number of milliseconds"),
        ("1\n5\n4\n", r"line 3: '4' .* not below the line before"),
        ("1\n-4\n", r"line 2: '-4'"),
        ("0\n0\n", "all is at 0 ms"),
        ("0 1\n1 x\n", r"line 2: '1 x' is wrong; expected seconds and Mbit/s, with a blank"),
        ("0 1\n1 2 3\n", r"line 2: '1 2 3'"),
        ("0 1\n1 -2\n", r"line 2: '1 -2' .* the rate 0 or above"),
        ("0 1\n1 nan\n", r"line 2: '1 nan'"),
        ("0 1\n2 1\n2 1\n", r"line 3: '2 1' is wrong; its time must be above 2"),
        ("0 1\n", "one line has no duration"),
        ("0 1\n1 0\n2 0\n", "carries nothing: every rate is 0"),
        ("1,2\n2;3\n", r"line 2: '2;3' is wrong; expected seconds and bytes per second"),
        ("second,rate\nx,y\n", r"line 2: 'x,y'"),
        ("1,0\n2,0\n", "carries nothing"),
        ("[{]", r"line 1: '\[\{\]' is wrong; expected JSON"),
        ("[]", "expected a JSON list of periods"),
        ("[3]", r"period 0 \(counted from 0\): .* = None, must be"),
        ('[{"duration_ms": 0, "bandwidth_kbps": 1}]', "duration_ms = 0.0, must be above 0"),
        ('[{"duration_ms": 9, "bandwidth_kbps": -1}]', "bandwidth_kbps = -1.0, must be 0 or above"),
        ('[{"duration_ms": 9, "bandwidth_kbps": true}]', "bandwidth_kbps = True"),
        ('[{"duration_ms": 9}]', "bandwidth_kbps = None"),
        ('[{"duration_ms": 1e400, "bandwidth_kbps": 1}]', "duration_ms = inf"),
    ],
)
def test_a_wrong_file_is_refused_by_name_and_line(written, text, words):
    with pytest.raises(LinkError, match=rf"(?s)given\.trace.*{words}"):
        read_trace(written(text))


def test_a_wrong_format_is_refused(written):
    with pytest.raises(LinkError, match=r"given\.trace, line 1: '0 0' .* whole number of milli"):
        read_trace(written(FIVE), "mahimahi")


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"begin_s": 5}, "no part from 5 to 5 s is in a trace of 5 s"),
        ({"begin_s": 4, "duration_s": 2}, "no part from 4 to 6 s"),
        ({"begin_s": 1.25, "duration_s": 0.5}, "carries nothing"),
    ],
)
def test_a_part_that_cannot_carry_traffic_is_refused_by_name(written, wish, words):
    with pytest.raises(LinkError, match=rf"given\.trace: .*{words}"):
        load_trace(written(FIVE), playback=Playback(**wish))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(LinkError, match=r"absent\.csv cannot be read as a bandwidth trace"):
        read_trace(tmp_path / "absent.csv")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LinkError, match="binary cannot be read"):
        read_trace(tmp_path / "binary")


# --- the real ones


def mahimahi_mean(text: str) -> float:
    times = [int(line) for line in text.split()]
    return len(times) * 12_000 / (times[-1] / 1e3)


def pensieve_mean(text: str) -> float:
    when, mbps = np.array([line.split() for line in text.splitlines()], float).T
    return float(1e6 * (mbps[1:] * np.diff(when)).sum() / (when[-1] - when[0]))


def csv_mean(text: str) -> float:
    return float(np.mean([8 * float(line.split(",")[1]) for line in text.split()]))


def sabre_mean(text: str) -> float:
    periods = json.loads(text)
    kbit = sum(p["duration_ms"] / 1e3 * p["bandwidth_kbps"] for p in periods)
    return 1e3 * kbit / sum(p["duration_ms"] / 1e3 for p in periods)


@pytest.mark.parametrize(
    ("pattern", "mean_bps", "min_files"),
    [
        ("mahimahi/*.up", mahimahi_mean, 3),
        ("mahimahi/*.down", mahimahi_mean, 3),
        ("norway3g/*", pensieve_mean, 41),
        ("oboe/*.txt", pensieve_mean, 72),
        ("ghent4g/*.json", sabre_mean, 21),
        ("sbu_wifi_cellular/*.csv", csv_mean, 36),
    ],
)
def test_every_real_trace_loads_and_carries_what_its_file_says(pattern, mean_bps, min_files):
    if not REAL.is_dir():
        pytest.skip(f"no {REAL}; set COACH_DATA")
    paths = sorted(REAL.glob(pattern))
    assert len(paths) >= min_files
    for path in paths:
        trace = load_trace(path)
        carried = trace.carried_bits(trace.period_s)
        assert carried / trace.period_s == pytest.approx(mean_bps(path.read_text())), path
        # As many bytes as a lap holds take a lap, from anywhere but within an outage.
        cursor, middle = TraceCursor(trace), trace.starts_s[int(np.argmax(trace.rates_bps))]
        lap_s = cursor.finish(middle, carried / 8) - middle
        assert lap_s == pytest.approx(trace.period_s, rel=1e-6), path


def test_a_transfer_waits_for_the_end_of_a_real_outage():
    path = REAL / "sbu_wifi_cellular" / "13_5_wifi.csv"
    if not path.is_file():
        pytest.skip(f"no {path}; set COACH_DATA")
    # Line 26: 1,440 bytes; line 27: none; line 28: 172,872. From 25 s on 50,000 bytes take the 26th
    # second, all of the 27th, and 48,560 of the 172,872 bytes of the 28th.
    finish_s = TraceCursor(load_trace(path)).finish(25.0, 50_000)
    assert finish_s == pytest.approx(27 + 48_560 / 172_872)
