"""Fitting a classifier with Lightning, and asking it for labels.

In: a model, the `train` split, settings. Out: the model with the weights that did best on
validation videos, which are taken from `train` and never from the other splits; a checkpoint.
"""

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from os import getpid
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, cast

import numpy as np
import pytorch_lightning as lightning
import torch
from numpy.typing import NDArray
from pytorch_lightning.callbacks import Callback, EarlyStopping
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler

from coach_exp.learning.models import normalise, preprocess, resize
from coach_exp.learning.training import Training
from coach_exp.learning.video import VideoDataset
from coach_exp.types.errors import DataError

EVAL_BATCH = 64


@dataclass(frozen=True)
class Fit:
    """What training did; kept beside the weights."""

    epochs: int
    seconds: float
    validation_accuracy: float
    validation_samples: int


def fit(model: nn.Module, train: VideoDataset, input_size: int, training: Training) -> Fit:
    """Train `model` in place and leave it in eval mode with its best weights.

    Raises DataError when `train` has too few videos to hold some out, or frames for one batch.
    """
    return fit_module(Classifier(model, training), train, input_size)


def fit_module(module: "Fitted", train: VideoDataset, input_size: int) -> Fit:
    """Train the `model` of a module in place and leave it in eval mode with its best weights.

    Raises DataError as `fit`.
    """
    began = perf_counter()
    training, model = module.training_settings, module.model
    rows, held = hold_out(train, training)
    if len(rows) < training.batch_size:
        raise DataError(
            f"the train split has {len(rows)} frames to fit on, less than one batch of "
            f"{training.batch_size}; use {module.group}.batch_size={len(rows)} or less, or add "
            "videos"
        )
    with torch.random.fork_rng(), TemporaryDirectory() as scratch, _quiet():
        torch.manual_seed(training.seed)
        loader = _loader(train, rows, input_size, training.batch_size, training.frames_per_epoch)
        judge = _loader(train, held, input_size, EVAL_BATCH)
        model.train().to(memory_format=torch.channels_last)  # Lightning keeps the mode it finds
        best = KeepBest()
        stop = EarlyStopping("validation_accuracy", mode="max", patience=training.patience)
        trainer = lightning.Trainer(
            accelerator="auto",
            devices=1,
            max_epochs=training.epochs,
            callbacks=[best, stop],
            enable_progress_bar=sys.stdout.isatty(),
            enable_model_summary=False,
            enable_checkpointing=False,
            logger=False,
            num_sanity_val_steps=0,
            default_root_dir=scratch,
        )
        trainer.fit(module, loader, judge)
    model.load_state_dict(best.weights)
    model.cpu().to(memory_format=torch.contiguous_format).eval()
    return Fit(trainer.current_epoch, perf_counter() - began, best.accuracy, len(held))


def hold_out(
    train: VideoDataset, training: Training
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Samples to fit on and samples to judge by; no video is in both.

    Of every class, the share `training.validation` of its videos is held out, rounded: a class of
    few videos keeps them. Where that is none at all, every class with two gives one. Raises
    DataError when no class has two.
    """
    rng = np.random.default_rng(training.seed)
    videos = train.videos()
    labels = np.array([train.label[video[0]] for video in videos])
    own = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    counts = [min(round(training.validation * len(numbers)), len(numbers) - 1) for numbers in own]
    if not any(counts):
        counts = [min(1, len(numbers) - 1) for numbers in own]
    if not any(counts):
        raise DataError(
            f"the train split has one video for each of {len(own)} classes, so none can be held "
            "out for early stopping; add videos"
        )
    held = np.concatenate([numbers[:n] for numbers, n in zip(own, counts, strict=True)])
    kept = np.setdiff1d(np.arange(len(videos)), held)
    rows, judged = (np.concatenate([videos[i] for i in side]) for side in (kept, held))
    return rows, judged


class Fitted(lightning.LightningModule):
    """A `model` whose parameters AdamW fits with a one-cycle learning rate. How it is trained and
    judged (`validation_accuracy`) is for the subclasses; `group` is where its settings are set.
    """

    group = "training"

    def __init__(self, model: nn.Module, training: Training) -> None:
        super().__init__()
        self.model = model
        self.training_settings = training
        self.loss = nn.CrossEntropyLoss(label_smoothing=training.label_smoothing)

    def configure_optimizers(self) -> Any:
        settings = self.training_settings
        optimizer = torch.optim.AdamW(
            self.model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
        )
        steps = int(self.trainer.estimated_stepping_batches)
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, settings.learning_rate, total_steps=steps, pct_start=0.2
        )
        return [optimizer], [{"scheduler": cycle, "interval": "step"}]


class Classifier(Fitted):
    """Cross-entropy on lightly changed images."""

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        images, labels = batch
        loss: Tensor = self.loss(self.model(channels_last(vary(normalise(images)))), labels)
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        images, labels = batch
        right = self.model(channels_last(normalise(images))).argmax(dim=1) == labels
        self.log("validation_accuracy", right.float().mean(), prog_bar=True, batch_size=len(labels))


class KeepBest(Callback):
    """The weights of the epoch that did best on the validation videos; of equals, the last."""

    def __init__(self) -> None:
        self.accuracy = -1.0
        self.weights: dict[str, Tensor] = {}

    def on_validation_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        accuracy = float(trainer.callback_metrics["validation_accuracy"])
        if accuracy >= self.accuracy:
            self.accuracy = accuracy
            state = cast(Fitted, pl_module).model.state_dict()
            self.weights = {name: value.detach().clone() for name, value in state.items()}


def vary(images: Tensor) -> Tensor:
    """Turn, scale and shift a little, change light and contrast, per image.

    No flips: a mirrored traffic sign is another sign. [n, 3, h, w] -> the same.
    """
    n = len(images)

    def between(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(n, *shape, device=images.device).uniform_(low, high)

    moves = torch.zeros(n, 2, 3, device=images.device)
    moves[:, 0, 0] = moves[:, 1, 1] = between(0.9, 1.1)
    moves[:, 0, 1] = between(-0.1, 0.1)  # about the sine of the angle
    moves[:, 1, 0] = -moves[:, 0, 1]
    moves[:, :, 2] = between(-0.12, 0.12, 2)  # the image spans -1 … 1
    grid = nn.functional.affine_grid(moves, list(images.shape), align_corners=False)
    moved = nn.functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    return moved * between(0.7, 1.3, 1, 1, 1) + between(-0.3, 0.3, 1, 1, 1)


@torch.inference_mode()
def predict(model: nn.Module, data: VideoDataset, input_size: int) -> NDArray[np.int64]:
    """Label of every sample by the whole float model: [n]."""
    labels = [
        model(preprocess(data.frames[start : start + EVAL_BATCH], input_size)).argmax(dim=1)
        for start in range(0, len(data), EVAL_BATCH)
    ]
    return torch.cat(labels).numpy()


def accuracy(model: nn.Module, data: VideoDataset, input_size: int) -> float:
    """Share of samples that the whole float model labels rightly."""
    return float(np.mean(predict(model, data, input_size) == data.label))


def save_checkpoint(model: nn.Module, report: Fit, path: Path) -> None:
    """Write weights and report; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f"{path.name}.{getpid()}.part")
    torch.save({"state_dict": model.state_dict(), "fit": asdict(report)}, staging)
    staging.replace(path)


class _Batches(Dataset[tuple[Tensor, Tensor]]):
    """A list of samples in, one batch out: uint8 [n, 3, size, size] and labels [n]."""

    def __init__(self, data: VideoDataset, rows: NDArray[np.int64], input_size: int) -> None:
        self.data, self.rows, self.input_size = data, rows, input_size

    def __getitem__(self, wanted: list[int]) -> tuple[Tensor, Tensor]:
        rows = self.rows[wanted]
        frames = resize(self.data.frames[rows], self.input_size)
        return torch.from_numpy(frames).permute(0, 3, 1, 2), torch.from_numpy(self.data.label[rows])

    def __len__(self) -> int:
        return len(self.rows)


def _loader(
    data: VideoDataset,
    rows: NDArray[np.int64],
    input_size: int,
    batch_size: int,
    drawn: int | None = None,
) -> DataLoader:
    """Batches of all samples in order or, with `drawn`, of so many random ones an epoch."""
    batches = _Batches(data, rows, input_size)
    if drawn is None:
        return DataLoader(
            batches,
            None,
            sampler=BatchSampler(SequentialSampler(batches), batch_size, drop_last=False),
        )
    order = RandomSampler(batches, num_samples=min(drawn, len(rows)))
    return DataLoader(batches, None, sampler=BatchSampler(order, batch_size, drop_last=True))


def channels_last(images: Tensor) -> Tensor:
    """The same images, laid out pixel by pixel."""
    return images.contiguous(memory_format=torch.channels_last)  # a third faster on a CPU


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's advice is silenced for the time being; errors still come through."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
