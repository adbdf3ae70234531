"""Examples of a source as RGB pixels, and what becomes of those that cannot be read."""

import logging
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8

from vit_jax.data.decoding import decode_pixels
from vit_jax.data.sources import Source
from vit_jax.errors import DataError

Pixels = UInt8[np.ndarray, "h w 3"]
Decode = Callable[[Any, str], Pixels]
Example = tuple[Pixels, int]  # an image and its label


class Reader:
    """Reads and decodes examples, from any number of threads at once.

    Args:
      source: where they come from.
      limit: how many images may be unreadable before that is an error; None takes none.
    """

    def __init__(self, source: Source, limit: int | None = None):
        self._source, self._limit = source, limit
        self._bad: set[int] = set()
        self._lock = threading.Lock()

    @property
    def skipped(self) -> int:
        """Number of examples found unreadable so far."""
        return len(self._bad)

    def read(self, index: int, decode: Decode = decode_pixels) -> Example | None:
        """Returns an example, or None for one that is skipped.

        Args:
          index: its place in the source.
          decode: takes the content of an image, or its pixels, and its name for an error.

        Raises:
          DataError: it cannot be read, and none, or no more, are to be skipped.
        """
        if index in self._bad:
            return None
        try:
            data, label = self._source[index]
            return decode(data, self._source.name(index)), label
        except DataError as error:
            self._skip(index, error)
            return None

    def read_or_next(self, index: int, decode: Decode = decode_pixels) -> Example:
        """Returns an example, or for one that is skipped the next one that can be read.

        After the last comes the first. What stands in for an example follows from the files alone,
        so that order and resume stay exact.
        """
        while (found := self.read(index, decode)) is None:
            index = (index + 1) % len(self._source)
        return found

    def stand_ins(self) -> Int32[np.ndarray, "n"] | None:
        """Returns which example `read_or_next` takes for each; None if all can be read.

        All must have been read before.
        """
        if not self._bad:
            return None
        taken = np.arange(len(self._source), dtype=np.int32)
        good = np.setdiff1d(taken, list(self._bad))
        bad = np.array(sorted(self._bad))
        taken[bad] = good[np.searchsorted(good, bad) % len(good)]
        return taken

    def _skip(self, index: int, error: DataError) -> None:
        with self._lock:
            if index in self._bad:  # another thread was faster
                return
            count = len(self._bad) + 1
            if self._limit is None:
                raise error
            if count > self._limit:
                raise DataError(
                    f"{error}; {count} images cannot be read, more than "
                    f"config.bad_images_limit={self._limit}; mend them, or raise it"
                ) from error
            if count == len(self._source):
                raise DataError(f"{error}; nor can any other of its split be read") from error
            self._bad.add(index)
        logging.getLogger("vit_jax").warning("skipped: %s", error)
