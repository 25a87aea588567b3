"""SPINN while tasks flow: exits by confidence, and a lost link.

In: the plans of one rate, the best and the best that sends nothing. Out: for each task which of
them it runs, and whether an exit answers it.
"""

from math import inf

from coach_exp.types.method import GO_ON, Decision, FixedPlans, Observation, Transfer
from coach_exp.types.plan import DecisionPoint, Plan, PlanSet

PROBE_EVERY = 20  # tasks answered on the end alone between two that try a link that was lost


class ExitByConfidence(FixedPlans):
    """Runs the first plan, exits where a head is sure enough, and while the link is lost runs the
    second, which sends nothing; one task in `PROBE_EVERY` then tries the link, and none before the
    last one has timed out, or they would take all places in flight."""

    def __init__(self, plans: PlanSet) -> None:
        super().__init__(plans)
        self._best, self._alone = plans.plans
        self._lost = False
        self._silent = 0
        self._next_probe_s = -inf

    def choose(self, task: int, observation: Observation) -> Plan:
        """The best plan, or the one that sends nothing."""
        if not self._lost:
            return self._best
        self._silent += 1
        if self._silent < PROBE_EVERY or observation.now_s < self._next_probe_s:
            return self._alone
        self._silent, self._next_probe_s = 0, observation.now_s + self._best.timeout_s
        return self._best

    def at_head(
        self, task: int, plan: Plan, head: DecisionPoint, observation: Observation
    ) -> Decision:
        """Exits from the threshold on."""
        if observation.outcomes is None:
            return GO_ON
        crossing = plan.crossing if head.side == "cloud" else ()
        answer = observation.outcomes.at_exit(observation.sample, head.layer, crossing)
        if answer.confidence >= head.threshold:
            return Decision("exit", answer.label)
        return GO_ON

    def gave_up(self, task: int, plan: Plan, observation: Observation) -> Decision:
        """The most confident exit on the end; without one the end goes on alone."""
        self._lost = True
        heads = [head.layer for head in plan.heads if head.side == "end"]
        if observation.outcomes is None or not heads:
            return GO_ON
        answers = [observation.outcomes.at_exit(observation.sample, layer) for layer in heads]
        return Decision("exit", max(answers, key=lambda answer: answer.confidence).label)

    def sent(self, transfer: Transfer) -> None:
        """The link is back."""
        self._lost = False
