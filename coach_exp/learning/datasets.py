"""The data a config asks for, kept on disk once it is made.

In: the `data` group of the config and a cache folder. Out: the four splits, memory-mapped: a run
that needs only labels reads no pixels.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from hashlib import blake2b
from itertools import pairwise
from os import getpid
from pathlib import Path
from shutil import rmtree
from types import ModuleType
from typing import Any

import numpy as np

from coach_exp.learning import gtsrb, synthetic
from coach_exp.learning.gtsrb import Gtsrb
from coach_exp.learning.synthetic import SyntheticVideo
from coach_exp.learning.video import SPLIT_NAMES, Splits, VideoDataset
from coach_exp.types.errors import ConfigError

KINDS: Mapping[str, type[SyntheticVideo] | type[Gtsrb]] = {
    "synthetic": SyntheticVideo,
    "gtsrb": Gtsrb,
}


def data_settings(config: Mapping[str, Any]) -> SyntheticVideo | Gtsrb:
    """The typed settings of a `data` config: `kind` and the fields of that kind.

    Raises ConfigError for an unknown kind or key.
    """
    given = dict(config)
    kind = given.pop("kind", None)
    if kind not in KINDS:
        raise ConfigError(f"data.kind={kind!r} is not one of {', '.join(KINDS)}")
    known = {f.name for f in fields(KINDS[kind])}
    unknown = sorted(set(given) - known)
    if unknown:
        raise ConfigError(
            f"data.kind={kind} has no keys {unknown}; it has {', '.join(sorted(known))}"
        )
    return KINDS[kind](**given)


def load_splits(settings: SyntheticVideo | Gtsrb, cache_dir: Path) -> Splits:
    """The splits, made on first use and kept under `cache_dir` by hash of settings and files."""
    cache = cache_dir / "data"
    if isinstance(settings, SyntheticVideo):
        folder = cache / f"synthetic-{_hash(synthetic, asdict(settings))}"
        return _cached(folder, lambda: synthetic.generate(settings))
    pictures = gtsrb.listing(settings)
    key = asdict(settings) | {"root": gtsrb.fingerprint(pictures), "download": None}
    return _cached(cache / f"gtsrb-{_hash(gtsrb, key)}", lambda: gtsrb.read(pictures, settings))


def _hash(maker: ModuleType, key: Mapping[str, Any]) -> str:
    """Of the settings and of the code that makes the data from them."""
    digest = blake2b(json.dumps(key, sort_keys=True).encode(), digest_size=8)
    digest.update(Path(str(maker.__file__)).read_bytes())
    return digest.hexdigest()


def _cached(folder: Path, make: Callable[[], Splits]) -> Splits:
    if not folder.is_dir():
        splits = make()
        staging = folder.with_name(f"{folder.name}.{getpid()}.part")
        staging.mkdir(parents=True, exist_ok=True)
        _save(splits, staging)
        try:
            staging.rename(folder)
        except OSError:  # another process was faster
            rmtree(staging)
    return _open(folder)


def _save(splits: Splits, folder: Path) -> None:
    parts = [data for _, data in splits.items()]
    columns = {
        name: np.concatenate([getattr(data, name) for data in parts])
        for name in ("label", "video", "frame")
    }
    bounds = np.cumsum([0, *map(len, parts)])
    names = np.array(splits.class_names)
    np.savez(folder / "index.npz", allow_pickle=False, bounds=bounds, class_names=names, **columns)
    shape = (int(bounds[-1]), *parts[0].frames.shape[1:])
    frames = np.lib.format.open_memmap(folder / "frames.npy", "w+", np.uint8, shape)
    for data, (a, b) in zip(parts, pairwise(bounds), strict=True):
        frames[a:b] = data.frames
    frames.flush()


def _open(folder: Path) -> Splits:
    frames = np.load(folder / "frames.npy", mmap_mode="r")
    with np.load(folder / "index.npz") as index:
        names = tuple(map(str, index["class_names"]))
        everything = VideoDataset(frames, index["label"], index["video"], index["frame"], names)
        bounds = pairwise(index["bounds"])
        parts = [everything.subset(slice(a, b)) for a, b in bounds]
    return Splits(**dict(zip(SPLIT_NAMES, parts, strict=True)))
