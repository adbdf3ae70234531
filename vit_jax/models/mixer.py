"""MLP-Mixer (arXiv:2105.01601), with the official fields and parameter tree."""

from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vit_jax.errors import DataError
from vit_jax.models.mlp import MlpBlock
from vit_jax.models.stems import Fields, PatchEmbed, patch_size


class MixerBlock(nn.Module):
    """An MLP over the tokens of each channel, then one over the channels of each token.

    Each stands behind a LayerNorm and beside a residual (arXiv:2105.01601, eq. 1). Parameters:
    `LayerNorm_0`, `token_mixing`, `LayerNorm_1`, `channel_mixing`.
    """

    tokens_mlp_dim: int
    channels_mlp_dim: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Returns the tokens after the block; n is fixed by the parameters of `token_mixing`."""
        mlp = partial(
            MlpBlock,
            dropout_rate=0.0,
            dtype=self.dtype,
            # Not those of a Transformer's MLP: the official Mixer has the defaults of flax.
            kernel_init=nn.initializers.lecun_normal(),
            bias_init=nn.initializers.zeros,
        )
        mix_tokens = mlp(self.tokens_mlp_dim, name="token_mixing")
        mix_channels = mlp(self.channels_mlp_dim, name="channel_mixing")

        y = nn.LayerNorm(dtype=self.dtype, name="LayerNorm_0")(x)
        x = x + mix_tokens(y.swapaxes(1, 2), deterministic=True).swapaxes(1, 2)
        y = nn.LayerNorm(dtype=self.dtype, name="LayerNorm_1")(x)
        return x + mix_channels(y, deterministic=True)


class MlpMixer(nn.Module):
    """An image classifier without attention; all fields but the last are the official ones.

    Fields:
      patches: {"size": (height, width)} of a patch, in pixels.
      num_classes: the head's outputs k; None or 0 for no head.
      num_blocks: blocks `MixerBlock_i`.
      hidden_dim: width d of a token.
      tokens_mlp_dim: hidden width of the MLP over tokens.
      channels_mlp_dim: hidden width of the MLP over channels.
      model_name: for the reader; changes nothing.
      dtype: dtype of the computation. Parameters, the statistics of the norms and logits stay
        float32.
    """

    patches: Fields
    num_classes: int | None
    num_blocks: int
    hidden_dim: int
    tokens_mlp_dim: int
    channels_mlp_dim: int
    model_name: str | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], train: bool = False) -> Float[Array, "b k"]:
        """Returns float32 logits, b k; without a head the features come back, b d, in `dtype`.

        Images of any size that the patches fill, but all of the size that the parameters were made
        for. The model has no dropout: `train` changes nothing. `ConfigError` for a wrong patch
        size, `DataError` for images that hold no whole number of patches; both are ValueErrors.
        """
        size = patch_size(self.patches)
        check_whole_grid(images, size)
        x = PatchEmbed(self.hidden_dim, size, self.dtype, name="stem")(images)
        x = x.reshape(x.shape[0], -1, self.hidden_dim)  # b gh gw d -> b (gh gw) d
        for i in range(self.num_blocks):
            block = MixerBlock(
                self.tokens_mlp_dim, self.channels_mlp_dim, self.dtype, name=f"MixerBlock_{i}"
            )
            x = block(x)
        x = nn.LayerNorm(dtype=self.dtype, name="pre_head_layer_norm")(x).mean(axis=1)
        return self._head(x, self.num_classes) if self.num_classes else x

    def _head(self, x: Array, num_classes: int) -> Array:
        """b d -> b k in float32; the zero kernel makes a new head say nothing at first."""
        kernel_init = nn.initializers.zeros
        return nn.Dense(num_classes, kernel_init=kernel_init, dtype=jnp.float32, name="head")(x)


def check_whole_grid(images: Float[Array, "b h w c"], patch: tuple[int, int]) -> None:
    """Raises `DataError` unless patches of (height, width) fill the images to the last pixel."""
    (h, w), (ph, pw) = images.shape[1:3], patch
    if not h or not w or h % ph or w % pw:
        nearest = tuple(max(1, round(side / unit)) * unit for side, unit in ((h, ph), (w, pw)))
        raise DataError(
            f"an input of {h}×{w} pixels is no whole number of patches of {ph}×{pw}, and the MLP "
            f"over tokens has no place for parts; the nearest size is {nearest[0]}×{nearest[1]}"
        )
