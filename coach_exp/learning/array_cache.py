"""Arrays kept on disk by name, so that nothing is computed twice.

In: a name and a way to make its arrays. Out: the arrays. A file appears whole or not at all, so
several processes may share a folder.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from os import getpid
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class ArrayCache:
    """A folder of .npz files."""

    folder: Path

    def load(self, name: str) -> Arrays | None:
        """What was saved under `name`, or None."""
        try:
            with np.load(self._path(name), allow_pickle=False) as saved:
                return dict(saved)
        except FileNotFoundError:
            return None

    def save(self, name: str, arrays: Arrays) -> None:
        """Keep `arrays` under `name`."""
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = path.with_name(f"{getpid()}.{path.name}")
        np.savez(staging, allow_pickle=False, **arrays)
        staging.replace(path)

    def get(self, name: str, make: Callable[[], Arrays]) -> Arrays:
        """What was saved under `name`; made and saved first where there is none."""
        saved = self.load(name)
        if saved is None:
            saved = make()
            self.save(name, saved)
        return saved

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npz"


def digest(*parts: object) -> str:
    """Short hash of the parts' reprs.

    >>> digest("relu", 4) == digest("relu", 4) != digest("relu", 3)
    True
    """
    return blake2b(repr(parts).encode(), digest_size=10).hexdigest()
