"""The devices that come with COACH: the constants in `conf/device` and `conf/cloud`."""

from typing import Any

from omegaconf import OmegaConf

from coach_exp.profiling.device import DeviceSpec
from coach_exp.types.errors import ConfigError
from coach_exp.types.shipped import conf_folder


def device_spec(name: str) -> DeviceSpec:
    """What `conf/<name>.yaml` says of a device, such as device/nx. Raises ConfigError naming what
    there is where there is no such file."""
    path = conf_folder() / f"{name}.yaml"
    if not path.exists():
        known = sorted(each.stem for each in path.parent.glob("*.yaml"))
        raise ConfigError(f"there is no {name}; choose one of {known}")
    config: Any = OmegaConf.to_container(OmegaConf.load(path))
    return DeviceSpec.from_config(config)
