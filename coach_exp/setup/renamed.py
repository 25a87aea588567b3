"""Keys that have another name now: an old one is answered with the new.

In: a command line, or a composed config. Out: nothing, or a ConfigError.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from coach_exp.types.errors import ConfigError

RENAMED = {  # a key, or all keys below it -> what to give now
    "track": "division",
    "table": "job (experiment=NAME, or job=table job.rows=...)",
    "study": "job.study",
    "dynamic": "job (job=dynamic job.methods=...)",
    "orderings": "job (experiment=orderings job.mbps=...)",
    "planner.objective=pareto": "job=plan job.pareto=true",
    "transport.most_s": "transport.max_s",
    "transport.most_clients": "transport.max_clients",
    "method.patience_s": "method.timeout_s",
    "bandwidth.kind": "bandwidth._target_ (bandwidth=NAME is a file of it)",
    "estimator.kind": "estimator._target_ (estimator=NAME is a file of it)",
    "quantizer.kind": "quantizer._target_ (quantizer=NAME is a file of it)",
    "precision.kind": "precision._target_ (precision=NAME is a file of it)",
    "device.kind": "device._target_ (device=NAME is a file of it)",
    "cloud.kind": "cloud._target_ (cloud=NAME is a file of it)",
    "data.kind": "data._target_ (data=NAME is a file of it)",
    "model.kind": "model._target_ (model=NAME is a file of it)",
    "transport.kind": "transport._target_ (transport=NAME is a file of it)",
    "tracking.kind": "tracking._target_ (tracking=NAME is a file of it)",
}


def refuse_renamed(config: Mapping[str, Any]) -> None:
    """Raises ConfigError naming each old key of a composed config with its new name."""
    _refuse(old for old in RENAMED if _holds(config, old))


def refuse_renamed_overrides(overrides: Iterable[str]) -> None:
    """Raises ConfigError naming each old key of a command line with its new name."""
    given = [override.lstrip("+~") for override in overrides]
    _refuse(
        old
        for old in RENAMED
        if any(re.match(rf"{re.escape(old)}($|[.=@])", override) for override in given)
    )


def _holds(config: Mapping[str, Any], old: str) -> bool:
    key, _, value = old.partition("=")
    here: Any = config
    for name in key.split("."):
        if not isinstance(here, Mapping) or name not in here:
            return False
        here = here[name]
    return not value or here == value


def _refuse(old: Iterable[str]) -> None:
    words = [f"{key} is {RENAMED[key]} now" for key in old]
    if words:
        raise ConfigError("\n".join(words))
