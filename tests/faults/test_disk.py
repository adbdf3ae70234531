"""A disk that takes no more, while a run trains: told at once, borne by a rule, nothing lost."""

import contextlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import jobs, runs
from vit_jax import trees
from vit_jax.checkpoints.store import Store
from vit_jax.config import to_json
from vit_jax.errors import CheckpointError, SaveError
from vit_jax.loggers import Console, Recorder
from vit_jax.main import main
from vit_jax.train import train

pytestmark = pytest.mark.slow  # seven whole runs

SETTINGS: dict[str, Any] = {"total_steps": 20, "checkpoint_every": 2, "eval_every": 10}
SMALL, ENOUGH = 800, 20_000  # KiB: a checkpoint of this run takes 200 to 300


class Disk:
    """A small file system of its own, in memory."""

    def __init__(self, place: Path):
        self.place = place

    def remount(self, how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.place)], check=True)

    def fill(self) -> None:
        """Takes all the room that is left, once the save in flight has ended."""
        staging = self.place / "run" / "checkpoints" / ".staging"
        deadline, idle = time.monotonic() + 60, 0
        while idle < 30 and time.monotonic() < deadline:  # a deletion may follow a commit
            idle = 0 if staging.exists() and any(staging.iterdir()) else idle + 1
            time.sleep(0.01)
        with (self.place / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass

    def empty(self) -> None:
        """Gives that room back."""
        (self.place / "ballast").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("a file system can be mounted by root alone, and on Linux")
    place = tmp_path / "disk"
    place.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={SMALL}k", "tmpfs", str(place)]
    if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here, though we are root: a container")
    try:
        yield Disk(place)
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    train(runs.tiny_config(**SETTINGS), str(workdir), Console(quiet=True))
    return workdir


def _assert_same(left: Path, right: Path) -> None:
    states = []
    for workdir in (left, right):
        with Store(workdir / "checkpoints") as store:
            restored = store.restore(None)
        assert restored is not None
        states.append(restored.state)
    assert trees.difference(*states) == []
    assert runs.metrics_of(left) == runs.metrics_of(right)


def _at(monkeypatch: pytest.MonkeyPatch, happenings: dict[int, Callable[[], None]]) -> list[int]:
    """Lets something happen right after a step was dispatched; returns the steps seen so far."""
    push, seen = Recorder.push, []

    def wrapped(self: Recorder, step: int, measured: Any) -> None:
        push(self, step, measured)
        seen.append(step)
        happenings.get(step, lambda: None)()

    monkeypatch.setattr(Recorder, "push", wrapped)
    return seen


def _failures(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [line for line in caplog.messages if line.startswith("saving step")]


def test_three_failures_in_a_row_end_the_run_and_room_lets_it_go_on(
    disk: Disk, alone: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """The disk holds a few checkpoints, and the run would keep a hundred."""
    workdir = disk.place / "run"
    config = runs.tiny_config(**SETTINGS, keep_checkpoints=100)
    with pytest.raises(SaveError, match=r"No space left.* start the same command again") as ended:
        train(config, str(workdir), Console(quiet=True))
    failed = [int(line.split()[2]) for line in [*_failures(caplog), str(ended.value)]]
    assert failed == list(range(failed[0], failed[0] + 6, 2))
    assert "ends at 3 such failures in a row (this is 2)" in caplog.text
    assert "Traceback" not in capfd.readouterr().err
    assert "Traceback" not in caplog.text
    saved = sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())
    # What was half written is gone, and its room is given back.
    assert saved == list(range(2, failed[0], 2)) != []
    disk.remount(f"size={ENOUGH}k")
    train(config, str(workdir), Console(quiet=True))
    _assert_same(alone, workdir)


def test_a_disk_that_is_full_for_a_while_costs_nothing(
    disk: Disk, alone: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """From step 9 to step 12 no checkpoint can be written, nor, perhaps, a line of metrics."""
    disk.remount(f"size={ENOUGH}k")
    _at(monkeypatch, {9: disk.fill, 12: disk.empty})
    workdir = disk.place / "run"
    train(runs.tiny_config(**SETTINGS), str(workdir), Console(quiet=True))
    assert [line.split()[2] for line in _failures(caplog)] == ["10"]
    _assert_same(alone, workdir)


def test_a_failure_is_told_before_the_next_save(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk.remount(f"size={ENOUGH}k")
    told: list[int] = []
    seen = _at(monkeypatch, {9: disk.fill, 19: disk.empty})
    warning = logging.getLogger("vit_jax").warning

    def note(message: str, *arguments: Any) -> None:
        told.extend(seen[-1:] if isinstance(arguments[0], SaveError) else [])
        warning(message, *arguments)

    monkeypatch.setattr("vit_jax.saving.logger.warning", note)
    settings = {**SETTINGS, "checkpoint_every": 10}
    train(runs.tiny_config(**settings), str(disk.place / "run"), Console(quiet=True))
    assert [line.split()[2] for line in _failures(caplog)] == ["10"]
    assert 10 <= told[0] < 20


def test_without_the_last_checkpoint_there_is_no_success(
    disk: Disk,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    disk.remount(f"size={ENOUGH}k")
    _at(monkeypatch, {19: disk.fill})
    file = jobs.recipe(tmp_path, to_json(runs.tiny_config(**SETTINGS)))
    assert main(["train", f"--config={file}", f"--workdir={disk.place / 'run'}"]) == 3
    out, err = capsys.readouterr()
    assert "predict     vit_jax predict" not in out
    assert "checkpoint  " not in out
    assert "error: saving step 20" in err
    with Store(disk.place / "run" / "checkpoints") as store:
        assert store.steps() == [16, 18]


def test_a_disk_that_is_read_only_from_the_start_is_one_line(disk: Disk) -> None:
    disk.remount("ro")
    with pytest.raises(CheckpointError, match=r"cannot be written \(Read-only file system\)"):
        train(runs.tiny_config(**SETTINGS), str(disk.place / "run"), Console(quiet=True))


LIMITED = """
import resource, sys
from vit_jax.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(main(sys.argv[2:]))
"""


def test_files_that_may_not_grow_end_a_real_run_with_exit_3(alone: Path, tmp_path: Path) -> None:
    """A limit that needs no root: no file of more than 16 KB, and each checkpoint has one."""
    file = jobs.recipe(tmp_path, to_json(runs.tiny_config(**SETTINGS)))
    command = ["train", f"--config={file}", f"--workdir={tmp_path / 'run'}"]
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, "16000", *command],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ended.returncode == 3, ended.stderr
    assert ended.stderr.count("failed (File too large)") == 3, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "predict     vit_jax predict" not in ended.stdout
    with Store(tmp_path / "run" / "checkpoints") as store:
        assert store.restore(None) is None, "nothing there may be taken for a checkpoint"
    assert main(command) == 0
    _assert_same(alone, tmp_path / "run")
