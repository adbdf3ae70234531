"""Stems: from an image, or a feature map, to a grid of embeddings."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vit_jax.errors import ConfigError, DataError
from vit_jax.models.batchnorm import BatchNorm
from vit_jax.models.convolution import training_convolution
from vit_jax.models.products import Dense, dense

Fields = Any  # a mapping: dict, flax FrozenDict or ml_collections ConfigDict


def patch_size(patches: Fields | None) -> tuple[int, int]:
    """Returns (height, width) from the official field {"size": …}, or raises `ConfigError`."""
    size = tuple((patches or {}).get("size", ()))
    if len(size) != 2 or min(size) < 1:
        raise ConfigError(
            f"patches.size={size} must be two positive numbers of pixels, "
            "height and width, such as (16, 16)"
        )
    return size


def cut_patches(
    images: Float[Array, "b h w c"], patch_size: tuple[int, int]
) -> Float[Array, "b gh gw p"]:
    """Cuts images into patches of (height, width) pixels and flattens each, channels last.

    Rows and columns at the bottom and on the right that fill no patch are dropped, as a VALID
    convolution does. `DataError` if an image is smaller than one patch.
    """
    b, h, w, c = images.shape
    ph, pw = patch_size
    gh, gw = h // ph, w // pw
    if not gh or not gw:
        raise DataError(
            f"an input of {h}×{w} pixels holds no patch of {ph}×{pw}; "
            f"give images of at least one patch, or a model with smaller patches"
        )
    # b (gh ph) (gw pw) c -> b gh gw (ph pw c)
    grid = images[:, : gh * ph, : gw * pw].reshape(b, gh, ph, gw, pw, c)
    return grid.transpose(0, 1, 3, 2, 4, 5).reshape(b, gh, gw, ph * pw * c)


class PatchEmbed(nn.Module):
    """Embeds every patch linearly (arXiv:2010.11929, eq. 1).

    Equals the official VALID convolution with stride = patch size, written as one matrix product.
    Parameters: `kernel` (patch height, patch width, c, features) and `bias` (features).
    """

    features: int
    patch_size: tuple[int, int]
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"]) -> Float[Array, "b gh gw d"]:
        """Returns the grid of embeddings; `DataError` if an image is smaller than one patch."""
        shape = (*self.patch_size, images.shape[-1], self.features)
        kernel = jnp.asarray(self.param("kernel", nn.initializers.lecun_normal(), shape))
        bias = jnp.asarray(self.param("bias", nn.initializers.zeros, (self.features,)))

        patches = cut_patches(images.astype(self.dtype), self.patch_size)
        b, gh, gw, size = patches.shape
        matrix = kernel.reshape(size, self.features)
        embedded = dense(patches.reshape(b * gh * gw, size), matrix, bias)
        return embedded.reshape(b, gh, gw, self.features)


class ConvStem(nn.Module):
    """Convolutions, each with BatchNorm and ReLU, then a linear embedding, in place of patches.

    Every convolution is 3×3 with padding 1 and no bias; `layers` holds (channels, stride) of each.
    (Compare arXiv:2106.14881, whose stems are deeper.) Parameters: `conv_i`, `norm_i`, and
    `embedding`, which has no bias either; running statistics of `norm_i` in `batch_stats`.
    """

    hidden_size: int
    layers: Sequence[tuple[int, int]] = ((32, 2), (64, 2), (128, 4))
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b gh gw d"]:
        """Returns the grid of embeddings: (h, w) over the product of the strides, rounded up.

        Images of any size. With `train`, `batch_stats` must be mutable; see `BatchNorm`.
        """
        x = images.astype(self.dtype)
        for i, (channels, stride) in enumerate(self.layers):
            conv = nn.Conv(
                channels,
                (3, 3),
                stride,
                1,
                use_bias=False,
                dtype=self.dtype,
                conv_general_dilated=training_convolution(train=train),
                name=f"conv_{i}",
            )
            norm = BatchNorm(dtype=self.dtype, name=f"norm_{i}")
            x = nn.relu(norm(conv(x), train=train))
        return Dense(self.hidden_size, use_bias=False, dtype=self.dtype, name="embedding")(x)
