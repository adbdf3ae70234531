"""How a process of a job ends when it, or another one, fails: at once, with a line that says why.

JAX's processes leave together: one that fails would wait minutes for the others, which wait for it
in their next sum, and all would end in traces of C++ stacks. Here one that fails leaves alone. Its
connections break, or its heartbeats stop, and the others end with `LostProcessError`.
"""

import contextlib
import ctypes
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import NoReturn

import jax

from vit_jax.errors import DataError, LostProcessError, VitJaxError

# How JAX's runtime and the libraries beneath it speak of a process that does not answer.
_LOST = re.compile(
    r"Gloo|NCCL|UNAVAILABLE|DEADLINE_EXCEEDED|coordination|heartbeat|Connection (reset|refused)",
    re.IGNORECASE,
)
# An error that all processes share is told by each: the others need process 0 while they do.
_LINGER = 3.0  # seconds
ADVICE = "start all processes with the same command again: they go on from the last checkpoint"

_leaving = threading.Lock()  # taken by whoever ends this process, and never given back


@contextlib.contextmanager
def alone_on_failure() -> Iterator[None]:
    """Ends this process, where it is one of several, if the block raises: what it prints is said.

    A process that has joined no job is left alone.
    """
    try:
        yield
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        if not jax.distributed.is_initialized():
            raise
        leave(error)


@contextlib.contextmanager
def at_once_on_loss() -> Iterator[None]:
    """As `alone_on_failure`, for failures that the other processes do not share.

    Belongs inside what would wait for them while it closes: a store with a save in flight.
    """
    try:
        yield
    except Exception as error:
        shared = isinstance(error, VitJaxError) and not isinstance(error, DataError)
        if shared or not jax.distributed.is_initialized():
            raise
        leave(error)


def is_loss(error: BaseException) -> bool:
    """Returns whether an error of JAX's means that another process does not answer."""
    ours = isinstance(error, (VitJaxError, KeyboardInterrupt))
    return not ours and _LOST.search(str(error)) is not None


def leave(error: BaseException) -> NoReturn:
    """Prints an error as the command line would, and ends without waiting for the others."""
    if not _leaving.acquire(blocking=False):
        time.sleep(60)  # another thread is about to end the process
    code = 1
    if is_loss(error):
        error = LostProcessError(f"another process of the job does not answer; {ADVICE}")
    if isinstance(error, VitJaxError):
        print(f"vit_jax: error: {error}", file=sys.stderr)
        code = error.exit_code
    elif isinstance(error, KeyboardInterrupt):
        print("vit_jax: interrupted", file=sys.stderr)
        code = 130
    else:
        traceback.print_exception(error)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    if jax.process_index() == 0 and not isinstance(error, LostProcessError):
        time.sleep(_LINGER)
    os._exit(code)


def catch_aborts(seconds: int) -> None:
    """Ends this process with a line and an exit code where JAX's runtime would abort it.

    The runtime's own lines stand above; they cannot be held back, as it writes them in C++ and then
    aborts: when process 0 is gone, or when a process has sent no heartbeat for `seconds`.
    """
    if os.name != "posix":
        return
    line = (
        "vit_jax: error: another process of the job is gone, or gave no sign of life for "
        f"{seconds} s (JAX's own lines above say which); {ADVICE}\n"
    ).encode()

    def end(_: int) -> None:
        if not _leaving.acquire(blocking=False):
            time.sleep(60)
        os.write(2, line)
        os._exit(LostProcessError.exit_code)

    global _handler
    _handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(end)
    # Python's own handlers run only between its instructions, which an abort never comes back to.
    ctypes.CDLL(None).signal(int(signal.SIGABRT), _handler)


_handler = None  # kept alive for as long as C may call it
