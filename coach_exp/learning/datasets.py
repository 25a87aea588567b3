"""The data a config asks for, kept on disk once it is made.

In: the `data` group of the config and a cache folder. Out: the four splits, memory-mapped.
"""

import errno
import inspect
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from hashlib import blake2b
from importlib import import_module
from os import getpid
from pathlib import Path
from shutil import rmtree
from typing import Any, cast

from coach_exp.learning import decoding, dividing, split_store
from coach_exp.learning.footage import DataSet
from coach_exp.learning.gtsrb import Gtsrb
from coach_exp.learning.imagenet100 import ImageNet100
from coach_exp.learning.settings import checked
from coach_exp.learning.synthetic import SyntheticVideo
from coach_exp.learning.ucf101 import Ucf101
from coach_exp.learning.video import Splits
from coach_exp.types.errors import ConfigError, DataError
from coach_exp.types.progress import Progress, silent

KINDS: Mapping[str, type[DataSet]] = {
    "synthetic": SyntheticVideo,
    "gtsrb": Gtsrb,
    "ucf101": Ucf101,
    "imagenet100": ImageNet100,
}
SHARED = (decoding, dividing)  # code that decides frames and splits, besides a data set's own


def data_settings(config: Mapping[str, Any]) -> DataSet:
    """The typed settings of a `data` config: `kind`, or `_target_` for one's own, and its fields.

    Raises ConfigError for an unknown kind or key, or a wrong value.
    """
    given = dict(config)
    name, kind = _kind(given)
    known = {f.name for f in fields(kind)}
    unknown = sorted(set(given) - known)
    if unknown:
        raise ConfigError(f"{name} has no keys {unknown}; it has {', '.join(sorted(known))}")
    return checked(kind, given, "data")


def load_splits(settings: DataSet, cache_dir: Path, progress: Progress = silent) -> Splits:
    """The splits, made on first use and kept under `cache_dir` by hash of settings, files and code.

    Raises DataError when the data are not there, cannot be read, or do not fit on the disk.
    """
    kind = type(settings).__name__.lower()
    folder = cache_dir / "data" / f"{kind}-{settings.fingerprint()}-{_code(type(settings))}"
    if not folder.is_dir():
        staging = folder.with_name(f"{folder.name}.{getpid()}.part")
        staging.mkdir(parents=True, exist_ok=True)
        try:
            split_store.write(settings.read(), staging, progress)
            _publish(staging, folder)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise DataError(
                f"the disk of {cache_dir} is full before all data are decoded; keep smaller or "
                "fewer frames, or put output.root on a larger disk"
            ) from error
        finally:
            rmtree(staging, ignore_errors=True)
    return split_store.read(folder)


def _publish(staging: Path, folder: Path) -> None:
    try:
        staging.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster
            raise


def _kind(given: dict[str, Any]) -> tuple[str, type[DataSet]]:
    """Name and class of what is asked for, which are taken out of `given`."""
    target, kind = given.pop("_target_", None), given.pop("kind", None)
    if target is None:
        if kind not in KINDS:
            raise ConfigError(f"data.kind={kind!r} is not one of {', '.join(KINDS)}")
        return f"data.kind={kind}", KINDS[kind]
    module, _, name = str(target).rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"data._target_={target!r} cannot be imported: {error}; give the full name of a class"
        ) from error
    if not (inspect.isclass(found) and is_dataclass(found)):
        raise ConfigError(
            f"data._target_={target!r} is not a dataclass; see coach_exp.learning.footage.DataSet"
        )
    return f"data._target_={target}", cast(type[DataSet], found)


def _code(kind: type) -> str:
    """Hash of the code that makes the data."""
    digest = blake2b(digest_size=6)
    for thing in (kind, *SHARED):
        digest.update(Path(inspect.getfile(thing)).read_bytes())
    return digest.hexdigest()
