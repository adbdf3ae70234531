"""Class-balanced order: every class as often as any other, found from the step alone.

The stream goes in rounds, each with every class once, in an order of its own. The m-th image of a
class comes from a permutation of its members, which starts anew, in another order, when all have
come; so a rare class repeats its images more often than a frequent one.
"""

import functools

import numpy as np
from jaxtyping import Int32, Int64

from vit_jax.data.sampling import stream_positions


class ClassBalance:
    """The balanced stream over a split.

    Args:
      labels: class index of every example; classes without any are left out.
    """

    def __init__(self, labels: Int32[np.ndarray, "n"]):
        _, sizes = np.unique(labels, return_counts=True)
        self._sizes = sizes
        self._members = np.argsort(labels, kind="stable")  # of the first class, then the second …
        self._starts = np.cumsum(sizes) - sizes

    def rows(
        self, seed: int, step: int, batch: int, repeats: int = 1
    ) -> tuple[Int32[np.ndarray, "batch"], Int32[np.ndarray, "batch"]]:
        """Returns (draw, index) of each row of a batch, as `sampling.training_rows` does."""
        positions, copies = stream_positions(step, batch, repeats)
        rounds, places = np.divmod(positions, len(self._sizes))
        classes = np.empty(batch, np.int64)
        for one in np.unique(rounds):
            of_round = rounds == one
            classes[of_round] = _class_order(seed, int(one), len(self._sizes))[places[of_round]]
        epochs, turns = np.divmod(rounds, self._sizes[classes])
        indices = np.empty(batch, np.int32)
        for row, (label, epoch, turn) in enumerate(zip(classes, epochs, turns, strict=True)):
            order = _member_order(seed, int(label), int(epoch), int(self._sizes[label]))
            indices[row] = self._members[self._starts[label] + order[turn]]
        return (epochs * repeats + copies).astype(np.int32), indices


@functools.lru_cache(maxsize=64)
def _class_order(seed: int, number: int, classes: int) -> Int64[np.ndarray, "classes"]:
    return _permutation(classes, seed, [0, 3, number, 0])


@functools.lru_cache(maxsize=4096)
def _member_order(seed: int, label: int, epoch: int, size: int) -> Int64[np.ndarray, "size"]:
    return _permutation(size, seed, [0, 4, label, epoch])


def _permutation(size: int, seed: int, counter: list[int]) -> Int64[np.ndarray, "size"]:
    """Returns a permutation as `sampling.epoch_order` does, of a stream of numbers of its own."""
    # Examples draw from counters 1 and 2 of this key, so 3 and 4 are new numbers.
    raw = np.random.Philox(key=[seed, 0], counter=counter).random_raw(size)
    return np.argsort(raw, kind="stable")
