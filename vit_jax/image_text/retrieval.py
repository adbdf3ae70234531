"""Retrieval by a LiT model: images find their texts among all, and texts their images."""

import dataclasses

import jax
import numpy as np

from vit_jax.data.filling import ahead
from vit_jax.data.pairs import PairSource
from vit_jax.image_text.opening import ImageText, embed_texts, feed_of, on_devices, towers_of
from vit_jax.image_text.recall import Ranks, ranks_of
from vit_jax.memory import explained
from vit_jax.mesh import make_mesh, replicated


@dataclasses.dataclass(frozen=True)
class RetrievalResult:
    """Ranks of images and texts.

    Attributes:
      ranks: of all of them.
      clipped: texts that had too many tokens, and lost their ends.
      skipped: images that could not be read.
    """

    ranks: Ranks
    clipped: int
    skipped: int


def evaluate_retrieval(lit: ImageText, source: PairSource, batch: int = 512) -> RetrievalResult:
    """Ranks all texts for each image, and all images for each text, over all processes.

    Args:
      lit: the model.
      source: images with captions, of which each may have several.
      batch: images at once; no rank depends on it.

    Raises:
      DataError: an image that cannot be read or has no caption.
      ConfigError: too little memory.
    """
    mesh = make_mesh()
    variables = on_devices(lit, replicated(mesh))
    with explained(f"retrieval with --batch={batch}", "halve it, which changes no rank"):
        feed = feed_of(source, lit.preprocess, mesh, batch)
        towers = towers_of(lit, mesh)
        made = (towers.images(variables, batch) for batch in feed.evaluation())
        fetched = [jax.device_get(rows) for rows in ahead(made, 1)]
        rows = {name: np.concatenate([one[name] for one in fetched]) for name in fetched[0]}
        kept = rows["mask"] > 0
        captions = [source.captions(int(index)) for index in rows["index"][kept]]
        texts = [text for own in captions for text in own]
        owner = np.repeat(np.arange(len(captions)), [len(own) for own in captions])
        vectors, clipped = embed_texts(lit, towers, variables, texts)
    ranks = ranks_of(rows["vector"][kept], vectors, owner)
    return RetrievalResult(ranks, clipped, feed.scored - len(captions))
