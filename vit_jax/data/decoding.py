"""Files into RGB images, and images into the size the model sees (host side)."""

import contextlib
import io
import math
import threading
import warnings
from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError, features

from vit_jax.data.folder_index import HEIF, is_heif
from vit_jax.data.jpeg import open_jpeg
from vit_jax.data.orientation import turn_of
from vit_jax.data.ppm import open_ppm
from vit_jax.errors import DataError

# Pillow warns of odd metadata and of large images; the pixels decide here. A filter set and taken
# back around each call would not do: filters belong to the process, and many threads decode.
warnings.filterwarnings("ignore", module=r"PIL\.")

# The loader has threads of its own; those of OpenCV beside them cost more than they bring.
cv2.setNumThreads(0)

# What a folder may hold, told by content. Pillow's other formats stay shut: one of them starts an
# interpreter for a page description language.
_READS_AVIF = "avif" in features.modules and bool(features.check("avif"))  # Pillow 11.3 and later
FORMATS = (
    *("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"),
    *(("AVIF",) if _READS_AVIF else ()),
)
UNREAD = tuple(ending for ending in HEIF if not (_READS_AVIF and ending == ".avif"))
TO_JPEG = "convert them to JPEG, or take them out"
# What a header may claim before its image is unpacked: 0.4 GB as RGB. Pillow has its own limit,
# a third higher, but any program may take it off, and many do.
MAX_PIXELS = 2**27
_REMEDY = "make it smaller, or take it out"
_MOST_KEPT = 2**25  # bytes of pixels for each thread: 11 megapixels

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
        if is_heif(bytes(data[:12])):
            raise DataError(
                f"{name}: HEIC, or another photograph of its family that Pillow does not read; "
                f"{TO_JPEG}"
            ) from error
        known = ", ".join(FORMATS)
        raise DataError(f"{name}: not an image of a known format ({known})") from error
    except Image.DecompressionBombError as error:  # Pillow's own limit, beyond ours
        claim = f"its header claims more than {MAX_PIXELS:,} pixels; {_REMEDY}"
        raise DataError(f"{name}: not a readable image: {claim}") from error
    except Exception as error:  # Pillow's parsers raise whatever damaged bytes lead them to
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name}: not a readable image: {reason}") from error


def decode_pixels(
    data: bytes | UInt8[np.ndarray, "h w c"], name: str
) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the pixels of an encoded image: of a JPEG those that the official code sees.

    JPEG in colour or grey is unpacked as TensorFlow does (`jpeg`), which also takes a third less
    time than by way of Pillow. All else, and whatever is odd about a JPEG, `decode` reads or
    refuses.

    Args:
      data: the content of an image file, or RGB pixels.
      name: what to call the image in an error.

    Raises:
      DataError: as `decode`.
    """
    return decode_box(data, name, lambda size: (0.0, 0.0, float(size[0]), float(size[1])))[0]


def decode_box(
    data: bytes | UInt8[np.ndarray, "h w c"],
    name: str,
    choose: Callable[[tuple[int, int]], Box],
    *,
    reuse: bool = False,
) -> tuple[UInt8[np.ndarray, "h w 3"], Box]:
    """Returns the pixels of an image, as `decode_pixels`, and the box that is chosen of it.

    Rows below the box may be missing: not to unpack them saves a tenth of the time for the official
    crops.

    Args:
      data, name: as above.
      choose: takes the (width, height) of the image; for the same one it gives the same box.
      reuse: whether the pixels may lie in memory that the thread's next call writes over: fresh
        memory for each image costs a twelfth of the time.

    Raises:
      DataError: as `decode`.
    """
    if isinstance(data, np.ndarray):
        return data, choose((data.shape[1], data.shape[0]))
    photo = open_jpeg(data)
    if photo is not None and math.prod(photo.size) <= MAX_PIXELS:
        box = choose(photo.size)
        with contextlib.suppress(ValueError):  # `decode` finds the words for what is wrong
            memory = _own.memory_for(photo.size) if reuse else None
            return photo.pixels(math.ceil(box[3]), memory), box
    pixels = open_ppm(data)
    if pixels is None:
        pixels = np.asarray(decode(data, name))
    return pixels, choose((pixels.shape[1], pixels.shape[0]))


class _OwnMemory(threading.local):
    """Memory of each thread for the pixels of one image, as large as the largest but for giants."""

    memory = np.empty(0, np.uint8)

    def memory_for(self, size: tuple[int, int]) -> UInt8[np.ndarray, "m"] | None:
        needed = 3 * math.prod(size)
        if needed > _MOST_KEPT:
            return None
        if needed > len(self.memory):
            self.memory = np.empty(needed, np.uint8)
        return self.memory


_own = _OwnMemory()


def _check_size(image: Image.Image) -> None:
    """Refuses a decompression bomb: a small file that claims to be a giant image."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"its header claims {width} x {height} pixels, more than {MAX_PIXELS:,}; {_REMEDY}"
        )


def _upright(image: Image.Image) -> Image.Image:
    turn = turn_of(image)
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
    pixels: UInt8[np.ndarray, "H W 3"],
    box: Box,
    size: tuple[int, int],
    rounding: Callable[[np.ndarray], np.ndarray] = np.rint,
) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the box of an image, resized to `size` = (height, width): bilinear, and rounded.

    Each output pixel is interpolated between four input pixels, with half-pixel centres, as
    TensorFlow's `tf.image.resize` does and so the official code. It may look beyond the box.
    """
    left, top, right, bottom = box
    # Pillow's own transform would cut fractions off, and darken by half a step on average.
    rows = _interpolate(pixels, top, bottom, size[0])
    columns = _interpolate(rows.swapaxes(0, 1), left, right, size[1])
    return rounding(columns.swapaxes(0, 1)).astype(np.uint8)


def training_crop(
    pixels: UInt8[np.ndarray, "H W 3"],
    box: Box,
    out: UInt8[np.ndarray, "h w 3"],
    *,
    antialias: bool,
) -> UInt8[np.ndarray, "h w 3"]:
    """Cuts the box out, rounded to whole pixels, and writes it into `out`, resized to its size.

    As officially, crops are whole pixels, and nothing outside of them is looked at. OpenCV
    interpolates in fixed point: one pixel in eight is a grey level off `crop_and_resize`, never
    more, for a twentieth of the time. With `antialias` shrinking averages over all pixels covered.
    """
    height, width, _ = out.shape
    left, top, right, bottom = (round(edge) for edge in box)
    # The thinnest sliver has one pixel.
    left, top = min(left, pixels.shape[1] - 1), min(top, pixels.shape[0] - 1)
    cut = pixels[top : max(bottom, top + 1), left : max(right, left + 1)]
    if antialias:
        out[:] = Image.fromarray(cut).resize((width, height), Image.Resampling.BILINEAR)
    else:
        cv2.resize(cut, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)
    return out


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
