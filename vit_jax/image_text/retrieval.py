"""Retrieval by a LiT model: images find their texts among all, and texts their images."""

from vit_jax.data.pairs import PairSource
from vit_jax.image_text.opening import ImageText, embed_texts, feed_of, on_devices, towers_of
from vit_jax.image_text.recall import ranks_of
from vit_jax.image_text.scores import Retrieved, captions_of
from vit_jax.mesh import make_mesh, replicated
from vit_jax.runtime.memory import explained


def evaluate_retrieval(
    lit: ImageText, source: PairSource, batch: int = 512
) -> tuple[Retrieved, int]:
    """Ranks all texts for each image, and all images for each text, over all processes.

    Also returns how many texts were clipped, as they had too many tokens.

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
        rows = towers.read(variables, feed)
        captions, owners = captions_of(rows["index"], source)
        vectors, clipped = embed_texts(lit, towers, variables, captions)
    ranks = ranks_of(rows["vector"], vectors, owners)
    return Retrieved(ranks, rows["index"], feed.scored), clipped
