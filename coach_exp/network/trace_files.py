"""Recorded bandwidth traces from files: Mahimahi, Pensieve, Sabre and CSV.

In: a file. Out: a `Trace` that repeats after the recording, outages included. What the numbers of
each format mean follows the program it is named after; see the function that reads it.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import inf, isfinite
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np

from coach_exp.network.trace import Trace, excerpt, rescaled
from coach_exp.types.errors import LinkError

TraceFormat = Literal["auto", "mahimahi", "pensieve", "sabre", "csv"]
PACKET_BYTES = 1500  # of a Mahimahi delivery opportunity
_WHOLE = re.compile(r"[0-9]{1,15}")
_SHOWN = 60  # characters of a wrong line


@dataclass(frozen=True, slots=True)
class Playback:
    """How a recording is played: `duration_s` of it from `begin_s` on (None: to its end), its rates
    scaled, then clipped; afterwards from the beginning again, or with its last rate for ever."""

    begin_s: float = 0.0
    duration_s: float | None = None
    scale: float = 1.0
    clip_bps: tuple[float, float] = (0.0, inf)
    loop: bool = True


WHOLE = Playback()


def load_trace(
    path: Path,
    file_format: TraceFormat = "auto",
    playback: Playback = WHOLE,
    *,
    bin_s: float = 0.5,
) -> Trace:
    """Returns the trace that a file's recording gives when it is played so. `bin_s` is as in
    `read_trace`. Raises LinkError naming the file, where it cannot be read or cannot carry traffic.
    """
    recorded = read_trace(path, file_format, bin_s)
    try:
        part = excerpt(recorded, playback.begin_s, playback.duration_s)
        part = rescaled(part, playback.scale, playback.clip_bps)
        return part if playback.loop else replace(part, period_s=inf)
    except LinkError as error:
        raise LinkError(f"{path}: {error}") from None


def read_trace(path: Path, file_format: TraceFormat = "auto", bin_s: float = 0.5) -> Trace:
    """Returns the whole recording as one lap; `bin_s` is for Mahimahi files alone. `auto` tells the
    format from the first line. Raises LinkError naming the file, the line and what was expected.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as cause:
        raise LinkError(f"{path} cannot be read as a bandwidth trace: {cause}") from cause
    lines = _Lines(path, text)
    if file_format == "auto":
        file_format = _told_from(lines)
    readers: Mapping[str, Callable[[_Lines], Trace]] = {
        "mahimahi": lambda lines: _mahimahi(lines, bin_s),
        "pensieve": _pensieve,
        "sabre": _sabre,
        "csv": _csv,
    }
    try:
        return readers[file_format](lines)
    except _Unusable as error:
        raise LinkError(f"{path}: {error}") from None


class _Unusable(LinkError):
    """A trace that its file describes well but that is none; the file is still to be named."""


class _Lines:
    """The lines of a file that are not blank, with their numbers."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.text = text
        pairs = enumerate(text.splitlines(), start=1)
        self.numbered = [(number, line.strip()) for number, line in pairs if line.strip()]
        if not self.numbered:
            raise LinkError(f"{path} is empty; a bandwidth trace was expected")

    def refuse(self, number: int, line: str, rule: str) -> NoReturn:
        """Raise the error of a wrong line."""
        shown = line if len(line) <= _SHOWN else line[:_SHOWN] + "…"
        raise LinkError(f"{self.path}, line {number}: {shown!r} is wrong; {rule}")


def _told_from(lines: _Lines) -> TraceFormat:
    """Returns the format of a file, as its first line tells."""
    number, first = lines.numbered[0]
    if first.startswith("["):
        return "sabre"
    if first.count(",") == 1:
        return "csv"
    if _WHOLE.fullmatch(first):
        return "mahimahi"
    if _numbers(first.split(), 2):
        return "pensieve"
    lines.refuse(
        number,
        first,
        "expected the first line of a trace: a whole number (mahimahi), two numbers (pensieve), "
        "two fields and a comma (csv) or a list in brackets (sabre); or set bandwidth.format",
    )


# --- The formats ----------------------------------------------------------------------------------


def _mahimahi(lines: _Lines, bin_s: float) -> Trace:
    """Reads one line for each opportunity to deliver a packet of 1500 bytes: its millisecond. The
    file repeats after its last line, as in Mahimahi's mm-link. The rate is that of bins of `bin_s`
    seconds; the last one takes what is left and is up to twice as long.
    """
    times_ms: list[int] = []
    for number, line in lines.numbered:
        if not _WHOLE.fullmatch(line) or (times_ms and int(line) < times_ms[-1]):
            lines.refuse(
                number, line, "expected a whole number of milliseconds, not below the line before"
            )
        times_ms.append(int(line))
    end_ms = times_ms[-1]
    if end_ms == 0:
        raise _Unusable("all is at 0 ms; the last line of a Mahimahi trace is its duration")
    bin_ms = 1e3 * bin_s
    edges_ms = bin_ms * np.arange(max(1, int(end_ms / bin_ms)) + 1)
    edges_ms[-1] = end_ms
    packets, _ = np.histogram(times_ms, edges_ms)
    rates_bps = 8 * PACKET_BYTES * packets / np.diff(edges_ms / 1e3)
    return _recorded((edges_ms / 1e3).tolist(), rates_bps.tolist())


def _pensieve(lines: _Lines) -> Trace:
    """Reads seconds and Mbit/s. A line's rate holds from the time of the line before, as Pensieve's
    simulator plays it; the first line only marks the beginning.
    """
    rows = _rows(lines, lambda line: line.split(), "seconds and Mbit/s, with a blank between")
    if len(rows) == 1:
        raise _Unusable("one line has no duration; a Pensieve trace needs two")
    edges_s = [row[0] - rows[0][0] for row in rows]
    return _recorded(edges_s, [1e6 * mbps for _, mbps in rows[1:]])


def _csv(lines: _Lines) -> Trace:
    """Reads seconds and bytes per second, from that second to the next line's; the last line lasts
    as long as the one before. The first line may be a heading.
    """
    first = lines.numbered[0][1]
    if len(lines.numbered) > 1 and not any(_numbers([field], 1) for field in first.split(",")):
        del lines.numbered[0]
    rows = _rows(lines, lambda line: line.split(","), "seconds and bytes per second, with a comma")
    edges_s = [row[0] - rows[0][0] for row in rows]
    edges_s.append(edges_s[-1] + (edges_s[-1] - edges_s[-2] if len(rows) > 1 else 1.0))
    return _recorded(edges_s, [8 * rate for _, rate in rows])


def _sabre(lines: _Lines) -> Trace:
    """Reads a JSON list of {duration_ms, bandwidth_kbps, latency_ms}. The latency is not used: the
    round trip is `rtt_ms`.
    """
    try:
        entries = json.loads(lines.text, parse_int=float)
    except (ValueError, RecursionError) as error:
        number = getattr(error, "lineno", 1)
        line = lines.text.splitlines()[number - 1]
        lines.refuse(number, line, f"expected JSON: {error}")
    if not isinstance(entries, list) or not entries:
        raise _Unusable("expected a JSON list of periods, each with duration_ms, bandwidth_kbps")
    ends_s = accumulate(_field(entry, k, "duration_ms") / 1e3 for k, entry in enumerate(entries))
    rates_bps = [1e3 * _field(entry, k, "bandwidth_kbps") for k, entry in enumerate(entries)]
    return _recorded([0.0, *ends_s], rates_bps)


def _field(entry: Any, place: int, name: str) -> float:
    value = entry.get(name) if isinstance(entry, dict) else None
    number = value if isinstance(value, float) and isfinite(value) else -1.0
    if number < 0 or (number == 0 and name == "duration_ms"):
        rule = "above 0" if name == "duration_ms" else "0 or above"
        raise _Unusable(f"period {place} (counted from 0): {name} = {value}, must be {rule}")
    return number


# --- What they share ------------------------------------------------------------------------------


def _rows(lines: _Lines, split: Callable[[str], list[str]], what: str) -> list[tuple[float, float]]:
    """Returns the time, which must increase, and the rate of each line."""
    rows: list[tuple[float, float]] = []
    for number, line in lines.numbered:
        found = _numbers(split(line), 2)
        if found is None or found[1] < 0:
            lines.refuse(number, line, f"expected {what}, the rate 0 or above")
        if rows and found[0] <= rows[-1][0]:
            lines.refuse(number, line, f"its time must be above {rows[-1][0]:g}, the line before")
        rows.append((found[0], found[1]))
    return rows


def _numbers(fields: Sequence[str], count: int) -> list[float] | None:
    """Returns fields as finite numbers, None where they are not that or not so many."""
    try:
        found = [float(field) for field in fields]
    except ValueError:
        return None
    return found if len(found) == count and all(map(isfinite, found)) else None


def _recorded(edges_s: Iterable[float], rates_bps: Sequence[float]) -> Trace:
    """Returns the trace of rates between edges, the last edge being the end of the lap."""
    *starts_s, end_s = edges_s
    try:
        return Trace(tuple(starts_s), tuple(rates_bps), end_s)
    except LinkError as error:
        raise _Unusable(str(error)) from None
