"""The configuration is found in a checkout and in an installed package."""

from helpers.paths import CONF

from coach_exp.types import shipped


def test_a_checkout_has_it_beside_the_package():
    assert shipped.conf_folder() == CONF
    assert (shipped.conf_folder() / "config.yaml").exists()


def test_an_installed_package_has_it_inside(tmp_path, monkeypatch):
    inside = tmp_path / "coach_exp" / "conf"
    inside.mkdir(parents=True)
    monkeypatch.setattr(shipped, "PACKAGE", inside.parent)
    assert shipped.conf_folder() == inside
