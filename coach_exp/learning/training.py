"""How a classifier is fitted: settings alone, so that a config can be read without torch."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from coach_exp.types.errors import ConfigError


@dataclass(frozen=True)
class Training:
    """Settings of one fit. Its cost is `epochs` × `frames_per_epoch` samples, whatever the data.

    `validation` is the share of the training videos held out; training stops when `patience` epochs
    have brought nothing better on them.
    """

    epochs: PositiveInt = 12
    frames_per_epoch: PositiveInt = 1600
    batch_size: PositiveInt = 32
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 4e-3
    weight_decay: NonNegativeFloat = 0.02
    label_smoothing: Annotated[float, Field(ge=0, le=1)] = 0.05
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    patience: PositiveInt = 8
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        if self.frames_per_epoch < self.batch_size:
            raise ConfigError(
                f"frames_per_epoch = {self.frames_per_epoch}: is less than one batch of "
                f"{self.batch_size}"
            )
