"""Files into RGB images, and images into the size the model sees (host side)."""

import io
import warnings

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from vit_jax.errors import DataError

# A photograph of 20,000 x 10,000; what claims more is refused before it is unpacked.
MAX_PIXELS = 200_000_000

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels


def decode(data: bytes | UInt8[np.ndarray, "h w c"], name: str) -> Image.Image:
    """Returns an encoded image, or an array of RGB pixels, as an RGB image.

    The EXIF orientation is applied, the first frame of an animation taken, transparency laid on
    white, and 16-bit grey scaled down to 8 bits.

    Args:
      data: the content of an image file, or RGB pixels.
      name: what to call the image in an error.

    Raises:
      DataError: not an image that can be read, or one of more than 200 megapixels.
    """
    if isinstance(data, np.ndarray):
        return Image.fromarray(data)
    try:
        with warnings.catch_warnings():
            # Pillow warns about its own size limit and about odd metadata; the pixels decide here.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise DataError(
                        f"{name}: {image.width} x {image.height} pixels are more than the "
                        f"{MAX_PIXELS:,} allowed"
                    )
                return _to_rgb(ImageOps.exif_transpose(image))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{name}: not a readable image: {error}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    """Returns any Pillow mode as RGB."""
    if image.mode == "RGB" and "transparency" not in image.info:
        image.load()
        return image
    if image.mode.startswith("I"):  # 16-bit grey: Pillow would clip it at 255
        return Image.fromarray((np.asarray(image, np.uint32) >> 8).astype(np.uint8)).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def crop_and_resize(
    image: Image.Image, box: Box, size: tuple[int, int], *, antialias: bool
) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the box of an image, resized to `size` = (height, width), bilinearly.

    Without `antialias` each output pixel is interpolated between four input pixels, with half-pixel
    centres, as TensorFlow's `tf.image.resize` does and so the official code; with it, shrinking
    averages over all pixels covered.
    """
    height, width = size
    if antialias:
        return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box))
    left, top, right, bottom = box
    pixels = np.asarray(image)
    # Pillow's own transform would cut fractions off, and darken by half a step on average.
    rows = _interpolate(pixels, top, bottom, height)
    columns = _interpolate(rows.swapaxes(0, 1), left, right, width)
    return np.rint(columns.swapaxes(0, 1)).astype(np.uint8)


def _interpolate(values: np.ndarray, start: float, stop: float, count: int) -> np.ndarray:
    """Samples `count` points along the first axis, at the centres of equal parts of the range."""
    centres = start + (np.arange(count) + 0.5) * ((stop - start) / count) - 0.5
    below = np.floor(centres).astype(np.int64)
    weight = (centres - below).astype(np.float32).reshape(-1, *[1] * (values.ndim - 1))
    last = len(values) - 1
    lower = values[np.clip(below, 0, last)].astype(np.float32)
    upper = values[np.clip(below + 1, 0, last)]
    return lower + weight * (upper - lower)
