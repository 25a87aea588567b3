"""The cloud's real computation, held against the answers that `outcomes` gives."""

import asyncio
import time
from functools import partial

import numpy as np
import pytest
import torch
from helpers.branches import BOTH, CODEC, HEADS, SAMPLES, SPEC, STEM, WEIGHTS, heads_of
from helpers.wire_ends import MODEL, End

from coach_exp.learning.models import preprocess
from coach_exp.live.cloud import LiveWork, live_work
from coach_exp.live.live_model import LiveModel, Machine
from coach_exp.live.payloads import Payloads
from coach_exp.network.wire_messages import CloudHead, CrossingTensor, PlanOk, WirePlan
from coach_exp.pipeline.cloud.process import CloudProcess
from coach_exp.pipeline.cloud.settings import CloudSettings
from coach_exp.profiling.capture import capture, smallest_end, split
from coach_exp.types.errors import CodecError, CutError, GraphError
from coach_exp.types.outcomes import Crossing


def wire(model, crossing, heads=()) -> WirePlan:
    """The cloud's part of the smallest cut with these tensors."""
    end = smallest_end(model.graph, [tensor.layer for tensor in crossing])
    sent = tuple(CrossingTensor(tensor.layer, tensor.bits, 0.0) for tensor in crossing)
    return WirePlan(0, end, sent, tuple(heads))


def work_of(model, **options) -> LiveWork:
    payloads = Payloads(CODEC, model.graph, None, 16)
    return LiveWork(LiveModel(model, payloads, heads_of(model), Machine(**options)))


def sent(model, frame, crossing) -> list[bytes]:
    """What the end sends of a frame."""
    payloads = Payloads(CODEC, model.graph, None, 16)
    layers = [tensor.layer for tensor in crossing]
    tensors = dict(model.stream(preprocess(frame[None], 16), layers))
    return [
        payloads.encode(
            t.layer, frame if t.layer == "input" else tensors[t.layer][0].numpy(), t.bits
        )
        for t in crossing
    ]


def run(work, plan, payloads) -> list:
    task = work.start(plan)
    return [task.take(part, payload, time.monotonic()) for part, payload in enumerate(payloads)]


INPUT = (Crossing("input", 8),)


@pytest.mark.parametrize("crossing", [INPUT, (Crossing("input", 3),), STEM, BOTH], ids=str)
def test_labels_are_those_of_outcomes(model, outcomes, frames, crossing):
    work, plan = work_of(model), wire(model, crossing)
    work.accept(plan)
    for sample, frame in enumerate(frames):
        payloads = sent(model, frame, crossing)
        *before, last = run(work, plan, payloads)
        expected = outcomes.predict(sample, crossing)
        assert (last.label, last.exit) == (expected.label, None)
        assert tuple(map(len, payloads)) == expected.payload_bytes
        assert all(step.label is None for step in before)


@pytest.mark.parametrize("crossing", [INPUT, STEM, BOTH], ids=str)
def test_exits_are_those_of_outcomes(model, outcomes, frames, crossing):
    known = [layer for layer in HEADS if layer not in {tensor.layer for tensor in crossing}]
    middle = float(
        np.median([outcomes.at_exit(i, known[0], crossing).confidence for i in range(SAMPLES)])
    )
    heads, left = (
        [CloudHead(layer, 0.0, middle) for layer in known],
        dict.fromkeys([*known, None], 0),
    )
    for sample, frame in enumerate(frames):
        said = {layer: outcomes.at_exit(sample, layer, crossing) for layer in known}
        last = run(work_of(model), wire(model, crossing, heads), sent(model, frame, crossing))[-1]
        early = [layer for layer in known if said[layer].confidence >= middle]
        if early:
            assert (last.label, last.exit) == (said[early[0]].label, early[0])
        else:
            assert (last.label, last.exit) == (outcomes.predict(sample, crossing).label, None)
        left[last.exit] += 1
    assert 0 < left[known[0]] < SAMPLES, "the test shows nothing"


def test_nothing_behind_an_exit_is_computed(model, frames):
    tensors = dict(model.stream(preprocess(frames[:1], 16), ("relu",)))
    end = smallest_end(model.graph, ["relu"])
    _, tail = split(model, end, HEADS)
    passed = tail.start()
    steps = passed.feeding("relu", tensors["relu"])
    assert next(steps) == "right"
    assert passed.kept("right").shape == (1, 5, 7, 7)
    with pytest.raises(CutError, match="'cat' has no result yet"):
        passed.kept("cat")
    assert next(steps) == "cat"
    assert list(steps) == []
    assert torch.equal(passed.result, model.run(preprocess(frames[:1], 16)))


def test_tensors_behind_an_exit_are_not_even_decoded(model, frames):
    end = smallest_end(model.graph, ["left"])  # right, which reads relu, is on the cloud
    crossing = (CrossingTensor("relu", 8, 0.0), CrossingTensor("left", 4, 0.0))
    always = WirePlan(0, end, crossing, (CloudHead("right", 0.0, 0.0),))
    first, _ = sent(model, frames[0], (Crossing("relu", 8), Crossing("left", 4)))
    early, last = run(work_of(model), always, [first, b"no tensor at all"])
    assert early.label is None
    assert last.exit == "right"
    with pytest.raises(CodecError):
        run(work_of(model), wire(model, BOTH), [b"no tensor at all"])


def test_plans_that_cannot_be_passedare_refused_by_what_is_wrong(model):
    work = work_of(model)
    fine = wire(model, STEM)
    with pytest.raises(GraphError, match="no layer 'nowhere'"):
        work.accept(WirePlan(0, ("input", "nowhere"), (CrossingTensor("input", 8, 0.0),)))
    with pytest.raises(CutError, match="'relu' is on the end but its inputs"):
        work.accept(WirePlan(0, ("input", "relu"), (CrossingTensor("relu", 8, 0.0),)))
    with pytest.raises(CutError, match=r"\['stem'\] are not what crosses this cut: \['relu'\]"):
        work.accept(WirePlan(0, fine.end_layers, (CrossingTensor("stem", 8, 0.0),)))
    with pytest.raises(GraphError, match=r"no exit heads behind \['left'\].*\['right', 'cat'\]"):
        work.accept(wire(model, STEM, [CloudHead("left", 0.0, 0.5)]))
    with pytest.raises(CutError, match="they are on the end"):
        work.accept(wire(model, BOTH, [CloudHead("right", 0.0, 0.5)]))
    work.accept(wire(model, STEM, [CloudHead("left", 0.0, float("inf"))]))  # it never answers


def test_a_slower_cloud_is_held_in_proportion(model, frames):
    plan, payloads = wire(model, STEM), sent(model, frames[0], STEM)
    before = torch.get_num_threads()
    try:
        slow = work_of(model, slowdown=100.0, threads=1)
        slow.accept(plan)
        assert torch.get_num_threads() == 1
        run(work_of(model), plan, payloads)  # warm
        begun_s = time.monotonic()
        (step,) = run(slow, plan, payloads)
        assert step.end_s - begun_s > 0.01  # the work itself takes 0.1 ms at least
        assert step.end_s <= time.monotonic()
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.socket
def test_a_real_stream_over_tcp_is_classified_as_outcomes_says(model, outcomes, frames):
    make = partial(live_work, WEIGHTS, CODEC, None, heads_of, Machine(threads=1))

    async def classify(port):
        end = await End().join(port)
        plans = [wire(model, cut) for cut in (INPUT, STEM, BOTH)]
        plans = [WirePlan(k, p.end_layers, p.crossing) for k, p in enumerate(plans)]
        for plan in plans:
            assert await end.register(plan) == PlanOk(plan.plan)
        for task, frame in enumerate(frames):  # the cut changes with every task
            k = task % 3
            end.send(task, plans[k], *sent(model, frame, (INPUT, STEM, BOTH)[k]))
        labels = [(await end.answer(task)).label for task in range(SAMPLES)]
        end.leave()
        await end.closed()
        return labels

    with CloudProcess(CloudSettings(fingerprint=MODEL), make, print) as process:
        labels = asyncio.run(classify(process.port))
    assert labels == [
        outcomes.predict(task, (INPUT, STEM, BOTH)[task % 3]).label for task in range(SAMPLES)
    ]


@pytest.mark.gpu
def test_labels_on_a_gpu(frames):
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    work = live_work(WEIGHTS, CODEC, None, heads_of, Machine(torch_device="cuda"))
    host = capture(WEIGHTS.load(), SPEC.input_shape)
    plan = wire(host, STEM)
    work.accept(plan)
    labels = [run(work, plan, sent(host, frame, STEM))[-1].label for frame in frames]
    expected = [run(work_of(host), plan, sent(host, frame, STEM))[-1].label for frame in frames]
    assert labels == expected
