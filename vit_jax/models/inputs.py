"""What a model is called with, as shapes alone."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from vit_jax.models.lit import LitModel


def example_inputs(
    model: nn.Module, image_size: tuple[int, int], batch: int = 1
) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Returns the arguments with which a model is initialised, and so gets all its parameters.

    Args:
      model: of any family; one of images and texts gets as many texts as images.
      image_size: (height, width) in pixels.
      batch: the number of images b.

    Returns:
      Images b h w 3, float32, and for a `LitModel` tokens b n, int32.
    """
    images = jax.ShapeDtypeStruct((batch, *image_size, 3), jnp.float32)
    if not isinstance(model, LitModel):
        return (images,)
    return images, jax.ShapeDtypeStruct((batch, model.pp["max_len"]), jnp.int32)
