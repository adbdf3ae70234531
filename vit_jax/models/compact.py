"""Compact transformers (arXiv:2104.05704): the convolutional tokenizer and the named models.

ViT-Lite is a small ViT with a class token; CVT has sequence pooling in its place; CCT has that, and
a convolutional tokenizer in the place of patches. Depths, widths and names are the published ones.
As published, query, key and value have no biases, training drops residual branches at random, and
LayerNorm's ε is 1e-5; unlike the published code, residuals are pre-norm throughout, as in the
official ViT.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vit_jax.models.convolution import max_pool, training_convolution


class ConvTokenizer(nn.Module):
    """Convolution → ReLU → max-pool, `num_layers` times: overlapping patches, found by learning.

    Convolutions have no bias and `kernel_size` // 2 of padding; all but the last have `features`
    channels. Max-pooling is over `pool_size` pixels at `pool_stride`, with `pool_size` // 2 of
    padding; None for no pooling. Parameters: `conv_i`, He-normal as published.
    """

    hidden_size: int
    num_layers: int = 1
    kernel_size: int = 3
    stride: int = 1
    pool_size: int | None = 3
    pool_stride: int = 2
    features: int = 64
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool
    ) -> Float[Array, "b gh gw d"]:
        """Returns the grid of embeddings of images of any size; the same with `train`."""
        x = images.astype(self.dtype)
        size, padding = (self.kernel_size, self.kernel_size), self.kernel_size // 2
        for i in range(self.num_layers):
            conv = nn.Conv(
                self.hidden_size if i == self.num_layers - 1 else self.features,
                size,
                self.stride,
                padding,
                use_bias=False,
                kernel_init=nn.initializers.he_normal(),
                dtype=self.dtype,
                conv_general_dilated=training_convolution(train=train),
                name=f"conv_{i}",
            )
            x = self._pooled(nn.relu(conv(x)))
        return x

    def _pooled(self, x: Array) -> Array:
        if self.pool_size is None:
            return x
        pad = (self.pool_size // 2, self.pool_size // 2)
        return max_pool(x, self.pool_size, self.pool_stride, (pad, pad))


# Width, MLP width, heads, layers; the published sizes go by their layers.
_SIZES = {
    2: (128, 128, 2, 2),
    4: (128, 128, 2, 4),
    6: (256, 512, 4, 6),
    7: (256, 512, 4, 7),
    14: (384, 1152, 6, 14),
}


def _fields(name: str, size: tuple[int, ...], pool: str, dropout: float = 0.1) -> dict[str, Any]:
    """Fields of a VisionTransformer on patches of 4 pixels; dropout is that of the attention."""
    width, mlp_dim, num_heads, num_layers = size
    return {
        "model_name": name,
        "patches": {"size": (4, 4)},
        "hidden_size": width,
        "transformer": {
            "mlp_dim": mlp_dim,
            "num_heads": num_heads,
            "num_layers": num_layers,
            "attention_dropout_rate": dropout,
            "dropout_rate": 0.0,
            "activation": "gelu_erf",
        },
        "pool": pool,
    }


def _published(name: str, layers: int, pool: str) -> dict[str, Any]:
    """Fields with what the published training has in common."""
    fields = _fields(name, _SIZES[layers], pool)
    fields["transformer"] |= {
        "epsilon": 1e-5,
        "drop_path_rate": 0.1,
        "attention": {"qkv_bias": False},
    }
    return fields


def _cct_fields(layers: int, kernel: int, convolutions: int, pixels: int) -> dict[str, Any]:
    name = f"cct_{layers}_{kernel}x{convolutions}_{pixels}"
    stride = max(1, kernel // 2 - 1)
    return {
        **_published(name, layers, "sequence"),
        "patches": None,
        "stem": "cct",
        "stem_fields": {"num_layers": convolutions, "kernel_size": kernel, "stride": stride},
    }


_CIFAR = (48, 192, 4, 4)  # the two of the CIFAR-10 project

_MODELS = [
    *(_published(f"vit_lite_{layers}_4_32", layers, "token") for layers in (2, 4, 6, 7)),
    *(_published(f"cvt_{layers}_4_32", layers, "sequence") for layers in (2, 4, 6, 7)),
    _cct_fields(2, 3, 2, 32),
    _cct_fields(4, 3, 2, 32),
    _cct_fields(6, 3, 1, 32),
    _cct_fields(6, 3, 2, 32),
    _cct_fields(7, 3, 1, 32),
    _cct_fields(7, 3, 2, 32),
    _cct_fields(7, 7, 2, 224),
    _cct_fields(14, 7, 2, 224),
    _cct_fields(14, 7, 2, 384),
    _fields("compact_cifar_token", _CIFAR, "token", 0.0),
    _fields("compact_cifar_sequence", _CIFAR, "sequence", 0.0),
]
# Constructor fields of a VisionTransformer, by name. The last number of a published name is the
# image size it was made for, in pixels; parameters but the positions serve any other as well.
COMPACT: dict[str, dict[str, Any]] = {fields["model_name"]: fields for fields in _MODELS}
