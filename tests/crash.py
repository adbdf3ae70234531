"""A training run that kills itself: `python -m tests.crash WORKDIR STEP SETTINGS`.

SETTINGS is a JSON object laid over the tiny run of `tests.runs`. Right after STEP has been
dispatched, the process sends itself SIGKILL: nothing is flushed, closed or finished.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

from tests import runs
from tests.golden import REPOSITORY
from vit_jax.checkpoints.store import Store
from vit_jax.records.loggers import Console, Recorder
from vit_jax.train import train


def main(workdir: str, step: int, settings: str) -> None:
    push = Recorder.push

    def push_and_die(self, now, measured):
        push(self, now, measured)
        if now == step:
            os.kill(os.getpid(), signal.SIGKILL)

    with mock.patch.object(Recorder, "push", push_and_die):
        train(runs.tiny_config(**json.loads(settings)), workdir)


def finish(workdir: Path, settings: dict) -> None:
    """Trains in this process, from where the run stands to its end."""
    result = train(runs.tiny_config(**settings), str(workdir), Console(quiet=True))
    assert result.step == 30


def kill(workdir: Path, step: int, settings: dict) -> None:
    """Runs until `step` in a process of its own, which is killed there."""
    command = [sys.executable, "-m", "tests.crash", str(workdir), str(step), json.dumps(settings)]
    process = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert process.returncode == -signal.SIGKILL, process.stderr
    with Store(workdir / "checkpoints") as store:
        saved = store.steps()
    assert saved, "it was killed before its first checkpoint: nothing would be resumed"
    assert max(saved) < 30


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
