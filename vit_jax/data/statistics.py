"""Mean and standard deviation of a dataset's colours."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float64

from vit_jax.data.preprocess import Preprocess
from vit_jax.data.reading import Reader
from vit_jax.errors import DataError

Colour = tuple[float, float, float]
ENOUGH = 10_000  # images: the error of a mean is then below a hundredth of the deviation


def colour_statistics(
    reader: Reader, count: int, preprocess: Preprocess, threads: int = 4
) -> tuple[Colour, Colour]:
    """Returns mean and standard deviation of red, green and blue, from 0 to 1, to four digits.

    They are those of all pixels of up to 10,000 images, evenly spaced in the source, each resized
    and cropped as for evaluation.

    Args:
      reader: reads the images.
      count: how many there are.
      preprocess: how they are resized; its own mean and deviation play no part.
      threads: of the host, that read and decode.

    Raises:
      DataError: an image that cannot be read, unless the reader skips it; or images of one colour,
        which have no deviation to divide by.
    """
    indices = np.linspace(0, count - 1, min(count, ENOUGH)).round().astype(int).tolist()

    def moments(index: int) -> Float64[np.ndarray, "2 3"] | None:
        found = reader.read(index)
        if found is None:
            return None
        pixels = preprocess.pixels(found[0]) / 255.0
        return np.stack([pixels.mean((0, 1)), (pixels**2).mean((0, 1))])

    with ThreadPoolExecutor(threads) as pool:
        each = [found for found in pool.map(moments, indices) if found is not None]
    first, second = np.mean(each, axis=0)
    deviation = np.sqrt(np.maximum(second - first**2, 0.0)).round(4)
    if not deviation.all():
        raise DataError(
            f"config.pp.from_data: the training images have a colour without any variation "
            f"(standard deviation {tuple(deviation.tolist())}); give config.pp.mean and pp.std"
        )
    return _colour(first.round(4)), _colour(deviation)


def _colour(values: Float64[np.ndarray, "3"]) -> Colour:
    red, green, blue = values.tolist()
    return red, green, blue
