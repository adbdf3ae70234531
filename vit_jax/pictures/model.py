"""The pictures of a model itself: what it learned to see, and where it looks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import UInt8

from vit_jax import trees
from vit_jax.data.preprocess import Preprocess
from vit_jax.grids import Grid
from vit_jax.models.vit import VisionTransformer
from vit_jax.pictures.album import Album
from vit_jax.pictures.attention import Looked, draw_attention, draw_distances, look
from vit_jax.pictures.figure import CannotDrawError, in_one_line
from vit_jax.pictures.filters import draw_filters
from vit_jax.pictures.positions import draw_positions, positions_of

ATTENTION, DISTANCES = "Attention", "Attention distance"
POSITIONS, FILTERS = "Position embeddings", "First-layer filters"
FILES = ("attention.png", "distances.png", "positions.png", "filters.png")


def draw_model(
    album: Album,
    model: nn.Module,
    variables: trees.Tree,
    preprocess: Preprocess,
    images: UInt8[np.ndarray, "b h w 3"] | None,
    name: str,
) -> None:
    """Draws what there is to see in a model.

    Args:
      album: takes the pictures.
      model: of any kind; what it does not have is said.
      variables: its parameters, on this process's devices or in memory.
      preprocess: what it expects of images.
      images: a few, of the size it takes; without them its attention cannot be drawn.
      name: of the model, for the titles.
    """
    _draw_attention(album, model, variables, preprocess, images, name)
    album.draw(
        "positions.png",
        POSITIONS,
        "Each small map shows how alike the position embedding of one patch is to those of all "
        "patches. Patches that are near, or in one row or column, become alike by training.",
        lambda path: draw_positions(
            *positions_of(model, variables["params"], _grid(model, variables, preprocess)),
            path,
            f"Similarity of position embeddings, {name}",
        ),
    )
    album.draw(
        "filters.png",
        FILTERS,
        "What the first layer looks for in the pixels; grey is zero. Noise without structure means "
        "too little training, or too little data.",
        lambda path: draw_filters(variables["params"], path, f"First-layer filters, {name}"),
    )


def _draw_attention(
    album: Album,
    model: nn.Module,
    variables: trees.Tree,
    preprocess: Preprocess,
    images: UInt8[np.ndarray, "b h w 3"] | None,
    name: str,
) -> None:
    try:
        if images is None:
            raise CannotDrawError("give images")
        looked = look(model, variables, preprocess, images)
    except Exception as error:  # memory that does not suffice, a model of the user's own
        reason = str(error) if isinstance(error, CannotDrawError) else in_one_line(error)
        for heading in (ATTENTION, DISTANCES):
            album.leave_out(heading, reason)
        return
    over = "1 image" if len(looked.images) == 1 else f"{len(looked.images)} images"
    album.draw(
        "attention.png",
        ATTENTION,
        _explained(looked),
        lambda path: draw_attention(looked, path, f"Attention, {name}"),
    )
    album.draw(
        "distances.png",
        DISTANCES,
        "How far heads look: the distance between a patch and those it attends to, weighted by the "
        "attention. In a trained model some heads of the first layers look near, some far, and "
        "later ones mostly far. Patches that look at the class token alone do not count, and a "
        "head that has no others has no dot.",
        lambda path: draw_distances(looked, path, f"Mean attention distance, {name}, over {over}"),
    )


def _explained(looked: Looked) -> str:
    scale = "Each map goes from its least weight (dark) to its largest (bright). "
    maps = (
        "The layers' maps show what the class token attends to, the mean of the heads. "
        if looked.class_maps is not None
        else "There is no class token, so no layer has a map of its own. "
    )
    rollout = (
        f"The rollout follows attention through all layers, to what {looked.reads} is made of."
        if looked.rollout is not None
        else "There is no rollout, as the pooling keeps its weights to itself."
    )
    return scale + maps + rollout


def _grid(model: Any, variables: trees.Tree, preprocess: Preprocess) -> Grid | None:
    """Returns the grid of patches that the model makes of its images; None if it has none."""
    if not isinstance(model, VisionTransformer):
        return None
    images = jax.ShapeDtypeStruct((1, *preprocess.size, 3), jnp.float32)

    def features(variables: trees.Tree, images: jax.Array) -> Any:
        found = model.apply(variables, images, train=False, outputs=("patch_features",))
        return found[1]["patch_features"]

    shape = jax.eval_shape(features, variables, images).shape
    return shape[1], shape[2]
