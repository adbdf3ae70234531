"""A disk that takes no more, while a run trains: told at once, borne by a rule, nothing lost."""

import contextlib
import functools
import logging
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import jobs, runs
from vit_jax.checkpoints.store import Store
from vit_jax.config import to_json
from vit_jax.errors import CheckpointError, SaveError
from vit_jax.main import main
from vit_jax.records.loggers import Console, Recorder
from vit_jax.train import train

pytestmark = pytest.mark.slow  # nine whole runs

SETTINGS: dict[str, Any] = {"total_steps": 20, "checkpoint_every": 2, "eval_every": 10}
SIZE = 20_000  # KiB: a checkpoint of this run takes 200 to 300


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
    options = ["-t", "tmpfs", "-o", f"size={SIZE}k", "tmpfs", str(place)]
    if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here, though we are root: a container")
    try:
        yield Disk(place)
    finally:
        subprocess.run(["umount", str(place)], check=True)


class Image:
    """A file system of its own in a file, which is treated as a disk."""

    def __init__(self, folder: Path, kind: str, megabytes: int):
        self.file, self.place = folder / "image", folder / "mounted"
        self.place.mkdir()
        with self.file.open("wb") as file:
            file.truncate(megabytes * 2**20)
        if shutil.which(f"mkfs.{kind}") is None:
            pytest.skip(f"no mkfs.{kind}")
        command(f"mkfs.{kind}", "-q", self.file)

    def mount(self, options: str = "loop") -> None:
        if command("mount", "-o", options, self.file, self.place, check=False).returncode:
            pytest.skip("nothing can be mounted here, though we are root: a container")

    def unmount(self) -> None:
        command("umount", self.place)

    def device(self) -> str:
        """Returns the name of the block device that the kernel made of the file."""
        return Path(command("findmnt", "-no", "SOURCE", self.place).stdout.strip()).name


def command(*words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words], check=check, capture_output=True, text=True
    )


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Callable[[str, int], Image]]:
    """Makes file systems by (kind, megabytes), and takes them down at the end."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("a file system can be mounted by root alone, and on Linux")
    made: list[Image] = []

    def make(kind: str, megabytes: int) -> Image:
        made.append(Image(tmp_path, kind, megabytes))
        return made[-1]

    yield make
    for image in made:
        command("umount", image.place, check=False)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    train(runs.tiny_config(**SETTINGS), str(workdir), Console(quiet=True))
    return workdir


def _at(monkeypatch: pytest.MonkeyPatch, happenings: dict[int, Callable[[], Any]]) -> list[int]:
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
    disk: Disk,
    alone: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    _at(monkeypatch, {9: disk.fill})
    workdir = disk.place / "run"
    config = runs.tiny_config(**SETTINGS, keep_checkpoints=100)
    with pytest.raises(SaveError, match=r"No space left.* start the same command again") as ended:
        train(config, str(workdir), Console(quiet=True))
    failed = [line.split()[2] for line in [*_failures(caplog), str(ended.value)]]
    assert failed == ["10", "12", "14"]
    assert "ends at 3 such failures in a row (this is 2)" in caplog.text
    assert "Traceback" not in capfd.readouterr().err
    assert "Traceback" not in caplog.text
    # What was half written is gone, and its room is given back.
    saved = {path.parent.name for path in (workdir / "checkpoints").glob("*/*")}
    assert saved == {"2", "4", "6", "8"}
    disk.empty()
    monkeypatch.undo()
    train(config, str(workdir), Console(quiet=True))
    assert runs.differences(alone, workdir, SETTINGS["total_steps"]) == []


def test_a_disk_that_is_full_for_a_while_costs_nothing(
    disk: Disk, alone: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """From step 9 to step 12 no checkpoint can be written, nor, perhaps, a line of metrics."""
    _at(monkeypatch, {9: disk.fill, 12: disk.empty})
    workdir = disk.place / "run"
    train(runs.tiny_config(**SETTINGS), str(workdir), Console(quiet=True))
    assert [line.split()[2] for line in _failures(caplog)] == ["10"]
    assert runs.differences(alone, workdir, SETTINGS["total_steps"]) == []


def test_a_failure_is_told_before_the_next_save(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
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


def test_two_processes_end_together_where_only_one_knows_of_the_failure(tmp_path: Path) -> None:
    """Process 0 makes the folders; where it cannot, process 1 must not wait for them in vain."""
    config = runs.tiny_config(total_steps=500, eval_every=500, checkpoint_every=50)
    file = jobs.recipe(tmp_path, to_json(config))
    command = ["train", f"--config={file}", f"--workdir={tmp_path / 'run'}"]
    job = jobs.start(2, 1, command)
    checkpoints, deadline = tmp_path / "run" / "checkpoints", time.monotonic() + 300
    while not (checkpoints / "50").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    staging = checkpoints / ".staging"
    shutil.rmtree(staging, ignore_errors=True)
    staging.touch()
    ended = jobs.finish(job, timeout=150)
    assert [code for code, _ in ended] == [3, 3], ended
    assert "failed (File exists)" in ended[0][1]
    assert "another process could not write its part" in ended[1][1]
    assert not any("Traceback" in output for _, output in ended), ended
    with Store(checkpoints) as store:
        saved = store.steps()
    assert saved[0] >= 50
    staging.unlink()
    assert main(command) == 0


def test_a_disk_that_fails_and_turns_read_only_gives_back_what_was_saved(
    images: Callable[[str, int], Image],
    alone: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The kernel finds an error in the file system, and drops all that was not on the disk yet."""
    image = images("ext4", 64)
    image.mount("loop,errors=remount-ro")
    fault = Path("/sys/fs/ext4", image.device(), "trigger_fs_error")
    if not fault.exists():
        pytest.skip("this kernel has no way to ask for an error of ext4")
    _at(monkeypatch, {9: functools.partial(fault.write_text, "1")})
    config, workdir = runs.tiny_config(**SETTINGS), image.place / "run"
    with pytest.raises(SaveError, match="Read-only file system"):
        train(config, str(workdir), Console(quiet=True))
    assert len(_failures(caplog)) == 2  # and the third is what ended the run
    image.unmount()
    command("fsck.ext4", "-y", image.file, check=False)
    image.mount()
    with Store(workdir / "checkpoints") as store:
        restored = store.restore(None)
    assert restored is not None
    assert restored.step >= 6, "a step that was said to be saved is not on the disk"
    train(config, str(workdir), Console(quiet=True))
    assert runs.differences(alone, workdir, SETTINGS["total_steps"]) == []


def test_a_quota_is_told_and_more_of_it_lets_the_run_go_on(
    images: Callable[[str, int], Image], alone: Path
) -> None:
    image = images("btrfs", 128)
    image.mount()
    share = image.place / "share"
    command("btrfs", "quota", "enable", image.place)
    command("btrfs", "subvolume", "create", share)
    command("btrfs", "qgroup", "limit", "600k", share)
    config = runs.tiny_config(**SETTINGS, keep_checkpoints=100)
    with pytest.raises(SaveError, match="Disk quota exceeded"):
        train(config, str(share / "run"), Console(quiet=True))
    command("btrfs", "qgroup", "limit", "none", share)
    train(config, str(share / "run"), Console(quiet=True))
    assert runs.differences(alone, share / "run", SETTINGS["total_steps"]) == []


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
    assert runs.differences(alone, tmp_path / "run", SETTINGS["total_steps"]) == []
