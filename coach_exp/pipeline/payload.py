"""What of a task crosses the link: widths, sizes and the label that comes of it.

In: a plan and what was decided at its cut. Out: what crosses, how large it is, the cloud's label.
The simulator sends by it, and an executor whose stages are emulated.
"""

from typing import NamedTuple

from coach_exp.types.method import Decision, Problem
from coach_exp.types.outcomes import Crossing
from coach_exp.types.plan import Plan
from coach_exp.types.task import NOT_SIMULATED


class Payload(NamedTuple):
    """Bytes of each crossing tensor, and the label that the cloud will find; -1 where no model
    answers."""

    payload_bytes: tuple[int, ...]
    label: int


def crossing_as(plan: Plan, decision: Decision | None) -> tuple[Crossing, ...]:
    """Returns the crossing tensors at the widths of the decision; at the plan's where there is no
    decision, or one without widths."""
    if decision is None or decision.bits is None:
        return plan.crossing
    pairs = zip(plan.crossing, decision.bits, strict=True)
    return tuple(Crossing(tensor.layer, width) for tensor, width in pairs)


def payload(problem: Problem, sample: int, crossing: tuple[Crossing, ...]) -> Payload:
    """Returns the payload of a sample: measured where the model answers, expected where it does
    not. When nothing crosses, the label is that of the whole model."""
    if problem.outcomes is not None:
        prediction = problem.outcomes.predict(sample, crossing)
        return Payload(prediction.payload_bytes, prediction.label)
    graph, expected = problem.graph, problem.expected_bytes
    sizes = tuple(expected(graph[tensor.layer], tensor.bits) for tensor in crossing)
    return Payload(sizes, NOT_SIMULATED)
