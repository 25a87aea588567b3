"""Early-exit heads in numbers, and where they stand."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from coach_exp.live.exit_heads import ExitHead
from coach_exp.planner.cost_model import cut_vertices
from coach_exp.planner.exit_places import exit_places
from coach_exp.profiling.capture import capture
from coach_exp.types.exits import averaged_sides, head_layers, image_shape
from coach_exp.types.graph import Layer, LayerGraph

BLOCK = Layer("block", shape=(16, 32, 12), elements=6144)
SMALL = Layer("small", shape=(3, 2, 2), elements=12)
TOKENS = Layer("tokens", shape=(5, 7), elements=35, channel_axis=1)
LAST = Layer("last", shape=(9, 10, 4), elements=360, channel_axis=2)
VECTOR = Layer("vector", shape=(11,), elements=11)
VIDEO = Layer("video", shape=(4, 3, 10, 5), elements=600, channel_axis=0)
LAYERS = (BLOCK, SMALL, TOKENS, LAST, VECTOR, VIDEO)


def head_flops(layer: Layer, classes: int) -> int:
    return sum(part.flops for part in head_layers(layer, classes))


def head_bytes(layer: Layer, classes: int) -> int:
    """What the head reads: the layer's output, what its own layers hand on, its parameters."""
    return sum(part.input_bytes + part.param_bytes for part in head_layers(layer, classes))


def test_every_output_is_an_image_of_at_most_8_by_8():
    assert [image_shape(layer) for layer in LAYERS] == [
        (16, 32, 12),
        (3, 2, 2),
        (7, 5, 1),
        (4, 9, 10),
        (11, 1, 1),
        (4, 3, 50),
    ]
    assert [averaged_sides(layer) for layer in LAYERS] == [
        (8, 8),
        (2, 2),
        (5, 1),
        (8, 8),
        (1, 1),
        (3, 8),
    ]


def test_flops_by_hand():
    # 128 channels × 64 pixels × 9 · 16 weights, and 128 × 10 scores; a MAC counts as two
    assert head_flops(BLOCK, 10) == 2 * (128 * 64 * 144 + 1280) == 2_361_856
    assert head_flops(SMALL, 2) == 2 * (128 * 4 * 27 + 256)
    assert head_flops(VECTOR, 2) == 2 * (128 * 99 + 256)


def test_bytes_by_hand():
    handed_on = 12 + 4 * 128 * 3 + 128 + 2  # to conv; norm, relu and mean; scores; confidence
    parameters = 128 * 27 + 4 * 128 + 129 * 2  # conv, norm, scores
    assert head_bytes(SMALL, 2) == 4 * (handed_on + parameters)
    averaged = sum(part.input_bytes + part.param_bytes for part in head_layers(BLOCK, 2)[1:])
    assert head_bytes(BLOCK, 2) == averaged + 4 * 6144  # the mean over 4 × 1.5 pixels reads it all


def test_only_a_larger_image_is_averaged():
    first = [head_layers(layer, 2)[0].name for layer in LAYERS]
    assert first == [
        "block/average",
        "small/conv",
        "tokens/conv",
        "last/average",
        "vector/conv",
        "video/average",
    ]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_costs_are_those_of_the_module(layer: Layer):
    head = ExitHead(layer, 6).eval()
    with FlopCounterMode(display=False) as counter:
        labels, confidences = head.answer(torch.randn(2, *layer.shape))
    assert labels.shape == confidences.shape == (2,)
    assert counter.get_total_flops() == 2 * head_flops(layer, 6)
    held = [*head.parameters(), head.norm.running_mean, head.norm.running_var]
    assert sum(part.param_bytes for part in head_layers(layer, 6)) == 4 * sum(
        tensor.numel() for tensor in held
    )


def chain(*flops: int, negative: str = "", views: str = "") -> LayerGraph:
    """in → a → b → c … with these FLOPs; the layers named in `negative` may be negative."""
    names = ["in", *"abcdefgh"[: len(flops)]]
    layers = [Layer("in", kind="input")]
    for before, name, count in zip(names, names[1:], flops, strict=False):
        kind = "view" if name in views else "conv"
        non_negative = name not in negative
        layers.append(Layer(name, (before,), 1, (), kind, count, non_negative=non_negative))
    return LayerGraph.of(layers)


def test_places_are_nearest_to_equal_shares():
    graph = chain(10, 20, 10, 10, 30, 20)  # done: a 10, b 30, c 40, d 50, e 80, f 100 (the sink)
    assert exit_places(graph, 1) == ("d",)  # 50
    assert exit_places(graph, 2) == ("b", "e")  # 33, 67
    assert exit_places(graph, 3) == ("b", "d", "e")  # 25, 50, 75
    assert exit_places(graph, 0) == ()
    assert exit_places(graph) == ("a", "b", "c", "d", "e")  # no more than there are


def test_of_equally_near_places_the_earlier_and_none_twice():
    assert exit_places(chain(40, 20, 40), 1) == ("a",)  # 40 and 60 are as near to 50
    assert exit_places(chain(10, 10, 10, 70, 0), 2) == ("c", "d")  # 33: 30; 67: 100 after all
    assert exit_places(chain(10, 10, 30, 50), 3) == ("a", "b", "c")  # 25: 20, 50: 50, 75: 10


def test_negative_outputs_and_views_are_no_places_where_there_are_others():
    assert exit_places(chain(10, 40, 10, 40, negative="bd"), 3) == ("a", "c")
    assert exit_places(chain(10, 40, 10, 40, negative="abcd"), 3) == ("a", "b", "c")
    assert exit_places(chain(10, 40, 10, 40, views="b"), 3) == ("a", "c")


def test_branches_are_no_places():
    #       ┌ left ─┐
    #   in ─┤       ├ add ─ out
    #       └ right ┘
    both = [Layer(name, ("in",), 1, (), "conv", 5) for name in ("left", "right")]
    rest = [Layer("add", ("left", "right"), 1), Layer("out", ("add",), 1, (), "linear", 5)]
    assert exit_places(LayerGraph.of([Layer("in", kind="input"), *both, *rest])) == ("add",)


def test_layers_are_counted_where_no_flops_are_known():
    assert exit_places(chain(0, 0, 0, 0, 0, 0, 0, 0), 3) == ("b", "d", "f")


def test_resnet101_exits_behind_blocks_all_along_it():
    with torch.device("meta"):
        graph = capture(models.resnet101(), (3, 224, 224)).graph
    places = exit_places(graph)
    blocks = {graph.layers[i].name for i in cut_vertices(graph) if graph.layers[i].non_negative}
    assert len(places) == 6
    assert set(places) <= blocks
    total = sum(layer.flops for layer in graph.layers)
    done = [sum(layer.flops for layer in graph.layers[: graph.position(p) + 1]) for p in places]
    shares = [count / total for count in done]
    assert shares == pytest.approx([k / 7 for k in range(1, 7)], abs=0.02)  # a block has 3 %


def test_a_head_reads_tokens_along_the_channel_axis():
    head = ExitHead(TOKENS, 2).eval()
    nn.init.constant_(head.conv.weight, 0.0)
    head.conv.weight.data[:, 3, 1, 1] = 1.0  # every channel of the head is channel 3 of the tokens
    nn.init.constant_(head.scores.weight, 1 / 128)
    nn.init.zeros_(head.scores.bias)
    x = torch.rand(4, *TOKENS.shape)
    expected = x[:, :, 3].mean(dim=1) / (1 + head.norm.eps) ** 0.5
    with torch.no_grad():
        assert head(x)[:, 0].tolist() == pytest.approx(expected.tolist(), rel=1e-5)
