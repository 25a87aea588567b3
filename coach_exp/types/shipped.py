"""Where the configuration that comes with COACH lies: `conf` beside the package in a checkout,
inside the package where it is installed.
"""

from pathlib import Path

PACKAGE = Path(__file__).parents[1]


def conf_folder() -> Path:
    """The folder that holds `config.yaml` and its groups."""
    installed = PACKAGE / "conf"
    return installed if installed.is_dir() else PACKAGE.parent / "conf"
