"""Where a model's weights come from: `none`, `hub`, `train` or a checkpoint.

In: the word or path from the config, the model, the data. Out: a `Weights` value whose fingerprint
tells one set of weights from another without importing torch, and which loads them on demand.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Literal

from coach_exp.learning.array_cache import digest
from coach_exp.learning.models import ModelSpec, refuse_arguments
from coach_exp.learning.training import Training
from coach_exp.learning.video import VideoDataset
from coach_exp.types.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

Source = Literal["none", "hub", "checkpoint"]


@dataclass(frozen=True)
class Weights:
    """A model with a known set of weights; `measured` is False where they are random.

    The accuracy of random weights is no figure to print.
    """

    model: ModelSpec
    num_classes: int
    source: Source
    fingerprint: str
    checkpoint: Path | None = None

    @property
    def measured(self) -> bool:
        """Whether accuracy means anything with these weights."""
        return self.source != "none"

    def load(self) -> "nn.Module":
        """The model in eval mode. Random weights are the same every time.

        Raises ConfigError when the weights do not fit the model or cannot be had.
        """
        import torch

        if self.source == "hub":
            return _from_hub(self.model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = self.model.build(self.num_classes)
        if self.checkpoint is not None:
            _load_state(model, self.checkpoint)
        return model.eval()


def resolve_weights(
    source: str,
    model: ModelSpec,
    train: VideoDataset,
    training: Training,
    cache_dir: Path,
) -> Weights:
    """The weights that `source` names; `train` fits the model on first use and keeps the result.

    `none`: random. `hub`: torchvision's default weights, with their 1000 classes. Anything else is
    the path of a checkpoint. Raises ConfigError when the source cannot serve this model and data.
    """
    classes = train.classes
    if source == "none":
        return Weights(model, classes, "none", digest("none", asdict(model), classes))
    if source == "hub":
        _check_hub(model, classes)
        name = digest("hub", asdict(model), version("torchvision"))
        return Weights(model, classes, "hub", name)
    path = trained(model, train, training, cache_dir) if source == "train" else Path(source)
    if not path.is_file():
        raise ConfigError(
            f"weights={source}: there is no such file; give a checkpoint, or none, hub or train"
        )
    contents = blake2b(path.read_bytes(), digest_size=10).hexdigest()
    return Weights(model, classes, "checkpoint", digest(asdict(model), contents), path)


def trained(model: ModelSpec, train: VideoDataset, training: Training, cache_dir: Path) -> Path:
    """Checkpoint of `model` fitted to `train`: found under `cache_dir`, or made now."""
    key = digest(asdict(model), _source(model.target), asdict(training), train.fingerprint)
    path = cache_dir / "weights" / f"{model.target.rpartition('.')[2]}-{key}.pt"
    if not path.is_file():
        import torch

        from coach_exp.learning.classifier import fit, save_checkpoint

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            module = model.build(train.classes)
        _check_classes(module, model, train.classes)
        report = fit(module, train, model.input_size, training)
        save_checkpoint(module, report, path)
    return path


def _check_classes(module: "nn.Module", model: ModelSpec, classes: int) -> None:
    """Raises ConfigError when a model has not as many scores as the data has classes."""
    import torch

    with torch.inference_mode():
        scores = module(torch.zeros(1, *model.input_shape)).shape[-1]
    if scores != classes:
        raise ConfigError(
            f"model._target_={model.target} gives {scores} scores but the data has {classes} "
            "classes; make it use its argument num_classes"
        )


def _source(target: str) -> str:
    """Hash of the file that defines a model, so that a changed model is trained again.

    torchvision's models change with its version alone.
    """
    if target.startswith("torchvision."):
        return version("torchvision")
    try:
        spec = find_spec(target.rpartition(".")[0])
    except (ImportError, ValueError):  # the model itself will be refused, with a reason
        return ""
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return ""
    return blake2b(Path(spec.origin).read_bytes()).hexdigest()


def _read(checkpoint: Path) -> Mapping[str, Any]:
    import torch

    try:
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, OSError, EOFError, KeyError) as error:
        why = str(error).partition(". ")[0]  # torch goes on to advise loading it unchecked
        raise ConfigError(
            f"weights={checkpoint} is not a checkpoint of plain tensors: {why}; save it "
            "with torch.save(model.state_dict(), path)"
        ) from error
    if not isinstance(saved, dict):
        raise ConfigError(f"weights={checkpoint} holds a {type(saved).__name__}, no weights")
    return saved


def _load_state(model: "nn.Module", checkpoint: Path) -> None:
    saved = _read(checkpoint)
    state = saved.get("state_dict", saved)
    own = model.state_dict()
    wrong = sorted(
        name
        for name in own.keys() | state.keys()
        if name not in own or name not in state or own[name].shape != state[name].shape
    )
    if wrong:
        raise ConfigError(
            f"weights={checkpoint} was made for another model or number of classes: "
            f"{len(wrong)} of {len(own)} tensors are missing, unknown or of another shape, such as "
            f"{wrong[0]!r}"
        )
    model.load_state_dict(state)


def _check_hub(model: ModelSpec, classes: int) -> None:
    if not model.target.startswith("torchvision.models."):
        raise ConfigError(
            f"weights=hub: {model.target} is not one of torchvision's models; give a "
            "checkpoint, or weights=train"
        )
    if classes != 1000:
        raise ConfigError(
            f"weights=hub: torchvision's weights tell 1000 classes apart and the data has "
            f"{classes}; their answers would mean nothing here: use weights=train"
        )


def _from_hub(model: ModelSpec) -> "nn.Module":
    from torchvision.models import get_model

    name = model.target.rpartition(".")[2]
    kwargs = {k: v for k, v in model.kwargs.items() if k not in ("init_weights", "aux_logits")}
    try:
        with refuse_arguments(model.target, kwargs):
            return get_model(name, weights="DEFAULT", **kwargs).eval()
    except OSError as error:
        raise ConfigError(
            f"weights=hub: the weights of {name} could not be downloaded: {error}; check the "
            "network, or give a checkpoint"
        ) from error
