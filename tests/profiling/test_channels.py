"""The channel axis of every layer: small modules rule by rule, then torchvision's own."""

import re

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models
from torchvision.models.maxvit import MaxVit

from coach_exp.profiling.capture import CapturedModel, capture
from coach_exp.quant.affine import UniformAffine


def captured(model: nn.Module, *shape: int) -> CapturedModel:
    return capture(model, shape)


def axes(model: nn.Module, *shape: int) -> dict[str, int]:
    """Channel axis of each layer but the input."""
    return {layer.name: layer.channel_axis for layer in captured(model, *shape).graph.layers[1:]}


class ChannelsLast(nn.Module):
    """ConvNeXt's block: height and width stay 5 and 6, channels go 3 → 4 → 8 → 4."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.norm = nn.LayerNorm(4)
        self.wide = nn.Linear(4, 8)
        self.act = nn.GELU()
        self.narrow = nn.Linear(8, 4)
        self.scale = nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        y = self.norm(x.permute(0, 2, 3, 1))
        y = self.narrow(self.act(self.wide(y))).permute(0, 3, 1, 2)
        return (x + self.scale * y).mean((2, 3))


def test_a_permutation_moves_the_channels_and_back() -> None:
    graph = captured(ChannelsLast(), 3, 5, 6).graph
    assert [(layer.name, layer.shape, layer.channel_axis) for layer in graph.layers] == [
        ("input", (3, 5, 6), 0),
        ("conv", (4, 5, 6), 0),
        ("permute", (5, 6, 4), 2),
        ("norm", (5, 6, 4), 2),
        ("wide", (5, 6, 8), 2),
        ("act", (5, 6, 8), 2),
        ("narrow", (5, 6, 4), 2),
        ("permute_1", (4, 5, 6), 0),
        ("mul", (4, 5, 6), 0),
        ("add", (4, 5, 6), 0),
        ("mean", (4,), 0),
    ]
    assert [layer.channels for layer in graph.layers] == [3, 4, 4, 4, 8, 8, 4, 4, 4, 4, 4]
    assert [layer.rows for layer in graph.layers] == [3, 4, 5, 5, 5, 5, 5, 4, 4, 4, 4]


class Attention(nn.Module):
    """Tokens of 4 channels in 2 heads, by hand and by torch's own module."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 4, 2, 2)
        self.token = nn.Parameter(torch.zeros(1, 1, 4))
        self.qkv = nn.Linear(4, 12)
        self.own = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)
        q, k, v = self.qkv(x).reshape(x.shape[0], 10, 3, 2, 2).permute(2, 0, 3, 1, 4).unbind()
        seen = (q @ k.mT).softmax(-1) @ v
        x = x + seen.transpose(1, 2).reshape(x.shape[0], 10, 4)
        x = functional.layer_norm(x, (4,))
        return self.own(x, x, x, need_weights=False)[0][:, 0]


def test_attention_keeps_its_channels_last() -> None:
    assert axes(Attention(), 3, 6, 6) == {
        "patches": 0,  # [4, 3, 3]
        "flatten": 0,  # [4, 9]
        "transpose": 1,  # [9, 4]
        "cat": 1,
        "qkv": 1,  # [10, 12]
        "reshape": 3,  # [10, 3, 2, 2]: of 3 × heads × channels, the innermost
        "permute": 3,  # [3, 2, 10, 2]
        "getitem": 2,  # q, k and v: [2, 10, 2]
        "getitem_1": 2,
        "getitem_2": 2,
        "getattr": 1,
        "matmul": 2,  # [2, 10, 10]
        "softmax": 2,
        "matmul_1": 2,  # [2, 10, 2]
        "transpose_1": 2,  # [10, 2, 2]
        "reshape_1": 1,  # [10, 4]
        "add": 1,
        "layer_norm": 1,
        "getitem_3": 1,
        "getitem_4": 0,  # [4]
    }


class Reshaped(nn.Module):
    """[6, 4, 5] grouped, shuffled, flattened."""

    def forward(self, x: Tensor) -> Tensor:
        groups = x.view(x.shape[0], 2, 3, 4, 5)  # [2, 3, 4, 5]: 3 in each of 2 groups
        shuffled = groups.transpose(1, 2).contiguous().view(x.shape[0], 6, 4, 5)
        last = shuffled.permute(0, 2, 3, 1).reshape(x.shape[0], 20, 6)
        left, _ = last[:, ::2].chunk(2, dim=2)
        return left.unsqueeze(1).squeeze(1).flatten(1)


def test_reshaping_is_followed_through_memory() -> None:
    assert axes(Reshaped(), 6, 4, 5) == {
        "view": 1,
        "transpose": 0,
        "contiguous": 0,
        "view_1": 0,
        "permute": 2,
        "reshape": 1,
        "getitem": 1,
        "getitem_1": 1,
        "unsqueeze": 2,
        "squeeze": 1,
        "flatten": 0,
    }


class Joined(nn.Module):
    """Branches of 2 and 3 channels, squeezed and excited; the channels' mean has none."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(5)
        self.pool = nn.MaxPool2d(2)
        self.gate = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.norm(torch.cat([self.left(x), self.right(x)], dim=1)))
        x = self.gate(x).sigmoid() * x
        both = torch.stack([x, -x], dim=1).amax(dim=1)
        return (both * x.mean(dim=1, keepdim=True)).flatten(2).mean(-1)


def test_what_keeps_the_axes_keeps_the_channels() -> None:
    found = axes(Joined(), 3, 4, 4)
    assert found.pop("stack") == 1  # [2, 5, 2, 2]
    assert found.keys() >= {"cat", "norm", "pool", "gate", "sigmoid", "mul", "amax", "flatten"}
    assert set(found.values()) == {0}


class Windows(nn.Module):
    """[4, 4, 6] cut into 2 × 2 windows along the batch, as Swin does."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 6, 1)
        self.mix = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        x = self.embed(x).permute(0, 2, 3, 1).view(n, 2, 2, 2, 2, 6).permute(0, 1, 3, 2, 4, 5)
        x = self.mix(x.reshape(n * 4, 4, 6))
        return x.view(n, 4, 4, 6).mean((1, 2))


def test_windows_in_the_batch_are_an_axis_of_the_task() -> None:
    graph = captured(Windows(), 3, 4, 4).graph
    assert [(graph[name].shape, graph[name].channel_axis) for name in ("reshape", "mix")] == [
        ((4, 4, 6), 2),
        ((4, 4, 6), 2),
    ]
    assert graph["permute_1"].channel_axis == 4
    assert graph["mean"].channel_axis == 0


class Unknown(nn.Module):
    """The colours one by one, as torchvision's Inception takes them apart."""

    def forward(self, x: Tensor) -> Tensor:
        red, green = x[:, 0], x[:, 1]
        x = torch.cat([red.unsqueeze(1) * 2, green.unsqueeze(1)], dim=1)
        return x.mean((2, 3))


def test_a_tensor_without_channels_counts_as_usual() -> None:
    assert axes(Unknown(), 3, 4, 5) == {
        "getitem": 1,  # [4, 5] for all one can tell is [tokens, channels]
        "getitem_1": 1,
        "unsqueeze": 0,
        "mul": 0,
        "unsqueeze_1": 0,
        "cat": 0,
        "mean": 0,
    }


LAST = {  # layers of these models whose channels are last, besides layer norms and linear ones
    "resnet18": r"nothing",
    "convnext_tiny": (  # inside a block, and around the norm that torchvision applies channels-last
        r".*\.block\.(1\.permute|[2345])|.*\.permute|.*\.layer_norm|classifier\.0\.permute"
    ),
    "vit_b_16": r"permute|cat|encoder\..*",  # tokens
    "swin_t": r"features\.(?!0\.0).*|norm",  # all from behind the first convolution to the norm
    "maxvit": (  # tokens from cutting into partitions to joining them
        r".*(window|grid)_attention\.(?!(partition_op\.reshape|departition_op\.(permute|reshape_1))$).*"
    ),
}
FIRST = {"convnext_tiny": r".*\.permute_1|.*\.block\.6\.permute"}


def small_maxvit() -> nn.Module:
    """The blocks of maxvit_t, fewer of them: the whole takes seconds."""
    return MaxVit(
        input_size=(64, 64),
        stem_channels=16,
        partition_size=2,
        block_channels=[16, 32],
        block_layers=[1, 1],
        head_dim=8,
        stochastic_depth_prob=0.1,
    )


@pytest.mark.parametrize("name", LAST)
def test_the_channels_of_torchvision_models_are_where_a_person_would_name_them(name: str) -> None:
    """Channels are first in what convolutions and batch norms give and last in what layer norms and
    linear layers give; in between they are last where `LAST` says so. One axis: that one.
    """
    size = 64 if name == "maxvit" else 224
    with torch.device("meta"):
        model = small_maxvit() if name == "maxvit" else models.get_model(name)
    modules = dict(model.named_modules())
    for layer in captured(model, 3, size, size).graph.layers:
        module = modules.get(layer.name)
        last = re.fullmatch(LAST[name], layer.name) and not re.fullmatch(
            FIRST.get(name, "nothing"), layer.name
        )
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            assert not last
        if isinstance(module, nn.LayerNorm | nn.Linear):
            last = True
        assert layer.channel_axis == (len(layer.shape) - 1 if last else 0), layer


@pytest.mark.parametrize("bits", [4, 16])
@pytest.mark.parametrize("per_channel", [False, True])
def test_what_a_layer_is_expected_to_send_is_what_it_sends(bits: int, per_channel: bool) -> None:
    codec, model = UniformAffine(per_channel=per_channel), captured(ChannelsLast(), 3, 5, 6)
    names = [layer.name for layer in model.graph.layers]
    for name, (tensor,) in model.stream(torch.randn(1, 3, 5, 6), names):
        layer = model.graph[name]
        expected = codec.expected_bytes(layer.elements, bits, layer.rows)
        assert expected == len(codec.encode(tensor.numpy(), bits)), name
