"""Convolutions and max-pooling with gradients that are fast on a CPU.

XLA's own convolution has gradients as fast as those of matrix products on a CPU, except inside a
loop: there, as in a step that accumulates over parts of a batch, they are ten times as slow and
more (benchmarks/LOG.md, "Convolutions in parts, on a CPU"). A GPU's or TPU's convolutions are best
left to XLA, and so are predictions and exported programs anywhere, which need no gradient.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vit_jax.models.products import dense


def training_convolution(*, train: bool) -> Callable[..., Array] | None:
    """Returns what `nn.Conv(conv_general_dilated=…)` is to compute by; None for XLA's own."""
    return conv_by_products if train and jax.default_backend() == "cpu" else None


def conv_by_products(
    images: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c d"],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    **rest: Any,
) -> Float[Array, "b gh gw d"]:
    """Returns `lax.conv_general_dilated` of NHWC images by an HWIO kernel, to rounding.

    Neighbours along a row are laid side by side, and each row of the kernel is one product: three
    times the input's memory for a 3 × 3 kernel, where whole windows would take nine.

    Args:
      images: the maps to convolve.
      kernel: as many filters as the result has channels, d.
      window_strides: pixels from one window to the next, (down, across).
      padding: zeros ((above, below), (left, right)).
      **rest: what Flax passes besides; dilations and groups must be the plain ones.

    Raises:
      NotImplementedError: dilated or grouped.
    """
    _refuse_uncommon(rest)
    kernel_rows, kernel_columns, channels, features = kernel.shape
    down, across = window_strides
    x = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    rows = (x.shape[1] - kernel_rows) // down + 1
    columns = (x.shape[2] - kernel_columns) // across + 1

    side_by_side = jnp.concatenate(
        [_every(x, 2, j, columns, across) for j in range(kernel_columns)], axis=-1
    )
    products = (
        dense(
            _every(side_by_side, 1, i, rows, down).reshape(-1, kernel_columns * channels),
            kernel[i].reshape(-1, features),
        )
        for i in range(kernel_rows)
    )
    return functools.reduce(jnp.add, products).reshape(len(x), rows, columns, features)


def max_pool(
    x: Float[Array, "b h w c"], size: int, stride: int, padding: Sequence[tuple[int, int]]
) -> Float[Array, "b gh gw c"]:
    """Returns the largest of every size × size window of maps that are nowhere negative.

    Equal to `nn.max_pool`, whose gradient XLA computes three times as slowly on a CPU: along one
    axis after the other, as the largest of shifted arrays. `padding` is ((above, below), (left,
    right)), of zeros, which win over nothing.
    """
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    for axis in (2, 1):
        count = (x.shape[axis] - size) // stride + 1
        x = functools.reduce(jnp.maximum, (_every(x, axis, i, count, stride) for i in range(size)))
    return x


def _every(x: Array, axis: int, start: int, count: int, stride: int) -> Array:
    """Returns `count` slices of an axis from `start` on, `stride` apart."""
    return jax.lax.slice_in_dim(x, start, start + (count - 1) * stride + 1, stride, axis)


def _refuse_uncommon(rest: dict[str, Any]) -> None:
    plain = {"lhs_dilation": (1, 1), "rhs_dilation": (1, 1), "feature_group_count": 1}
    for name, value in plain.items():
        if rest.get(name, value) not in (value, None):
            raise NotImplementedError(f"{name}={rest[name]} has no form as matrix products here")
