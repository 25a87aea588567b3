"""What Hydra knows of the present job, and nothing of what the job does.

In: Hydra's runtime. Out: where to write, whether a sweep runs us, and the config that the same
command line gives for another method.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig

from coach_exp.types.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Invocation:
    """One job: its directory, name and overrides, and its sweep's directory if there is one."""

    directory: Path
    name: str
    overrides: tuple[str, ...]
    sweep: Path | None = None

    def with_overrides(self, overrides: Sequence[str]) -> DictConfig:
        """The config of the same command line with further overrides, which win.

        Raises ConfigError when one of them does not fit.
        """
        try:
            return compose("config", overrides=[*self.overrides, *overrides])
        except HydraException as error:
            raise ConfigError(f"{' '.join(overrides)}: {error}") from None

    def with_method(self, method: str) -> DictConfig:
        """The config of the same command line with another method."""
        kept = [o for o in self.overrides if o.split("=")[0].lstrip("+~") != "method"]
        kept = [o for o in kept if not o.lstrip("+~").startswith("method.")]
        try:
            return compose("config", overrides=[*kept, f"method={method}"])
        except MissingConfigException as error:
            known = ", ".join(error.options or ())
            raise ConfigError(f"references: no method {method!r}; there are {known}") from None


def invocation() -> Invocation:
    """The job that Hydra is running."""
    hydra = HydraConfig.get()
    sweep = Path(hydra.sweep.dir).absolute() if hydra.mode == RunMode.MULTIRUN else None
    return Invocation(
        directory=Path(hydra.runtime.output_dir),
        name=hydra.job.override_dirname or "default",
        overrides=tuple(hydra.overrides.task),
        sweep=sweep,
    )
