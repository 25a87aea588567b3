"""Fitting early-exit heads while the model itself stays as it is.

In: a captured model, layers, the `train` and `calib` splits, settings. Out: heads, each with its
own temperature. The backbone is frozen, so the final exit answers as it does for every method.
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from torch import Tensor

from coach_exp.learning.classifier import EVAL_BATCH, Fit, Fitted, channels_last, fit_module, vary
from coach_exp.learning.models import normalise, preprocess
from coach_exp.learning.training import Training
from coach_exp.learning.video import VideoDataset
from coach_exp.live.exit_heads import ExitHeads
from coach_exp.profiling.capture import CapturedModel

LOG_TEMPERATURES = (-4.0, 4.0)  # searched; T = 0.02 … 55


def fit_heads(
    backbone: CapturedModel,
    layers: Sequence[str],
    train: VideoDataset,
    calib: VideoDataset,
    training: Training,
) -> tuple[ExitHeads, Fit]:
    """Heads behind `layers`, fitted to `train` together and kept as they were when they were best
    on average over videos held out of it; then each head's temperature is fitted to `calib`.

    Raises GraphError for an unknown layer, DataError as `classifier.fit`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        heads = ExitHeads(backbone.graph, layers)
    report = fit_module(_HeadsOnFrozen(heads, backbone, training), train, backbone.input_shape[-1])
    for (_, head), scores in zip(
        heads.by_layer(), split_scores(heads, backbone, calib), strict=True
    ):
        head.temperature.fill_(best_temperature(scores, calib.label))
    return heads, report


class _HeadsOnFrozen(Fitted):
    """The sum of the heads' cross-entropies, which share nothing but the backbone's outputs."""

    group = "exit_training"

    def __init__(self, heads: ExitHeads, backbone: CapturedModel, training: Training) -> None:
        super().__init__(heads, training)
        self._backbone = backbone  # no torch module: neither moved, nor fitted, nor put to train

    def on_fit_start(self) -> None:
        if self.device.type != "cpu":
            self._backbone = self._backbone.to(self.device)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        images, labels = batch
        scores = self._scores(vary(normalise(images)))
        loss: Tensor = torch.stack([self.loss(each, labels) for each in scores]).sum()
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        images, labels = batch
        right = self._scores(normalise(images)).argmax(dim=2) == labels
        self.log("validation_accuracy", right.float().mean(), prog_bar=True, batch_size=len(labels))

    def _scores(self, images: Tensor) -> Tensor:
        heads = cast(ExitHeads, self.model)
        return heads(self._backbone.features(channels_last(images), heads.layers))


@torch.no_grad()
def split_scores(
    heads: ExitHeads, backbone: CapturedModel, data: VideoDataset
) -> NDArray[np.float32]:
    """What every head scores the samples of a split, before any temperature:
    [heads, samples, classes]."""
    size = backbone.input_shape[-1]
    batches = (
        preprocess(data.frames[first : first + EVAL_BATCH], size)
        for first in range(0, len(data), EVAL_BATCH)
    )
    return torch.cat([heads(backbone.features(x, heads.layers)) for x in batches], dim=1).numpy()


def nll(scores: NDArray[np.float32], label: NDArray[np.int64], temperature: float = 1.0) -> float:
    """Mean negative log-likelihood of the labels: scores [n, classes], labels [n].

    >>> round(nll(np.array([[2.0, 0.0]]), np.array([0]), temperature=2.0), 6)  # ln(1 + 1/e)
    0.313262
    """
    scaled = scores.astype(np.float64) / temperature
    return float(np.mean(logsumexp(scaled, axis=1) - scaled[np.arange(len(label)), label]))


def best_temperature(scores: NDArray[np.float32], label: NDArray[np.int64]) -> float:
    """The temperature of least NLL (Guo et al., ICML 2017), which is convex in 1 / T."""
    search = minimize_scalar(
        lambda log_t: nll(scores, label, np.exp(log_t)), bounds=LOG_TEMPERATURES, method="bounded"
    )
    return float(np.exp(search.x))
