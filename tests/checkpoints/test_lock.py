"""The lock of a workdir: one writer, named when a second is refused, gone when it dies."""

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from vit_jax.checkpoints import lock
from vit_jax.checkpoints.lock import WorkdirLock
from vit_jax.errors import CheckpointError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")

HOLDER = """
import sys, time
from vit_jax.checkpoints.lock import WorkdirLock
with WorkdirLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, which holds the lock of `tmp_path`."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_writer_is_refused_and_told_who_the_first_is(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    with pytest.raises(CheckpointError) as refusal, WorkdirLock(tmp_path):
        pass
    message = str(refusal.value)
    assert f"process {holder.pid} on {os.uname().nodename} since 2" in message
    assert str(tmp_path) in message
    assert "\n" not in message
    assert refusal.value.exit_code == 3


def test_a_killed_holder_holds_nothing(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / lock.LOCK).read_text(), "the dead process left its name behind"
    with WorkdirLock(tmp_path):
        pass


def test_the_lock_is_refused_within_one_process_and_free_after_use(tmp_path: Path) -> None:
    workdir = tmp_path / "new" / "run"
    with WorkdirLock(workdir):
        with pytest.raises(CheckpointError, match=f"process {os.getpid()} "), WorkdirLock(workdir):
            pass
        with pytest.raises(CheckpointError, match="one workdir has one writer"):
            WorkdirLock(workdir).__enter__()  # the refused one released nothing
    with WorkdirLock(workdir):
        pass


def test_the_lock_is_free_after_an_exception(tmp_path: Path) -> None:
    with pytest.raises(KeyError), WorkdirLock(tmp_path):
        raise KeyError
    with WorkdirLock(tmp_path):
        pass


def test_a_holder_that_has_not_signed_yet_is_still_the_holder(tmp_path: Path) -> None:
    with WorkdirLock(tmp_path):
        (tmp_path / lock.LOCK).write_text('{"host":')
        with pytest.raises(CheckpointError, match="by another process"), WorkdirLock(tmp_path):
            pass


def test_a_file_system_without_locks_is_warned_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unsupported(file: IO[str]) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "_lock", unsupported)
    with WorkdirLock(tmp_path):
        assert "No locks available" in caplog.text


SIGNED = '{"host": "elsewhere", "pid": 7, "since": "2026-01-02T03:04:05+00:00"}'


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats in tenths of a second."""
    monkeypatch.setattr(lock, "_BEAT", 0.1)
    monkeypatch.setattr(lock, "_SILENCE", 0.6)


def test_a_dead_holder_on_another_machine_is_outwaited(
    tmp_path: Path, hasty: None, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / lock.LOCK).write_text(SIGNED)
    with WorkdirLock(tmp_path):
        assert "process 7 on elsewhere since 2026" in caplog.text
        assert str(os.getpid()) in (tmp_path / lock.LOCK).read_text()


@pytest.mark.parametrize("lockable", [True, False])
def test_a_living_holder_is_noticed_where_its_lock_is_not(
    lockable: bool, tmp_path: Path, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk locks for each machine alone, or not at all: what shows is that it beats."""
    if lockable:
        monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    monkeypatch.setattr(lock, "_lock", _unlockable if not lockable else lambda file: None)
    with WorkdirLock(tmp_path):
        monkeypatch.undo()
        monkeypatch.setattr(lock, "_lock", _unlockable if not lockable else lambda file: None)
        monkeypatch.setattr(lock, "_SILENCE", 5.0)
        with pytest.raises(CheckpointError, match=f"by process {os.getpid()} on "):
            WorkdirLock(tmp_path).__enter__()


def test_a_beat_ends_with_its_lock(tmp_path: Path, hasty: None) -> None:
    with WorkdirLock(tmp_path):
        pass
    assert not (tmp_path / lock.LOCK).read_text()
    deadline = time.monotonic() + 5
    while any(thread.name == "lock" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _unlockable(file: IO[str]) -> None:
    raise OSError(errno.ENOLCK, "No locks available")


def test_a_workdir_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="cannot be written"), WorkdirLock(tmp_path / "file"):
        pass
