"""A run as a timeline for https://ui.perfetto.dev or chrome://tracing: one track per resource, one
slice per task and resource.

In: `Records`. Out: `timeline.json` in Chrome's trace event format.
"""

import json
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from coach_exp.types.task import Records, TaskRecord

TRACKS = {"end": 1, "link": 2, "cloud": 3}  # thread ids, from top to bottom
_PROCESS = 1


def save_timeline(records: Records, path: Path, limit: int = 2000, name: str = "coach") -> None:
    """Write the first `limit` tasks that were answered; the file's `otherData` says of how many.

    A resource serves one task at a time, so the slices of a track do not overlap; where measured
    clocks disagree by a little, a slice starts when the one before it ends.
    """
    answered = np.flatnonzero(~records.dropped.astype(bool))
    shown = answered[np.argsort(records.end_start_s[answered], kind="stable")][:limit]
    tasks = [records[int(row)] for row in shown]
    events = [_named("process_name", 0, name)]
    for resource, track in TRACKS.items():
        events.append(_named("thread_name", track, resource))
        events.append({**_named("thread_sort_index", track), "args": {"sort_index": track}})
        events += _slices(tasks, resource, track)
    note = {"note": f"the first {len(shown)} of {len(answered)} answered tasks"}
    trace = {"displayTimeUnit": "ms", "otherData": note, "traceEvents": events}
    path.write_text(json.dumps(trace, separators=(",", ":")))


def _named(event: str, track: int, name: str = "") -> dict[str, Any]:
    return {"ph": "M", "pid": _PROCESS, "tid": track, "name": event, "args": {"name": name}}


def _spans(task: TaskRecord, resource: str) -> Iterator[tuple[float, float]]:
    """When the task had the resource: once, but for what the end finished after a task gave up."""
    start_s, end_s = (getattr(task, f"{resource}_{edge}_s") for edge in ("start", "end"))
    yield start_s, end_s
    if resource == "end" and task.fallback and task.decision == "local":
        yield task.finish_s - (task.end_busy_s - (end_s - start_s)), task.finish_s


def _slices(tasks: list[TaskRecord], resource: str, track: int) -> Iterator[dict[str, Any]]:
    free_ns = 0
    spans = [(*span, task) for task in tasks for span in _spans(task, resource)]
    for start_s, end_s, task in sorted(spans, key=itemgetter(0)):
        start_ns, end_ns = max(free_ns, round(start_s * 1e9)), round(end_s * 1e9)
        if end_ns <= start_ns:
            continue  # the task did not use this resource
        free_ns = end_ns
        yield {
            "ph": "X",
            "pid": _PROCESS,
            "tid": track,
            "name": f"task {task.task}",
            "cat": task.decision,
            "ts": start_ns / 1e3,
            "dur": (end_ns - start_ns) / 1e3,
            "args": {
                "task": task.task,
                "sample": task.sample,
                "plan": task.plan,
                "decision": task.decision,
                "fallback": task.fallback,
                "bits": task.bits,
                "payload_bytes": task.payload_bytes,
                "busy_ms": getattr(task, f"{resource}_busy_s") * 1e3,
            },
        }
