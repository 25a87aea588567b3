"""How a classifier is fitted: settings alone, so that a config can be read without torch."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from coach_exp.types.errors import ConfigError


@dataclass(frozen=True)
class Training:
    """Settings of one fit. Its cost is `epochs` × `frames_per_epoch` samples, whatever the data.

    `validation` is the share of the training videos held out; training stops when `patience` epochs
    have brought nothing better on them.
    """

    epochs: int = 12
    frames_per_epoch: int = 1600
    batch_size: int = 32
    learning_rate: float = 4e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    validation: float = 0.1
    patience: int = 8
    seed: int = 0

    @staticmethod
    def of(config: Mapping[str, Any], group: str = "training") -> "Training":
        """From the config under the key `group`. Raises ConfigError for an unknown key or a value
        out of range."""
        known = {f.name for f in fields(Training)}
        unknown = sorted(set(config) - known)
        if unknown:
            raise ConfigError(f"{group} has no keys {unknown}; it has {', '.join(sorted(known))}")
        try:
            return Training(**config)
        except ConfigError as error:
            raise ConfigError(f"{group}.{error}") from None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.frames_per_epoch < self.batch_size:
            raise ConfigError(
                f"frames_per_epoch={self.frames_per_epoch} is less than one batch of "
                f"{self.batch_size}"
            )
        if not 0 < self.learning_rate <= 1:
            raise ConfigError(f"learning_rate={self.learning_rate}: must be in (0, 1]")
        if not 0 < self.validation < 1:
            raise ConfigError(f"validation={self.validation}: must be between 0 and 1")
