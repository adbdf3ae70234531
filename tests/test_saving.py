"""The rule for checkpoints that cannot be written."""

import errno
import logging
import os
import threading
import time
from pathlib import Path

import jax.numpy as jnp
import pytest

from tests import runs
from vit_jax.checkpoints import integrity
from vit_jax.checkpoints.store import Store
from vit_jax.errors import NonFiniteError, SaveError
from vit_jax.saving import Saving

STATE = {"w": jnp.arange(4.0)}


class Disk:
    """Says of every checkpoint whether its digests can be written, and when."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.full, self.go = False, threading.Event()
        self.go.set()
        seal = integrity.seal

        def sealing(folder: Path) -> None:
            self.go.wait(60)
            if self.full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            seal(folder)

        monkeypatch.setattr(integrity, "seal", sealing)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def _checked(saving: Saving, store: Store, step: int) -> None:
    """Asks at a step after the save has ended."""
    deadline = time.monotonic() + 60
    while not store.ended and time.monotonic() < deadline:
        time.sleep(0.01)
    saving.check(step)


def test_failures_in_a_row_end_the_run_and_a_success_begins_anew(
    tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    with Store(tmp_path, keep=9) as store:
        saving = Saving(store, runs.tiny_config(failed_saves_limit=2))
        for step, full in enumerate((True, False, True, False)):
            disk.full = full
            saving.save(step, STATE, {})
            _checked(saving, store, step)
        assert store.steps() == [1, 3]
        assert len(caplog.messages) == 2
        assert "step 0" in caplog.messages[0]
        assert "(No space left on device)" in caplog.messages[0]
        disk.full = True
        saving.save(4, STATE, {})
        _checked(saving, store, 4)
        saving.save(5, STATE, {})
        with pytest.raises(SaveError, match=r"saving step 5 .* start the same command again"):
            _checked(saving, store, 5)
        assert store.steps() == [1, 3]
        assert not (tmp_path / ".staging").exists()


def test_asking_waits_for_nothing(tmp_path: Path, disk: Disk) -> None:
    with Store(tmp_path) as store:
        saving = Saving(store, runs.tiny_config())
        saving.check(1)
        disk.go.clear()
        saving.save(2, STATE, {})
        saving.check(3)  # would hang, were it to wait
        assert (store.saving, store.ended) == (True, False)
        disk.go.set()
        saving.finish()
        assert not store.saving
    assert Store(tmp_path).steps() == [2]


def test_the_last_save_must_succeed_whatever_the_limit(tmp_path: Path, disk: Disk) -> None:
    with Store(tmp_path) as store:
        saving = Saving(store, runs.tiny_config(failed_saves_limit=99))
        saving.save(1, STATE, {})
        _checked(saving, store, 1)
        disk.full = True
        saving.save(2, STATE, {})
        with pytest.raises(SaveError, match="saving step 2"):
            saving.finish()
        assert store.steps() == [1]


def test_a_last_save_that_cannot_even_begin_is_no_success(tmp_path: Path) -> None:
    with Store(tmp_path / "checkpoints") as store:
        saving = Saving(store, runs.tiny_config())
        (tmp_path / "checkpoints").touch()  # where the folder should be
        saving.save(1, STATE, {})
        with pytest.raises(SaveError, match="saving step 1"):
            saving.finish()


def test_a_failed_save_does_not_hide_why_a_run_ended(
    tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    def run() -> None:
        with Store(tmp_path) as store:
            disk.full = True
            store.save(1, STATE, {})
            raise NonFiniteError("step 2: loss=nan")

    with pytest.raises(NonFiniteError):
        run()
    assert "saving step 1" in caplog.text
    assert caplog.records[0].levelno == logging.WARNING
