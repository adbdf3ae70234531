"""Training augmentation on the host: random crops, and what Pillow does to the colours."""

import math
import threading
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from vit_jax.data.augmentation import Augmentation
from vit_jax.data.colour import color_jitter, three_augment
from vit_jax.data.decoding import Box
from vit_jax.data.randaugment import randaugment

ASPECT = (3 / 4, 4 / 3)  # width over height of a random crop
ATTEMPTS = 10
BOX_NUMBERS = 2 * ATTEMPTS + 2
_LOG_ASPECT = math.log(ASPECT[0]), math.log(ASPECT[1])

# Streams of random numbers. 0 orders the epochs, 3 and 4 the classes (`balanced`).
CROP, ALTER, CAPTION = 1, 2, 5


def example_generator(seed: int, epoch: int, index: int, stream: int = CROP) -> np.random.Generator:
    """Returns the random numbers that belong to one example in one epoch, and to nothing else."""
    counter = [0, stream, epoch, index]
    return np.random.Generator(np.random.Philox(key=[seed, 0], counter=counter))


class _OwnGenerator(threading.local):
    """A generator for each thread: to set its place takes a sixth of the time of making one."""

    def __init__(self) -> None:
        self.bits = np.random.Philox(key=[0, 0])
        self.generator = np.random.Generator(self.bits)
        self.start = self.bits.state


_own = _OwnGenerator()


def example_numbers(count: int, seed: int, epoch: int, index: int) -> list[float]:
    """Returns the first numbers, from 0 to 1, of `example_generator` for the crop."""
    state = _own.start
    state["state"]["key"][:] = (seed, 0)
    state["state"]["counter"][:] = (0, CROP, epoch, index)
    _own.bits.state = state
    return _own.generator.random(count).tolist()


def alter(
    settings: Augmentation, pixels: UInt8[np.ndarray, "h w 3"], generator: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """Does to a cropped and resized image what `settings.on_host` says is to be done here."""
    image = Image.fromarray(pixels)
    if settings.randaugment is not None:
        image = randaugment(image, *settings.randaugment, generator)
    if settings.three_augment:
        image = three_augment(image, generator)
    if settings.color_jitter:
        image = color_jitter(image, settings.color_jitter, generator)
    return np.asarray(image)


def random_box(
    numbers: Sequence[float],
    size: tuple[int, int],
    area: tuple[float, float],
    rule: str = "torchvision",
) -> Box:
    """Returns a box of random area and aspect ratio inside an image ("inception crop").

    Szegedy et al., "Going deeper with convolutions", 2015, section 6, by which of two `rule`s the
    libraries read it. As torchvision's RandomResizedCrop: area and the logarithm of the aspect
    ratio are uniform, and of ten attempts the first that fits counts. As TensorFlow's
    sample_distorted_bounding_box, of the official code: the aspect ratio is uniform, and so is the
    height between the least and the greatest that it allows, which makes small boxes likelier. Both
    without rounding to pixels; where none of ten attempts fits, the whole image is taken.

    Args:
      numbers: `BOX_NUMBERS` random ones, from 0 to 1.
      size: (width, height) of the image, in pixels.
      area: (low, high) share of the image that the box covers.
      rule: "torchvision" or "tensorflow".
    """
    width, height = size
    draw = _BOX_SIZES[rule]
    for i in range(0, 2 * ATTEMPTS, 2):  # an attempt that fails has used up two of them
        drawn = draw(numbers[i], numbers[i + 1], size, area)
        if drawn is not None:
            box_width, box_height = drawn
            left, top = numbers[i + 2] * (width - box_width), numbers[i + 3] * (height - box_height)
            return left, top, left + box_width, top + box_height
    return 0.0, 0.0, float(width), float(height)


def _torchvision_size(
    first: float, second: float, size: tuple[int, int], area: tuple[float, float]
) -> tuple[float, float] | None:
    """Returns (width, height) of a box by two numbers from 0 to 1, or None if it does not fit."""
    target = (area[0] + first * (area[1] - area[0])) * size[0] * size[1]
    lowest, highest = _LOG_ASPECT
    aspect = math.exp(lowest + second * (highest - lowest))
    width, height = math.sqrt(target * aspect), math.sqrt(target / aspect)
    return (width, height) if width <= size[0] and height <= size[1] else None


def _tensorflow_size(
    first: float, second: float, size: tuple[int, int], area: tuple[float, float]
) -> tuple[float, float] | None:
    """Returns (width, height) of a box by two numbers from 0 to 1, or None if it does not fit."""
    aspect = ASPECT[0] + second * (ASPECT[1] - ASPECT[0])
    least, most = (math.sqrt(share * size[0] * size[1] / aspect) for share in area)
    most = min(most, size[0] / aspect, size[1])
    height = least + first * (most - least)
    return (aspect * height, height) if least <= most else None


_BOX_SIZES = {"torchvision": _torchvision_size, "tensorflow": _tensorflow_size}
