"""What is done to an image before the model sees it. It travels with the weights."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num, UInt8
from PIL import Image

from vit_jax.data import decoding
from vit_jax.data.resizing import resize_box
from vit_jax.errors import ConfigError, DataError, nearest

Picture = str | Path | Image.Image | np.ndarray | Array  # a file, or an image that is here
# How pixels are interpolated, by the names that Pillow, `jax.image` and timm share with us.
_PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

# What becomes of interpolated pixels, which sums in float32 leave a hair below a whole grey level.
_HAIR = 1e-3
_ROUNDINGS = {"nearest": np.rint, "down": lambda pixels: np.floor(pixels + _HAIR)}
_LONGEST = 16_384  # pixels of a side that a file may ask for; images have fewer


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """Resize, central crop and normalisation.

    Attributes:
      size: (height, width) of the images the model sees, in pixels.
      resize: the shorter side, in pixels, before the central crop; None resizes the whole image
        straight to `size`, whatever its shape (official behaviour).
      antialias: smooth before shrinking (the official code does not).
      mean, std: per colour, for values from 0 to 1. The official ones, 0.5, map to [-1, 1].
      interpolation: "bilinear" (official) or "bicubic", which needs `antialias`.
      rounding: of resized pixels to grey levels: "nearest", or "down" as the official LiT, which
        also rounds the sides before a central crop its own way; not with `antialias`.
    """

    size: tuple[int, int]
    resize: int | None = None
    antialias: bool = False
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    interpolation: str = "bilinear"
    rounding: str = "nearest"

    def __post_init__(self):
        if self.interpolation not in _PILLOW:
            known = ", ".join(_PILLOW)
            hint = nearest(self.interpolation, _PILLOW)
            raise ConfigError(f"interpolation={self.interpolation!r} is none of {known}{hint}")
        if self.interpolation == "bicubic" and not self.antialias:
            raise ConfigError(
                "interpolation='bicubic' smooths before shrinking: set antialias=True"
            )

        if self.rounding not in _ROUNDINGS or (self.rounding == "down" and self.antialias):
            raise ConfigError(
                f"rounding={self.rounding!r} with antialias={self.antialias}: must be 'nearest', "
                "or 'down' without smoothing"
            )

    def __call__(self, pictures: Picture | Sequence[Picture]) -> Float[Array, "b h w 3"]:
        """Returns what a model takes.

        Args:
          pictures: an image file, a Pillow image or an array of RGB pixels (uint8, h w 3), or a
            list of such; an array b h w 3 is such a list.

        Raises:
          DataError: a file that is missing or no readable image, or an array of another kind.
        """
        given: Any = pictures
        listed = list(given) if _are_many(given) else [given]
        if not listed:
            raise DataError("no images: give at least one")
        pixels = np.stack([self.pixels(opened(picture)) for picture in listed])
        return self.normalize(jnp.asarray(pixels))

    def pixels(self, image: Image.Image | UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
        """Returns an RGB image of any size as the uint8 pixels that `normalize` takes."""
        if not self.antialias:
            array = np.asarray(image)
            box = self._box((array.shape[1], array.shape[0]))
            return decoding.crop_and_resize(array, box, self.size, _ROUNDINGS[self.rounding])
        # Smoothing looks beyond the edges of the crop, so the crop comes last.
        image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        resized, (left, top) = central_crop(image.size, self.size, self.resize)
        image = image.resize(resized, _PILLOW[self.interpolation])
        return np.asarray(image.crop((left, top, left + self.size[1], top + self.size[0])))

    def at(self, size: tuple[int, int]) -> "Preprocess":
        """Returns the same for images of another size, of which it crops the same share."""
        resize = self.resize and round(self.resize * min(size) / min(self.size))
        return dataclasses.replace(self, size=size, resize=resize)

    def on_device(self, images: UInt8[Array, "b h w 3"]) -> Num[Array, "b H W 3"]:
        """Does for a batch of images of one size what calling does for one, unrounded."""
        height, width = images.shape[1:3]
        box = self._box((width, height))
        if box == (0, 0, width, height) and (height, width) == self.size:
            return images
        left, top, right, bottom = box
        part = (top, left, bottom - top, right - left)
        resize = functools.partial(resize_box, kernel=self.interpolation, antialias=self.antialias)
        resized = jax.vmap(lambda x: resize(x, part, self.size))(images.astype(jnp.float32))
        resized = jnp.clip(resized, 0, 255)  # as Pillow, where bicubic runs past the ends
        return jnp.floor(resized + _HAIR) if self.rounding == "down" else resized

    def _box(self, source: tuple[int, int]) -> decoding.Box:
        """The part of an image of (width, height) that the model sees."""
        return central_box(source, self.size, self.resize, self.rounding)

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
        """Reads what `to_dict` wrote, JSON's lists included.

        Raises:
          ConfigError: no such field, or a value that no image can be prepared with.
        """
        read: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()
        }
        for name, value in read.items():
            holds, text = _READ.get(name, (lambda _: False, f"one of {', '.join(_READ)}"))
            if not holds(value):
                raise ConfigError(f"preprocess {name}={repr(value)[:80]}: must be {text}")
        if "size" not in read:
            raise ConfigError("preprocess: has no size; it must be (height, width) in pixels")
        return cls(**read)


def _is_side(value: Any) -> bool:
    return type(value) is int and 1 <= value <= _LONGEST


def _are_three(values: Any, holds: Callable[[float], bool]) -> bool:
    if not isinstance(values, tuple) or len(values) != 3:
        return False
    return all(type(value) in (int, float) and holds(value) for value in values)


# What a field may be in a file, which anybody may have written.
_READ: dict[str, tuple[Callable[[Any], bool], str]] = {
    "size": (
        lambda value: isinstance(value, tuple) and len(value) == 2 and all(map(_is_side, value)),
        f"(height, width), each from 1 to {_LONGEST:,} pixels",
    ),
    "resize": (
        lambda value: value is None or _is_side(value),
        f"None, or from 1 to {_LONGEST:,} pixels",
    ),
    "antialias": (lambda value: isinstance(value, bool), "true or false"),
    "mean": (lambda value: _are_three(value, math.isfinite), "three finite numbers"),
    "std": (
        lambda value: _are_three(value, lambda x: 0 < x < math.inf),
        "three finite numbers above 0",
    ),
    "interpolation": (lambda value: isinstance(value, str), "a word"),
    "rounding": (lambda value: isinstance(value, str), "a word"),
}


def _are_many(pictures: Any) -> bool:
    if isinstance(pictures, (np.ndarray, Array)):
        return pictures.ndim == 4
    return not isinstance(pictures, (str, Path, Image.Image))


def opened(picture: Picture) -> Image.Image | np.ndarray:
    """Returns an RGB image, in whichever form it came."""
    if isinstance(picture, (str, Path)):
        try:
            return decoding.decode_pixels(Path(picture).read_bytes(), str(picture))
        except OSError as error:
            raise DataError(f"{picture}: cannot be read: {error.strerror}") from error
    if isinstance(picture, Image.Image):
        return decoding.rgb(picture)
    array = np.asarray(picture)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3:
        raise DataError(
            f"an array of {array.dtype}{list(array.shape)} is no image: give uint8 RGB pixels, "
            "height × width × 3"
        )
    return array


def central_box(
    source: tuple[int, int], size: tuple[int, int], resize: int | None, rounding: str = "nearest"
) -> decoding.Box:
    """Returns the part of an image of (width, height) that becomes `size` = (height, width)."""
    # Resizing and then cropping is cutting a smaller box, and resizing that.
    (wide, high), (left, top) = central_crop(source, size, resize, rounding)
    across, down = source[0] / wide, source[1] / high
    right, bottom = (left + size[1]) * across, (top + size[0]) * down
    # Rounding may make the box larger than the image by a hair, which Pillow refuses.
    return left * across, top * down, min(right, float(source[0])), min(bottom, float(source[1]))


def central_crop(
    source: tuple[int, int], size: tuple[int, int], resize: int | None, rounding: str = "nearest"
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns the (width, height) to resize an image to, and the (left, top) of the crop from it.

    Both are whole pixels, rounded as torchvision and so timm round them; transformers cuts half a
    pixel off as well. A side that would be shorter than the crop becomes as long as it. With
    rounding "down" the side is the nearest whole number, and the corner is rounded down, as the
    official LiT does.
    """
    if resize is None:
        return (size[1], size[0]), (0, 0)
    whole = round if rounding == "down" else int
    width, height = (max(whole(resize * side / min(source)), 1) for side in source)
    width, height = max(width, size[1]), max(height, size[0])
    if rounding == "down":
        return (width, height), ((width - size[1]) // 2, (height - size[0]) // 2)
    return (width, height), (round((width - size[1]) / 2), round((height - size[0]) / 2))
