"""A split whose images have been turned into vectors: batches that decode nothing."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float32, Int64

from vit_jax.data.filling import Rows
from vit_jax.data.pipeline import Batch, Feed


@dataclasses.dataclass(frozen=True)
class Vectors:
    """What a model made of the n images of a split.

    Attributes:
      values: a row for each; zeros for one that could not be read.
      readable: whether it could.
    """

    values: Float32[np.ndarray, "n d"]
    readable: Bool[np.ndarray, "n"]

    def stand_ins(self) -> Int64[np.ndarray, "n"]:
        """Returns which image stands for each: itself, or else the next that could be read."""
        good = np.flatnonzero(self.readable)
        return good[np.searchsorted(good, np.arange(len(self.readable))) % len(good)]


class EmbeddedFeed(Feed):
    """The batches of another feed, whose `image` is a vector (b, d).

    Args:
      feed: order, labels and texts are its.
      vectors: of its source, in order.
    """

    def __init__(self, feed: Feed, vectors: Vectors):
        super().__init__(feed.source, feed.batch, feed.loading)
        self.resident = True  # what is sent are numbers of rows, not images that must be read
        self._vectors, self._taken = vectors, vectors.stand_ins()
        self._labels = feed.source.labels

    @property
    def skipped(self) -> int:
        return int((~self._vectors.readable).sum())

    def _resident_batch(self, rows: Rows) -> Batch:
        index = rows["index"]
        taken = self._taken[index]
        if "mask" in rows:
            rows["mask"] = rows["mask"] * (taken == index)
        return self._put(
            {**rows, "label": self._labels[taken], "image": self._vectors.values[taken]}
        )
