"""Which example comes when: pure functions of (seed, step), the same on every machine.

Training reads an endless stream: epoch 0 in its own order, then epoch 1 in another, and so on.
Step s takes positions [s·batch, (s+1)·batch) of it, so no example is left out at the end of an
epoch, and the batch of any step is found without replaying the ones before.
"""

import functools

import numpy as np
from jaxtyping import Float32, Int32, Int64


@functools.lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, size: int) -> Int64[np.ndarray, "size"]:
    """Returns the permutation of range(size) that is the order of an epoch.

    It sorts the raw 64-bit output of the Philox generator, which NumPy guarantees to stay the same
    from version to version (its `permutation` is not).
    """
    order = np.argsort(np.random.Philox(key=[seed, epoch]).random_raw(size), kind="stable")
    order.flags.writeable = False
    return order


def stream_positions(
    step: int, batch: int, repeats: int
) -> tuple[Int64[np.ndarray, "batch"], Int64[np.ndarray, "batch"]]:
    """Returns for each row its image's position in the stream, and which of its copies it is.

    Copies of an image lie as far apart as they can, so that mixing, which pairs neighbours, finds
    another one.
    """
    assert batch % repeats == 0, f"{batch} rows do not hold each image {repeats} times"
    images, rows = batch // repeats, np.arange(batch, dtype=np.int64)
    return step * images + rows % images, rows // images


def training_rows(
    seed: int, step: int, batch: int, size: int, repeats: int = 1
) -> tuple[Int32[np.ndarray, "batch"], Int32[np.ndarray, "batch"]]:
    """Returns (draw, index into the source) of each row of the batch of `step`.

    The draw tells how often the image came before: it is the epoch, or with repeated augmentation
    (Hoffer et al., "Augment your batch", 2019; arXiv:1902.05509) epoch x repeats + copy. With the
    index it decides the augmentation.
    """
    positions, copies = stream_positions(step, batch, repeats)
    epochs, places = np.divmod(positions, size)
    indices = np.empty(batch, np.int32)
    for epoch in np.unique(epochs):
        rows = epochs == epoch
        indices[rows] = epoch_order(seed, int(epoch), size)[places[rows]]
    return (epochs * repeats + copies).astype(np.int32), indices


def evaluation_rows(
    step: int, batch: int, size: int
) -> tuple[Int32[np.ndarray, "batch"], Float32[np.ndarray, "batch"]]:
    """Returns (index, mask) of each row of evaluation batch `step`; padding has mask 0.

    Over `evaluation_steps` batches every example has mask 1 exactly once.
    """
    positions = np.arange(step * batch, (step + 1) * batch, dtype=np.int64)
    mask = (positions < size).astype(np.float32)
    return np.minimum(positions, size - 1).astype(np.int32), mask


def evaluation_steps(batch: int, size: int, drop_remainder: bool = False) -> int:
    """Returns the number of batches that cover `size` examples, the last one padded.

    With `drop_remainder` only full batches count, as in the official code.
    """
    return size // batch if drop_remainder else -(-size // batch)
