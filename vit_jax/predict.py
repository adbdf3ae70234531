"""The most probable classes of images, from a run or from any pretrained weights."""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax.data import imagenet
from vit_jax.errors import CheckpointError
from vit_jax.models.lit import LitModel
from vit_jax.prediction.answers import Answers, answer
from vit_jax.pretrained import Pretrained, Trained, load_run, open_pretrained
from vit_jax.workdir import is_run

logger = logging.getLogger("vit_jax")


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image, best first: names, probabilities, indices."""

    path: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    indices: tuple[int, ...]


def open_model(source: str | Path, **fields: Any) -> Trained | Pretrained:
    """Opens a run, or weights of any other source; see `load_run` and `load_pretrained`."""
    return load_run(source) if is_run(source) else open_pretrained(source, **fields)


def open_classifier(source: str | Path, **fields: Any) -> Trained | Pretrained:
    """Opens what `open_model` does, which must be a model of images alone.

    Raises:
      CheckpointError: it is an image-text model.
    """
    trained = open_model(source, **fields)
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
    """Yields a prediction for each image, in order; files are read and resized in threads.

    Args:
      trained: what `open_classifier` returns.
      paths: of image files, or URLs (http, https).
      top: how many classes.

    Raises:
      DataError: at the end, if some could not be read; the message names them.
      CheckpointError: the model gives no classes, or gives them for each token.
    """
    names = class_names(trained)
    for answers in answer(trained, paths):
        yield from predictions(answers, names, top)


def predictions(answers: Answers, names: Sequence[str], top: int) -> list[Prediction]:
    """Returns the most probable classes of images that were answered for.

    Args:
      answers: of a model with a head.
      names: of its classes.
      top: how many classes.
    """
    assert answers.probabilities is not None
    found = []
    for path, row in zip(answers.names, answers.probabilities, strict=True):
        best: list[int] = np.argsort(-row, kind="stable")[:top].tolist()
        chances = tuple(float(row[index]) for index in best)
        found.append(Prediction(path, tuple(names[i] for i in best), chances, tuple(best)))
    return found
