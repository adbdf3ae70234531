"""The most probable classes of image files, from a trained model."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax.data.decoding import decode_pixels
from vit_jax.errors import DataError
from vit_jax.pretrained import Trained

_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image, best first, with their probabilities."""

    path: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]


def predict(trained: Trained, paths: Sequence[str], top: int = 5) -> Iterator[Prediction]:
    """Yields a prediction for each image file, in order.

    Raises:
      DataError: a file is missing or is not a readable image; the message names it.
    """

    @jax.jit
    def probabilities(images: jax.Array) -> jax.Array:
        normal = trained.preprocess.normalize(images)
        logits = trained.model.apply(trained.variables, normal, train=False)
        return jax.nn.softmax(jnp.asarray(logits, jnp.float32), axis=-1)

    batch = min(_BATCH, len(paths))
    for start in range(0, len(paths), batch):
        chunk = paths[start : start + batch]
        images = np.zeros((batch, *trained.preprocess.size, 3), np.uint8)  # one compiled size
        images[: len(chunk)] = [
            trained.preprocess.pixels(decode_pixels(_read(path), path)) for path in chunk
        ]
        rows = np.asarray(probabilities(jnp.asarray(images)))
        for path, row in zip(chunk, rows, strict=False):
            best = np.argsort(-row, kind="stable")[:top]
            names = tuple(trained.class_names[index] for index in best)
            yield Prediction(path, names, tuple(float(row[index]) for index in best))


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
