"""Batches that threads fill in place, in order, and ahead of whoever takes them."""

import collections
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np

T = TypeVar("T")

Rows = dict[str, np.ndarray]  # what is known of a batch: arrays (b, …)
# Shares of a batch for each thread: enough that all end at about the same time.
_SHARES = 4


def filled(
    batches: Iterable[Rows], fill: Callable[[Rows, int], None], threads: int, count: int
) -> Generator[Rows, None, None]:
    """Yields batches in order, each after `fill(batch, place)` was called for all its places.

    Rows are written where they will lie, and threads are given many at a time: what comes on top of
    the work itself is then a hundredth of it.

    Args:
      batches: the batches, asked for one by one, to be written into.
      fill: writes one row; called from any thread.
      threads: how many work.
      count: batches under way besides the one that is waited for.

    Raises:
      Exception: what `fill` raised for the first batch that it failed for.
    """
    pool, abandoned = ThreadPoolExecutor(threads, "vit_jax fill"), threading.Event()

    def begun(batch: Rows) -> tuple[Rows, list[Future[None]]]:
        """Hands the places of a batch out to the threads."""
        size = len(next(iter(batch.values())))
        share = max(1, size // (_SHARES * threads))
        parts = [range(start, min(start + share, size)) for start in range(0, size, share)]
        return batch, [pool.submit(fill_some, batch, part) for part in parts]

    def fill_some(batch: Rows, places: range) -> None:
        for place in places:
            if not abandoned.is_set():
                fill(batch, place)

    try:
        for batch, parts in ahead(map(begun, batches), count):
            for part in parts:
                part.result()
            yield batch
    finally:
        abandoned.set()
        pool.shutdown(wait=False)


def ahead(made: Iterable[T], count: int) -> Iterator[T]:
    """Yields what is made in order, with `count` more already under way, and never more."""
    waiting: collections.deque[T] = collections.deque()
    for one in made:
        waiting.append(one)
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting
