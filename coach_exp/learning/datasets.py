"""The data a config asks for, kept on disk once it is made.

In: the settings of a data set and a cache folder. Out: the four splits, memory-mapped.
"""

import errno
import inspect
from hashlib import blake2b
from os import getpid
from pathlib import Path
from shutil import rmtree

from coach_exp.learning import decoding, dividing, split_store
from coach_exp.learning.footage import DataSet
from coach_exp.learning.video import Splits
from coach_exp.types.errors import DataError
from coach_exp.types.progress import Progress, silent

SHARED = (decoding, dividing)  # code that decides frames and splits, besides a data set's own


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


def _code(kind: type) -> str:
    """Hash of the code that makes the data."""
    digest = blake2b(digest_size=6)
    for thing in (kind, *SHARED):
        digest.update(Path(inspect.getfile(thing)).read_bytes())
    return digest.hexdigest()
