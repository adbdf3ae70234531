"""One of two real processes dies or stops: the other ends, and the same bits come back."""

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from tests import jobs, runs
from vit_jax.config import to_json
from vit_jax.errors import ConfigError, DataError
from vit_jax.inspecting.divergence import compare
from vit_jax.runtime.ending import is_loss
from vit_jax.runtime.processes import join

STEPS, HEARTBEAT = 300, 10
FAULTS = [(1, signal.SIGKILL), (0, signal.SIGKILL)]
if os.environ.get("VIT_JAX_KILLS"):  # it takes until a heartbeat is missed
    FAULTS.append((1, signal.SIGSTOP))


def _start(tmp_path, name):
    config = runs.tiny_config(
        total_steps=STEPS, eval_every=STEPS, checkpoint_every=50, state_digests=True
    )
    file = jobs.recipe(tmp_path, to_json(config))
    command = ["train", f"--config={file}", f"--workdir={tmp_path / name}"]
    return jobs.start(2, 1, [*command, f"--heartbeat={HEARTBEAT}"])


def _newest(checkpoints):
    return max((int(path.name) for path in checkpoints.glob("*") if path.name.isdigit()), default=0)


def _wait_for_checkpoint(checkpoints, after, job):
    """Returns once a later step than `after` has been saved."""
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline and all(one.poll() is None for one in job):
        if _newest(checkpoints) > after:
            return
        time.sleep(0.05)
    raise AssertionError(jobs.finish(job, 1))


@pytest.mark.slow  # four jobs of two processes, each of which starts and compiles
def test_the_other_ends_and_the_same_bits_come_back(tmp_path):
    for lost, how in FAULTS:
        before = _newest(tmp_path / "cut" / "checkpoints")
        job = _start(tmp_path, "cut")
        try:
            _wait_for_checkpoint(tmp_path / "cut" / "checkpoints", before, job)
            if sys.platform == "linux":
                _check_loopback(job[0].pid)
            _check_the_other_ends(job, lost, how)
        finally:
            jobs.end(job)
    for name in ("cut", "whole"):
        for code, output in jobs.finish(_start(tmp_path, name), 500):
            assert code == 0, output
    found = compare(tmp_path / "cut", tmp_path / "whole")
    assert not found.differs, found.lines
    assert f"steps from 1 to {STEPS}" in found.lines[2]


def _check_the_other_ends(job, lost, how):
    job[lost].send_signal(how)
    struck, other = time.monotonic(), job[1 - lost]
    output, _ = other.communicate(timeout=10 * HEARTBEAT)
    assert time.monotonic() - struck < HEARTBEAT + 15
    assert other.returncode == 5, output
    last = output.rstrip().splitlines()[-1]
    assert last.startswith("vit_jax: error: another process of the job"), output
    assert last.endswith("the same command again: they go on from the last checkpoint"), output
    assert "Traceback" not in output


def _check_loopback(pid):
    """No port that the process listens on can be reached from another machine."""
    process = Path("/proc", str(pid))
    mine = {os.readlink(link) for link in (process / "fd").iterdir()}
    lines = [
        line.split()
        for name in ("tcp", "tcp6")
        for line in (process / "net" / name).read_text().splitlines()[1:]
    ]
    listening = [x[1].split(":")[0] for x in lines if x[3] == "0A" and f"socket:[{x[9]}]" in mine]
    assert listening
    for address in listening:  # hexadecimal, each word of four bytes reversed
        assert re.fullmatch(r"(0{16}FFFF0000)?\w{6}7F|0{24}01000000", address), address


def test_what_jax_says_of_a_lost_process_is_recognised():
    assert is_loss(ValueError("UNKNOWN: Gloo AllGather failed: Read error: Connection reset"))
    assert is_loss(RuntimeError("UNAVAILABLE: task 1 is unhealthy"))
    assert not is_loss(ValueError("shapes do not match"))
    assert not is_loss(DataError("photo.jpg: UNAVAILABLE"))


def test_a_heartbeat_has_a_smallest_length():
    with pytest.raises(ConfigError, match="--heartbeat=1: must be at least 5"):
        join("127.0.0.1:1", 2, 0, heartbeat=1)
