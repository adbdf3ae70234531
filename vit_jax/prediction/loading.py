"""Images read and resized in threads, ahead of the device."""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from jaxtyping import UInt8

from vit_jax.errors import DataError

_AHEAD = 3  # batches that are read while one is computed

Pixels = UInt8[np.ndarray, "h w 3"]


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A batch of images.

    Attributes:
      names: of the images; there may be fewer than places.
      images: all places; those without a name are black.
      unreadable: why images before the last of these could not be read; a line each.
    """

    names: tuple[str, ...]
    images: UInt8[np.ndarray, "b h w 3"]
    unreadable: tuple[str, ...]


def load(
    names: Sequence[str],
    read: Callable[[str], Pixels],
    batch: int,
    size: tuple[int, int],
    threads: int,
) -> Iterator[Loaded]:
    """Yields batches of one shape, in order, and all but the last full.

    Args:
      names: of the images.
      read: returns one, h w 3 of `size`, or raises `DataError`; it runs in threads.
      batch: images in a batch.
      size: (height, width) of an image, in pixels.
      threads: how many read at once.
    """
    found: list[tuple[str, Pixels]] = []
    unreadable: list[str] = []
    for name, waited in _in_order(names, read, _AHEAD * batch + threads, threads):
        try:
            found.append((name, waited.result()))
        except DataError as error:
            unreadable.append(str(error))
        if len(found) == batch:
            yield _batch(found, unreadable, batch, size)
            found, unreadable = [], []
    if found or unreadable:
        yield _batch(found, unreadable, batch, size)


def _in_order(
    names: Sequence[str], read: Callable[[str], Pixels], ahead: int, threads: int
) -> Iterator[tuple[str, Future[Pixels]]]:
    """Yields futures in order, the next `ahead` begun. Who stops asking ends the threads."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="vit_jax_images")
    waiting: deque[tuple[str, Future[Pixels]]] = deque()
    try:
        for name in names:
            waiting.append((name, pool.submit(read, name)))
            if len(waiting) > ahead:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _batch(
    found: Sequence[tuple[str, Pixels]],
    unreadable: Sequence[str],
    batch: int,
    size: tuple[int, int],
) -> Loaded:
    images = np.zeros((batch, *size, 3), np.uint8)
    for place, (_, pixels) in enumerate(found):
        images[place] = pixels
    return Loaded(tuple(name for name, _ in found), images, tuple(unreadable))
