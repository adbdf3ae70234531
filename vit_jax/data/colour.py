"""Colour jitter and 3-Augment, on the host."""

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

_BLUR = (0.1, 2.0)  # standard deviation, in pixels
_JITTER = 0.3  # of 3-Augment


def color_jitter(
    image: Image.Image, strength: float, generator: np.random.Generator
) -> Image.Image:
    """Changes brightness, contrast and saturation, in random order.

    Each by a factor of its own, uniform from 1 - strength (not below 0) to 1 + strength.
    """
    numbers = generator.random(6)
    low = max(1 - strength, 0.0)
    factors = low + numbers[:3] * (1 + strength - low)
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for which in np.argsort(numbers[3:]):
        image = enhancers[which](image).enhance(float(factors[which]))
    return image


def three_augment(image: Image.Image, generator: np.random.Generator) -> Image.Image:
    """3-Augment: one of grey, solarisation and Gaussian blur, then colour jitter of 0.3.

    Touvron et al., "DeiT III", 2022 (arXiv:2204.07118); its mirror and crop are settings apart.
    """
    pick, strength = generator.random(2)
    if pick < 1 / 3:
        image = ImageOps.grayscale(image).convert("RGB")
    elif pick < 2 / 3:
        image = ImageOps.solarize(image)
    else:
        radius = float(_BLUR[0] + strength * (_BLUR[1] - _BLUR[0]))
        image = image.filter(ImageFilter.GaussianBlur(radius))
    return color_jitter(image, _JITTER, generator)
