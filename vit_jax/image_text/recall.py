"""Recall: how often an image finds a text of its own among all texts, and a text its image."""

import dataclasses
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from vit_jax.errors import DataError

AT = (1, 5, 10)
_NUMBERS = 2**24  # similarities compared at once, in float64: 134 MB


@dataclasses.dataclass(frozen=True)
class Ranks:
    """Ranks from 0: how many candidates are more similar than the right one.

    Of equals the one with the lower number comes first, as in `argmax`.

    Attributes:
      texts_of_images: for each image, the rank of the best of its own texts among all texts.
      images_of_texts: for each text, the rank of its image among all images.
    """

    texts_of_images: Int[np.ndarray, "n"]
    images_of_texts: Int[np.ndarray, "m"]

    def summary(self) -> dict[str, float]:
        """Returns recall at 1, 5 and 10 both ways: the share of ranks below that."""
        both = {"image_to_text": self.texts_of_images, "text_to_image": self.images_of_texts}
        return {
            f"{way}_recall_{k}": float((ranks < k).mean())
            for way, ranks in both.items()
            for k in AT
        }


def ranks_of(
    images: Float[np.ndarray, "n d"], texts: Float[np.ndarray, "m d"], owner: Int[np.ndarray, "m"]
) -> Ranks:
    """Ranks every text for every image and the other way round, exactly, on the host.

    Products are made in float64 and rounded to float32: ranks depend neither on the devices nor on
    how many are compared at once, and equal texts are equally similar.

    Args:
      images, texts: vectors of length 1.
      owner: number of the image that each text belongs to; every image has at least one.

    Raises:
      DataError: an image without a text.
    """
    lonely = np.setdiff1d(np.arange(len(images)), owner)
    if len(lonely):
        raise DataError(f"image {lonely[0]} has no text to be found by; give each image a caption")
    images, texts = images.astype(np.float64), texts.astype(np.float64)
    texts_of_images = np.empty(len(images), np.int64)
    for start, found in _rows(images, texts):
        for row, similar in enumerate(found, start):
            mine = np.flatnonzero(owner == row)
            best = mine[similar[mine].argmax()]
            texts_of_images[row] = _rank(similar, int(best))
    images_of_texts = np.empty(len(texts), np.int64)
    for start, found in _rows(texts, images):
        for row, similar in enumerate(found, start):
            images_of_texts[row] = _rank(similar, int(owner[row]))
    return Ranks(texts_of_images, images_of_texts)


def describe(scores: dict[str, float]) -> str:
    """Returns the recalls of a summary in words, a line each way."""
    lines = []
    for way, words in (("image_to_text", "image → text"), ("text_to_image", "text → image")):
        recalls = (f"@{k} {100 * scores[f'{way}_recall_{k}']:6.2f} %" for k in AT)
        lines.append(f"{words}  recall {'  '.join(recalls)}")
    return "\n".join(lines)


def _rows(asking: np.ndarray, asked: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yields similarities with all of `asked`, for some of `asking` at a time."""
    count = max(1, _NUMBERS // len(asked))
    for start in range(0, len(asking), count):
        yield start, (asking[start : start + count] @ asked.T).astype(np.float32)


def _rank(similar: np.ndarray, right: int) -> int:
    """Returns how many come before the right one."""
    value = similar[right]
    return int((similar > value).sum() + (similar[:right] == value).sum())
