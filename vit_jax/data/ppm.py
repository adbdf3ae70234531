"""Pixels as they are: binary PPM, which takes ten times the space of JPEG and no unpacking."""

import re

import numpy as np
from jaxtyping import UInt8

# Magic number, width, height and the largest value, with one blank before the pixels. A header with
# comments in it is for Pillow to read.
_HEADER = re.compile(rb"P6\s+(\d{1,9})\s+(\d{1,9})\s+255\s")


def open_ppm(data: bytes) -> UInt8[np.ndarray, "h w 3"] | None:
    """Returns the pixels where they lie in a file's content; None for any other kind of file.

    A file that is cut off, or too long, is of another kind: `decode` finds the words for it.
    """
    header = _HEADER.match(data)
    if header is None:
        return None
    width, height = int(header[1]), int(header[2])
    if not width or len(data) - header.end() != 3 * width * height:
        return None
    return np.frombuffer(data, np.uint8, offset=header.end()).reshape(height, width, 3)


def as_ppm(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """Returns the content of a file that holds these RGB pixels."""
    height, width, _ = pixels.shape
    return b"P6\n%d %d\n255\n" % (width, height) + pixels.tobytes()
