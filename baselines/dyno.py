"""DynO (Almeida et al., ACM TECS 2022): cut and transferred precision chosen together at run time.

What it decides, and when: for the link's rate, the layer through which all data flows and the
bit-width of its output, among the pairs that lose at most the accuracy budget on the calibration
split (the table that COACH searches: Q(v)): the pair of least latency, or of least longest stage.
Fewer bits never take longer, so at each cut the fewest that keep the budget are best. Again when
the rate changes by more than `replan.change`, which is its hysteresis.

What it cannot do: follow the content (no exits, no width by task), or schedule the pipeline.

Where we depart, and why:
* The full text was not at hand; its packing of integers, which exploits that precision varies from
  layer to layer, is replaced by the packing that all methods share.
* It sends quantised tensors in every division, `as_published` too: precision is what it is about.
"""

from dataclasses import dataclass
from typing import Literal

from baselines.chain import cut_vertex_cuts, least
from baselines.harness import Baseline, Choice, chosen
from coach_exp.planner.cost_model import CostModel
from coach_exp.types.method import Problem
from coach_exp.types.plan import PlanSet, Release

Objective = Literal["latency", "bottleneck"]


@dataclass(frozen=True, kw_only=True)
class Dyno(Baseline):
    """See above."""

    name: str = "dyno"
    objective: Objective = "latency"

    def view(self, problem: Problem) -> Problem:
        """As it is: the widths are part of the method."""
        return problem

    def plans_for(self, problem: Problem, release: Release) -> PlanSet:
        """The best pair. Raises InfeasibleError when all break t_max_ms."""
        return chosen(problem, self.objective, release, self._choice)

    def _choice(self, model: CostModel) -> Choice:
        cuts = cut_vertex_cuts(model)
        value = cuts.latency_s if self.objective == "latency" else cuts.period_s
        best = least(value, cuts.latency_s)
        return Choice((cuts.end_set(best),), evaluations=len(cuts.held))
