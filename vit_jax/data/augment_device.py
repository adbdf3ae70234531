"""Training augmentation on the device, inside the step.

Each example's draw comes from its own key, a function of (seed, epoch, index): neither the batch it
falls into nor the number of devices changes it.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Num

from vit_jax.data.augment_host import ASPECT, ATTEMPTS
from vit_jax.data.augmentation import Augmentation
from vit_jax.data.resizing import Box, resize_box


def example_keys(
    key: Key[Array, ""], epochs: Int[Array, "b"], indices: Int[Array, "b"]
) -> Key[Array, "b"]:
    """Returns one key for each example."""
    fold = jax.vmap(lambda epoch, index: jax.random.fold_in(jax.random.fold_in(key, epoch), index))
    return fold(epochs, indices)


def augment(
    images: Num[Array, "b h w c"],
    keys: Key[Array, "b"],
    settings: Augmentation,
    size: tuple[int, int],
    *,
    antialias: bool = False,
) -> Num[Array, "b H W c"]:
    """Crops, resizes to `size` = (height, width), mirrors and moves a batch of images.

    Resizing is bilinear; with `antialias`, shrinking averages over all pixels covered. Where the
    host has cut the random crops already, `settings.crop_area` is None.
    """
    if images.shape[1:3] == size and settings.crop_area is None and not settings.moves:
        return _mirror(images, keys) if settings.flip else images
    sample = jax.vmap(lambda image, key: _transform(image, key, settings, size, antialias))
    return sample(images.astype(jnp.float32), keys)


def _mirror(images: Num[Array, "b h w c"], keys: Key[Array, "b"]) -> Num[Array, "b h w c"]:
    return jnp.where(jax.vmap(_coin)(keys)[:, None, None, None], images[:, :, ::-1], images)


def _coin(key: Key[Array, ""]) -> Array:
    return jax.random.bernoulli(jax.random.fold_in(key, 0))


def _transform(
    image: Float[Array, "h w c"],
    key: Key[Array, ""],
    settings: Augmentation,
    size: tuple[int, int],
    antialias: bool,
) -> Float[Array, "H W c"]:
    """Crops, resizes, mirrors and moves one image."""
    box = _box(jax.random.fold_in(key, 1), settings, *image.shape[:2])
    if settings.moves and not antialias:
        return _look_up(image, key, box, settings, size)
    result = resize_box(image, box, size, antialias=antialias)
    if settings.moves:
        whole = (0.0, 0.0, float(size[0]), float(size[1]))
        return _look_up(result, key, whole, settings, size)
    return jnp.where(_coin(key), result[:, ::-1], result) if settings.flip else result


def _look_up(
    image: Float[Array, "h w c"],
    key: Key[Array, ""],
    box: Box,
    settings: Augmentation,
    size: tuple[int, int],
) -> Float[Array, "H W c"]:
    """Looks up every output pixel where the box, mirror and motion put it in the input."""
    top, left, height, width = box
    # Output pixel centres, from -1/2 to 1/2.
    y = (jnp.arange(size[0]) + 0.5) / size[0] - 0.5
    x = (jnp.arange(size[1]) + 0.5) / size[1] - 0.5
    if settings.flip:
        x = jnp.where(_coin(key), -x, x)
    y, x = jnp.meshgrid(y, x, indexing="ij")
    y, x = _move(jax.random.fold_in(key, 2), settings, y, x)
    rows = top + (y + 0.5) * height - 0.5
    columns = left + (x + 0.5) * width - 0.5
    look_up = jax.vmap(
        lambda plane: jax.scipy.ndimage.map_coordinates(plane, [rows, columns], 1, mode="nearest"),
        in_axes=-1,
        out_axes=-1,
    )
    return look_up(image)


def _box(key: Key[Array, ""], settings: Augmentation, height: int, width: int) -> Box:
    """Returns a random crop, or the whole image.

    The rules are those of `random_box` on the host: the first of ten boxes that fits, else the
    whole image.
    """
    if settings.crop_area is None:
        return 0.0, 0.0, float(height), float(width)
    first, second, down, across = jax.random.uniform(key, (4, ATTEMPTS))
    low, high = settings.crop_area
    if settings.crop_rule == "tensorflow":
        ratio = ASPECT[0] + second * (ASPECT[1] - ASPECT[0])
        least, most = (jnp.sqrt(share * height * width / ratio) for share in (low, high))
        most = jnp.minimum(most, jnp.minimum(width / ratio, height))
        box_height = least + first * (most - least)
        box_width = ratio * box_height
        fits = least <= most
    else:
        target = (low + first * (high - low)) * height * width
        ratio = jnp.exp(math.log(ASPECT[0]) + second * math.log(ASPECT[1] / ASPECT[0]))
        box_height, box_width = jnp.sqrt(target / ratio), jnp.sqrt(target * ratio)
        fits = (box_height <= height) & (box_width <= width)
    chosen = jnp.argmax(fits)
    box_height = jnp.where(fits[chosen], box_height[chosen], height)
    box_width = jnp.where(fits[chosen], box_width[chosen], width)
    top, left = down[chosen] * (height - box_height), across[chosen] * (width - box_width)
    return top, left, box_height, box_width


def _move(
    key: Key[Array, ""], settings: Augmentation, y: Float[Array, "H W"], x: Float[Array, "H W"]
) -> tuple[Float[Array, "H W"], Float[Array, "H W"]]:
    """Turns, scales and shifts coordinates, from -1/2 to 1/2, about the centre of the image."""
    turn, zoom, down, across = jax.random.uniform(key, (4,), minval=-1.0)
    angle = turn * (settings.rotate * math.pi / 180)
    scale = 1 + zoom * settings.scale
    cos, sin = jnp.cos(angle) / scale, jnp.sin(angle) / scale
    wide = y.shape[1] / y.shape[0]  # a turn keeps its angle where the sides differ
    return (
        cos * y + sin * wide * x + down * settings.shift,
        cos * x - sin / wide * y + across * settings.shift,
    )
