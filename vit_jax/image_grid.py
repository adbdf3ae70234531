"""The grid of patches that images make, and the images that a grid of patches is made of."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from vit_jax.checkpoints import architecture
from vit_jax.checkpoints.mapping import Shape
from vit_jax.grids import Grid
from vit_jax.models.vit import STEMS

_USUAL_SIDES = (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 384, 448, 512)


def grid_of(fields: Mapping[str, Any], size: tuple[int, int]) -> Grid | None:
    """Returns the grid of patches that images of a size make; None for a model without any.

    Args:
      fields: of `create_model`.
      size: (height, width), in pixels.
    """
    tower = architecture.image_tower(fields)
    return _behind_stem(tower, size) if tower.get("stem") else architecture.patches_of(tower, size)


def grid_of_table(
    shapes: Mapping[str, Shape],
    fields: Mapping[str, Any],
    size: tuple[int, int] | None,
    where: str,
) -> Grid | None:
    """Returns the grid that positions were made for, by the rule of the model; None for any.

    Args:
      shapes: {path: shape} of the parameters.
      fields: of `create_model`.
      size: (height, width) of the images that the model expects; None where it is not known.
      where: the file, to begin an error with.

    Raises:
      CheckpointError: positions of which nothing tells the grid.
    """
    inside, tower = architecture.image_parameters(shapes), architecture.image_tower(fields)
    images = None if size is None else grid_of(tower, size)
    return architecture.grid_of(inside, tower, where, images)


def pixels_of(grid: Grid | None, fields: Mapping[str, Any]) -> tuple[int, int] | None:
    """Returns the (height, width) of images that make a grid; None where that cannot be told."""
    fields = architecture.image_tower(fields)
    if grid is None:
        return None
    if fields.get("stem"):
        sides = {patches: _usual_side(fields, patches) for patches in set(grid)}
        height, width = sides[grid[0]], sides[grid[1]]
        return (height, width) if height and width else None
    if not fields.get("patches"):
        return None
    patch = architecture.pixels_of_patch(fields)
    return grid[0] * patch[0], grid[1] * patch[1]


def _usual_side(fields: Mapping[str, Any], patches: int) -> int | None:
    """Returns the first usual side of square images that has so many patches behind a stem."""
    made = ((side, grid_of(fields, (side, side))) for side in _USUAL_SIDES)
    return next((side for side, grid in made if grid and grid[0] == patches), None)


def _behind_stem(fields: Mapping[str, Any], size: tuple[int, int]) -> Grid | None:
    """What convolutions make of images, by their shapes alone."""
    if (stem := STEMS.get(fields["stem"])) is None:
        return None
    module = stem(fields["hidden_size"], **(fields.get("stem_fields") or {}))
    images = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    tokens, _ = jax.eval_shape(
        lambda key, x: module.init_with_output(key, x, train=False), jax.random.PRNGKey(0), images
    )
    return tokens.shape[1], tokens.shape[2]
