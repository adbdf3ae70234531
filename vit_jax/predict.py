"""The most probable classes of image files, from a run or from any pretrained weights."""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax.data import imagenet
from vit_jax.data.decoding import decode_pixels
from vit_jax.errors import CheckpointError, DataError
from vit_jax.models.lit import LitModel
from vit_jax.pretrained import Pretrained, Trained, load_run, open_pretrained
from vit_jax.workdir import is_run

logger = logging.getLogger("vit_jax")

_BATCH = 32


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image, best first: names, probabilities, indices."""

    path: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    indices: tuple[int, ...]


def open_classifier(source: str | Path, **fields: Any) -> Trained | Pretrained:
    """Opens a run, or weights of any other source; see `load_run` and `load_pretrained`."""
    trained = load_run(source) if is_run(source) else open_pretrained(source, **fields)
    if isinstance(trained.model, LitModel):
        raise CheckpointError(
            f"{source}: holds a LiT model, which has no classes of its own; name them by texts: "
            "vit_jax zeroshot"
        )
    return trained


def class_names(trained: Trained | Pretrained) -> Sequence[str]:
    """Returns the names that came with the weights; where none did, the best there are.

    A thousand classes without names are taken for those of ImageNet-1k, as those of nearly all
    published weights are, and a warning says so. Any other number is just counted: "class 281".

    Raises:
      CheckpointError: the weights have no head.
    """
    model: Any = trained.model
    if not model.num_classes:
        raise CheckpointError(
            "the weights have no head, so they tell no classes; fine-tune them, which gives one"
        )
    if trained.class_names is not None:
        return trained.class_names
    if model.num_classes == len(imagenet.class_names()):
        logger.warning("the weights name none of their 1000 classes: ImageNet's names are shown")
        return imagenet.class_names()
    return [f"class {index}" for index in range(model.num_classes)]


def predict(
    trained: Trained | Pretrained, paths: Sequence[str], top: int = 5
) -> Iterator[Prediction]:
    """Yields a prediction for each image file, in order.

    Raises:
      DataError: a file is missing or is not a readable image; the message names it.
      CheckpointError: the model gives no classes, or gives them for each token.
    """
    names = class_names(trained)

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
        if rows.ndim != 2:
            raise CheckpointError("the model gives logits for each token, not for the image")
        for path, row in zip(chunk, rows, strict=False):
            best: list[int] = np.argsort(-row, kind="stable")[:top].tolist()
            chances = tuple(float(row[index]) for index in best)
            yield Prediction(path, tuple(names[i] for i in best), chances, tuple(best))


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
