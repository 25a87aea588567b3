"""What one session has under way: plans that the cloud judges, tasks that wait for their answers.

Both sides keep the same books, so that the end never sends what the cloud would refuse.
"""

from coach_exp.network.wire_messages import Tensor, WirePlan, shown
from coach_exp.types.errors import WireError


class PlanLedger:
    """The plans of one session by their numbers: offered first, then accepted or forgotten."""

    def __init__(self) -> None:
        self._offered: dict[int, WirePlan] = {}
        self._accepted: dict[int, WirePlan] = {}

    def __len__(self) -> int:
        return len(self._offered) + len(self._accepted)

    def offer(self, plan: WirePlan) -> None:
        """Take in a new plan. Raises WireError for a number that is taken."""
        if plan.plan in self._offered or plan.plan in self._accepted:
            raise WireError(f"plan {plan.plan} was offered before; each plan has its own number")
        self._offered[plan.plan] = plan

    def judge(self, number: int, accepted: bool) -> None:
        """Keep an offered plan for tasks to name, or forget it: its number may be offered again.
        Raises KeyError for a plan that is not offered."""
        plan = self._offered.pop(number)
        if accepted:
            self._accepted[number] = plan

    def is_offered(self, number: int) -> bool:
        """Returns whether a plan waits for its judgement."""
        return number in self._offered

    def accepted(self, number: int) -> WirePlan | None:
        """Returns a plan that tasks may name; None where no accepted one has the number."""
        return self._accepted.get(number)


class TaskLedger:
    """The tasks of one session that are being sent or wait for their answer.

    Tasks begin in the order of their numbers, so that one number tells a new task from a replayed
    one however many there were.
    """

    def __init__(self, max_open: int) -> None:
        self.last = -1  # the highest number that was begun
        self._max_open = max_open
        self._sent: dict[int, tuple[int, WirePlan]] = {}  # task -> tensors so far, plan

    @property
    def open(self) -> tuple[int, ...]:
        """The tasks of which something was sent, in the order in which they began."""
        return tuple(self._sent)

    def waiting(self, task: int) -> WirePlan | None:
        """Returns the plan of a task that has come whole and is not answered; None for any
        other."""
        sent, plan = self._sent.get(task, (0, None))
        return plan if plan is not None and sent == len(plan.crossing) else None

    def drop(self, task: int) -> WirePlan | None:
        """Forget a task. Returns its plan; None where it was not open."""
        _, plan = self._sent.pop(task, (0, None))
        return plan

    def take(self, tensor: Tensor, plans: PlanLedger) -> None:
        """Count the next tensor of a task. Raises WireError for one that breaks the order."""
        task, part = tensor.task, tensor.part
        plan = plans.accepted(tensor.plan)
        if plan is None:
            raise WireError(f"task {task} names plan {tensor.plan}, which is not registered")
        due = self._due(task, plan)
        if part < due:
            raise WireError(f"tensor {part} of task {task} comes twice")
        parts = len(plan.crossing)
        if (part, tensor.parts) != (due, parts) or tensor.layer != plan.crossing[due].layer:
            raise WireError(
                f"tensor {part} of {tensor.parts} of task {task}, {shown(tensor.layer, 80)!r}, is "
                f"not the next one of its plan, which has {parts}: {due} have come"
            )
        self.last = max(self.last, task)
        self._sent[task] = (part + 1, plan)

    def _due(self, task: int, plan: WirePlan) -> int:
        if task in self._sent:
            due, begun_with = self._sent[task]
            if begun_with is not plan:
                raise WireError(f"task {task} changes its plan on the way")
            return due
        if task <= self.last:
            raise WireError(
                f"task {task} was begun before, or skipped: tasks begin in the order of their "
                "numbers, each once"
            )
        if len(self._sent) >= self._max_open:
            raise WireError(f"at most {self._max_open} tasks wait for their answers")
        return 0
