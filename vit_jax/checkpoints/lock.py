"""One writer: a workdir refuses a second at start, and a file in the cache makes it wait."""

import contextlib
import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from vit_jax.errors import CheckpointError

logger = logging.getLogger("vit_jax")

LOCK = ".lock"
_BEAT = 5.0  # seconds between two touches
_SILENCE = 4 * _BEAT  # after which whoever signed is taken for dead


class WorkdirLock:
    """Holds a workdir for this process, as a context manager; the workdir is made if absent.

    The operating system drops the lock when its process dies, however it dies, so on one machine a
    lock is never stale, whoever has the number of its process now. In a job of several processes
    process 0 takes it for all.

    Some shared disks lock for one machine at a time only, or not at all (Windows does not either).
    So the holder signs the file `.lock` and touches it every few seconds. Whoever gets the lock and
    finds it signed by another machine, or cannot lock, watches it for a while: if it is touched the
    holder lives, else it is dead and its place is taken. No clock is compared with another. Where
    files cannot be locked a warning says so: two that start within the same seconds are not told
    apart there.

    Raises:
      CheckpointError: on entry, if another writer holds the workdir; it names host, process id
          and since when. Also if the lock file cannot be opened.
    """

    def __init__(self, workdir: str | Path):
        self._path = Path(workdir).absolute() / LOCK
        self._file: IO[str] | None = None
        self._ended = threading.Event()

    def __enter__(self) -> "WorkdirLock":
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = self._path.open("a+", encoding="utf-8")
        except OSError as error:
            raise CheckpointError(
                f"workdir {self._path.parent} cannot be written ({error.strerror}); a run needs a "
                "workdir it can write to"
            ) from error
        locked = True
        try:
            _lock(file)
        except BlockingIOError:
            with file:
                raise CheckpointError(self._refusal(_signature(file))) from None
        except OSError as error:
            locked = False
            logger.warning(
                "%s: files cannot be locked here (%s); make sure that no other run writes to this "
                "workdir",
                self._path.parent,
                error.strerror,
            )
        self._outwait(file, locked)
        self._file = file
        self._sign(file)
        self._ended.clear()
        threading.Thread(target=self._beat, daemon=True, name="lock").start()
        return self

    def _outwait(self, file: IO[str], locked: bool) -> None:
        """Watches a file that someone signed whom the lock would not show; raises if they live."""
        holder = _signature(file)
        if holder is None or (locked and holder["host"] == socket.gethostname()):
            return
        logger.warning(
            "%s: signed by %s; waiting %g s for a sign of life",
            self._path,
            _who(holder),
            _SILENCE,
        )
        before, end = _touched(self._path), time.monotonic() + _SILENCE
        while time.monotonic() < end:
            time.sleep(_BEAT / 2)
            if _touched(self._path) != before:
                with file:
                    raise CheckpointError(self._refusal(_signature(file)))

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT):
            with contextlib.suppress(OSError):  # a full disk; it will pass, or the save will say so
                os.utime(self._path)

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            self._ended.set()
            # The file stays: were it deleted, a third writer could lock a new file of its name
            # while a second one still holds the old.
            with self._file, contextlib.suppress(OSError):  # a disk that has turned read-only
                self._file.truncate(0)
            self._file = None

    def _sign(self, file: IO[str]) -> None:
        file.truncate(0)
        since = datetime.now().astimezone().isoformat(timespec="seconds")
        json.dump({"host": socket.gethostname(), "pid": os.getpid(), "since": since}, file)
        file.flush()

    def _refusal(self, holder: Mapping[str, Any] | None) -> str:
        return (
            f"workdir {self._path.parent} is being written by {_who(holder)}; one workdir has one "
            "writer: wait for that run, stop it, or choose another workdir"
        )


def _signature(file: IO[str]) -> dict[str, Any] | None:
    """Returns host, pid and since of whoever signed a lock file; None if nobody has, yet."""
    try:
        file.seek(0)
        signed = json.load(file)
        return {name: signed[name] for name in ("host", "pid", "since")}
    except (ValueError, KeyError, TypeError):
        return None


def _who(holder: Mapping[str, Any] | None) -> str:
    if holder is None:
        return "another process"
    return f"process {holder['pid']} on {holder['host']} since {holder['since']}"


def _touched(path: Path) -> int | None:
    """Returns when a file was touched, by its disk's clock; opened anew, as NFS remembers else."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_mtime_ns
    except OSError:
        return None


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
