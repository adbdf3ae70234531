"""Training crops chosen and cut on the host, for images that are decoded there."""

import math

import numpy as np

from vit_jax.data.decoding import Box

ASPECT = (3 / 4, 4 / 3)  # width over height of a random crop, as officially
ATTEMPTS = 10


def example_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Returns the random numbers that belong to one example in one epoch, and to nothing else."""
    # The 1 keeps clear of the numbers that order the epochs, whose counters start at 0.
    return np.random.Generator(np.random.Philox(key=[seed, 0], counter=[0, 1, epoch, index]))


def random_box(
    generator: np.random.Generator, size: tuple[int, int], area: tuple[float, float]
) -> Box:
    """Returns a box of random area and aspect ratio inside an image ("inception crop").

    Szegedy et al., "Going deeper with convolutions", 2015, section 6. Where no box of the drawn
    shape fits in ten attempts, the whole image is taken.

    Args:
      generator: source of randomness.
      size: (width, height) of the image, in pixels.
      area: (low, high) share of the image that the box covers.
    """
    width, height = size
    for _ in range(ATTEMPTS):
        target = generator.uniform(*area) * width * height
        aspect = math.exp(generator.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        box_width, box_height = math.sqrt(target * aspect), math.sqrt(target / aspect)
        if box_width <= width and box_height <= height:
            left = generator.uniform(0, width - box_width)
            top = generator.uniform(0, height - box_height)
            return left, top, left + box_width, top + box_height
    return 0.0, 0.0, float(width), float(height)
