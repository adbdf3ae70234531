"""Directories of checkpoints for the tests of the store, and a server for those of downloads."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checkpoints.serving import CONTENT, Served, Web, serve
from tests.checkpoints.states import make_state
from vit_jax.checkpoints import transfer
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


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Where `web` makes downloads go."""
    return tmp_path / "cache"


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[Web]:
    """A server with one file; pauses and timeouts are short."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("VIT_JAX_CACHE", str(cache))
    for name in ("VIT_JAX_MIRROR", "VIT_JAX_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(transfer, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(transfer, "TIMEOUT", 0.2)
    with serve() as web:
        web.files["/weights/B_16.npz"] = Served(CONTENT)
        yield web
