"""Classification by names alone: a LiT model, whose classes are told by texts."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn
from jaxtyping import Array, Float

from vit_jax import trees
from vit_jax.data.sources import Source
from vit_jax.errors import DataError
from vit_jax.evaluate import Evaluator
from vit_jax.image_text.opening import ImageText, embed_texts, feed_of, on_devices, towers_of
from vit_jax.mesh import make_mesh, replicated
from vit_jax.models.lit import LitModel
from vit_jax.records.scores import Outcomes
from vit_jax.runtime.memory import explained
from vit_jax.text.prompts import TEMPLATES, check_templates, class_embeddings, prompts_of, spoken


class ZeroShot(nn.Module):
    """A LiT model as a classifier: logits are temperature × image · class.

    Parameters are those of the model; the collection `classes` holds `embeddings` (k, d) of
    length 1. Source: arXiv:2111.07991, section 3.
    """

    lit: LitModel

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b k"]:
        """Returns float32 logits."""
        nn.share_scope(self, self.lit)
        found: Any = self.lit(images, train=train)
        zimg, _, temperature = found
        classes: Any = self.get_variable("classes", "embeddings")
        return temperature[0] * jax.numpy.matmul(zimg, classes.T, precision="highest")


def with_classes(params: trees.Tree, embeddings: Float[Array, "k d"]) -> trees.Tree:
    """Returns the variables of a `ZeroShot`."""
    return {"params": params, "classes": {"embeddings": embeddings}}


@dataclasses.dataclass(frozen=True)
class ZeroShotResult:
    """What became of each image.

    Attributes:
      outcomes: as of any classifier.
      class_names: as the prompts name them.
      prompts: how many texts the classes were told by.
      clipped: how many of these had too many tokens, and lost their ends.
    """

    outcomes: Outcomes
    class_names: tuple[str, ...]
    prompts: int
    clipped: int


def evaluate_zero_shot(
    lit: ImageText,
    source: Source,
    classes: Sequence[str] | None = None,
    templates: Sequence[str] = TEMPLATES,
    batch: int = 512,
) -> ZeroShotResult:
    """Scores a LiT model on labelled images, each counted exactly once, over all processes.

    Args:
      lit: the model.
      source: the images.
      classes: what the classes are called, in the order of the source's; None calls them as the
        source does, with spaces for "_".
      templates: what the names are put into; each class is the mean of its prompts, embedded once.
      batch: images at once; no score depends on it.

    Raises:
      DataError: no classes, or not those of the source.
      ConfigError: no templates, one without a place for the name, or too little memory.
    """
    names = _names(source, classes)
    check_templates(templates, "templates")
    mesh = make_mesh()
    variables = on_devices(lit, replicated(mesh))
    prompts = prompts_of(names, templates)
    with explained(f"evaluation with --batch={batch}", "halve it, which changes no score"):
        vectors, clipped = embed_texts(lit, towers_of(lit, mesh), variables, prompts)
        embeddings = class_embeddings(vectors, len(names))
        evaluator = Evaluator(
            ZeroShot(lit.model), feed_of(source, lit.preprocess, mesh, batch), lit.preprocess
        )
        given = jax.device_put(embeddings, replicated(mesh))
        outcomes = evaluator(with_classes(variables["params"], given))
    return ZeroShotResult(outcomes, names, len(prompts), clipped)


def _names(source: Source, classes: Sequence[str] | None) -> tuple[str, ...]:
    """Returns what the classes are called, checked against those of the source."""
    own = tuple(spoken(name) for name in source.class_names)
    if classes is None:
        return own
    if not classes:
        raise DataError("no classes: give the name of each, in the order of the dataset's")
    if len(classes) != len(own):
        raise DataError(
            f"{len(classes)} names of classes, and the dataset has {len(own)} classes "
            f"({', '.join(own[:3])}, …): give one name for each, in that order"
        )
    plain, ours = ([spoken(name).lower() for name in names] for names in (classes, own))
    if plain != ours and sorted(plain) == sorted(ours):
        wrong = next(i for i in range(len(ours)) if plain[i] != ours[i])
        raise DataError(
            f"class {wrong} is {own[wrong]!r} in the dataset and {classes[wrong]!r} in the list: "
            "the same names in another order; sort them as the dataset does"
        )
    return tuple(classes)
