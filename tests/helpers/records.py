"""Task records for tests, written by hand or laid out as an ideal pipeline would run them."""

from typing import Any

import numpy as np

from coach_exp.types.outcomes import Crossing
from coach_exp.types.plan import Bubbles, ObjectiveValue, Overlap, Plan, StageTimes
from coach_exp.types.task import COLUMNS, Records, TaskRecord

Span = tuple[float, float]


def plan(
    end_s: float = 1.0, link_s: float = 1.0, cloud_s: float = 1.0, layer: str = "cut", bits: int = 4
) -> Plan:
    """A plan of three end layers that sends one tensor, or none when `layer` is empty."""
    return Plan(
        end_layers=("in", "a", layer or "b"),
        crossing=(Crossing(layer, bits),) if layer else (),
        release="after_decision",
        stage_s=StageTimes(end_s, link_s, cloud_s),
        overlap_s=Overlap(0.0, 0.0),
        latency_s=end_s + link_s + cloud_s,
        objective=ObjectiveValue("bottleneck", max(end_s, link_s, cloud_s), Bubbles(0.0, 0.0)),
        ready_s=(end_s,),
        cloud_work_s=(cloud_s,),
        payload_bytes=(1024,),
    )


def row(task: int, end: Span, link: Span | None, cloud: Span | None, **given: Any) -> TaskRecord:
    """One task that holds each resource from start to end; `given` overrides any column."""
    link_span = link or (end[1], end[1])
    cloud_span = cloud or (link_span[1], link_span[1])
    columns: dict[str, Any] = {
        "task": task,
        "sample": task,
        "plan": 0,
        "arrival_s": end[0],
        "finish_s": cloud_span[1],
        "decision": "send" if link else "local",
        "bits": 4 if link else 0,
        "payload_bytes": 1024 if link else 0,
        "decided_s": end[1],
        "estimated_bps": 1e6,
        "true_bps": 1e6,
        "separability": float("nan"),
        "predicted": -1,
        "label": -1,
        "uncut": -1,
        "video": -1,
        "dropped": False,
        "fallback": False,
    }
    for name, (start_s, end_s) in (("end", end), ("link", link_span), ("cloud", cloud_span)):
        columns[f"{name}_start_s"], columns[f"{name}_end_s"] = start_s, end_s
        columns[f"{name}_busy_s"] = end_s - start_s
    return TaskRecord(**(columns | given))


def records(rows: list[TaskRecord], plans: tuple[Plan, ...] = ()) -> Records:
    """Rows as columns."""
    columns = {name: np.array([getattr(r, name) for r in rows]) for name in COLUMNS}
    return Records(columns, plans or (plan(),))


def pipelined(
    tasks: int, end_s: float, link_s: float, cloud_s: float, exits: int = 0, **given: Any
) -> Records:
    """`tasks` equal tasks that the resources take in turn; every `exits`-th exits on the end."""
    rows, link_free, cloud_free = [], 0.0, 0.0
    for task in range(tasks):
        end = (task * end_s, (task + 1) * end_s)
        if exits and task % exits == exits - 1:
            rows.append(row(task, end, None, None, **(given | {"decision": "exit"})))
            continue
        link_start = max(end[1], link_free)
        link_free = link_start + link_s
        cloud_start = max(link_free, cloud_free)
        cloud_free = cloud_start + cloud_s
        rows.append(row(task, end, (link_start, link_free), (cloud_start, cloud_free), **given))
    return records(rows, (plan(end_s, link_s, cloud_s),))
