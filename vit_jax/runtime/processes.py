"""Several processes of one job, on one machine or many: joining them, and what they must agree on.

JAX's own runtime does the work. Every process runs the same program and makes the same calls; with
a single process all of this costs nothing.
"""

import contextlib
import hashlib
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from vit_jax.errors import ConfigError, VitJaxError
from vit_jax.runtime import ending, watchdog

_NONE, _FAILED = -1, -2


def join(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    patience: int = 300,
    heartbeat: int = 60,
    stall: int = 1800,
) -> None:
    """Makes this process one of a job; to be called before JAX has looked for devices.

    Without arguments the cluster is asked (SLURM, Open MPI, Cloud TPU, GKE, Kubernetes), as
    `jax.distributed.initialize` does.

    Args:
      coordinator: HOST:PORT of process 0, on which it listens.
      processes: how many there are.
      process: which of them this is, from 0.
      patience: seconds to wait for the others; when they are over, this process ends with a line
        that says so.
      heartbeat: seconds without a sign of life after which a process is taken for dead, and all
        others end (exit code 5).
      stall: seconds without a step after which each process ends (exit code 5): one of them hangs.

    Raises:
      ConfigError: some but not all of the first three are given, or no cluster is found.
    """
    given = (coordinator, processes, process)
    if None in given and given != (None, None, None):
        raise ConfigError(
            f"--coordinator={coordinator} --processes={processes} --process={process}: give all "
            "three, or --distributed alone to ask the cluster"
        )
    if processes is not None and process is not None and not 0 <= process < processes:
        raise ConfigError(f"--process={process} must be from 0 to {processes - 1}")
    if coordinator is not None and not re.fullmatch(r".+:\d+", coordinator):
        raise ConfigError(f"--coordinator={coordinator}: must be HOST:PORT, as in 10.0.0.1:1234")
    if patience < 1:
        raise ConfigError(f"--patience={patience}: must be at least 1 second")
    if heartbeat < 5:
        raise ConfigError(f"--heartbeat={heartbeat}: must be at least 5 seconds")
    if stall < 1:
        raise ConfigError(f"--stall={stall}: must be at least 1 second")
    message = f"after {patience} s {_missing(*given)}; start all within that time, or give a "
    message += "longer --patience"
    # JAX's own limit ends the process with a trace of its C++ stack: ours comes before.
    later = patience + 60
    try:
        with _ends_after(patience, message):
            jax.distributed.initialize(
                coordinator,
                processes,
                process,
                initialization_timeout=later,
                heartbeat_timeout_seconds=heartbeat,
                coordinator_bind_address=bound(coordinator),
            )
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"this process cannot join a job ({reason}); give --coordinator=HOST:PORT, "
            "--processes=N and --process=I, the same coordinator to all"
        ) from error
    ending.catch_aborts(heartbeat)
    watchdog.start(stall)


def bound(coordinator: str | None) -> str | None:
    """Returns where process 0 listens: JAX alone would listen to all networks of the machine."""
    if coordinator is None:
        return None
    host = coordinator.rpartition(":")[0].strip("[]")
    local = host == "localhost" or host == "::1" or re.fullmatch(r"127(\.\d+){3}", host)
    return coordinator if local else None


def _missing(coordinator: str | None, processes: int | None, process: int | None) -> str:
    if coordinator is None:
        return "the other processes of the cluster's job do not answer"
    if process == 0:
        return f"not all of {processes} processes came to {coordinator}"
    return f"--coordinator={coordinator} does not answer"


@contextlib.contextmanager
def _ends_after(seconds: float, message: str) -> Iterator[None]:
    """Ends this process with one line, as an error of the user, if the block takes longer."""

    def end() -> None:
        print(f"vit_jax: error: {message}", file=sys.stderr, flush=True)
        os._exit(ConfigError.exit_code)  # the main thread waits in C++ and hears nothing

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def is_first() -> bool:
    """Returns whether this process writes for all."""
    return jax.process_index() == 0


def check_agreed(what: str, content: str) -> None:
    """Raises ConfigError in every process if `content` is not the same in all; a barrier, too."""
    if jax.process_count() == 1:
        return
    digest = np.frombuffer(hashlib.sha256(content.encode()).digest(), np.uint32)
    digests = np.asarray(multihost_utils.process_allgather(digest))
    if others := [i for i, other in enumerate(digests) if (other != digests[0]).any()]:
        raise ConfigError(
            f"{what}: not the same in process 0 and in process {', '.join(map(str, others))}; "
            "start all with the same command and the same data"
        )


def largest(number: int) -> int:
    """Returns the largest of all processes' numbers; all must ask at the same time."""
    if jax.process_count() == 1:
        return number
    return int(np.max(multihost_utils.process_allgather(np.int32(number))))


def as_first(decide: Callable[[], int | None]) -> int | None:
    """Returns what process 0 decides, in every process: a number that is not negative, or None.

    Raises:
      VitJaxError: what `decide` raised in process 0; the others say that it did.
    """
    if jax.process_count() == 1:
        return decide()
    number, failure = _NONE, None
    if is_first():
        try:
            decided = decide()
            number = _NONE if decided is None else decided
        except VitJaxError as error:
            number, failure = _FAILED, error
    number = int(multihost_utils.broadcast_one_to_all(np.int32(number)))
    if failure is not None:
        raise failure
    if number == _FAILED:
        raise VitJaxError("process 0 cannot go on; its own message says why")
    return None if number == _NONE else number
