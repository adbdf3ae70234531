"""What the page shows of a photograph. It is computed once; layers and heads are then at hand."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from vit_jax.errors import CheckpointError, ConfigError
from vit_jax.origin import describe_model
from vit_jax.pictures.attention import Looked, laid_over, looker
from vit_jax.pictures.figure import CannotDrawError
from vit_jax.predict import class_names, predictions
from vit_jax.prediction.answers import Content, answerer
from vit_jax.prediction.overlays import default_maps
from vit_jax.pretrained import Pretrained, Trained


@dataclasses.dataclass(frozen=True)
class View:
    """What is kept of one image.

    Attributes:
      image: as the model sees it, before normalisation.
      classes: names and probabilities of the most probable ones, best first.
      looked: its attention; None where the model has none that could be laid over the image.
    """

    image: UInt8[np.ndarray, "h w 3"]
    classes: tuple[tuple[str, float], ...]
    looked: Looked | None


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the page tells of a model.

    Attributes:
      name, source: of the model, and the last part of where its weights come from.
      size: (height, width) of the images that it sees, in pixels.
      classes: how many it tells apart; 0 for weights without a head.
      heads: of each layer, whose attention can be shown; () where only the rollout can.
      rollout: whether attention through all layers can be shown.
      reads: what the rollout follows attention to, in words.
      missing: what cannot be shown, and why, in sentences.
    """

    name: str
    source: str
    size: tuple[int, int]
    classes: int
    heads: tuple[int, ...]
    rollout: bool
    reads: str
    missing: tuple[str, ...]


class Viewer:
    """Answers for images, one at a time.

    Args:
      trained: what `open_classifier` returns.
      source: where it comes from.
      top: how many classes to show.

    Attributes:
      facts: for the page.

    Raises:
      CheckpointError: the model gives logits for each token, not for the image.
    """

    def __init__(self, trained: Trained | Pretrained, source: str, top: int = 5):
        model: Any = trained.model
        self._answer, self._top = answerer(trained), top
        self._names = class_names(trained) if model.num_classes else ()
        blank = np.zeros((*trained.preprocess.size, 3), np.uint8)
        self._look, missing = _look(trained, blank)
        # What is compiled now the first visitor need not wait for.
        self.facts = _facts(trained, source, self.view("blank", blank).looked, missing)

    def view(self, name: str, content: Content) -> View:
        """Returns what is to be seen of an image.

        Args:
          name: what to call it in an error.
          content: of its file, or its pixels.

        Raises:
          DataError: it cannot be read.
        """
        answers, classes = self._answer(name, content), ()
        if self._names:
            (best,) = predictions(answers, self._names, self._top)
            classes = tuple(zip(best.classes, best.probabilities, strict=True))
        return View(answers.images[0], classes, self._look(answers.images))


Look = Callable[[UInt8[np.ndarray, "b h w 3"]], Looked | None]


def _look(
    trained: Trained | Pretrained, blank: UInt8[np.ndarray, "h w 3"]
) -> tuple[Look, str | None]:
    """Returns what finds attention, and why there is none."""
    try:
        look = looker(trained.model, trained.preprocess)
        default_maps(look(trained.variables, blank[None]))
    except (CannotDrawError, CheckpointError) as error:
        return lambda images: None, f"No attention is drawn: {error}."
    return lambda images: look(trained.variables, images), None


def _facts(
    trained: Trained | Pretrained, source: str, seen: Looked | None, no_attention: str | None
) -> Facts:
    model: Any = trained.model
    missing = [] if model.num_classes else ["The weights have no head: they name no classes."]
    if no_attention is not None:
        missing.append(no_attention)
    elif seen is not None and seen.head_maps is None:
        missing.append("Layers and heads have no map of their own: there is no class token.")
    return Facts(
        name=describe_model(model),
        source=Path(source).name or source,
        size=trained.preprocess.size,
        classes=model.num_classes or 0,
        heads=tuple(one.shape[1] for one in (seen and seen.head_maps) or ()),
        rollout=seen is not None and seen.rollout is not None,
        reads=seen.reads if seen is not None else "nothing",
        missing=tuple(missing),
    )


def overlay(
    view: View, layer: int | None = None, head: int | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the image, darkened where the model did not look. The model is not run.

    Args:
      view: what `Viewer.view` returned.
      layer: from 1; None for all of them, by attention rollout.
      head: of the layer, from 1; None for the mean of its heads.

    Raises:
      ConfigError: there is no such layer or head, or no attention.
    """
    looked = view.looked
    if looked is None:
        raise ConfigError("the model has no attention to lay over images")
    if layer is None:
        if head is not None:
            raise ConfigError(f"head={head}: the rollout takes the mean of all heads; name a layer")
        return laid_over(view.image, default_maps(looked)[0])
    if looked.class_maps is None or looked.head_maps is None:
        raise ConfigError(f"layer={layer}: the model has no class token; leave it out")
    if not 1 <= layer <= len(looked.head_maps):
        raise ConfigError(f"layer={layer}: the model has layers 1 to {len(looked.head_maps)}")
    heads = looked.head_maps[layer - 1][0]
    if head is None:
        return laid_over(view.image, looked.class_maps[layer - 1, 0])
    if not 1 <= head <= len(heads):
        raise ConfigError(f"head={head}: layer {layer} has heads 1 to {len(heads)}")
    return laid_over(view.image, heads[head - 1])
