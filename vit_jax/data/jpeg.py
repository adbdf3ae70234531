"""JPEG photographs by the shortest way; all else about images is in `decoding`."""

import dataclasses
import io

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image

from vit_jax.data.orientation import ON_ITS_SIDE, turn_of

_START, _END = b"\xff\xd8\xff", b"\xff\xd9"
# Marks of a file's parts: EXIF or XMP, Adobe's, the first with pixels, and frames, some of which
# are sent in one go.
_METADATA, _ADOBE, _SCAN = 0xE1, 0xEE, 0xDA
_FRAMES, _BASELINE = (0xC0, 0xC1, 0xC2), (0xC0, 0xC1)
# Where a frame's header tells bits, height and width (two bytes each), and the parts of a colour.
_BITS, _HEIGHT, _WIDTH, _PARTS = 4, 5, 7, 9
# Chroma is smoothed with the row beside it, so one more leaves the last one wanted untouched.
_MARGIN = 1


@dataclasses.dataclass(frozen=True)
class Jpeg:
    """A JPEG in colour or grey, not yet unpacked.

    Attributes:
      data: the content of the file.
      size: (width, height), upright.
      turn: what sets the pixels upright; None if they are.
      frame: where the header of the frame begins; None if rows cannot be left out at the end.
    """

    data: bytes
    size: tuple[int, int]
    turn: Image.Transpose | None
    frame: int | None

    def pixels(
        self, rows: int | None = None, memory: UInt8[np.ndarray, "m"] | None = None
    ) -> UInt8[np.ndarray, "h w 3"]:
        """Unpacks the image, or at least so many rows from the top, by the faster transform.

        The one that TensorFlow takes, and so the official code, to the bit; Pillow's only one is
        more accurate, and 1.1 grey levels off in the mean.

        Args:
          rows: how many are wanted; None for all.
          memory: where they may lie, if it is large enough for the whole image.

        Raises:
          ValueError: the file is damaged, in any way.
        """
        rows = self.size[1] if rows is None else rows + _MARGIN
        if self.frame is not None and rows < self.size[1]:
            # Told that the image ends sooner, the decoder stops there, and complains of the rest.
            place = self.frame + _HEIGHT
            short = self.data[:place] + rows.to_bytes(2, "big") + self.data[place + 2 :]
            return simplejpeg.decode_jpeg(short, fastdct=True, strict=False, buffer=memory)
        pixels = simplejpeg.decode_jpeg(self.data, fastdct=True, buffer=memory)
        if self.turn is None:
            return pixels
        return np.asarray(Image.fromarray(pixels).transpose(self.turn))


def open_jpeg(data: bytes) -> Jpeg | None:
    """Reads the header of a JPEG; None for another format, another kind of colour, or damage."""
    if not data.startswith(_START):
        return None
    try:
        turn, frame, adobe, place = None, None, False, 2
        while data[place] == 0xFF and (kind := data[place + 1]) != _SCAN:
            if kind == _METADATA:
                turn = _turn(data)
            elif kind == _ADOBE:
                adobe = True
            elif kind in _FRAMES:
                frame = place
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        size = None if adobe or frame is None else _plain_size(data, frame)
        size = size or _size(data)
    except (ValueError, IndexError):
        return None
    if size is None:
        return None
    whole = data.endswith(_END)  # else damage may lie in rows that nobody looks at
    short = turn is None and whole and frame is not None and data[frame + 1] in _BASELINE
    upright = size[::-1] if turn in ON_ITS_SIDE else size
    return Jpeg(data, (upright[0], upright[1]), turn, frame if short else None)


def _plain_size(data: bytes, frame: int) -> tuple[int, int] | None:
    """Returns (width, height) of an image in 8 bits of grey or YCbCr; None for what else it may be.

    Without Adobe's mark, three parts with the numbers 1, 2 and 3 are YCbCr for every decoder. This
    spares most photographs the library's own look at the header, a fiftieth of the whole time.
    """
    count, parts = data[frame + _PARTS], tuple(data[frame + _PARTS + 1 : frame + _PARTS + 10 : 3])
    if data[frame + _BITS] != 8 or (count != 1 and (count, parts) != (3, (1, 2, 3))):
        return None
    height, width = (
        int.from_bytes(data[frame + at : frame + at + 2], "big") for at in (_HEIGHT, _WIDTH)
    )
    return (width, height) if width and height else None


def _size(data: bytes) -> tuple[int, int] | None:
    """Returns (width, height) of an image in grey or YCbCr, by the library; None for others."""
    height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    return (int(width), int(height)) if colours in ("YCbCr", "Gray") else None


def _turn(data: bytes) -> Image.Transpose | None:
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return turn_of(image)
    except Exception as error:  # Pillow's parsers raise whatever damaged bytes lead them to
        raise ValueError("damaged metadata") from error
