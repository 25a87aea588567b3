"""Q(v) along the model: the fewest bits at boundary after boundary.

In: a trained model. Out: `precision.md`, a line for each boundary: the width searched on the
calibration split, judged on the stream split, whose videos the search never saw.
"""

from dataclasses import dataclass

import numpy as np

from coach_exp.jobs.job import Job
from coach_exp.jobs.keep import keep
from coach_exp.planner.cost_model import boundaries
from coach_exp.quant.precision import SearchedBits
from coach_exp.quant.sizes import mean_bytes
from coach_exp.quant.widths import SearchedPrecision
from coach_exp.results.findings import Findings, Table
from coach_exp.results.metrics import Estimate, drop
from coach_exp.setup.builder import Builder
from coach_exp.types.errors import ConfigError
from coach_exp.types.outcomes import Crossing

HEADS = ("cut behind", "layers on the end", "bits", "KiB", "loss on calib", "loss on stream")


@dataclass(frozen=True)
class Precision:
    """As many boundaries as `precision.cuts` says."""

    def __call__(self, job: Job) -> float | None:
        """Returns the mean width in bits."""
        builder, given = job.builder(), job.config.precision
        bits = builder.bits(builder.graph.input.name)
        if not isinstance(bits, SearchedBits) or not isinstance(given, SearchedPrecision):
            raise ConfigError(
                "job=precision searches widths through a trained model; "
                "use precision=search, a torch model, and weights other than none"
            )
        return keep(job, "precision", lambda work: _findings(builder, bits, given.cuts, job))


@dataclass(frozen=True)
class _Width:
    """What one boundary needs and loses, in points."""

    layer: str
    layers: int
    bits: int
    size_bytes: float
    calib_loss_points: float
    stream_loss_points: Estimate


def _findings(builder: Builder, bits: SearchedBits, cuts: int, job: Job) -> Findings:
    graph, stream = builder.graph, builder.answers("stream")
    truth = np.array([stream.true_label(i) for i in range(stream.samples)])
    uncut = np.array([stream.uncut(i) for i in range(stream.samples)]) == truth
    places, widths = boundaries(graph, cuts), []
    for place in places:
        layer = graph.layers[place].name
        bits.settle([layer])
        sent = (Crossing(layer, bits.bits(layer)),)
        labels = np.array([stream.predict(i, sent).label for i in range(stream.samples)])
        widths.append(
            _Width(
                layer=layer,
                layers=place + 1,
                bits=sent[0].bits,
                size_bytes=mean_bytes(stream, sent, graph, builder.codec)[layer],
                calib_loss_points=bits.loss_points(sent),
                stream_loss_points=drop(uncut, labels == truth).scaled(100),
            )
        )
        job.display.progress("searching widths", len(widths), len(places))
    title = (
        f"fewest bits that lose at most {bits.limit_points} points on calib; "
        f"uncut accuracy on stream {100 * uncut.mean():.2f} %"
    )
    mean_bits = float(np.mean([width.bits for width in widths]))
    return Findings(
        name="precision",
        tables=(Table(title, HEADS, [_row(width, len(graph)) for width in widths]),),
        metrics={"mean_bits": mean_bits, "uncut_accuracy": float(uncut.mean())},
        value=mean_bits,
    )


def _row(width: _Width, layers: int) -> list[str]:
    judged = width.stream_loss_points
    return [
        width.layer,
        f"{width.layers} of {layers}",
        str(width.bits),
        f"{width.size_bytes / 1024:.2f}",
        f"{width.calib_loss_points:.2f}",
        f"{judged.value:.2f} [{judged.lo:.2f}, {judged.hi:.2f}]",
    ]
