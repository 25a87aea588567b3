"""What Hydra knows of the present job, and nothing of what the job does.

In: a command line, Hydra's runtime. Out: where to write, whether a sweep runs us, and the config
that the same command line gives with other overrides.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from coach_exp.setup.renamed import refuse_renamed_overrides
from coach_exp.types.component import nearest
from coach_exp.types.errors import ConfigError
from coach_exp.types.packaged import CONF

_FOLDER = {"cloud": "device"}  # of a group that is used twice


@dataclass(frozen=True, slots=True)
class Invocation:
    """One job: its directory, name and overrides, its primary config, and its sweep's directory if
    there is one."""

    directory: Path
    name: str
    overrides: tuple[str, ...]
    sweep: Path | None = None
    config_name: str = "config"

    def with_overrides(self, overrides: Sequence[str]) -> DictConfig:
        """The config of the same command line with further overrides, which win.

        Raises ConfigError when one of them does not fit.
        """
        more = in_hydras_words(overrides)
        try:
            return compose(self.config_name, overrides=[*self.overrides, *more])
        except HydraException as error:
            raise ConfigError(f"{' '.join(overrides)}: {refusal(error)}") from None

    def with_method(self, method: str) -> DictConfig:
        """The config of the same command line with another method."""
        kept = [o for o in self.overrides if not re.match(r"[+~]*method[.=@]", o)]
        try:
            return compose(self.config_name, overrides=[*kept, f"method={method}"])
        except MissingConfigException as error:
            known = ", ".join(error.options or ())
            raise ConfigError(f"references: no method {method!r}; there are {known}") from None


def in_hydras_words(overrides: Iterable[str]) -> list[str]:
    """Overrides as Hydra takes them: end and cloud are one config group, used twice.

    Raises ConfigError for a key that has another name now, and for a group without an option.

    >>> in_hydras_words(["cloud=nx", "device=tx2", "cloud.slowdown=2"])
    ['device@cloud=nx', 'device=tx2', 'cloud.slowdown=2']
    """
    given = list(overrides)
    refuse_renamed_overrides(given)
    for override in given:
        _refuse_no_option(override)
    return [re.sub(r"^([+~]*)cloud(?==(?!\{))", r"\1device@cloud", each) for each in given]


def _refuse_no_option(override: str) -> None:
    """Raises ConfigError for a config group that is given a value, of which Hydra says nothing."""
    told = re.fullmatch(r"[+~]*(\w+)(?:@\w+)?=(null|true|false|[-+.\d]+)", override)
    if told is None:
        return
    name, value = told.groups()
    options = sorted(path.stem for path in (CONF / _FOLDER.get(name, name)).glob("*.yaml"))
    if options:
        raise ConfigError(
            f"{name} = {value}: is a config group, which takes one of its options: "
            f"{', '.join(options)}"
        )


def refusal(error: HydraException) -> str:
    """Returns in a sentence why Hydra could not compose a config, with the nearest known key or
    option."""
    if isinstance(error, MissingConfigException) and error.options:
        group, _, option = (error.missing_cfg_file or "").rpartition("/")
        return f"{group} = {option}: there is no such option; {nearest(option, error.options)}"
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        known = [str(key) for key in cause.parent_node or ()] if cause.parent_node else []
        name = cause.full_key.rpartition(".")[2]
        return f"{cause.full_key}: there is no such key; {nearest(name, known)}"
    return str(error)


def invocation() -> Invocation:
    """The job that Hydra is running."""
    hydra = HydraConfig.get()
    sweep = Path(hydra.sweep.dir).absolute() if hydra.mode == RunMode.MULTIRUN else None
    return Invocation(
        directory=Path(hydra.runtime.output_dir),
        name=hydra.job.override_dirname or "default",
        overrides=tuple(hydra.overrides.task),
        sweep=sweep,
        config_name=hydra.job.config_name or "config",
    )
