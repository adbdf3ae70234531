"""Pooling: from tokens to what the head reads."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vit_jax.models.attention import head_width
from vit_jax.models.mlp import MlpBlock
from vit_jax.models.products import Dense, for_each

# The official classifiers, each as (pool, class token in front of the others).
CLASSIFIERS = {
    "token": ("token", True),
    "gap": ("mean", False),
    "unpooled": ("none", False),
    "token_unpooled": ("none", True),
}
# A pool given by its own name has a class token only where that is what the head reads.
POOLS = {
    "token": ("token", True),
    "mean": ("mean", False),
    "sequence": ("sequence", False),
    "attention": ("attention", False),
    "none": ("none", False),
    "distilled": ("distilled", True),
}


class SequencePool(nn.Module):
    """The mean of the tokens, weighted by a softmax over one learned score for each.

    Source: arXiv:2104.05704. Parameters: `attention_pool`, a Dense of d to 1, which starts near
    zero, so that a new pool is nearly the plain mean. The softmax is float32.
    """

    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b d"]:
        """Returns one vector for each image."""
        near_zero = nn.initializers.normal(stddev=0.02)
        score = Dense(1, kernel_init=near_zero, dtype=self.dtype, name="attention_pool")
        weights = jax.nn.softmax(score(x).astype(jnp.float32), axis=1)  # b n 1
        return (weights.astype(x.dtype) * x).sum(axis=1)


class MAPHead(nn.Module):
    """Multi-head attention pooling: one learned query looks at all tokens (big_vision's MAP head).

    Sources: arXiv:1810.00825 (PMA), arXiv:2106.04560. Parameters: `probe` (1, 1, d),
    `MultiHeadDotProductAttention_0`, `LayerNorm_0`, `MlpBlock_0`, as in big_vision.
    """

    num_heads: int
    mlp_dim: int
    activation: str = "gelu_tanh"
    dtype: DTypeLike = jnp.float32
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b d"]:
        """Returns one vector for each image; `ConfigError` if num_heads does not divide d."""
        head_width(x.shape[-1], self.num_heads)
        probe = self.param("probe", nn.initializers.xavier_uniform(), (1, 1, x.shape[-1]))
        attention = nn.MultiHeadDotProductAttention(
            self.num_heads,
            kernel_init=nn.initializers.xavier_uniform(),
            force_fp32_for_softmax=True,
            dtype=self.dtype,
            name="MultiHeadDotProductAttention_0",
        )
        mlp = MlpBlock(self.mlp_dim, 0.0, self.activation, self.dtype, name="MlpBlock_0")

        query = for_each(probe, x[:, :1])
        y = attention(query, x)
        norm = nn.LayerNorm(self.epsilon, dtype=self.dtype, name="LayerNorm_0")
        y = y + mlp(norm(y), deterministic=True)
        return y[:, 0]
