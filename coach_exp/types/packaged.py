"""Where the config files are: beside the package in a checkout, inside it once it is installed."""

from pathlib import Path


def conf_folder(package: Path) -> Path:
    """Returns the folder of the config files that belong to a package's folder."""
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


CONF = conf_folder(Path(__file__).parents[1])
