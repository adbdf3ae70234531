"""RandAugment on the host.

Cubuk et al., "RandAugment", 2019 (arXiv:1909.13719), with the sixteen operations and the strengths
of its authors' code, which AugReg used too. Magnitude 10 is full strength; more goes beyond it.
Magnitude 0 does not mean no change: enhancing by 0.1 makes an image nearly grey, blurred or black.
Contrast is about the mean brightness, as Pillow has it; theirs is about a number that follows from
the size of the image.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

# What a turned or moved image leaves empty, and what covers a part of it.
_GREY = (128, 128, 128)
# The strengths in pixels are those of images so large; in others they keep their share of the side.
_SIDE = 224

# An operation takes an image, its level (magnitude / 10), a sign, and a place (down, across) from
# 0 to 1, of which it uses what it needs.
Place = tuple[float, float]
Operation = Callable[[Image.Image, float, int, Place], Image.Image]


def randaugment(
    image: Image.Image, layers: int, magnitude: int | float, generator: np.random.Generator
) -> Image.Image:
    """Returns an RGB image after `layers` operations drawn from `OPERATIONS`, with repetition."""
    chain = list(OPERATIONS.values())
    for _ in range(layers):
        # Four numbers a layer, whatever is drawn: no operation changes what the next one draws.
        pick, side, down, across = generator.random(4)
        operation = chain[int(pick * len(chain))]
        image = operation(image, magnitude / 10, 1 if side < 0.5 else -1, (down, across))
    return image


def _autocontrast(image: Image.Image, level: float, sign: int, place: Place) -> Image.Image:
    return ImageOps.autocontrast(image)


def _equalize(image: Image.Image, level: float, sign: int, place: Place) -> Image.Image:
    return ImageOps.equalize(image)


def _invert(image: Image.Image, level: float, sign: int, place: Place) -> Image.Image:
    return ImageOps.invert(image)


def _posterize(image: Image.Image, level: float, sign: int, place: Place) -> Image.Image:
    bits = min(max(int(4 * level), 1), 8)  # TensorFlow's shift, too, leaves one bit at least
    return ImageOps.posterize(image, bits)


def _solarize(image: Image.Image, level: float, sign: int, place: Place) -> Image.Image:
    return ImageOps.solarize(image, int(256 * level))


def _solarize_add(image: Image.Image, level: float, sign: int, place: Place) -> Image.Image:
    more = int(110 * level)
    table = [min(value + more, 255) if value < 128 else value for value in range(256)]
    return image.point(table * 3)


def _color(image: Image.Image, level: float, sign: int, place: Place) -> Image.Image:
    return ImageEnhance.Color(image).enhance(1.8 * level + 0.1)


def _contrast(image: Image.Image, level: float, sign: int, place: Place) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(1.8 * level + 0.1)


def _brightness(image: Image.Image, level: float, sign: int, place: Place) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(1.8 * level + 0.1)


def _sharpness(image: Image.Image, level: float, sign: int, place: Place) -> Image.Image:
    return ImageEnhance.Sharpness(image).enhance(1.8 * level + 0.1)


def _rotate(image: Image.Image, level: float, sign: int, place: Place) -> Image.Image:
    return image.rotate(sign * 30 * level, Image.Resampling.NEAREST, fillcolor=_GREY)


def _shear_x(image: Image.Image, level: float, sign: int, place: Place) -> Image.Image:
    return _affine(image, (1.0, sign * 0.3 * level, 0.0, 0.0, 1.0, 0.0))


def _shear_y(image: Image.Image, level: float, sign: int, place: Place) -> Image.Image:
    return _affine(image, (1.0, 0.0, 0.0, sign * 0.3 * level, 1.0, 0.0))


def _translate_x(image: Image.Image, level: float, sign: int, place: Place) -> Image.Image:
    move = sign * level * 100 * image.width / _SIDE
    return _affine(image, (1.0, 0.0, move, 0.0, 1.0, 0.0))


def _translate_y(image: Image.Image, level: float, sign: int, place: Place) -> Image.Image:
    move = sign * level * 100 * image.height / _SIDE
    return _affine(image, (1.0, 0.0, 0.0, 0.0, 1.0, move))


def _cutout(image: Image.Image, level: float, sign: int, place: Place) -> Image.Image:
    """Covers a square about the place; what sticks out is cut off."""
    reach = int(level * 40 * min(image.size) / _SIDE)
    y, x = int(place[0] * image.height), int(place[1] * image.width)
    result = image.copy()
    result.paste(_GREY, (x - reach, y - reach, x + reach, y + reach))
    return result


def _affine(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    """Looks up the nearest pixel of (x, y) mapped by [[a, b, c], [d, e, f]]."""
    how = Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST
    return image.transform(image.size, *how, fillcolor=_GREY)


OPERATIONS: dict[str, Operation] = {
    "AutoContrast": _autocontrast,
    "Equalize": _equalize,
    "Invert": _invert,
    "Rotate": _rotate,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "SolarizeAdd": _solarize_add,
    "Color": _color,
    "Contrast": _contrast,
    "Brightness": _brightness,
    "Sharpness": _sharpness,
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateX": _translate_x,
    "TranslateY": _translate_y,
    "Cutout": _cutout,
}
