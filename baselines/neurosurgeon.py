"""Neurosurgeon (Kang et al., ASPLOS 2017): the one cut of least latency.

What it decides, and when: for the link's rate, behind which layer the model is cut in two, so that
T_e + T_t + T_c, and half the round trip where something is sent, is least; again when the rate
changes (`replan`). One tensor crosses, as float32.

What it cannot do: see the pipeline (no queue, no throughput in its objective), compress, exit
early, or cut through parallel branches.

Where we depart, and why:
* The paper knows chains. `linearisation = articulation` makes one of the layers through which all
  data flows; `prefix` cuts the execution order anywhere and pays for every tensor that is alive
  there, which is how DADS' authors ran Neurosurgeon on DAGs. On chains the two are the same.
* Layer times come from the profile that every method gets. The paper predicts them by a regression
  for each kind of layer; `predictor = regression` fits one, log-linear in FLOPs and bytes moved, to
  the profile's own layers and decides by it. The tasks take the profile's times either way.
* `execution = sequential` is the paper's: the next task starts when the last is answered.
  `pipelined` lets tasks follow each other as for every other method, which can only help.
* No energy mode and no server load: no method here is given power figures, and the cloud is one
  worker.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from baselines.chain import cut_vertex_cuts, least, prefix_cuts
from baselines.harness import Baseline, Choice, chosen, costs
from coach_exp.planner.cost_model import CostModel
from coach_exp.types.graph import Layer, LayerGraph
from coach_exp.types.method import Problem
from coach_exp.types.plan import PlanSet, Release
from coach_exp.types.profile import DeviceProfile

Linearisation = Literal["articulation", "prefix"]
Execution = Literal["pipelined", "sequential"]
Predictor = Literal["profile", "regression"]
FLOAT_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Neurosurgeon(Baseline):
    """See above. Of cuts that take equally long, the one with the longer end part."""

    name: str = "ns"
    linearisation: Linearisation = "articulation"
    execution: Execution = "pipelined"
    predictor: Predictor = "profile"

    def view(self, problem: Problem) -> Problem:
        """With the payloads of the division, and one task at a time where that is asked for."""
        problem = super().view(problem)
        if self.execution == "pipelined":
            return problem
        return replace(problem, workload=replace(problem.workload, in_flight=1))

    def plans_for(self, problem: Problem, release: Release) -> PlanSet:
        """The cut of least latency. Raises InfeasibleError when all break t_max_ms."""
        return chosen(problem, "sum", release, self._choice)

    def _choice(self, model: CostModel) -> Choice:
        seen = model if self.predictor == "profile" else _by_regression(model)
        cuts = cut_vertex_cuts(seen) if self.linearisation == "articulation" else prefix_cuts(seen)
        best = least(cuts.latency_s, cuts.latency_s)
        return Choice((cuts.end_set(best),), evaluations=len(cuts.held))


def _by_regression(model: CostModel) -> CostModel:
    problem = model.problem
    end, cloud = (predicted(side, problem.graph) for side in (problem.end, problem.cloud))
    return costs(replace(problem, end=end, cloud=cloud), "sum", model.release)


def predicted(profile: DeviceProfile, graph: LayerGraph) -> DeviceProfile:
    """The seconds that a regression for each kind of layer gives: log t = a + b·log(1 + FLOPs) +
    c·log(1 + bytes), least squares over the layers of the kind that take any time."""
    layer_s = dict(profile.layer_s)
    kinds: dict[str, list[Layer]] = {}
    for layer in graph.layers:
        if layer_s[layer.name] > 0:
            kinds.setdefault(layer.kind, []).append(layer)
    for layers in kinds.values():
        sizes = np.log1p([_size(layer) for layer in layers])
        inputs = np.column_stack([np.ones(len(layers)), sizes])
        seconds = np.log([layer_s[layer.name] for layer in layers])
        weights, *_ = np.linalg.lstsq(inputs, seconds, rcond=None)
        for layer, value in zip(layers, np.exp(inputs @ weights).tolist(), strict=True):
            layer_s[layer.name] = value
    return replace(profile, device=f"{profile.device} by regression", layer_s=layer_s)


def _size(layer: Layer) -> Sequence[float]:
    """FLOPs, and bytes read and written."""
    return layer.flops, layer.param_bytes + layer.input_bytes + FLOAT_BYTES * layer.elements
