"""The embedded dataset: scikit-learn's 1,797 scanned handwritten digits, 8 × 8 pixels.

E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998 (its test part).
"""

import numpy as np

from vit_jax.data.sources import ArraySource

SPLITS = ("train", "test")


def open_digits(split: str) -> ArraySource:
    """Returns grey images as RGB: of each class every fifth is "test" (355), the rest "train"."""
    from sklearn.datasets import load_digits  # slow to import, and only needed here

    images, labels = load_digits(return_X_y=True)
    grey = np.rint(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)  # scanned as 0 … 16
    place = np.zeros(len(labels), np.int64)  # of each digit among those of its class
    for label in range(10):
        place[labels == label] = np.arange((labels == label).sum())
    chosen = (place % 5 == 4) == (split == "test")
    return ArraySource(
        np.repeat(grey[chosen, :, :, None], 3, axis=-1),
        labels[chosen].astype(np.int32),
        tuple("0123456789"),
    )
