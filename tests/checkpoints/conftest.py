"""Directories of checkpoints for the tests of the store."""

import shutil
from pathlib import Path

import pytest

from tests.checkpoints.states import make_state
from vit_jax.checkpoints.store import Store


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with steps 4 and 8; tests copy it."""
    directory = tmp_path_factory.mktemp("saved")
    with Store(directory) as store:
        for step in (4, 8):
            store.save(step, make_state(step), {"step": step})
    return directory


@pytest.fixture
def directory(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "checkpoints"))
