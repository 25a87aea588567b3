"""PipeBalance: the one cut whose longest stage is shortest.

In the manner of PipeDream (Narayanan et al., SOSP 2019) with two workers and the link between them
as the third stage.

What it decides, and when: for the link's rate, the layer through which all data flows behind which
max{T_e, T_t, T_c} is least; of equal ones the least sum. Again when the rate changes (`replan`).

What it cannot do: exit early, mix plans, or cut through parallel branches. Its tensors are float32
in the division `as_published`.

Where we depart, and why: PipeDream balances training over many accelerators and replicates stages;
one end, one link and one cloud are what there is here.
"""

from dataclasses import dataclass

from baselines.chain import cut_vertex_cuts, least
from baselines.harness import Baseline, Choice, chosen
from coach_exp.planner.cost_model import CostModel
from coach_exp.types.method import Problem
from coach_exp.types.plan import PlanSet, Release


@dataclass(frozen=True, kw_only=True)
class PipeBalance(Baseline):
    """See above."""

    name: str = "pipebalance"

    def plans_for(self, problem: Problem, release: Release) -> PlanSet:
        """The balanced cut. Raises InfeasibleError when all break t_max_ms."""
        return chosen(problem, "bottleneck", release, _choice)


def _choice(model: CostModel) -> Choice:
    cuts = cut_vertex_cuts(model)
    best = least(cuts.period_s, cuts.latency_s)
    return Choice((cuts.end_set(best),), evaluations=len(cuts.held))
