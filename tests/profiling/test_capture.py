"""Capture: the graph is the model's, and head and tail of any cut give its scores bit by bit."""

import gc
import random
import weakref
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models
from torchvision.models.maxvit import MaxVit

from coach_exp.profiling.capture import CapturedModel, capture, smallest_end, split
from coach_exp.types.errors import CaptureError, CutError
from coach_exp.types.graph import LayerGraph


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


class Diamond(nn.Module):
    """
    ┌ light ┐
    conv ─ ┤       ├─ add ─ pool ─ fc        all activations in place
    └ heavy ┘
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.light = nn.Conv2d(4, 4, 1)
        self.heavy = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv(x))
        y = self.relu(self.light(x))
        z = self.heavy(x).sigmoid_()
        y += z
        return self.fc(self.pool(y).flatten(1))


def diamond() -> CapturedModel:
    return capture(Diamond(), (3, 8, 8))


def randomised(model: nn.Module) -> nn.Module:
    """With batch-norm statistics that are not trivial."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(0, 0.1)
    return model.eval()


def some_end_set(graph: LayerGraph, rng: random.Random) -> list[str]:
    """A random closed set in a random topological order."""
    waiting = [len(sources) for sources in graph.predecessors]
    ready, order = [0], list[str]()
    size = rng.randint(1, len(graph))
    while ready and len(order) < size:
        i = ready.pop(rng.randrange(len(ready)))
        order.append(graph.layers[i].name)
        for successor in graph.successors[i]:
            waiting[successor] -= 1
            if waiting[successor] == 0:
                ready.append(successor)
    return order


def over_a_wire(tensor: Tensor) -> Tensor:
    """The tensor as another process would build it: same values, plain memory layout."""
    return torch.from_numpy(np.array(tensor.numpy(), order="C"))


def cut_scores(captured: CapturedModel, end: list[str], x: Tensor, rng: random.Random) -> Tensor:
    head, tail = split(captured, end)
    at_end, at_cloud = head.run(x), tail.start()
    sent = [(layer, over_a_wire(tensor)) for layer, tensor in at_end]
    assert tuple(layer for layer, _ in sent) == head.crossing == tail.crossing
    rng.shuffle(sent)
    for layer, tensor in sent:
        at_cloud.feed(layer, tensor)
    return at_cloud.result if at_end.result is None else at_end.result


CLASSIFIERS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "googlenet": (lambda: models.googlenet(init_weights=False, aux_logits=False), 64),
    "inception_v3": (lambda: models.inception_v3(init_weights=False, aux_logits=False), 96),
    "vit_b_16": (lambda: models.vit_b_16(image_size=64), 64),
    "maxvit": (
        lambda: MaxVit(
            input_size=(64, 64),
            stem_channels=16,
            partition_size=2,
            block_channels=[16, 32],
            block_layers=[1, 1],
            head_dim=8,
            stochastic_depth_prob=0.1,
        ),
        64,
    ),
    **{
        build.__name__: (build, 64)
        for build in (
            models.alexnet,
            models.vgg11_bn,
            models.resnet18,
            models.resnet50,
            models.densenet121,
            models.shufflenet_v2_x0_5,
            models.squeezenet1_1,
            models.mobilenet_v2,
            models.mobilenet_v3_small,
            models.efficientnet_b0,
            models.regnet_y_400mf,
            models.mnasnet0_5,
            models.convnext_tiny,
            models.swin_t,
            models.swin_v2_t,
        )
    },
}


def _few_at_once(names: Iterable[str]) -> Iterator[object]:
    """All classifiers, of which those that are alike, or large, take their turn with the slow."""
    for name in names:
        usual = name in ("googlenet", "resnet18", "mobilenet_v2", "shufflenet_v2_x0_5")
        yield pytest.param(name, marks=() if usual else pytest.mark.slow)


@pytest.mark.parametrize("name", list(_few_at_once(CLASSIFIERS)))
def test_every_cut_of_a_classifier_gives_its_scores_to_the_last_bit(name: str) -> None:
    build, size = CLASSIFIERS[name]
    model = randomised(build())
    captured = capture(model, (3, size, size))
    x = torch.randn(2, 3, size, size)
    rng = random.Random(name)
    with torch.no_grad():
        expected = model(x)
    assert torch.equal(captured.run(x), expected)
    for _ in range(5):
        end = some_end_set(captured.graph, rng)
        assert torch.equal(cut_scores(captured, end, x, rng), expected), end
    flops = sum(layer.flops for layer in captured.graph.layers)
    with (
        torch.enable_grad(),  # the fused attention of inference hides its products from the counter
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        model(x[:1])
    assert flops == counter.get_total_flops()
    for layer, tensor in captured.stream(x, [layer.name for layer in captured.graph.layers]):
        assert tuple(tensor.shape) == (2, *captured.graph[layer].shape)
        assert not captured.graph[layer].non_negative or tensor.min() >= 0, layer


def test_the_graph_of_a_small_model_can_be_checked_by_hand() -> None:
    graph = diamond().graph
    assert [(layer.name, layer.inputs, layer.kind) for layer in graph.layers] == [
        ("input", (), "input"),
        ("conv", ("input",), "conv"),
        ("relu", ("conv",), "activation"),
        ("light", ("relu",), "conv"),
        ("relu_1", ("light",), "activation"),
        ("heavy", ("relu",), "depthwise"),
        ("sigmoid", ("heavy",), "activation"),
        ("add", ("relu_1", "sigmoid"), "elementwise"),
        ("pool", ("add",), "pool"),
        ("flatten", ("pool",), "view"),
        ("fc", ("flatten",), "linear"),
    ]
    conv = graph["conv"]
    assert (conv.shape, conv.elements) == ((4, 8, 8), 256)
    assert conv.flops == 2 * 256 * 27
    assert conv.param_bytes == 4 * (4 * 27 + 4)
    assert conv.input_bytes == 4 * 3 * 64
    assert graph["heavy"].flops == 2 * 256 * 9
    assert graph["fc"].flops == 2 * 4 * 5
    assert graph["relu"].flops == graph["flatten"].flops == graph["add"].flops == 0
    assert graph["add"].input_bytes == 2 * 4 * 256
    non_negative = {layer.name for layer in graph.layers if layer.non_negative}
    assert non_negative == {"relu", "relu_1", "sigmoid", "add", "pool", "flatten"}


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "swin_t"])
def test_a_model_without_values_has_the_same_graph(name: str) -> None:
    with torch.device("meta"):
        without = models.get_model(name)
    assert capture(without, (3, 64, 64)).graph == capture(models.get_model(name), (3, 64, 64)).graph


def test_the_users_model_is_left_as_it_is() -> None:
    model = Diamond().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    captured = capture(model, (3, 8, 8))
    assert model.relu.inplace
    assert model.training
    assert not captured.module.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_an_in_place_call_does_not_overwrite_a_crossing_tensor() -> None:
    captured = diamond()
    x = torch.randn(1, 3, 8, 8)
    head, _ = split(captured, ["input", "conv", "relu", "light", "relu_1"])
    sent = dict(head.run(x))
    assert list(sent) == ["relu", "relu_1"]
    light = captured.features(x, ["light"])["light"]
    assert light.min() < 0
    assert torch.equal(sent["relu_1"], light.relu())


def test_in_place_functions_and_operators_keep_their_meaning() -> None:
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x * 2
            torch.relu_(y)  # the result is unused: y itself has changed
            z = functional.relu(y - 0.5, inplace=True)
            z.mul_(3)
            return (y + z).mean((2, 3))

    captured = capture(InPlace(), (3, 4, 4))
    x = torch.randn(1, 3, 4, 4)
    assert torch.equal(captured.run(x), InPlace()(x))
    names = [layer.name for layer in captured.graph.layers]
    assert names == ["input", "mul", "relu", "sub", "relu_1", "mul_1", "add", "mean"]


def test_each_side_computes_only_its_own_layers() -> None:
    captured = diamond()
    calls = list[str]()
    for name, module in captured.module.named_modules():
        module.register_forward_hook(lambda *_, name=name: calls.append(name))
    head, tail = split(captured, ["input", "conv", "relu", "heavy"])
    sent = dict(head.run(torch.randn(1, 3, 8, 8)))
    assert calls == ["conv", "relu", "heavy"]
    calls.clear()
    run = tail.start()
    run.feed("relu", sent["relu"])
    assert calls == ["light", "relu"]
    assert run.missing == ("heavy",)
    run.feed("heavy", sent["heavy"])
    assert calls == ["light", "relu", "pool", "fc"]
    calls.clear()
    captured.features(torch.randn(1, 3, 8, 8), ["light"])
    assert calls == ["conv", "relu", "light"]


def test_a_tensor_is_sent_before_the_next_end_layer_is_computed() -> None:
    captured = diamond()
    calls = list[str]()
    captured.module.get_submodule("heavy").register_forward_hook(lambda *_: calls.append("heavy"))
    head, _ = split(captured, ["input", "conv", "relu", "heavy"])
    stream = iter(head.run(torch.randn(1, 3, 8, 8)))
    assert next(stream)[0] == "relu"
    assert calls == []
    assert next(stream)[0] == "heavy"


@pytest.mark.slow
def test_tensors_are_dropped_after_their_last_use() -> None:
    captured = diamond()
    head, tail = split(captured, ["input", "conv", "relu"])
    x = torch.randn(1, 3, 8, 8)
    stream = iter(head.run(x))
    _, tensor = next(stream)
    image = weakref.ref(x)
    del x
    gc.collect()
    assert image() is None
    run, crossing = tail.start(), weakref.ref(tensor)
    run.feed("relu", tensor)
    del tensor
    gc.collect()
    assert crossing() is None
    assert run.result.shape == (1, 5)


def test_results_in_between_can_be_kept_on_the_cloud() -> None:
    captured = diamond()
    x = torch.randn(2, 3, 8, 8)
    expected = captured.features(x, ["relu_1", "light", "pool"])
    head, tail = split(captured, ["input", "conv", "relu", "heavy"], kept=["light", "pool"])
    run, sent = tail.start(), dict(head.run(x))
    run.feed("relu", sent["relu"])
    assert torch.equal(run.kept("light"), expected["light"])
    with pytest.raises(CutError, match=r"'pool' has no result yet: it waits for \['heavy'\]"):
        run.kept("pool")
    run.feed("heavy", sent["heavy"])
    assert torch.equal(run.kept("light"), expected["light"])
    assert torch.equal(run.kept("pool"), expected["pool"])
    assert torch.equal(run.result, captured.run(x))
    with pytest.raises(CutError, match=r"'relu_1' is not kept .*\['light', 'pool'\] are"):
        run.kept("relu_1")


def test_what_is_on_the_end_cannot_be_kept_on_the_cloud() -> None:
    with pytest.raises(CutError, match=r"\['conv'\] are to be kept on the cloud"):
        split(diamond(), ["input", "conv", "relu"], kept=["conv", "pool"])


def test_device_only_sends_nothing_and_cloud_only_sends_the_input() -> None:
    captured = diamond()
    x = torch.randn(2, 3, 8, 8)
    head, tail = split(captured, [layer.name for layer in captured.graph.layers])
    run = head.run(x)
    assert run.result is None
    assert list(run) == []
    assert torch.equal(run.result, captured.run(x))
    with pytest.raises(CutError, match=r"nothing crosses this cut"):
        _ = tail.start().result
    head, tail = split(captured, ["input"])
    ((layer, tensor),) = head.run(x)
    assert layer == "input"
    assert tensor is x


def test_several_tasks_may_be_in_progress() -> None:
    captured = diamond()
    head, tail = split(captured, ["input", "conv", "relu", "light"])
    xs = [torch.randn(batch, 3, 8, 8) for batch in (1, 3)]
    runs = [tail.start() for _ in xs]
    for tensors in zip(*(head.run(x) for x in xs), strict=True):
        for run, (layer, tensor) in zip(runs, tensors, strict=True):
            run.feed(layer, tensor)
    for x, run in zip(xs, runs, strict=True):
        assert torch.equal(run.result, captured.run(x))


def test_sizes_are_numbers_so_they_never_cross() -> None:
    class Sized(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            batch, channels, height, width = x.shape
            y = x.flatten(1).relu()
            return y.view(batch, channels, height * width).sum(2) / x.size(2)

    captured = capture(Sized(), (3, 4, 6))
    head, _ = split(captured, ["input", "flatten", "relu"])
    assert head.crossing == ("relu",)
    x = torch.randn(5, 3, 4, 6)
    assert torch.equal(captured.run(x), Sized()(x))


def test_tuples_and_masks_are_made_where_they_are_read() -> None:
    class Chunked(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            left, right = x.chunk(2, dim=1)
            mask = left > 0
            return torch.where(mask, left * 2, right).mean((2, 3))

    captured = capture(Chunked(), (4, 3, 3))
    assert [(layer.name, layer.inputs) for layer in captured.graph.layers] == [
        ("input", ()),
        ("getitem", ("input",)),
        ("getitem_1", ("input",)),
        ("mul", ("getitem",)),
        ("where", ("getitem", "getitem_1", "mul")),
        ("mean", ("where",)),
    ]
    x, rng = torch.randn(2, 4, 3, 3), random.Random(0)
    for _ in range(20):
        end = some_end_set(captured.graph, rng)
        assert torch.equal(cut_scores(captured, end, x, rng), Chunked()(x))


def test_parameters_used_outside_modules_are_on_both_sides() -> None:
    class Token(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.randn(1, 1, 3))
            self.mix = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)
            return (self.mix(tokens) + self.token)[:, 0]

    captured = capture(Token(), (2, 3))
    names = [layer.name for layer in captured.graph.layers]
    assert names == ["input", "cat", "mix", "add", "getitem"]
    assert captured.graph["cat"].param_bytes == 4 * 3
    x = torch.randn(4, 2, 3)
    assert torch.equal(cut_scores(captured, ["input", "cat"], x, random.Random(0)), captured.run(x))


def test_a_crossing_tensor_has_the_batch_first_whatever_the_model_does() -> None:
    class Folded(nn.Module):
        """Folds rows into the batch, then moves the batch to the second axis."""

        def forward(self, x: Tensor) -> Tensor:
            n, c, h, w = x.shape
            rows = x.permute(0, 2, 3, 1).reshape(n * h, w, c).relu()
            swapped = rows.transpose(0, 1) * 2
            return swapped.transpose(0, 1).reshape(n, -1)[:, :7]

    captured = capture(Folded(), (3, 4, 5))
    x, rng = torch.randn(2, 3, 4, 5), random.Random(0)
    for layer, shape in [("reshape", (4, 5, 3)), ("relu", (4, 5, 3)), ("mul", (4, 5, 3))]:
        assert captured.graph[layer].shape == shape
        both = captured.features(x, [layer])[layer]
        assert both.shape == (2, *shape)
        assert torch.equal(both[1:], captured.features(x[1:], [layer])[layer])
    for _ in range(20):
        end = some_end_set(captured.graph, rng)
        assert torch.equal(cut_scores(captured, end, x, rng), Folded()(x))


def test_a_crossing_tensor_regains_its_memory_layout() -> None:
    class Permuted(nn.Module):
        """`view` succeeds only where the permuted tensor kept its layout."""

        def forward(self, x: Tensor) -> Tensor:
            last = x.relu().permute(0, 2, 3, 1)
            return last.permute(0, 3, 1, 2).view(x.shape[0], -1)

    captured = capture(Permuted(), (3, 4, 5))
    x = torch.randn(2, 3, 4, 5)
    end = ["input", "relu", "permute"]
    assert torch.equal(cut_scores(captured, end, x, random.Random(0)), Permuted()(x))


def test_weights_loaded_after_capture_are_used() -> None:
    captured, other = diamond(), Diamond().eval()
    captured.module.load_state_dict(other.state_dict())
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(captured.run(x), other(x))


def test_forward_may_have_optional_arguments() -> None:
    class Masked(nn.Module):
        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            return (x if mask is None else x * mask).mean((2, 3))

    assert [layer.name for layer in capture(Masked(), (3, 4, 4)).graph.layers] == ["input", "mean"]


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x.relu()
        return x * 2


class Wrapping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Branching()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x * 2).mean((2, 3))


def test_what_cannot_be_traced_is_named_with_its_line_and_the_way_out() -> None:
    with pytest.raises(
        CaptureError, match=r"test_capture\.py:\d+, in the line \"if x\.sum\(\) > 0:"
    ):
        capture(Wrapping(), (3, 4, 4))
    with pytest.raises(CaptureError, match=r"name it in `leaves`.*torch\.fx\.wrap.*model=dag_file"):
        capture(Wrapping(), (3, 4, 4))


@pytest.mark.parametrize("leaf", ["inner", "Branching"])
def test_a_leaf_is_one_layer(leaf: str) -> None:
    captured = capture(Wrapping(), (3, 4, 4), leaves=[leaf])
    assert [layer.name for layer in captured.graph.layers] == ["input", "mul", "inner", "mean"]


def test_an_unknown_leaf_is_refused() -> None:
    with pytest.raises(CaptureError, match=r"leaves \['outer'\] name no submodule of Wrapping"):
        capture(Wrapping(), (3, 4, 4), leaves=["outer"])


class TwoInputs(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class Dictionary(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"scores": x.mean((2, 3))}


class Labels(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)).argmax(1)


class Ignoring(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(1, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.scores.expand(x.shape[0], -1)


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) + torch.rand(3)


class ThroughAView(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x * 2
        y[:, :2].add_(1)
        return y.mean((2, 3))


class NoTwin(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x * 2
        return y.copy_(x).mean((2, 3))


class ValueAsNumber(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) * x.max().item()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (TwoInputs(), r"requires \['x', 'y'\], but a model is called with one tensor"),
        (Dictionary(), r"Dictionary returns a dict, not a tensor of scores"),
        (Labels(), r"returns argmax, not one tensor of scores .* row per task"),
        (Ignoring(), r"returns expand, not one tensor of scores that depends on the input"),
        (Noisy(), r"random in eval mode"),
        (ThroughAView(), r"writes in place through a view"),
        (NoTwin(), r"'copy_' \(copy_\) writes into its input"),
        (ValueAsNumber(), r"'item' \(item\) is .* may depend on its shape alone"),
        (nn.Conv2d(4, 2, 1), r"fails on an input of shape \(3, 3, 4, 4\)"),
    ],
)
def test_what_cannot_be_captured_is_refused_with_its_reason(model: nn.Module, words: str) -> None:
    with pytest.raises(CaptureError, match=words):
        capture(model, (3, 4, 4))


def test_a_model_that_fails_names_its_line() -> None:
    with pytest.raises(
        CaptureError, match=r"at .*test_capture\.py:\d+, in the line \"x = self\.relu"
    ):
        capture(Diamond(), (1, 8, 8))


def test_another_input_shape_is_refused() -> None:
    with pytest.raises(
        CaptureError, match=r"captured for tasks of shape \(3, 8, 8\), not .* \(1, 3, 9, 9\)"
    ):
        diamond().run(torch.randn(1, 3, 9, 9))


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (["conv"], r"lacks the input"),
        (["input", "relu"], r"'relu' is on the end but its inputs \['conv'\]"),
        (["input", "relu", "conv"], r"'relu' is run before its inputs \['conv'\]"),
        (["input", "conv", "conv"], r"stands twice"),
    ],
)
def test_a_cut_that_cannot_be_run_is_refused(end: list[str], words: str) -> None:
    with pytest.raises(CutError, match=words):
        split(diamond(), end)


def test_a_tensor_that_does_not_belong_to_the_cut_is_refused() -> None:
    head, tail = split(diamond(), ["input", "conv", "relu", "light"])
    sent = dict(head.run(torch.randn(2, 3, 8, 8)))
    run = tail.start()
    with pytest.raises(CutError, match=r"'heavy' does not cross this cut.*\['relu', 'light'\]"):
        run.feed("heavy", sent["relu"])
    with pytest.raises(CutError, match=r"waits for \['relu', 'light'\]"):
        _ = run.result
    with pytest.raises(CutError, match=r"'relu' arrived as \(2, 256\), not as \(batch, 4, 8, 8\)"):
        run.feed("relu", sent["relu"].flatten(1))
    run.feed("relu", sent["relu"])
    with pytest.raises(CutError, match=r"'relu' has arrived already"):
        run.feed("relu", sent["relu"])
    with pytest.raises(CutError, match=r"'light' arrived as \(1, 4, 8, 8\), not as \(2, 4, 8, 8\)"):
        run.feed("light", sent["light"][:1])


def test_the_crossing_tensors_determine_the_smallest_end() -> None:
    graph = diamond().graph
    assert smallest_end(graph, ["relu", "light"]) == ("input", "conv", "relu", "light")
    rng = random.Random(1)
    for _ in range(50):
        held = graph.end_set(some_end_set(graph, rng))
        crossing = graph.crossing(held)
        if not crossing:
            continue
        smallest = graph.end_set(smallest_end(graph, [graph.layers[i].name for i in crossing]))
        assert smallest <= held
        assert graph.crossing(smallest) == crossing


def test_a_wrapped_function_is_one_layer() -> None:
    captured = capture(Wrapped(), (3, 4, 4))
    assert [layer.name for layer in captured.graph.layers] == ["input", "brighten", "mean"]


def brighten(x: Tensor) -> Tensor:
    return x * 2 if x.shape[0] else x


fx.wrap("brighten")


class Wrapped(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return brighten(x).mean((2, 3))
