"""Random erasing, on the device.

Zhong et al., "Random Erasing Data Augmentation", 2017 (arXiv:1708.04896).
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, Num

from vit_jax.data.augmentation import Augmentation

ASPECT = (0.3, 1 / 0.3)  # height over width of the rectangle, as in the paper
_ATTEMPTS = 10
_SHAPE, _NOISE = 3, 4  # streams of an example's key; `augment_device` has the others


def erase(
    images: Num[Array, "b h w c"],
    keys: Key[Array, "b"],
    settings: Augmentation,
    mean: tuple[float, float, float],
) -> Num[Array, "b h w c"]:
    """Covers a rectangle of some images; pixels run from 0 to 255.

    An image is chosen with probability `settings.erase`. The rectangle takes a share of it from
    `settings.erase_area`, and lies anywhere inside. Its aspect ratio is uniform in the logarithm,
    so that high ones are as frequent as wide ones. Where none of ten fits, the image stays whole.

    Args:
      images: after crop and resize, before normalisation.
      keys: of the examples.
      settings: the fill is "noise", uniform for each pixel and colour, or "mean".
      mean: of each colour, from 0 to 1.
    """
    if not settings.erase:
        return images
    pixels, average = images.astype(jnp.float32), 255 * jnp.asarray(mean, jnp.float32)

    def one(image: Float[Array, "h w c"], key: Key[Array, ""]) -> Float[Array, "h w c"]:
        numbers = jax.random.uniform(jax.random.fold_in(key, _SHAPE), (4 * _ATTEMPTS + 1,))
        covered = _rectangle(numbers[1:], settings.erase_area, *image.shape[:2])
        covered &= numbers[0] < settings.erase
        fill = average[None, None]
        if settings.erase_fill == "noise":
            noise_key = jax.random.fold_in(key, _NOISE)
            fill = jax.random.uniform(noise_key, image.shape, maxval=255.0)
        return jnp.where(covered[:, :, None], fill, image)

    return jax.vmap(one)(pixels, keys)


def _rectangle(
    numbers: Float[Array, "n"], area: tuple[float, float], height: int, width: int
) -> Bool[Array, "h w"]:
    """Returns the pixels of the first rectangle that is smaller than the image."""
    share, aspect, down, across = numbers.reshape(4, _ATTEMPTS)
    target = (area[0] + share * (area[1] - area[0])) * height * width
    ratio = jnp.exp(math.log(ASPECT[0]) + aspect * math.log(ASPECT[1] / ASPECT[0]))
    high, wide = jnp.round(jnp.sqrt(target * ratio)), jnp.round(jnp.sqrt(target / ratio))
    fits = (high < height) & (wide < width)
    first = jnp.argmax(fits)
    top = jnp.floor(down[first] * (height - high[first] + 1))
    left = jnp.floor(across[first] * (width - wide[first] + 1))
    y, x = jnp.arange(height)[:, None], jnp.arange(width)[None]
    rows = (y >= top) & (y < top + high[first])
    columns = (x >= left) & (x < left + wide[first])
    return rows & columns & fits[first]
