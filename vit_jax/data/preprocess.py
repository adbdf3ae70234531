"""What is done to an image before the model sees it. It travels with the weights."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num, UInt8
from PIL import Image

from vit_jax.data import decoding

DeviceBox = tuple[Array | float, Array | float, Array | float, Array | float]
"""Top, left, height and width, in pixels."""


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """Resize, central crop and normalisation.

    Attributes:
      size: (height, width) of the images the model sees, in pixels.
      resize: the shorter side, in pixels, before the central crop; None resizes the whole image
        straight to `size`, whatever its shape (official behaviour).
      antialias: smooth before shrinking (the official code does not).
      mean, std: per colour, for values from 0 to 1. The official ones, 0.5, map to [-1, 1].
    """

    size: tuple[int, int]
    resize: int | None = None
    antialias: bool = False
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __call__(self, image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
        """Returns an RGB image of any size as the uint8 pixels that `normalize` takes."""
        box = central_box(image.size, self.size, self.resize)
        return decoding.crop_and_resize(image, box, self.size, antialias=self.antialias)

    def on_device(self, images: UInt8[Array, "b h w 3"]) -> Num[Array, "b H W 3"]:
        """Does for a batch of images of one size what calling does for one, unrounded."""
        height, width = images.shape[1:3]
        box = central_box((width, height), self.size, self.resize)
        if box == (0, 0, width, height) and (height, width) == self.size:
            return images
        left, top, right, bottom = box
        part = (top, left, bottom - top, right - left)
        resize = jax.vmap(lambda x: resize_box(x, part, self.size, antialias=self.antialias))
        return resize(images.astype(jnp.float32))

    def normalize(self, images: Num[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
        """Returns (pixels / 255 - mean) / std in float32; 127.5 maps to 0 exactly, officially."""
        mean = jnp.array(self.mean, jnp.float32).reshape(1, 1, 1, 3) * 255
        std = jnp.array(self.std, jnp.float32).reshape(1, 1, 1, 3) * 255
        return (images.astype(jnp.float32) - mean) / std

    def denormalize(self, images: Float[Array, "b h w 3"]) -> UInt8[Array, "b h w 3"]:
        """Returns what `normalize` was given, for the eye: rounded, and cut to 0 … 255."""
        mean = jnp.array(self.mean, jnp.float32).reshape(1, 1, 1, 3)
        std = jnp.array(self.std, jnp.float32).reshape(1, 1, 1, 3)
        return jnp.clip(jnp.rint((images * std + mean) * 255), 0, 255).astype(jnp.uint8)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON knows them; `from_dict` reads them back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Preprocess":
        """Reads what `to_dict` wrote, JSON's lists included."""
        read: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()
        }
        return cls(**read)


def central_box(source: tuple[int, int], size: tuple[int, int], resize: int | None) -> decoding.Box:
    """Returns the part of an image of (width, height) that becomes `size` = (height, width)."""
    width, height = source
    if resize is None:
        return 0.0, 0.0, float(width), float(height)
    # Resizing and then cropping is cutting a smaller box, and resizing that.
    pixels = min(width, height) / resize
    box_width, box_height = size[1] * pixels, size[0] * pixels
    # Rounding may make the box larger than the image by a hair, which Pillow refuses.
    left, top = max((width - box_width) / 2, 0.0), max((height - box_height) / 2, 0.0)
    return left, top, min(left + box_width, float(width)), min(top + box_height, float(height))


def resize_box(
    image: Float[Array, "h w c"], box: DeviceBox, size: tuple[int, int], *, antialias: bool
) -> Float[Array, "H W c"]:
    """Returns a box of an image resized to `size`: `decoding.crop_and_resize` on the device.

    Unlike there, pixels are not rounded. The work is two products with a matrix of weights.
    """
    top, left, height, width = box
    rows = _weights(top, height, image.shape[0], size[0], antialias)
    columns = _weights(left, width, image.shape[1], size[1], antialias)
    # Rows last: their product comes out in the order of the result, with nothing to transpose.
    exact = jax.lax.Precision.HIGHEST
    wide = jnp.einsum("hwc,Ww->hWc", image, columns, precision=exact)
    return jnp.einsum("Hh,hWc->HWc", rows, wide, precision=exact)


def _weights(
    start: Array | float, extent: Array | float, length: int, count: int, antialias: bool
) -> Float[Array, "count length"]:
    """Returns what each of `length` inputs adds to `count` outputs over a part of them."""
    step = extent / count
    centres = start + (jnp.arange(count) + 0.5) * step - 0.5
    reach = jnp.maximum(step, 1.0) if antialias else 1.0
    distances = jnp.abs(centres[:, None] - jnp.arange(length)[None])
    weights = jnp.maximum(1 - distances / reach, 0.0)
    return weights / weights.sum(axis=1, keepdims=True)
