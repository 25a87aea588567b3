"""What tests of several packages start from: the configs, and one trained model for all."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.command_line import LITTLE_VIDEO, typed
from helpers.paths import CONF
from hydra import initialize_config_dir


@pytest.fixture(scope="module")
def hydra() -> Iterator[None]:
    """`hydra.compose` finds the configs."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output root of `job=train` on a little generated video, as a user types it. Trained once;
    `little_video` is what a test may change."""
    root = tmp_path_factory.mktemp("trained")
    done = typed(root, "job=train", *LITTLE_VIDEO)
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture
def little_video(trained: Path, tmp_path: Path) -> tuple[str, ...]:
    """Overrides for a model that is trained: `tmp_path`, as output root, has its data and weights
    in its cache."""
    shutil.copytree(trained / "cache", tmp_path / "cache")
    return LITTLE_VIDEO
