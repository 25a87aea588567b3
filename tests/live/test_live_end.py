"""The end's real computation, held against the answers that `outcomes` gives: alone, and over TCP
with the cloud's.
"""

import asyncio
from functools import partial
from time import monotonic

import numpy as np
import pytest
from helpers.attempts import attempted
from helpers.branches import CODEC, HEADS, SAMPLES, WEIGHTS, heads_of

from coach_exp.learning.video import VideoDataset
from coach_exp.live.cloud import live_work
from coach_exp.live.end import LiveEnd
from coach_exp.live.live_model import LiveModel, Machine
from coach_exp.live.payloads import Payloads
from coach_exp.network.estimator import Ewma
from coach_exp.network.trace import constant
from coach_exp.pipeline.cloud.process import CloudProcess
from coach_exp.pipeline.cloud.settings import CloudSettings
from coach_exp.pipeline.end_work import stops
from coach_exp.pipeline.executor import Setting, execute
from coach_exp.pipeline.trial import Trial
from coach_exp.pipeline.uplink import CloudAddress
from coach_exp.planner.cost_model import CostModel
from coach_exp.planner.objective import Bottleneck
from coach_exp.profiling.capture import smallest_end
from coach_exp.quant.precision import FixedBits
from coach_exp.types.method import GO_ON, SEND, Decision, Link, Problem
from coach_exp.types.outcomes import Crossing
from coach_exp.types.plan import DecisionPoint, PlanSet
from coach_exp.types.profile import DeviceProfile
from coach_exp.types.workload import Workload

BITS = 4


@pytest.fixture
def data(frames):
    zeros = np.zeros(SAMPLES, np.int64)
    return VideoDataset(frames, zeros, np.arange(SAMPLES), zeros, ("only",))


@pytest.fixture
def problem(model, outcomes):
    layers = {layer.name: 1e-3 for layer in model.graph.layers}
    times = DeviceProfile("any", layers)
    bits = FixedBits(BITS, model.graph.input.name)
    workload = Workload("saturated", 3 * SAMPLES, in_flight=4)
    return Problem(model.graph, times, times, Link(20e6), CODEC, bits, workload, outcomes=outcomes)


def cut(problem, *layers, release="per_tensor"):
    """The plan of the smallest cut with these tensors; none: device-only."""
    graph = problem.graph
    names = smallest_end(graph, layers) if layers else [layer.name for layer in graph.layers]
    return CostModel(problem, Bottleneck(), release).plan(graph.end_set(names))


def end_of(model, data, outcomes, began_s, **options):
    payloads = Payloads(CODEC, model.graph, None, 16)
    live = LiveModel(model, payloads, heads_of(model), Machine(**options))
    return LiveEnd(live, data, outcomes, began_s=began_s)


async def through(task, plan):
    """Reach every stop, then pack all that crosses."""
    for stop in stops(plan):
        await task.reach(stop)
    return await task.pack(plan.crossing, range(len(plan.crossing)), None)


@pytest.mark.parametrize("layers", [("relu",), ("right", "left"), ("input",)], ids=str)
def test_payloads_are_those_that_outcomes_counts_and_the_rest_can_be_computed_here(
    problem, model, data, outcomes, layers
):
    async def main():
        end, plan = end_of(model, data, outcomes, began_s=monotonic()), cut(problem, *layers)
        for sample in range(SAMPLES):
            task = end.begin(sample, plan, 0.0)
            sizes = tuple(map(len, await through(task, plan)))
            assert sizes == outcomes.predict(sample, plan.crossing).payload_bytes
            assert (await task.finish(0.0))[1] == outcomes.uncut(sample)

    asyncio.run(main())


def test_device_only_answers_as_the_uncut_model(problem, model, data, outcomes):
    async def main():
        end, plan = end_of(model, data, outcomes, began_s=monotonic()), cut(problem)
        for sample in range(SAMPLES):
            task = end.begin(sample, plan, 0.0)
            assert await through(task, plan) == []
            assert (await task.finish(0.0))[1] == outcomes.uncut(sample)

    asyncio.run(main())


def test_heads_say_of_the_task_what_outcomes_says(problem, model, data, outcomes):
    async def main():
        plan = cut(problem)
        heads = tuple(DecisionPoint("end", layer, 0.0, 0.5) for layer in HEADS)
        object.__setattr__(plan, "heads", heads)
        end = end_of(model, data, outcomes, began_s=monotonic())
        for sample in range(SAMPLES):
            task = end.begin(sample, plan, 0.0)
            await through(task, plan)
            assert set(task.outcomes.exits) == set(HEADS)  # computed here, not looked up
            for layer in HEADS:
                here, known = task.outcomes.exits[layer], outcomes.at_exit(sample, layer)
                assert here.label == known.label
                assert here.confidence == pytest.approx(known.confidence, abs=1e-5)

    asyncio.run(main())


@attempted
def test_a_slower_device_is_held_for_longer(problem, model, data, outcomes):
    async def seconds(slowdown):
        end = end_of(model, data, outcomes, began_s=monotonic(), slowdown=slowdown)
        plan = cut(problem)
        await through(end.begin(0, plan, 0.0), plan)  # the first one warms up
        took = []
        for _ in range(9):
            began_s = monotonic()
            await through(end.begin(0, plan, 0.0), plan)
            took.append(monotonic() - began_s)
        return float(np.median(took))

    assert asyncio.run(seconds(20.0)) > 4 * asyncio.run(seconds(1.0))


class Alternating:
    """Runs plans in turn; at the cut exits every fifth task and sends every third at 2 bits."""

    def __init__(self, plans):
        self.plans, self.told, self.task = plans, [], -1

    def choose(self, task, observation):
        self.task = task
        return self.plans[task % len(self.plans)]

    def at_head(self, task, plan, head, observation):
        return GO_ON

    def at_cut(self, task, plan, observation):
        assert observation.outcomes is not None
        if task % 5 == 4:
            return Decision("exit", 7)
        bits = (2,) * len(plan.crossing)
        return Decision("send", bits=bits) if task % 3 == 0 else SEND

    def gave_up(self, task, plan, observation):
        return GO_ON

    def sent(self, transfer):
        pass

    def answered(self, task, label, now_s):
        self.told.append(task)


@pytest.mark.slow
@pytest.mark.socket
def test_labels_over_tcp_are_those_of_outcomes_task_by_task(problem, model, data, outcomes):
    plans = [
        cut(problem, "relu", release="after_decision"),
        cut(problem, "right", "left"),
        cut(problem),
        cut(problem, "input"),
    ]
    samples = np.arange(3 * SAMPLES) % SAMPLES
    controller = Alternating(plans)
    settings = CloudSettings(fingerprint="x")
    make = partial(live_work, WEIGHTS, CODEC, None, machine=Machine(threads=1))
    with CloudProcess(settings, make, print) as cloud:
        records = execute(
            Trial(problem, controller, constant(20e6), Ewma(20e6), samples),
            PlanSet(tuple(plans), (0.25,) * 4),
            lambda began_s: end_of(model, data, outcomes, began_s=began_s, threads=1),
            Setting(CloudAddress("127.0.0.1", cloud.port, "x")),
        )
    assert sorted(controller.told) == list(range(len(records)))
    assert not records.fallback.any()
    for row in records:
        plan = plans[row.task % 4]
        if not plan.crossing:
            assert (row.decision, row.predicted) == ("local", outcomes.uncut(row.sample))
        elif row.decision == "exit":
            assert (row.task % 5, row.task % 4, row.predicted) == (4, 0, 7)
        else:
            width = 2 if row.task % 4 == 0 and row.task % 3 == 0 else None
            crossing = tuple(
                Crossing(tensor.layer, width or tensor.bits) for tensor in plan.crossing
            )
            expected = outcomes.predict(row.sample, crossing)
            assert row.predicted == expected.label
            assert row.payload_bytes == sum(expected.payload_bytes)
            assert row.bits == max(tensor.bits for tensor in crossing)
    spent = records.finish_s - records.arrival_s
    assert (spent > 0).all()
    assert {row.plan for row in records} == set(range(4))
