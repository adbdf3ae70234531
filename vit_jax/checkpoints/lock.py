"""One writer: a workdir refuses a second at start, and a file in the cache makes it wait."""

import contextlib
import json
import logging
import os
import socket
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO

from vit_jax.errors import CheckpointError

logger = logging.getLogger("vit_jax")

LOCK = ".lock"


class WorkdirLock:
    """Holds a workdir for this process, as a context manager; the workdir is made if absent.

    The operating system drops the lock when its process dies, however it dies, so a lock is never
    stale and the file `.lock`, which stays, means nothing by itself. In a job of several processes
    process 0 takes it for all. Where files cannot be locked (Windows, some network file systems) a
    warning says so, and the run goes on without.

    Raises:
      CheckpointError: on entry, if another writer holds the workdir; it names host, process id
          and since when. Also if the lock file cannot be opened.
    """

    def __init__(self, workdir: str | Path):
        self._path = Path(workdir).absolute() / LOCK
        self._file: IO[str] | None = None

    def __enter__(self) -> "WorkdirLock":
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = self._path.open("a+", encoding="utf-8")
        except OSError as error:
            raise CheckpointError(
                f"workdir {self._path.parent} cannot be written ({error.strerror}); a run needs a "
                "workdir it can write to"
            ) from error
        try:
            _lock(file)
        except BlockingIOError:
            with file:
                raise CheckpointError(self._refusal(file)) from None
        except OSError as error:
            logger.warning(
                "%s: files cannot be locked here (%s); make sure that no other run writes to this "
                "workdir",
                self._path.parent,
                error.strerror,
            )
        self._file = file
        self._sign(file)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            # The file stays: were it deleted, a third writer could lock a new file of its name
            # while a second one still holds the old.
            self._file.truncate(0)
            self._file.close()
            self._file = None

    def _sign(self, file: IO[str]) -> None:
        file.truncate(0)
        since = datetime.now().astimezone().isoformat(timespec="seconds")
        json.dump({"host": socket.gethostname(), "pid": os.getpid(), "since": since}, file)
        file.flush()

    def _refusal(self, file: IO[str]) -> str:
        try:
            file.seek(0)
            holder = json.load(file)
            who = f"process {holder['pid']} on {holder['host']} since {holder['since']}"
        except (ValueError, KeyError, TypeError):  # it has not signed yet
            who = "another process"
        return (
            f"workdir {self._path.parent} is being written by {who}; one workdir has one writer: "
            "wait for that run, stop it, or choose another workdir"
        )


@contextlib.contextmanager
def waiting(path: Path) -> Iterator[None]:
    """Holds the file `path` as a lock, after waiting for whoever holds it; the file stays.

    Where files cannot be locked a warning says so, and the block runs without.

    Raises:
      OSError: the file cannot be opened.
    """
    with path.open("a", encoding="utf-8") as file:
        try:
            try:
                _lock(file)
            except BlockingIOError:
                logger.info("%s: waiting for another process", path)
                _wait(file)
        except OSError as error:
            logger.warning(
                "%s: files cannot be locked here (%s); make sure that no other process does the "
                "same",
                path,
                error.strerror,
            )
        yield


if sys.platform == "win32":

    def _lock(file: IO[str]) -> None:
        raise OSError(0, "not supported on Windows")

    def _wait(file: IO[str]) -> None:
        raise OSError(0, "not supported on Windows")

else:
    import fcntl

    def _lock(file: IO[str]) -> None:
        """Takes the lock or raises BlockingIOError; not inherited by programs started later."""
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _wait(file: IO[str]) -> None:
        """Takes the lock as soon as it is free."""
        fcntl.flock(file, fcntl.LOCK_EX)
