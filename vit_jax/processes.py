"""Several processes of one job, on one machine or many: joining them, and what they must agree on.

JAX's own runtime does the work. Every process runs the same program and makes the same calls; with
a single process all of this costs nothing.
"""

import hashlib
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

from vit_jax.errors import ConfigError, VitJaxError

_NONE, _FAILED = -1, -2


def join(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> None:
    """Makes this process one of a job; to be called before JAX has looked for devices.

    Without arguments the cluster is asked (SLURM, Open MPI, Cloud TPU, GKE, Kubernetes), as
    `jax.distributed.initialize` does.

    Args:
      coordinator: HOST:PORT of process 0, on which it listens.
      processes: how many there are.
      process: which of them this is, from 0.

    Raises:
      ConfigError: some but not all arguments are given, no cluster is found, or the others do not
        come.
    """
    given = (coordinator, processes, process)
    if None in given and given != (None, None, None):
        raise ConfigError(
            f"--coordinator={coordinator} --processes={processes} --process={process}: give all "
            "three, or --distributed alone to ask the cluster"
        )
    if processes is not None and process is not None and not 0 <= process < processes:
        raise ConfigError(f"--process={process} must be from 0 to {processes - 1}")
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"this process cannot join a job ({reason}); give --coordinator=HOST:PORT, "
            "--processes=N and --process=I, the same coordinator to all"
        ) from error


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
