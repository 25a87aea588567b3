"""One decision at the cut, on the tensor that a ResNet101 sends behind layer3 (1024×14×14) and 100
labels, one thread: feature, similarities, separability and bits in half a millisecond; quantise and
pack in one.

    pytest tests/benchmarks/test_bench_online.py --benchmark-only
"""

import numpy as np
import pytest

from coach_exp.online.scheduler import OnlineController
from coach_exp.quant.affine import UniformAffine
from coach_exp.types.feature import task_feature
from coach_exp.types.method import FixedPlans, Observation
from coach_exp.types.online import Centres, Rung, SemanticTable
from coach_exp.types.outcomes import Crossing
from coach_exp.types.plan import Bubbles, ObjectiveValue, Overlap, Plan, PlanSet, StageTimes

SHAPE, LABELS = (1024, 14, 14), 100


class Live:
    """The feature of the tensor at hand, computed when it is asked for."""

    def __init__(self, tensor: np.ndarray) -> None:
        self.tensor = tensor

    def feature(self, sample, layers):
        return task_feature([self.tensor], [0])


@pytest.fixture
def tensor() -> np.ndarray:
    return np.maximum(np.random.default_rng(0).standard_normal(SHAPE, np.float32), 0)


@pytest.fixture
def plan() -> Plan:
    centres = np.random.default_rng(1).random((LABELS, SHAPE[0]))
    elements = int(np.prod(SHAPE))
    rungs = tuple(Rung(b, (b,), elements * b // 8, 0.1 * (6 - b)) for b in range(2, 7))
    rungs = (*rungs[:-1], Rung(6, (6,), elements * 6 // 8))
    online = SemanticTable(
        *("paper", Centres(centres, np.full(LABELS, 50)), 1e9, rungs, (), 0, 0, 0.0, 0.0)
    )
    return Plan(
        *((), (Crossing("layer3", 6),), "after_decision", StageTimes(0.02, 0.03, 0.01)),
        *(Overlap(0, 0), 0.06, ObjectiveValue("paper", 0.1, Bubbles(0, 0)), (0.02,), (0.01,)),
        *((elements * 6 // 8,),),
        online=online,
    )


def test_decide(benchmark, tensor, plan):
    controller = OnlineController(FixedPlans(PlanSet((plan,))), "eq11", "exits", None)
    observation = Observation(0.0, 0, 2e7, 0, Live(tensor))
    decision = benchmark(controller.at_cut, 0, plan, observation)
    assert decision.action == "send"


def test_learn_from_an_exit(benchmark, tensor, plan):
    controller = OnlineController(FixedPlans(PlanSet((plan,))), "eq11", "exits", None)
    cache = controller._cache(plan.online)
    feature = task_feature([tensor], [0])
    benchmark(cache.learn, 3, feature)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_quantise_and_pack(benchmark, tensor, bits):
    payload = benchmark(UniformAffine().encode, tensor, bits)
    assert len(payload) == UniformAffine().expected_bytes(tensor.size, bits)
