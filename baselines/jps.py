"""JPS, joint partition and pipeline scheduling: two cuts, a ratio between them, and an order.

Duan & Wu, IWQoS 2021, and Duan, Wu et al., IEEE TMC 23(4) 2024, doi 10.1109/TMC.2023.3276937. The
full texts were not at hand: what stands here follows the abstracts, and derives the rest.

What it decides, and when: before the first task, for a known rate. Device and link are a flow shop
of two machines; a cut l costs f(l) device seconds and g(l) link seconds. Cuts with more of both
than another are dropped. Of the others, l* is the first with f >= g; tasks are cut at l* and at its
neighbour before it, in the ratio at which device and link are busy alike, those that load the link
more first (Johnson). What it gains is throughput; a single task is slower than by its best cut.

What it cannot do: it knows neither the cloud's time nor, within a task, sending while the device
still computes. Both happen in the run all the same, and a remark says when the cloud sets the pace.
Half the round trip delays a task but holds neither machine, so it is not in g.

Where we depart from it, and why:
- `variant = hull` takes the two ends of the edge at which the lower convex hull of all (f, g)
  crosses f = g: no mix of cuts has a lower period. Where g is convex in f, as the paper observes
  it to be, these are the paper's two cuts (`adjacent`); real models are not convex.
- `variant = exact` finds the least makespan of all multisets of cuts, for workloads so small that
  the ramps at both ends count.
- `granularity = path` looks at all cuts instead of those at cut vertices: minimum cuts with every
  ratio of the weights of T_e and T_t, the cloud's being 0, are the whole hull. The paper's cutting
  by path counts what paths share twice. Cuts above the hull are seen at cut vertices only, which
  matters to `adjacent` and `exact`, and under t_max_ms, where only cuts that keep it are mixed.
- Tasks come as a stream: the ratio is that of the steady state, and kept by error diffusion. With
  `batch = b`, b tasks are drawn so and sorted by Johnson's rule; the last batch may stay unfilled.
  Only a batch of the whole workload is finite: its numbers of tasks, all of one cut included, are
  those of least makespan.
- The paper plans offline; here plans for other rates take over as for every method (`replan`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic import PositiveInt

from baselines.harness import Baseline, Choice, chosen
from baselines.johnson import (
    Load,
    Mix,
    adjacent_mix,
    exact_mix,
    finite_mix,
    hull_mix,
    makespan_s,
    undominated,
)
from coach_exp.planner.candidate import TOLERANCE, Candidate
from coach_exp.planner.cost_model import CostModel
from coach_exp.planner.min_cut import WeightedCut, Weights, weighted_min_cut
from coach_exp.types.errors import ConfigError, InfeasibleError
from coach_exp.types.method import Controller, FixedPlans, Observation, Problem
from coach_exp.types.plan import Plan, PlanSet, Release

Variant = Literal["adjacent", "hull", "exact"]
Granularity = Literal["block", "path"]
EXACT_TASKS = 8


@dataclass(frozen=True, kw_only=True)
class Jps(Baseline):
    """See above. Every plan's objective is its own largest stage, the cloud's included; what the
    mix is expected to reach is a remark."""

    name: str = "jps"
    variant: Variant = "hull"
    granularity: Granularity = "block"
    batch: PositiveInt = 1

    def plans_for(self, problem: Problem, release: Release) -> PlanSet:
        """The mixed plans, those that load the link more first. Raises ConfigError when `exact` has
        not the whole workload as its batch, InfeasibleError when no cut is allowed."""
        tasks = problem.workload.tasks
        if self.variant == "exact" and not self.batch == tasks <= EXACT_TASKS:
            raise ConfigError(
                f"method.variant = 'exact' orders the whole workload as one batch of at most "
                f"{EXACT_TASKS} tasks, but method.batch = {self.batch} and workload.tasks = "
                f"{tasks}; give both the same number, or take method.variant = hull"
            )
        return chosen(problem, "bottleneck", release, self._choice)

    def dispatch(self, plans: PlanSet) -> Controller:
        """Keeps the ratio, and Johnson's order within each batch."""
        return Batches(plans, self.batch)

    def _choice(self, model: CostModel) -> Choice:
        cuts = feasible(path_cuts(model) if self.granularity == "path" else block_cuts(model))
        front = [cuts[k] for k in undominated([load(cut) for cut in cuts])]
        loads, tasks = [load(cut) for cut in front], model.problem.workload.tasks
        mix = self._mix(loads, tasks)
        if self.batch == tasks:
            whole_s = makespan_s([loads[k] for k in mix.jobs(tasks)])
            expected = f"makespan of the {tasks} tasks {1e3 * whole_s:.1f} ms"
        else:
            expected = f"steady-state period {1e3 * max(mix.mean(loads)):.1f} ms"
        chosen_cuts = [front[k] for k in mix.cuts]
        return Choice(
            tuple(model.end_set(cut) for cut in chosen_cuts),
            mix.shares,
            len(cuts),
            (
                f"{expected}, the cloud neglected: {_uses(model, chosen_cuts, mix)}",
                *_cloud_remarks(chosen_cuts, mix, max(mix.mean(loads))),
            ),
        )

    def _mix(self, loads: list[Load], tasks: int) -> Mix:
        if self.variant == "exact":
            return exact_mix(loads, tasks)
        mix = hull_mix(loads) if self.variant == "hull" else adjacent_mix(loads)
        return finite_mix(loads, mix, tasks) if self.batch == tasks else mix


def load(cut: Candidate) -> Load:
    """f and g of a cut."""
    return Load(cut.stage.end_s, cut.stage.link_s)


def _uses(model: CostModel, cuts: list[Candidate], mix: Mix) -> str:
    def place(cut: Candidate) -> str:
        crossing = model.graph.crossing(model.end_set(cut))
        names = [model.graph.layers[i].name for i in crossing]
        return f"cut at {'+'.join(names)}" if names else "kept on the device"

    if len(cuts) == 1:
        return f"all {place(cuts[0])}"
    return ", ".join(
        f"{100 * share:.1f} % {place(cut)}" for cut, share in zip(cuts, mix.shares, strict=True)
    )


def _cloud_remarks(cuts: list[Candidate], mix: Mix, period_s: float) -> Iterator[str]:
    pairs = zip(cuts, mix.shares, strict=True)
    cloud_s = sum(share * cut.stage.cloud_s for cut, share in pairs)
    if cloud_s > period_s * (1 + TOLERANCE):
        took = f"{1e3 * cloud_s:.1f} ms a task"
        yield f"the cloud, which JPS neglects, takes {took} and sets the pace"


def block_cuts(model: CostModel) -> list[Candidate]:
    """The cuts at cut vertices, the raw input first, and device-only: the line that the paper makes
    of a graph by taking every branching region as one block."""
    return [*(model.boundary(block) for block in range(model.blocks)), model.device_only()]


def path_cuts(model: CostModel) -> list[Candidate]:
    """The cuts at cut vertices, and the vertices of the lower left hull of all cuts."""
    return block_cuts(model) + [model.of(found.end_set)[0] for found in supported_cuts(model)]


def supported_cuts(model: CostModel) -> list[WeightedCut]:
    """All vertices of the lower left convex hull of (T_e, T_t) over all cuts that the input's rule
    allows, by growing T_e. Exact: between two known cuts the least sum with the weights at which
    they are equal lies at another vertex, or the two are neighbours."""
    min_end = weighted_min_cut(model, Weights(1.0, 0.0, 0.0))
    min_link = weighted_min_cut(model, Weights(0.0, 1.0, 0.0))
    return [min_end, *_between(model, min_end, min_link), min_link]


def _between(model: CostModel, left: WeightedCut, right: WeightedCut) -> list[WeightedCut]:
    width_s = max(0.0, right.stage.end_s - left.stage.end_s)
    height_s = max(0.0, left.stage.link_s - right.stage.link_s)
    if not width_s + height_s:
        return []
    weights = Weights(height_s / (width_s + height_s), width_s / (width_s + height_s), 0.0)
    found = weighted_min_cut(model, weights)
    if found.value >= weights.of(left.stage) * (1 - TOLERANCE):
        return []
    return [*_between(model, left, found), found, *_between(model, found, right)]


def feasible(cuts: list[Candidate]) -> list[Candidate]:
    """Those that break no limit. Raises InfeasibleError naming what the closest breaks."""
    allowed = [cut for cut in cuts if cut.violation_s == 0]
    if not allowed:
        closest = min(cuts, key=lambda cut: cut.violation_s)
        raise InfeasibleError(
            f"none of the {len(cuts)} cuts that JPS looks at is feasible; the closest breaks "
            f"{closest.broken}; relax that limit, or change device, cloud or bandwidth"
        )
    return allowed


class Batches(FixedPlans):
    """The plans at their shares, `size` tasks at a time, each batch in the order of the plans."""

    def __init__(self, plans: PlanSet, size: int) -> None:
        super().__init__(plans)
        self._order = {id(plan): place for place, plan in enumerate(plans.plans)}
        self._size = size
        self._waiting: list[Plan] = []

    def choose(self, task: int, observation: Observation) -> Plan:
        """The next of the batch; a new batch where it is empty."""
        if not self._waiting:
            drawn = [super(Batches, self).choose(task, observation) for _ in range(self._size)]
            self._waiting = sorted(drawn, key=lambda plan: -self._order[id(plan)])
        return self._waiting.pop()
