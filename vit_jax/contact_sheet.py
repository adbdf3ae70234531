"""A contact sheet: training images as the model sees them, for a look before a long run."""

import functools
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from vit_jax.fonts import fallbacks, font_of
from vit_jax.mesh import replicated
from vit_jax.runtime.output import well_formed
from vit_jax.step import Batch, StepSettings, first_inputs

_SHOWN = 48  # images
_COLUMNS = 8
_TILE = 120  # least width of an image, in pixels
_MOST = 240
_TEXT = 13  # height of the letters
_TITLE = 16
_GAP = 6


def first_batch(
    settings: StepSettings, batch: Batch, mesh: Mesh, names: Sequence[str]
) -> tuple[UInt8[np.ndarray, "n h w 3"], list[str]]:
    """Returns images of the first batch of a run as the model sees them, and a caption for each.

    All processes must call it.
    """

    def shown(batch: Batch) -> tuple[jax.Array, jax.Array]:
        images, shares = first_inputs(settings, batch, _SHOWN)
        return settings.preprocess.denormalize(images), shares

    images, shares = jax.device_get(jax.jit(shown, out_shardings=replicated(mesh))(batch))
    return images, [caption(of_image, names) for of_image in shares]


def caption(shares: Float[np.ndarray, "k"], names: Sequence[str]) -> str:
    """Returns "cat", or "cat 70%, dog 30%" for a mixed image."""
    first, second = (int(i) for i in np.argsort(-shares, kind="stable")[:2])
    if round(100 * float(shares[second])) == 0:
        return names[first]
    return ", ".join(f"{names[i]} {float(shares[i]):.0%}" for i in (first, second))


def draw_contact_sheet(
    images: UInt8[np.ndarray, "n h w 3"],
    captions: Sequence[str],
    path: Path,
    title: str | None = None,
) -> None:
    """Draws images in rows, each with a caption below it.

    Small images are enlarged by whole factors, so that their pixels stay square and sharp; large
    ones are shrunk.

    Args:
      images: as the model sees them, normalisation undone.
      captions: one for each, of one line or more.
      path: the PNG to write.
      title: stands above the images; None for none.
    """
    captions, title = list(map(well_formed, captions)), title and well_formed(title)
    width, height = _shown_size(images.shape[2], images.shape[1])
    text = max((words.count("\n") + 1 for words in captions), default=1) * (_TEXT + 1) - 1
    line = text + _GAP
    rows = -(-len(images) // _COLUMNS)
    columns = min(len(images), _COLUMNS)
    above = 0 if title is None else _TITLE + 2 * _GAP
    others = fallbacks([*captions, title or ""])
    large = _font(title or "", others, _TITLE)
    wide = max(columns * (width + _GAP) + _GAP, round(large.getlength(title or "")) + 2 * _GAP)
    sheet = Image.new("RGB", (wide, above + rows * (height + line + _GAP) + _GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (pixels, words) in enumerate(zip(images, captions, strict=True)):
        row, column = divmod(number, _COLUMNS)
        left, top = _GAP + column * (width + _GAP), above + _GAP + row * (height + line + _GAP)
        how = Image.Resampling.NEAREST if width > images.shape[2] else Image.Resampling.LANCZOS
        sheet.paste(Image.fromarray(pixels).resize((width, height), how), (left, top))
        font = _font(words, others, _TEXT)
        fitting = "\n".join(_fitting(line, width, font) for line in words.split("\n"))
        pen.multiline_text((left, top + height + 2), fitting, "black", font, spacing=2)
    if title is not None:
        pen.text((_GAP, _GAP), title, "black", large)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _shown_size(width: int, height: int) -> tuple[int, int]:
    """Returns (width, height) of an image on the sheet."""
    if width < _TILE:
        factor = -(-_TILE // width)
        return width * factor, height * factor
    shrink = min(1.0, _MOST / max(width, height))
    return max(1, round(width * shrink)), max(1, round(height * shrink))


def _font(text: str, others: Sequence[Path], height: int) -> ImageFont.FreeTypeFont:
    """Returns the font for a text: Pillow's own has no × and no Greek or Cyrillic."""
    return _opened(font_of(text, others), height)


@functools.lru_cache(maxsize=8)
def _opened(file: Path, height: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(file), height)


def _fitting(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """Returns the text, cut short where it is too wide."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
