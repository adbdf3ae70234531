"""Scores of an image-text model while it is tuned: zero-shot classes, or retrieval of pairs."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Int32

from vit_jax import trees
from vit_jax.captions import CaptionTokens, Texts
from vit_jax.data.filling import ahead
from vit_jax.data.pairs import ClassPairs, PairSource
from vit_jax.data.pipeline import Batch
from vit_jax.experiment import Experiment
from vit_jax.image_text.recall import Ranks, ranks_of
from vit_jax.image_text.towers import Towers
from vit_jax.mesh import replicated
from vit_jax.records import metrics
from vit_jax.records.scores import Outcomes, gathered
from vit_jax.text.prompts import class_embeddings, prompts_of


@dataclasses.dataclass(frozen=True)
class Retrieved:
    """How well the images and captions of a split find each other.

    Attributes:
      ranks: of all captions for each image that could be read, and the other way round.
      index: places in the split of those images.
      scored: images that were asked for.
    """

    ranks: Ranks
    index: Int[np.ndarray, "n"]
    scored: int

    @property
    def skipped(self) -> int:
        """Images that could not be read."""
        return self.scored - len(self.index)

    def summary(self) -> dict[str, float]:
        """Returns the scores that an evaluation logs; `skipped` where images could not be read."""
        return self.ranks.summary() | ({"skipped": self.skipped} if self.skipped else {})


class ZeroShot:
    """Scores of the classes of a split, told by their names alone (arXiv:2103.00020, section 3.1).

    Args:
      experiment: of a run whose captions are made of the names of classes.
    """

    def __init__(self, experiment: Experiment):
        assert experiment.texts is not None
        self._feed, self._towers = experiment.test, Towers.of(experiment)
        self._names = spoken_names(experiment.texts)
        prompts = prompts_of(self._names, experiment.texts.templates)
        self._tokens = _tokens(experiment.texts, prompts)

        def rows(variables: trees.Tree, classes: jax.Array, found: Batch) -> dict[str, jax.Array]:
            scale = jnp.exp(variables["params"]["t"][0])
            logits = scale * jnp.matmul(found["vector"], classes.T, precision="highest")
            return {**metrics.outcomes(logits, found["label"]), "mask": found["mask"]}

        self._rows = jax.jit(rows)

    def classes(self, variables: trees.Tree) -> Float[np.ndarray, "k d"]:
        """Returns the vectors of the classes."""
        vectors = self._towers.texts(variables, self._tokens)
        return class_embeddings(vectors, len(self._names))

    def __call__(self, variables: trees.Tree) -> Outcomes:
        """Returns what became of every example; see `Evaluator`."""
        classes = jax.device_put(
            self.classes(variables), replicated(self._feed.loading.sharding.mesh)
        )
        made = (
            self._rows(variables, classes, self._towers.images(variables, batch))
            for batch in self._feed.evaluation()
        )
        fetched = [jax.device_get(rows) for rows in ahead(made, 1)]
        return gathered(fetched, len(self._names), self._feed.scored)


class Retrieval:
    """Scores of the pairs of a split: every caption of every image that can be read.

    Args:
      experiment: of a run whose captions are free text.
    """

    def __init__(self, experiment: Experiment):
        assert experiment.texts is not None
        self._feed, self._towers = experiment.test, Towers.of(experiment)
        self._texts = experiment.texts

    def __call__(self, variables: trees.Tree) -> Retrieved:
        """Returns how well images and captions find each other.

        Raises:
          DataError: no image can be read.
        """
        rows = self._towers.read(variables, self._feed)
        captions, owners = captions_of(rows["index"], self._texts.test)
        texts = self._towers.texts(variables, _tokens(self._texts, captions))
        ranks = ranks_of(rows["vector"], texts, owners)
        return Retrieved(ranks, rows["index"], self._feed.scored)


def captions_of(
    index: Int[np.ndarray, "n"], source: PairSource
) -> tuple[list[str], Int[np.ndarray, "m"]]:
    """Returns all captions of some images, and for each caption the place in `index` of its image.

    Raises:
      DataError: an image has none.
    """
    captions = [source.captions(int(number)) for number in index]
    owners = np.repeat(np.arange(len(captions)), [len(own) for own in captions])
    return [text for own in captions for text in own], owners


def spoken_names(texts: Texts) -> list[str]:
    """Returns what the classes are called in captions."""
    pairs = texts.test.pairs
    assert isinstance(pairs, ClassPairs)
    return [pairs.spoken(name) for name in texts.test.class_names]


def _tokens(texts: Texts, captions: Sequence[str]) -> Int32[np.ndarray, "m n"]:
    return CaptionTokens(texts.test, texts.tokenizer, 0).of(captions)
