"""The two towers of an image-text model: vectors of images, and of texts."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int32

from vit_jax import trees
from vit_jax.data.filling import ahead
from vit_jax.data.pipeline import Batch, Feed
from vit_jax.data.preprocess import Preprocess
from vit_jax.errors import DataError
from vit_jax.experiment import Experiment
from vit_jax.mesh import batch_sharding, batch_shards, replicated, with_split_batch
from vit_jax.models.zoo import Model


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

    def padded(self, variables: trees.Tree, feed: Feed) -> dict[str, np.ndarray]:
        """Returns `vector`, `mask`, `label` and `index` of a split, filled up to whole batches."""
        made = (self.images(variables, batch) for batch in feed.evaluation())
        fetched = [jax.device_get(rows) for rows in ahead(made, 1)]
        return {name: np.concatenate([one[name] for one in fetched]) for name in fetched[0]}

    def read(self, variables: trees.Tree, feed: Feed) -> dict[str, np.ndarray]:
        """Returns `vector` (n, d), `label` and `index` (n,) of the images that can be read.

        Raises:
          DataError: none can be read.
        """
        rows = self.padded(variables, feed)
        here = rows.pop("mask") > 0
        if not here.any():
            raise DataError(f"none of the {feed.scored} images of the split could be read")
        return {name: values[here] for name, values in rows.items()}

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
