"""The one-task schedule (paper, Fig. 4): when end, link and cloud work for a task.

In: a problem and a plan. Out: the end's layers, the link's transfers and the cloud's layers with
begin and end in seconds. Each resource does one thing at a time and takes what is released in the
order of release. Whatever ready layer the cloud takes next, it is busy whenever something is
released, so what each arrival releases fixes its busy times.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from coach_exp.types.method import Problem
from coach_exp.types.plan import Plan
from coach_exp.types.task import Records

Interval = tuple[float, float]  # begin and end, in seconds


def served(
    released_s: Sequence[float], hold_s: Sequence[float], free_s: float = 0
) -> list[Interval]:
    """When a resource that is free from `free_s` on does each of its pieces of work, in the given
    order, none before its release.

    >>> served([0, 1, 9], [3, 2, 1])
    [(0, 3), (3, 5), (9, 10)]
    """
    intervals = []
    for release_s, seconds in zip(released_s, hold_s, strict=True):
        begin_s = max(free_s, release_s)
        free_s = begin_s + seconds
        intervals.append((begin_s, free_s))
    return intervals


def seconds_before(intervals: Sequence[Interval], until_s: float) -> float:
    """How much of the work is done before an instant.

    >>> seconds_before([(0, 3), (3, 5), (9, 10)], until_s=4)
    4.0
    """
    seconds = 0.0
    for begin_s, end_s in intervals:
        seconds += max(0.0, min(end_s, until_s) - begin_s)
    return seconds


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of work: a layer that is computed, a tensor that is sent, or what its arrival lets
    the cloud do; in seconds.
    """

    name: str
    begin_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        """How long it takes."""
        return self.end_s - self.begin_s


@dataclass(frozen=True, slots=True)
class TaskSchedule:
    """What one task holds when. `end` are the layers of the end that take any time, `link` the
    crossing tensors as sent, `released` what each arrival lets the cloud do, by the tensor, and
    `cloud` the layers that this is, one after the other in the graph's order.
    """

    end: tuple[Span, ...]
    link: tuple[Span, ...]
    released: tuple[Span, ...]
    cloud: tuple[Span, ...]

    @property
    def link_end_s(self) -> float:
        """When the last tensor has left the end; 0 where nothing is sent."""
        return max((span.end_s for span in self.link), default=0.0)

    @property
    def cloud_end_s(self) -> float:
        """When the cloud has done its last layer; 0 where it has none."""
        return max((span.end_s for span in self.released), default=0.0)


def task_schedule(problem: Problem, plan: Plan) -> TaskSchedule:
    """One task alone, from the instant at which the end begins it."""
    names = [name for name in plan.end_layers if problem.end.layer_s[name] > 0]
    end = served([0.0] * len(names), [problem.end.layer_s[name] for name in names])
    link, released = _beyond_the_end(problem, plan, 0.0, (0.0, 0.0))
    return TaskSchedule(_spans(names, end), link, released, _cloud_layers(problem, plan, released))


def stream_schedules(problem: Problem, records: Records) -> list[TaskSchedule]:
    """What each task of a stream without drops or exits holds when, piece by piece, while records
    tell only from when to when. The link has the problem's rate; the end's part is one span, named
    by nothing, and the cloud's layers are left out.
    """
    tasks, link_s, cloud_s = [], 0.0, 0.0
    for record in records:
        plan, begin_s = records.plans[record.plan], record.end_start_s
        end = Span("", begin_s, record.end_end_s)
        link, released = _beyond_the_end(problem, plan, begin_s, (link_s, cloud_s))
        task = TaskSchedule((end,), link, released, ())
        link_s, cloud_s = max(link_s, task.link_end_s), max(cloud_s, task.cloud_end_s)
        tasks.append(task)
    return tasks


def _beyond_the_end(
    problem: Problem, plan: Plan, begin_s: float, free_s: tuple[float, float]
) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Transfers and the cloud's work of a task that the end begins at `begin_s`, on a link and a
    cloud that are free from the instants `free_s` on."""
    waits_s = plan.ready_s
    if plan.release == "after_decision":
        waits_s = (plan.stage_s.end_s,) * len(plan.ready_s)
    send_s = [8 * size / problem.link.bandwidth_bps for size in plan.payload_bytes]
    link = served([begin_s + wait_s for wait_s in waits_s], send_s, free_s[0])
    arrived_s = [left_s + problem.link.rtt_s / 2 for _, left_s in link]
    names = [tensor.layer for tensor in plan.crossing]
    released = served(arrived_s, plan.cloud_work_s, free_s[1])
    return _spans(names, link), _spans(names, released)


def _cloud_layers(problem: Problem, plan: Plan, released: Sequence[Span]) -> tuple[Span, ...]:
    """The layers that each arrival releases, from the beginning of its work on: a layer waits for
    the last tensor that it depends on."""
    graph, held = problem.graph, problem.graph.end_set(plan.end_layers)
    arrival = {graph.position(tensor.layer): k for k, tensor in enumerate(plan.crossing)}
    layers: list[list[str]] = [[] for _ in released]
    for i, layer in enumerate(graph.layers):
        if i not in held:
            arrival[i] = max(arrival[source] for source in graph.predecessors[i])
            layers[arrival[i]].append(layer.name)
    spans: list[Span] = []
    for names, work in zip(layers, released, strict=True):
        seconds = [problem.cloud.layer_s[name] for name in names]
        spans += _spans(names, served([work.begin_s] * len(names), seconds))
    return tuple(spans)


def _spans(names: Sequence[str], intervals: Sequence[Interval]) -> tuple[Span, ...]:
    pairs = zip(names, intervals, strict=True)
    return tuple(Span(name, begin_s, end_s) for name, (begin_s, end_s) in pairs)
