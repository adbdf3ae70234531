"""Splits small enough to be decoded once, and kept in memory."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from vit_jax.data.reading import Reader
from vit_jax.data.sources import ArraySource, FileSource, Source


def hold(source: Source, limit: int, threads: int = 4, bad_limit: int | None = None) -> Source:
    """Returns the examples as an ArraySource if all have one size and fit in `limit` bytes.

    Otherwise the source comes back as it is. The size of the first image decides whether decoding
    the others is tried at all. Of images that cannot be read, `bad_limit` are skipped.
    """
    if isinstance(source, ArraySource):
        return source
    reader = Reader(source, bad_limit)
    first = reader.read_or_next(0)[0]
    if first.nbytes * len(source) > limit:
        return source
    images = np.zeros((len(source), *first.shape), np.uint8)
    # Those of files are known without reading them, also of files that cannot be read.
    is_files = isinstance(source, FileSource)
    labels = source.labels.copy() if is_files else np.zeros(len(source), np.int32)

    def fill(index: int) -> bool:
        found = reader.read(index)
        if found is None:
            return True
        image, labels[index] = found
        if image.shape != first.shape:
            return False
        images[index] = image
        return True

    if not _all_in_threads(fill, len(source), threads):
        return source
    paths = source.paths if is_files else None
    return ArraySource(images, labels, source.class_names, reader.stand_ins(), paths)


def _all_in_threads(function: Callable[[int], bool], count: int, threads: int) -> bool:
    """Returns whether function(0 … count - 1) are all true; stops soon after one is not."""
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, count, 1024):
            if not all(pool.map(function, range(start, min(start + 1024, count)))):
                return False
    return True
