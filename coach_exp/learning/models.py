"""Classifiers by name, and what a uint8 frame becomes before it meets one.

In: a `model` config, frames. Out: a torch module in eval mode, normalised images. torch is imported
only when a model is built: a run whose answers are known already does not need it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from coach_exp.types.component import imported
from coach_exp.types.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn

MEAN = (0.485, 0.456, 0.406)  # of ImageNet, which every published weight expects
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ModelSpec:
    """What to build: an importable callable, its arguments, and the input's side in pixels."""

    target: str
    input_size: int
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(config: Mapping[str, Any]) -> "ModelSpec":
        """From a `model` config: `_target_`, `input_size`, and the constructor's arguments.

        Raises ConfigError when one of the two is missing.
        """
        kwargs = dict(config)
        missing = [key for key in ("_target_", "input_size") if key not in kwargs]
        if missing:
            raise ConfigError(f"the model config lacks {missing}; see conf/model/small_resnet.yaml")
        target, input_size = kwargs.pop("_target_"), kwargs.pop("input_size")
        if not isinstance(input_size, int) or input_size < 1:
            raise ConfigError(f"model.input_size={input_size!r}: give the input's side in pixels")
        return ModelSpec(str(target), input_size, kwargs)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape of one normalised image: (3, height, width)."""
        return (3, self.input_size, self.input_size)

    def build(self, num_classes: int) -> "nn.Module":
        """A model with random weights, in eval mode. Raises ConfigError as `build_model`."""
        return build_model(self.target, self.kwargs, num_classes)


def build_model(target: str, kwargs: Mapping[str, Any], num_classes: int) -> "nn.Module":
    """Call `target` with `kwargs` and `num_classes`.

    Raises ConfigError when it cannot be imported, refuses its arguments, or makes no torch module.
    """
    from torch import nn

    make = imported(target, "model._target_")
    with refuse_arguments(target, {"num_classes": num_classes, **kwargs}):
        model = make(num_classes=num_classes, **kwargs)
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"model._target_={target} made a {type(model).__name__}; it must make a torch.nn.Module"
        )
    return model.eval()


@contextmanager
def refuse_arguments(target: str, kwargs: Mapping[str, Any]) -> Iterator[None]:
    """Turns a constructor's complaint about its arguments into a ConfigError."""
    try:
        yield
    except Exception as error:
        raise ConfigError(
            f"model._target_={target} refuses its arguments {dict(kwargs)}: {error!r}; change them "
            "in the model config"
        ) from error


def resize(frames: NDArray[np.uint8], input_size: int) -> NDArray[np.uint8]:
    """Frames at the model's resolution, which are the bytes a raw input crosses the link with.

    [n, height, width, 3] -> [n, input_size, input_size, 3], bilinear, both uint8.
    """
    if frames.shape[1:3] == (input_size, input_size):
        return frames
    from PIL import Image

    side = (input_size, input_size)
    pictures = (Image.fromarray(f).resize(side, Image.Resampling.BILINEAR) for f in frames)
    return np.stack([np.asarray(picture) for picture in pictures])


def preprocess(frames: NDArray[np.uint8], input_size: int) -> "Tensor":
    """Resize and normalise: [n, height, width, 3] uint8 -> [n, 3, input_size, input_size] float32.

    Part of the model: both sides of a link run it, and raw frames cross as uint8.
    """
    import torch

    pixels = torch.from_numpy(np.array(resize(frames, input_size)))  # a copy: it may be read-only
    return normalise(pixels.permute(0, 3, 1, 2).contiguous())


def normalise(images: "Tensor") -> "Tensor":
    """[n, 3, height, width] uint8 -> float32 with ImageNet's mean and deviation."""
    import torch

    mean = torch.tensor(MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(STD, device=images.device).view(3, 1, 1)
    return (images.float() / 255 - mean) / std
