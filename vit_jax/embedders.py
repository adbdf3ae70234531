"""Embeddings of many images and texts by a LiT model: each once, over all devices and processes."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from vit_jax import trees
from vit_jax.data.filling import ahead
from vit_jax.data.pipeline import Batch, Feed
from vit_jax.data.preprocess import Preprocess
from vit_jax.mesh import batch_sharding, batch_shards, replicated, with_split_batch
from vit_jax.models.lit import LitModel

TEXTS_AT_ONCE = 256


@dataclasses.dataclass(frozen=True)
class ImageEmbeddings:
    """Images of a split that could be read, in its order.

    Attributes:
      index: place of each in its source.
      vectors: of length 1.
      skipped: how many could not be read.
    """

    index: Int[np.ndarray, "n"]
    vectors: Float[np.ndarray, "n d"]
    skipped: int


class TextEmbedder:
    """Embeds texts, compiled once for one length.

    Args:
      model: with a text tower.
      mesh: the devices, which share the texts.
      batch: texts at once; rounded up to a multiple of the devices.
    """

    def __init__(self, model: LitModel, mesh: Mesh, batch: int = TEXTS_AT_ONCE):
        self._batch = -(-batch // batch_shards(mesh)) * batch_shards(mesh)
        self._sharding = batch_sharding(mesh)

        apply: Any = model.apply

        def vectors(variables: trees.Tree, tokens: jax.Array) -> jax.Array:
            return apply(variables, tokens=tokens)[1]

        self._vectors = jax.jit(with_split_batch(mesh, vectors), out_shardings=replicated(mesh))

    def __call__(
        self, variables: trees.Tree, tokens: Int[np.ndarray, "n l"]
    ) -> Float[np.ndarray, "n d"]:
        """Returns a vector of length 1 for each text; `tokens` are the same in every process."""
        made = []
        for start in range(0, len(tokens), self._batch):
            part = tokens[start : start + self._batch]
            rows = np.concatenate([part, np.repeat(part[-1:], self._batch - len(part), axis=0)])
            given = jax.make_array_from_callback(rows.shape, self._sharding, rows.__getitem__)
            made.append(np.asarray(self._vectors(variables, given))[: len(part)])
        return np.concatenate(made)


class ImageEmbedder:
    """Embeds the images of one split, compiled once.

    Args:
      model: with an image tower.
      feed: the split.
      preprocess: what the model expects of its images.
    """

    def __init__(self, model: LitModel, feed: Feed, preprocess: Preprocess):
        self._feed = feed
        apply: Any = model.apply

        def rows(variables: trees.Tree, batch: Batch) -> dict[str, jax.Array]:
            images = preprocess.normalize(preprocess.on_device(batch["image"]))
            return {
                "vectors": apply(variables, images)[0],
                "index": batch["index"],
                "mask": batch["mask"],
            }

        mesh = feed.loading.sharding.mesh
        self._rows = jax.jit(with_split_batch(mesh, rows), out_shardings=replicated(mesh))

    def __call__(self, variables: trees.Tree) -> ImageEmbeddings:
        """Returns the vectors of all images, the same in every process."""
        made = (self._rows(variables, batch) for batch in self._feed.evaluation())
        fetched = [jax.device_get(rows) for rows in ahead(made, 1)]
        rows = {name: np.concatenate([one[name] for one in fetched]) for name in fetched[0]}
        kept = rows["mask"] > 0
        vectors = rows["vectors"][kept]
        return ImageEmbeddings(rows["index"][kept], vectors, self._feed.scored - len(vectors))
