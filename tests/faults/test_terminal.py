"""What a run prints to goes away, or the clock goes back: training goes on, or ends and saves."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import jobs, runs
from tests.golden import REPOSITORY
from vit_jax.config import to_json
from vit_jax.records.loggers import Console
from vit_jax.records.metrics_file import TIMING
from vit_jax.train import train

# Four of whole processes.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminals"),
]

STEPS = 100


def _command(folder: Path) -> list[str]:
    rare = {"total_steps": STEPS, "checkpoint_every": STEPS, "eval_every": STEPS}
    file = jobs.recipe(folder, to_json(runs.tiny_config(**rare)))
    return [sys.executable, "-m", "vit_jax.main", "train", f"--config={file}",
            f"--workdir={folder / 'run'}"]  # fmt: skip


def _last_step(folder: Path) -> int:
    saved = (folder / "run" / "checkpoints").iterdir()
    (step,) = (int(one.name) for one in saved if one.name.isdecimal())
    assert runs.metrics_of(folder / "run")[-1]["step"] == step
    return step


def test_a_closed_pipe_does_not_end_a_run(tmp_path: Path) -> None:
    """As in `vit_jax train … | head -1`."""
    process = subprocess.Popen(
        _command(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=REPOSITORY,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    assert "vit_jax train" in process.stdout.readline()
    process.stdout.close()
    with process.stderr as stderr:
        said = stderr.read()
    assert process.wait(timeout=300) == 0, said
    assert said == "vit_jax: standard output is gone (Broken pipe): the run goes on in silence\n"
    assert _last_step(tmp_path) == STEPS


@pytest.mark.parametrize("nohup", [False, True], ids=["closed", "closed after nohup"])
def test_a_closed_terminal_saves_and_ends_or_is_ignored(nohup: bool, tmp_path: Path) -> None:
    import pty

    code = (
        "import os, signal, sys\n"
        f"signal.signal(signal.SIGHUP, signal.{'SIG_IGN' if nohup else 'SIG_DFL'})\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    main_end, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", f"import fcntl, termios\nfcntl.ioctl(0, termios.TIOCSCTTY)\n{code}",
         *_command(tmp_path)],
        stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True, cwd=REPOSITORY,
    )  # fmt: skip
    os.close(terminal)
    metrics, deadline = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 300
    seen = b""
    while not metrics.exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, seen
        seen += os.read(main_end, 10_000)
    os.close(main_end)
    assert process.wait(timeout=300) == (0 if nohup else 128 + signal.SIGHUP)
    assert _last_step(tmp_path) == STEPS if nohup else 0 < _last_step(tmp_path) < STEPS


def test_a_run_without_standard_output_trains(tmp_path: Path) -> None:
    """As in `vit_jax train … >&-`."""
    ended = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *_command(tmp_path)],
        cwd=REPOSITORY, stderr=subprocess.PIPE, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    assert _last_step(tmp_path) == STEPS


def test_a_clock_that_goes_back_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour at each look; the system's clock itself is not ours to set."""
    train(runs.tiny_config(), str(tmp_path / "steady"), Console(quiet=True))
    start, looks = time.time(), itertools.count()
    monkeypatch.setattr(time, "time", lambda: start - 3600 * next(looks))
    monkeypatch.setattr(time, "time_ns", lambda: int(1e9 * time.time()))
    train(runs.tiny_config(), str(tmp_path / "back"), Console(quiet=True))
    assert next(looks) > 10, "nobody looked"
    monkeypatch.undo()
    assert runs.metrics_of(tmp_path / "back") == runs.metrics_of(tmp_path / "steady")
    lines = (tmp_path / "back" / "metrics.jsonl").read_text().splitlines()
    speeds = [json.loads(line).get(TIMING, {}).get("images_per_second", 1.0) for line in lines]
    assert 0 <= min(speeds) <= max(speeds) < 1e7
