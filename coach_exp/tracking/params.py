"""A config as a store holds it: flat parameters with secrets masked, and the hash of what decides
a run's numbers.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from coach_exp.tracking.provenance import masked

NOT_HASHED = frozenset({"output", "tracking"})  # these change no result
_LONGEST_PARAM = 6000  # characters that MLflow holds


def config_hash(config: Mapping[str, Any], **identifiers: str | None) -> str:
    """sha256 of a resolved config, less what changes no result, and of `identifiers` for weights,
    data, code: all that decides a run's numbers.

    >>> config_hash({"seed": 0, "tracking": {"uri": None}}) == config_hash({"seed": 0})
    True
    >>> config_hash({"seed": 0}, code="c0ffee") == config_hash({"seed": 0}, code="decade")
    False
    """
    counted = {name: value for name, value in config.items() if name not in NOT_HASHED}
    text = json.dumps([counted, identifiers], sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """A nested config as parameters: dotted names, secrets masked, values that MLflow can hold.

    >>> flat({"model": {"name": "vgg16", "shape": [3, 224]}, "token": "abc"})
    {'model.name': 'vgg16', 'model.shape': '[3, 224]', 'token': '***'}
    """
    params: dict[str, str] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            params |= flat(value, f"{name}.")
            continue
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        text = masked(f"{name}={text}").removeprefix(f"{name}=")
        cut = len(text) > _LONGEST_PARAM
        params[name] = f"{text[: _LONGEST_PARAM - 1]}…" if cut else text
    return params
