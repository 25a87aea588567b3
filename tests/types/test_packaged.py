"""The config files are found in a checkout and in an installed package."""

from pathlib import Path

from helpers.paths import CONF

from coach_exp.types import packaged


def test_a_checkout_has_them_beside_the_package():
    assert packaged.CONF == CONF


def test_an_installed_package_has_them_inside(tmp_path: Path):
    inside = tmp_path / "coach_exp" / "conf"
    inside.mkdir(parents=True)
    assert packaged.conf_folder(inside.parent) == inside
