"""Scores of an image-text model while it is tuned: zero-shot classes, or retrieval of pairs."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Float32, Int, Int32

from vit_jax import metrics, trees
from vit_jax.captions import CaptionTokens, Texts
from vit_jax.data.filling import ahead
from vit_jax.data.pairs import ClassPairs
from vit_jax.data.pipeline import Batch
from vit_jax.data.preprocess import Preprocess
from vit_jax.errors import DataError
from vit_jax.experiment import Experiment
from vit_jax.image_text.recall import AT, ranks_of
from vit_jax.mesh import batch_sharding, batch_shards, replicated, with_split_batch
from vit_jax.models.zoo import Model
from vit_jax.scores import Outcomes, gathered
from vit_jax.text.prompts import class_embeddings, prompts_of


@dataclasses.dataclass(frozen=True)
class Retrieved:
    """How well the images and captions of a split find each other.

    Attributes:
      image_to_text: share of the images that have a caption of theirs among the nearest 1, 5, 10.
      text_to_image: share of the captions whose image is among the nearest 1, 5, 10.
      index: places in the split of the images that could be read.
      scored: images that were asked for.
    """

    image_to_text: tuple[float, ...]
    text_to_image: tuple[float, ...]
    index: Int[np.ndarray, "n"]
    scored: int

    @property
    def skipped(self) -> int:
        """Images that could not be read."""
        return self.scored - len(self.index)

    def summary(self) -> dict[str, float]:
        """Returns the scores that an evaluation logs; `skipped` where images could not be read."""
        found = {
            f"image_to_text_recall_{k}": v for k, v in zip(AT, self.image_to_text, strict=True)
        }
        found |= {
            f"text_to_image_recall_{k}": v for k, v in zip(AT, self.text_to_image, strict=True)
        }
        return found | ({"skipped": self.skipped} if self.skipped else {})


def retrieved(
    images: Float32[np.ndarray, "n d"],
    texts: Float32[np.ndarray, "m d"],
    owners: Int[np.ndarray, "m"],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns recall at 1, 5 and 10 of images → texts and of texts → images.

    See `ranks_of`. (Karpathy and Fei-Fei 2015, section 4.1.)

    Args:
      images, texts: vectors of length 1.
      owners: the image of each text; every image has one text or more.
    """
    ranks = ranks_of(images, texts, owners)
    return _shares(ranks.texts_of_images), _shares(ranks.images_of_texts)


def _shares(ranks: Int[np.ndarray, "n"]) -> tuple[float, ...]:
    return tuple(float((ranks < k).mean()) for k in AT)


class Towers:
    """The two towers of a model, compiled once.

    Args:
      model: the towers.
      preprocess: what it expects of its images.
      mesh: the devices.
      batch: texts at once.

    Attributes:
      images: (variables, batch) → vectors (b, d) and `mask`, the same in every process; the
        `image` of a batch may be vectors already.
    """

    def __init__(self, model: Model, preprocess: Preprocess, mesh: Mesh, batch: int):
        self._mesh, self._batch = mesh, batch

        def images(variables: trees.Tree, batch: Batch) -> dict[str, jax.Array]:
            vectors = batch["image"]
            if vectors.ndim > 2:
                pixels = preprocess.normalize(preprocess.on_device(vectors))
                vectors = model.apply(variables, pixels, train=False)[0]
            return {"vector": vectors, **{k: batch[k] for k in ("mask", "label", "index")}}

        def texts(variables: trees.Tree, tokens: jax.Array) -> Any:
            return model.apply(variables, None, tokens, train=False)[1]

        whole = replicated(self._mesh)
        self.images = jax.jit(with_split_batch(self._mesh, images), out_shardings=whole)
        self._texts = jax.jit(with_split_batch(self._mesh, texts), out_shardings=whole)

    @classmethod
    def of(cls, experiment: Experiment) -> "Towers":
        """Returns the towers of a run's model."""
        batch = experiment.config.batch_eval
        return cls(experiment.model, experiment.preprocess, experiment.mesh, batch)

    def texts(self, variables: trees.Tree, tokens: Int32[np.ndarray, "m n"]) -> np.ndarray:
        """Returns the vectors (m, d) of texts, which every process has."""
        shards, sharding = batch_shards(self._mesh), batch_sharding(self._mesh)
        rows = -(-min(self._batch, len(tokens)) // shards) * shards
        found = []
        for start in range(0, len(tokens), rows):
            part = tokens[start : start + rows]
            whole = np.concatenate([part, np.repeat(part[-1:], rows - len(part), axis=0)])
            sent = jax.make_array_from_callback(
                whole.shape, sharding, lambda index, whole=whole: whole[index]
            )
            found.append(np.asarray(jax.device_get(self._texts(variables, sent)))[: len(part)])
        return np.concatenate(found)


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
        self._feed, self._towers, self._texts = (
            experiment.test,
            Towers.of(experiment),
            experiment.texts,
        )

    def __call__(self, variables: trees.Tree) -> Retrieved:
        """Returns how well images and captions find each other.

        Raises:
          DataError: no image can be read.
        """
        made = (self._towers.images(variables, batch) for batch in self._feed.evaluation())
        fetched = [jax.device_get(rows) for rows in ahead(made, 1)]
        rows = {name: np.concatenate([one[name] for one in fetched]) for name in fetched[0]}
        (here,) = np.nonzero(rows["mask"])
        if not len(here):
            raise DataError(f"none of the {self._feed.scored} images of the split could be read")
        captions = [self._texts.test.captions(int(number)) for number in rows["index"][here]]
        owners = np.repeat(np.arange(len(captions)), [len(each) for each in captions])
        tokens = _tokens(self._texts, [text for each in captions for text in each])
        vectors = self._towers.texts(variables, tokens)
        shares = retrieved(rows["vector"][here], vectors, owners)
        return Retrieved(*shares, rows["index"][here], self._feed.scored)


def spoken_names(texts: Texts) -> list[str]:
    """Returns what the classes are called in captions."""
    pairs = texts.test.pairs
    assert isinstance(pairs, ClassPairs)
    return [pairs.spoken(name) for name in texts.test.class_names]


def _tokens(texts: Texts, captions: Sequence[str]) -> Int32[np.ndarray, "m n"]:
    return CaptionTokens(texts.test, texts.tokenizer, 0).of(captions)
