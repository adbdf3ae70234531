"""Runs that are killed and started again, and what must be the same in the end."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests import runs, xla
from tests.faults.victim import POINTS
from tests.golden import REPOSITORY
from vit_jax.checkpoints.store import Store
from vit_jax.config import to_json

STEPS = 60
# Three epochs of 22.5 steps; a checkpoint, an evaluation and a deletion every few steps; with all
# that a state may have: accumulated gradients, a running average, batch statistics.
SETTINGS: dict[str, Any] = {
    "total_steps": STEPS,
    "accum_steps": 2,
    "ema_decay": 0.9,
    "model": {"stem": "conv"},
    "checkpoint_every": 2,
    "eval_every": 5,
    "keep_every": 20,
}
MOST_KILLS_OF_A_RUN = 10
# How often a run of so many steps comes by a point, about.
OFTEN = {
    "step": STEPS,
    "metrics line": STEPS,
    "evaluation": STEPS // 5,
    "save begun": STEPS // 2,
    "save written": STEPS // 2,
    "sealing": 10 * STEPS,
    "sealed": STEPS // 2,
    "rename": STEPS,
    "committed": STEPS // 2,
    "deletion": STEPS // 2 - 4,
    "settings": 1,
}


@dataclass(frozen=True)
class Start:
    """One start of a run.

    Attributes:
      fault: what was injected.
      killed: whether the process died of it; else it ended by itself.
      newest: the newest intact step that it found; None if there was none.
      resumed: the step after which it went on; None if at the beginning.
      seconds: from the start of the process to the first line of metrics; None if it came to none.
      saved: the newest intact step that it left.
      output: what it printed.
    """

    fault: str
    killed: bool
    newest: int | None
    resumed: int | None
    seconds: float | None
    saved: int | None
    output: str

    @property
    def lost(self) -> int:
        """How many saved steps this start lost: it went on from an older one, or left an older."""
        found, kept = self.newest or 0, self.saved or 0
        went_on = found if self.seconds is None else self.resumed or 0
        return max(0, found - went_on) + max(0, found - kept)


def recipe(folder: Path) -> Path:
    """Writes the settings of the run to be killed, as `--config` takes them."""
    file = folder / "settings.json"
    file.write_text(to_json(runs.tiny_config(**SETTINGS)))
    return file


def newest(workdir: Path) -> int | None:
    """Returns the newest step that verifies; None if there is none yet."""
    with Store(workdir / "checkpoints") as store:
        restored = store.restore_subtree("step")
    return restored.step if restored else None


def start(config: Path, workdir: Path, fault: str = "none", *flags: str) -> Start:
    """Starts a run, or goes on with it, in a process of its own, and waits for its end."""
    found = newest(workdir)
    command = [sys.executable, "-m", "tests.faults.victim", fault]
    command += [f"--config={config}", f"--workdir={workdir}", *flags]
    ended = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300,
        env={**os.environ, "XLA_FLAGS": xla.flags(), "VICTIM_STARTED": str(time.time())},
    )  # fmt: skip
    output = ended.stdout + ended.stderr
    assert ended.returncode in (0, -signal.SIGKILL), output
    assert "Traceback" not in output, output
    resumed = re.search(r"resuming after step (\d+)", output)
    first = re.search(r"first line after ([\d.]+) s", output)
    return Start(
        fault,
        ended.returncode != 0,
        found,
        int(resumed[1]) if resumed else None,
        float(first[1]) if first else None,
        newest(workdir),
        output,
    )


def random_fault(random: Random, seconds: float) -> str:
    """Returns a fault for a run of which so many seconds are training: a moment, or a point."""
    if random.random() < 0.5:
        return f"moment:{random.uniform(0, seconds):.3f}"
    point = random.choice(sorted(POINTS))
    # In its first quarter, so that the run is killed several times before it ends.
    return f"{point}:{random.randint(1, max(1, OFTEN[point] // 4))}"


def differences(left: Path, right: Path) -> list[str]:
    """Compares two runs that have ended, with all that a state may have."""
    for workdir in (left, right):
        state = runs.last_saved(workdir).state
        assert {"params", "opt_state", "ema", "batch_stats"} <= set(state)
    return runs.differences(left, right, STEPS)


def inject(
    folder: Path, kills: int, random: Random, tell: Callable[[Start], None] = lambda start: None
) -> tuple[list[Start], list[list[str]]]:
    """Kills runs, so many times in all, and goes on with them until they end.

    Args:
      folder: an empty one, for the runs.
      kills: how many.
      random: decides where and when.
      tell: called with each start that has ended.

    Returns:
      All starts; and for each run what differs from one that was left alone.
    """
    config = recipe(folder)
    start(config, folder / "compiling")  # the others find its programs compiled
    began = time.perf_counter()
    alone = start(config, folder / "alone")
    training = time.perf_counter() - began - (alone.seconds or 0)
    starts: list[Start] = []
    differing: list[list[str]] = []
    left = kills
    while left > 0:
        workdir, killed = folder / f"run{len(differing)}", 0
        while killed < min(left, MOST_KILLS_OF_A_RUN):
            starts.append(start(config, workdir, random_fault(random, training)))
            tell(starts[-1])
            if not starts[-1].killed:
                break
            killed += 1
        left -= killed
        starts.append(start(config, workdir))
        tell(starts[-1])
        differing.append(differences(folder / "alone", workdir))
    return starts, differing
