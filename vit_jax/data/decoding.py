"""Files into RGB images, and images into the size the model sees (host side)."""

import io
import warnings

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, UnidentifiedImageError

from vit_jax.errors import DataError

# Pillow warns of odd metadata and of large images; the pixels decide here. A filter set and taken
# back around each call would not do: filters belong to the process, and many threads decode.
warnings.filterwarnings("ignore", module=r"PIL\.")

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF orientation

# What a folder may hold, told by content. Pillow's other formats stay shut: one of them starts an
# interpreter for a page description language.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
# What a header may claim before its image is unpacked: 0.4 GB as RGB. Pillow has its own limit,
# a third higher, but any program may take it off, and many do.
MAX_PIXELS = 2**27

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels


def decode(data: bytes | UInt8[np.ndarray, "h w c"], name: str) -> Image.Image:
    """Returns an encoded image, or an array of RGB pixels, as an RGB image.

    The format is told by the content, whatever the file is called. The EXIF orientation is applied,
    the first frame of an animation taken, transparency laid on white, and 16 bits scaled down to 8,
    as TensorFlow does, by leaving the low byte out. Grey and palettes become RGB, and so does CMYK,
    without its colour profile and with 0 as full ink in a JPEG, as Adobe's programs write it.

    Args:
      data: the content of an image file, or RGB pixels.
      name: what to call the image in an error.

    Raises:
      DataError: not an image that can be read, or one whose header claims more than `MAX_PIXELS`,
        which is refused before any are unpacked.
    """
    if isinstance(data, np.ndarray):
        return Image.fromarray(data)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image)
            image.load()
            return _to_rgb(_upright(image))
    except UnidentifiedImageError as error:
        known = ", ".join(FORMATS)
        raise DataError(f"{name}: not an image of a known format ({known})") from error
    except Exception as error:  # Pillow's parsers raise whatever damaged bytes lead them to
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name}: not a readable image: {reason}") from error


def _check_size(image: Image.Image) -> None:
    """Refuses a decompression bomb: a small file that claims to be a giant image."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"its header claims {width} x {height} pixels, more than {MAX_PIXELS:,}; make it "
            "smaller, or take it out"
        )


def _upright(image: Image.Image) -> Image.Image:
    """Turns a loaded image as its EXIF says; one whose EXIF is damaged stays as it is.

    `ImageOps.exif_transpose` would also write the metadata anew, and fail on what it cannot write.
    """
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # of any kind; the pixels have been read
        return image
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Returns any Pillow mode as RGB."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):
        return _grey_to_rgb(image)
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _grey_to_rgb(image: Image.Image) -> Image.Image:
    """Returns grey of more than 8 bits as RGB; Pillow would clip it at 255."""
    values = np.asarray(image)
    if values.dtype.kind == "f":
        raise ValueError("float pixels have no known range; save them as 8 or 16 bits")
    if values.min() < 0 or values.max() > 0xFFFF:
        raise ValueError("pixels outside 0 … 65,535; save them as 8 or 16 bits")
    grey = (values >> 8).astype(np.uint8)
    if "transparency" in image.info:  # of a PNG: the one value that lets the background through
        grey[values == image.info["transparency"]] = 255
    return Image.fromarray(grey).convert("RGB")


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


def rgb(image: Image.Image) -> Image.Image:
    """Returns a Pillow image of any mode as `decode` would: upright, as RGB.

    Raises:
      DataError: pixels of which nobody knows the range.
    """
    try:
        return _to_rgb(_upright(image))
    except ValueError as error:
        raise DataError(f"an image of mode {image.mode}: {error}") from error
