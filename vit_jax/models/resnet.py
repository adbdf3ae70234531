"""The ResNet in front of the hybrid models, with weight-standardised convolutions and GroupNorm.

Sources: BiT (arXiv:1912.11370) and the hybrids of ViT (arXiv:2010.11929, section 3.1); the order of
operations and the parameter tree are the official ones.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vit_jax.errors import ConfigError
from vit_jax.models.convolution import max_pool, training_convolution

EXPANSION = 4  # a unit's output has this many times the channels of its bottleneck
GROUPS = 32  # of every GroupNorm


def standardize(kernel: Float[Array, "kh kw c d"]) -> Float[Array, "kh kw c d"]:
    """Gives every filter mean 0 and standard deviation 1 (arXiv:1903.10520; official ε = 1e-5)."""
    centred = kernel - kernel.mean((0, 1, 2), keepdims=True)
    return centred / (kernel.std((0, 1, 2), keepdims=True) + 1e-5)


class StdConv(nn.Module):
    """A bias-free SAME convolution whose kernel is standardised, in float32, before each use.

    Parameter: `kernel` (kernel_size, kernel_size, c, features).
    """

    features: int
    kernel_size: int
    stride: int = 1
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool = False
    ) -> Float[Array, "b hs ws d"]:
        """Returns feature maps of (h, w) / stride, rounded up; the same with `train`."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        convolve = training_convolution(train=train) or jax.lax.conv_general_dilated
        strides = (self.stride, self.stride)
        return convolve(
            x.astype(self.dtype),
            standardize(kernel).astype(self.dtype),
            window_strides=strides,
            padding=jax.lax.padtype_to_pads(x.shape[1:3], shape[:2], strides, "SAME"),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )


class ResidualUnit(nn.Module):
    """A bottleneck of 1×1, 3×3 and 1×1 convolutions beside a shortcut.

    The shortcut is projected where the shape changes. The scale of the last norm starts at zero,
    so that a new unit passes on its shortcut alone.
    """

    features: int
    stride: int = 1
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool = False
    ) -> Float[Array, "b hs ws d"]:
        """Returns d = 4 × features channels at (h, w) / stride; the same with `train`."""
        width = self.features * EXPANSION
        conv = partial(StdConv, dtype=self.dtype)
        norm = partial(nn.GroupNorm, GROUPS, dtype=self.dtype)

        shortcut = x
        if x.shape[-1] != width or self.stride != 1:
            shortcut = conv(width, 1, self.stride, name="conv_proj")(x, train=train)
            shortcut = norm(name="gn_proj")(shortcut)

        y = conv(self.features, 1, name="conv1")(x, train=train)
        y = nn.relu(norm(name="gn1")(y))
        y = conv(self.features, 3, self.stride, name="conv2")(y, train=train)
        y = nn.relu(norm(name="gn2")(y))
        y = conv(width, 1, name="conv3")(y, train=train)
        y = norm(name="gn3", scale_init=nn.initializers.zeros)(y)
        return nn.relu(shortcut + y)


class ResNetStage(nn.Module):
    """`num_units` residual units `unit1`, `unit2`, …; the first one carries the stride."""

    num_units: int
    features: int
    stride: int = 1
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool = False
    ) -> Float[Array, "b hs ws d"]:
        """Returns d = 4 × features channels at (h, w) / stride; the same with `train`."""
        for i in range(self.num_units):
            stride = self.stride if i == 0 else 1
            unit = ResidualUnit(self.features, stride, self.dtype, name=f"unit{i + 1}")
            x = unit(x, train=train)
        return x


class ResNet(nn.Module):
    """The root (`conv_root`, `gn_root`, max-pool: stride 4), then one `blockI` per stage.

    `num_layers` holds the units of each stage and may be empty: the root alone. Every stage
    after the first halves the resolution and doubles the channels.
    """

    num_layers: Sequence[int]
    width_factor: float | int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> Float[Array, "b hs ws d"]:
        """Returns feature maps, the same with `train`.

        Raises:
          ConfigError: the width cannot be normalised in groups.
        """
        width = self._root_width()
        x = StdConv(width, 7, 2, self.dtype, name="conv_root")(images, train=train)
        x = nn.relu(nn.GroupNorm(GROUPS, dtype=self.dtype, name="gn_root")(x))
        x = max_pool(x, 3, 2, jax.lax.padtype_to_pads(x.shape[1:3], (3, 3), (2, 2), "SAME"))
        for i, num_units in enumerate(self.num_layers):
            stride = 1 if i == 0 else 2
            stage = ResNetStage(num_units, width * 2**i, stride, self.dtype, name=f"block{i + 1}")
            x = stage(x, train=train)
        return x

    def _root_width(self) -> int:
        width = int(64 * self.width_factor)
        if width < GROUPS or width % GROUPS:
            raise ConfigError(
                f"width_factor={self.width_factor} gives {width} channels, which must be a "
                f"multiple of {GROUPS}, the groups of a GroupNorm; use a multiple of 0.5"
            )
        return width
