"""Resizing on the device: a box of an image, with Pillow's kernels."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Box = tuple[Array | float, Array | float, Array | float, Array | float]
"""Top, left, height and width, in pixels, which may be known on the device only."""


def resize_box(
    image: Float[Array, "h w c"],
    box: Box,
    size: tuple[int, int],
    *,
    kernel: str = "bilinear",
    antialias: bool = False,
) -> Float[Array, "H W c"]:
    """Returns a box of an image resized to `size` = (height, width), pixels not rounded.

    The work is two products with a matrix of weights, which accelerators do best, and no gather.

    Args:
      kernel: "bilinear" or "bicubic" (Keys, with a = -1/2).
      antialias: whether shrinking averages over all pixels covered, those beyond the edges of the
        box included.
    """
    top, left, height, width = box
    rows = _weights(top, height, image.shape[0], size[0], kernel, antialias)
    columns = _weights(left, width, image.shape[1], size[1], kernel, antialias)
    # Rows last: their product comes out in the order of the result, with nothing to transpose.
    exact = jax.lax.Precision.HIGHEST
    wide = jnp.einsum("hwc,Ww->hWc", image, columns, precision=exact)
    return jnp.einsum("Hh,hWc->HWc", rows, wide, precision=exact)


def _weights(
    start: Array | float,
    extent: Array | float,
    length: int,
    count: int,
    kernel: str,
    antialias: bool,
) -> Float[Array, "count length"]:
    """Returns what each of `length` inputs adds to `count` outputs over a part of them."""
    step = extent / count
    centres = start + (jnp.arange(count) + 0.5) * step - 0.5
    reach = jnp.maximum(step, 1.0) if antialias else 1.0
    distances = jnp.abs(centres[:, None] - jnp.arange(length)[None]) / reach
    weights = _KERNELS[kernel](distances)
    return weights / weights.sum(axis=1, keepdims=True)


def _triangle(distances: Float[Array, "n m"]) -> Float[Array, "n m"]:
    return jnp.maximum(1 - distances, 0.0)


def _cubic(distances: Float[Array, "n m"]) -> Float[Array, "n m"]:
    """Keys, "Cubic convolution interpolation", 1981, equation 15, with a = -1/2."""
    x = distances
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return jnp.where(x < 1, near, jnp.where(x < 2, far, 0.0))


_KERNELS = {"bilinear": _triangle, "bicubic": _cubic}
