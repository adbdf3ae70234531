"""Jobs of several processes on this machine: the command line, once for each process."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from tests import xla
from tests.golden import REPOSITORY


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(
    processes: int, devices: int, command: list[list[str]] | list[str]
) -> list[subprocess.Popen[str]]:
    """Starts `vit_jax COMMAND` in so many processes, each with so many (virtual) CPU devices.

    A command for each process may be given, in place of one for all.
    """
    port = free_port()
    commands = command if isinstance(command[0], list) else [command] * processes
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": xla.flags(devices),
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]),
    }
    started = []
    for index, arguments in enumerate(commands):
        line = [sys.executable, "-m", "vit_jax.main", *arguments]
        if processes > 1:
            line += [f"--coordinator=127.0.0.1:{port}", f"--processes={processes}"]
            line += [f"--process={index}"]
        started.append(
            subprocess.Popen(
                line, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        )
    return started


def finish(job: list[subprocess.Popen[str]], timeout: float = 300) -> list[tuple[int, str]]:
    """Returns (exit code, output) of each process; kills all if one takes too long."""
    try:
        outputs = [one.communicate(timeout=timeout)[0] for one in job]
        return [(one.returncode, output) for one, output in zip(job, outputs, strict=True)]
    finally:
        for one in job:
            one.kill()


def end(job: list[subprocess.Popen[str]]) -> None:
    """Kills what still runs, and forgets its output."""
    for one in job:
        one.kill()
        if one.stdout is not None and not one.stdout.closed:
            one.communicate()


def run(processes: int, devices: int, command: list[str]) -> list[tuple[int, str]]:
    """Runs a job to its end."""
    return finish(start(processes, devices, command))


def recipe(folder: Path, settings: str) -> Path:
    """Writes a config file that `--config` takes."""
    file = folder / "settings.json"
    file.write_text(settings)
    return file
