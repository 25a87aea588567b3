"""Published latencies beside what the analytic profiles say: the evidence for their constants.

In: `conf/device`, and the figures below, each with its source. Out: the table of
docs/results/tables/devices.md, printed by `python -m coach_exp.studies.published`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from math import exp, log
from typing import TYPE_CHECKING

from coach_exp.profiling.device import DeviceSpec, analytic
from coach_exp.profiling.devices import analytic_spec
from coach_exp.results.tables import Table, markdown
from coach_exp.types.graph import LayerGraph

if TYPE_CHECKING:
    from torch.nn import Module

SPECS = (
    "tx2",
    "tx2_trt16",
    "nx",
    "nx_trt16",
    "a6000",
    "a6000_trt16",
)
PAPER_MODELS = ("resnet101", "vgg16")


@dataclass(frozen=True, slots=True)
class Published:
    """A latency that somebody measured: batch 1, 224 × 224 pixels."""

    spec: str
    model: str
    latency_s: float
    how: str
    source: str


def _rows(
    spec: str, how: str, source: str, latencies_ms: Iterable[tuple[str, float]]
) -> tuple[Published, ...]:
    return tuple(Published(spec, model, ms / 1e3, how, source) for model, ms in latencies_ms)


_CLASSIFICATION = "NVIDIA-AI-IOT/tf_to_trt_image_classification @10822955, README"
_TF_TRT = "NVIDIA-AI-IOT/tf_trt_models @9ce6130c, README"
_ART = "Juanx65/ArtTRT @a04f94a9, jetson_xavier_nx/tables_jetson_nx_new.md"
_ART_OLD = "Juanx65/ArtTRT @a04f94a9, tables_jetson_nx.md"
_V100 = "sandeepkumar-skb/pytorch_experiments, torchvision_exp/README.md"
_A100 = "docs.nvidia.com, TensorFlow quantization toolkit, model zoo"

PUBLISHED = (
    *_rows(
        "tx2",
        "TensorFlow, with copies to and from the GPU",
        _CLASSIFICATION,
        [("resnet101", 107), ("vgg16", 171), ("resnet50", 63.9), ("mobilenet_v1", 24.4)],
    ),
    *_rows(
        "tx2",
        "TensorFlow, MAX-N",
        _TF_TRT,
        [("resnet101", 91.0), ("resnet50", 55.1), ("mobilenet_v1", 17.3)],
    ),
    *_rows(
        "tx2_trt16",
        "TensorRT 3 FP16, with copies to and from the GPU",
        _CLASSIFICATION,
        [("resnet101", 29.9), ("vgg16", 38.2), ("resnet50", 15.7), ("mobilenet_v1", 12.9)],
    ),
    *_rows(
        "tx2_trt16",
        "TensorRT FP16, MAX-N",
        _TF_TRT,
        [("resnet101", 20.6), ("resnet50", 12.5), ("mobilenet_v1", 11.1)],
    ),
    *_rows("nx", "PyTorch FP32", _ART, [("resnet50", 40.4), ("resnet152", 96.2)]),
    *_rows("nx", "PyTorch FP32", _ART_OLD, [("resnet18", 17.9), ("mobilenet_v2", 14.0)]),
    *_rows("nx_trt16", "TensorRT FP16", _ART, [("resnet50", 9.8), ("resnet152", 24.7)]),
    *_rows("nx_trt16", "TensorRT FP16", _ART_OLD, [("resnet18", 7.0), ("mobilenet_v2", 5.7)]),
    *_rows("a6000", "V100, PyTorch FP32", _V100, [("resnet50", 10.4)]),
    *_rows("a6000", "A100, TensorFlow", _A100, [("resnet101", 15.9)]),
    *_rows("a6000_trt16", "V100, TensorRT FP16", _V100, [("resnet50", 1.09)]),
)


def predicted_s(model: str, spec: DeviceSpec) -> float:
    """Seconds that the profile gives for the whole model: the sum of its layers."""
    return sum(analytic(_graph(model), spec).layer_s.values())


def log_ratios(name: str, spec: DeviceSpec) -> list[float]:
    """ln(predicted / published) for each published latency that belongs to the spec `name`."""
    rows = [row for row in PUBLISHED if row.spec == name]
    return [log(predicted_s(row.model, spec) / row.latency_s) for row in rows]


def tables() -> str:
    """Predicted against published, the fit of each spec, and the paper's two models: Markdown."""
    specs = {name: analytic_spec(name) for name in SPECS}
    against = [
        (
            *(row.spec, row.model, f"{1e3 * row.latency_s:.4g}"),
            f"{1e3 * predicted_s(row.model, specs[row.spec]):.3g}",
            f"{predicted_s(row.model, specs[row.spec]) / row.latency_s:.2f}",
            *(row.how, row.source),
        )
        for row in PUBLISHED
    ]
    fits = [_fit(name, specs[name]) for name in SPECS]
    paper = [
        (name, *(f"{1e3 * predicted_s(model, specs[name]):.3g}" for model in PAPER_MODELS))
        for name in SPECS
    ]
    rows = ("profile", "model", "published ms", "predicted ms", "ratio", "how", "source")
    fit = ("profile", "rows", "geometric mean of the ratios", "worst ratio")
    models = ("profile", *(f"{model} ms" for model in PAPER_MODELS))
    return "\n".join(
        [
            markdown(Table("", rows, against, words=(0, 1, 5, 6))),
            markdown(Table("", fit, fits)),
            markdown(Table("", models, paper)),
        ]
    )


def _fit(name: str, spec: DeviceSpec) -> tuple[str, ...]:
    ratios = log_ratios(name, spec)
    mean, worst = sum(ratios) / len(ratios), max(ratios, key=abs)
    return name, str(len(ratios)), f"{exp(mean):.2f}", f"{exp(worst):.2f}"


@cache
def _graph(model: str) -> LayerGraph:
    """The model's layer graph, captured without weights."""
    import torch
    from torchvision.models import get_model

    from coach_exp.profiling.capture import capture

    with torch.device("meta"):
        built = _mobilenet_v1() if model == "mobilenet_v1" else get_model(model)
    return capture(built, (3, 224, 224)).graph


def _mobilenet_v1() -> "Module":
    """MobileNet V1 at width 1.0 (arXiv 1704.04861, Table 1), which torchvision lacks."""
    from torch import nn

    def normed(channels: int) -> list[nn.Module]:
        return [nn.BatchNorm2d(channels), nn.ReLU6()]

    channels = 32
    layers = [nn.Conv2d(3, channels, 3, 2, 1, bias=False), *normed(channels)]
    widths = [64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    for width in widths:
        stride = 2 if width == 2 * channels and width > 64 else 1
        depthwise = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
        pointwise = nn.Conv2d(channels, width, 1, bias=False)
        layers += [depthwise, *normed(channels), pointwise, *normed(width)]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000))


if __name__ == "__main__":
    print(tables(), end="")
