"""A watchdog for jobs of several processes: if nothing happens for too long, this one ends.

A process that hangs (a disk that does not answer, a deadlock) still sends JAX's heartbeats, which
come from a thread of their own, and the others would wait for it in their next sum for ever. They
all notice that no step is taken.
"""

import threading
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from vit_jax.errors import LostProcessError
from vit_jax.runtime import ending

T = TypeVar("T")

_last: float | None = None  # when something happened, by the clock; None while nobody is to watch


def alive() -> None:
    """Says that something has happened: a step, or a batch of an evaluation. Starts the watch."""
    global _last
    _last = time.monotonic()


def watched(batches: Iterable[T]) -> Iterator[T]:
    """Yields the batches, each of which is a sign of life."""
    for batch in batches:
        alive()
        yield batch


def dismiss() -> None:
    """Says that nothing need happen any more, until `alive` is called again."""
    global _last
    _last = None


def start(seconds: int) -> None:
    """Starts to watch, for as long as this process lives, once `alive` has been called.

    Args:
      seconds: how long nothing may happen; then this process ends with exit code 5 and a line.
    """
    threading.Thread(target=_watch, args=(seconds,), daemon=True, name="watchdog").start()


def _watch(seconds: int) -> None:
    while True:
        time.sleep(min(1.0, seconds / 10))
        last = _last
        if last is not None and time.monotonic() - last > seconds:
            ending.leave(
                LostProcessError(
                    f"no step was taken for {seconds} s: this process or another one hangs; "
                    f"{ending.ADVICE}. Give a longer --stall if a step may take that long"
                )
            )
