"""A process may die at any moment: what it leaves is whole steps."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from vit_jax.checkpoints.retention import Retention
from vit_jax.checkpoints.steps import StepFolders
from vit_jax.checkpoints.store import Store

CHILD = """
import os, shutil, signal, sys
import numpy as np
from vit_jax.checkpoints import integrity, store

directory, point = sys.argv[1:]
state = lambda step: {"w": np.full((64, 1024), step, np.float32)}


def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)


def die_if(module, name, is_time, halfway=lambda path: None):
    real = getattr(module, name)

    def wrapped(*args, **kwargs):
        if is_time(str(args[-1])):
            halfway(str(args[-1]))
            die()
        return real(*args, **kwargs)

    setattr(module, name, wrapped)


checkpoints = store.Store(directory, keep=1)
checkpoints.save(1, state(1), {"step": 1})
checkpoints.wait()
if point == "before seal":
    integrity.seal = die
elif point == "before rename":
    die_if(os, "rename", lambda path: path.endswith("/2"))
elif point == "in deletion":
    half = lambda path: os.remove(path + "/state/_METADATA")
    die_if(shutil, "rmtree", lambda path: os.path.exists(path + "/state/_METADATA"), half)
checkpoints.save(2, state(2), {"step": 2})
if point == "no close":
    sys.exit()
if point != "in flight":
    checkpoints.wait()
die()
"""


def run_child(directory: Path, point: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    command = [sys.executable, "-c", CHILD, str(directory), point]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("point", "steps"),
    [
        ("in flight", [[1]]),
        ("before seal", [[1]]),
        ("before rename", [[1]]),
        ("in deletion", [[2]]),
        ("after wait", [[2]]),
        ("no close", [[1], [2]]),  # not killed: it must end, and may or may not commit
    ],
)
def test_a_process_that_dies_leaves_whole_steps(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, point: str, steps: list[list[int]]
) -> None:
    child = run_child(tmp_path, point)
    assert child.returncode == (0 if point == "no close" else -signal.SIGKILL), child.stderr
    with Store(tmp_path, keep=2) as store:
        assert store.steps() in steps
        numbered = sorted(path.name for path in tmp_path.iterdir() if path.name.isdecimal())
        assert numbered == [str(step) for step in store.steps()], "no folder is half a step"
        restored = store.restore(None)
        assert restored is not None
        assert np.all(restored.state["w"] == restored.step)
        assert caplog.messages == [], "what a kill leaves behind is no damage"
        store.save(3, {"w": np.full(3, 3)}, {})
    assert [path.name for path in (tmp_path / ".staging").iterdir()] == []
    assert Store(tmp_path).steps() == [restored.step, 3]


def test_what_a_failed_save_still_writes_is_deleted_too(tmp_path):
    """Orbax's threads go on after one of them has failed, and cannot be waited for."""
    folders = StepFolders(tmp_path, Retention())
    folders.clear_staging()

    def write() -> None:
        folders.staged(3).mkdir(parents=True)
        with contextlib.suppress(FileNotFoundError):  # deleted between the two, as it may be
            (folders.staged(3) / "late").write_text("half")

    late = threading.Timer(0.1, write)
    late.start()
    folders.forget_staging(patience=0.5)
    late.join()
    assert not any(tmp_path.iterdir())
