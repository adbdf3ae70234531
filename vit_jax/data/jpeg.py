"""JPEG photographs by the shortest way; all else about images is in `decoding`."""

import dataclasses
import io

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image

from vit_jax.data.orientation import ON_ITS_SIDE, turn_of

_START, _END = b"\xff\xd8\xff", b"\xff\xd9"
# The marks of a file's parts: EXIF or XMP, the first with pixels, and frames sent in one go.
_METADATA, _SCAN, _BASELINE = 0xE1, 0xDA, (0xC0, 0xC1)
_HEIGHT = 5  # where a frame's header tells its height, in two bytes
# Chroma is smoothed over the rows beside it: as many more as leave the last one wanted untouched.
_MARGIN = 16


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
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours not in ("YCbCr", "Gray"):
            return None
        turn, frame = None, None
        place = 2
        while data[place] == 0xFF and (kind := data[place + 1]) != _SCAN:
            if kind == _METADATA:
                turn = _turn(data)
            if kind in _BASELINE:
                frame = place
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    except (ValueError, IndexError):
        return None
    size = (height, width) if turn in ON_ITS_SIDE else (width, height)
    whole = data.endswith(_END)  # else damage may lie in rows that nobody looks at
    return Jpeg(data, (int(size[0]), int(size[1])), turn, frame if turn is None and whole else None)


def _turn(data: bytes) -> Image.Transpose | None:
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        return turn_of(image)
