"""`vit_jax train` in a process that kills itself: `python -m tests.faults.victim FAULT ARGUMENTS`.

FAULT is `none`, `moment:SECONDS` (so long after the first line of metrics, wherever that is), or
`POINT:COUNT`, the COUNT-th time that the run comes to a named point. The signal is SIGKILL: nothing
is flushed, closed or finished. At the first line of metrics the process prints for how long it has
been running.
"""

import contextlib
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

from vit_jax.checkpoints import integrity, steps, store
from vit_jax.data.pipeline import Feed
from vit_jax.main import main
from vit_jax.records.loggers import Recorder
from vit_jax.records.metrics_file import MetricsFile
from vit_jax.train import Workdir

STARTED = float(os.environ.get("VICTIM_STARTED", time.time()))


def die(*_: object) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("nobody survives that")


def before(call: Callable[..., Any], *arguments: Any) -> Any:
    die()


def after(call: Callable[..., Any], *arguments: Any) -> Any:
    call(*arguments)
    die()


def half_a_line(call: Callable[..., Any], file: MetricsFile, path: Path) -> None:
    with path.open("a") as stream:
        stream.write('{"step": 1, "lo')
    die()


def half_deleted(call: Callable[..., Any], folder: Path, *_: Any) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files[: len(files) // 2]:
        path.unlink()
    die()


def in_the_middle(call: Callable[..., Any], feed: Feed) -> Iterator[Any]:
    yield next(call(feed))
    die()


def is_old(folder: Any, *_: Any) -> bool:
    return str(folder).endswith(".old") and Path(folder).exists()


def always(*_: Any) -> bool:
    return True


# Each: where, the function, what happens in its COUNT-th call, and which calls count.
POINTS: dict[str, tuple[Any, str, Callable[..., Any], Callable[..., bool]]] = {
    "step": (Recorder, "push", after, always),
    "metrics line": (MetricsFile, "_append", half_a_line, always),
    "evaluation": (Feed, "evaluation", in_the_middle, always),
    "save begun": (store.Store, "save", after, always),
    "save written": (integrity, "seal", before, always),
    "sealing": (integrity, "sync", before, always),
    "sealed": (integrity, "seal", after, always),
    "rename": (os, "rename", after, always),
    "committed": (steps.StepFolders, "_retain", before, always),
    "deletion": (shutil, "rmtree", half_deleted, is_old),
    "settings": (Workdir, "write_config", after, always),
}


@contextlib.contextmanager
def dying_at(point: str, count: int) -> Iterator[None]:
    """While entered, the COUNT-th call of a point's function is the last thing that happens."""
    owner, name, how, counts = POINTS[point]
    real, calls = getattr(owner, name), iter(range(1, sys.maxsize))

    def wrapped(*arguments: Any, **named: Any) -> Any:
        if counts(*arguments) and next(calls) == count:
            return how(real, *arguments)
        return real(*arguments, **named)

    with mock.patch.object(owner, name, wrapped):
        yield


@contextlib.contextmanager
def telling_the_first_line(moment: float | None) -> Iterator[None]:
    """While entered, the first line of metrics is told of, and dies `moment` seconds after it."""
    write, told = MetricsFile.write, []

    def wrapped(self: MetricsFile, *arguments: Any) -> None:
        write(self, *arguments)
        if not told:
            told.append(time.time())
            print(f"first line after {told[0] - STARTED:.2f} s", flush=True)
            if moment is not None:
                timer = threading.Timer(moment, die)
                timer.daemon = True
                timer.start()

    with mock.patch.object(MetricsFile, "write", wrapped):
        yield


if __name__ == "__main__":
    kind, _, number = sys.argv[1].partition(":")
    with contextlib.ExitStack() as stack:
        stack.enter_context(telling_the_first_line(float(number) if kind == "moment" else None))
        if kind in POINTS:
            stack.enter_context(dying_at(kind, int(number)))
        code = main(["train", *sys.argv[2:]])
    sys.exit(code)
