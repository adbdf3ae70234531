"""The BERT encoder (arXiv:1810.04805): post-norm blocks over word pieces."""

from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from vit_jax.errors import ConfigError, nearest
from vit_jax.models.attention import head_width
from vit_jax.models.kernels import attention_weights, weighted_sum
from vit_jax.models.mlp import ACTIVATIONS
from vit_jax.models.products import Dense
from vit_jax.models.stems import Fields

# arXiv:1810.04805, section 3; the vocabulary is that of the lower-case models.
SIZES: dict[str, dict[str, Any]] = {
    "base": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_dim": 3072,
        "vocab_size": 30522,
        "max_length": 512,
    },
    "large": {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_dim": 4096,
        "vocab_size": 30522,
        "max_length": 512,
    },
}
NUM_SEGMENTS = 2  # sentence A and sentence B; texts here are of one sentence

EPSILON = 1e-12  # of every LayerNorm
_INIT = nn.initializers.truncated_normal(stddev=0.02)


def bert_sizes(given: str | Fields) -> dict[str, Any]:
    """Returns the fields of a `BertEncoder`: those of a name, or a mapping with all sizes.

    Raises:
      ConfigError: an unknown name or size, or a missing one.
    """
    if isinstance(given, str):
        if given not in SIZES:
            raise ConfigError(
                f"text.config={given!r} is none of {', '.join(SIZES)}{nearest(given, SIZES)}, "
                "nor a mapping of the sizes"
            )
        return dict(SIZES[given])
    sizes = dict(given.items())
    known = [*SIZES["base"], "dropout_rate"]
    for name in sizes:
        if name not in known:
            raise ConfigError(
                f"text.config field {name!r} is unknown{nearest(name, known)} "
                f"(the fields are {', '.join(known)})"
            )
    if missing := [name for name in SIZES["base"] if name not in sizes]:
        raise ConfigError(
            f"text.config lacks {', '.join(missing)}; give them, or a name: {', '.join(SIZES)}"
        )
    return sizes


class BertEmbedder(nn.Module):
    """The sum of the embeddings of each token, of its place and of its segment, the first.

    Parameters: `embedders_token_ids`, `embedders_position_ids`, `embedders_segment_ids`.
    """

    vocab_size: int
    max_length: int
    hidden_size: int

    @nn.compact
    def __call__(self, tokens: Int[Array, "b n"]) -> Float[Array, "b n d"]:
        """Returns float32 embeddings; `ConfigError` if there are more tokens than places."""
        if tokens.shape[1] > self.max_length:
            raise ConfigError(
                f"texts of {tokens.shape[1]} tokens need as many position embeddings, and "
                f"text.config has max_length={self.max_length}: clip them to it (pp.max_len)"
            )
        embed = partial(nn.Embed, features=self.hidden_size, embedding_init=_INIT)
        words = embed(self.vocab_size, name="embedders_token_ids")(tokens)
        places = embed(self.max_length, name="embedders_position_ids")(jnp.arange(tokens.shape[1]))
        segment = embed(NUM_SEGMENTS, name="embedders_segment_ids")(jnp.zeros((), jnp.int32))
        return words + places[None] + segment[None, None]


class BertAttention(nn.Module):
    """Attention to the tokens that are no padding, with query, key and value kernels (d, d)."""

    num_heads: int
    dropout_rate: float | int = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n d"], seen: Bool[Array, "b n"], train: bool = False
    ) -> Float[Array, "b n d"]:
        """Returns the mixed values, heads side by side; padding, where `seen` is not, is left out.

        `ConfigError` unless num_heads divides d.
        """
        heads = (self.num_heads, head_width(x.shape[-1], self.num_heads))
        query, key, value = (
            Dense(x.shape[-1], kernel_init=_INIT, dtype=self.dtype, name=name)(x).reshape(
                *x.shape[:2], *heads
            )
            for name in ("query", "key", "value")
        )
        weights = attention_weights(query, key, seen)
        weights = nn.Dropout(self.dropout_rate, deterministic=not train)(weights)
        return weighted_sum(weights, value).reshape(x.shape)


class BertAttentionBlock(nn.Module):
    """Attention beside a residual, and a LayerNorm behind both (post-norm).

    Parameters: `attention_layer`, `dense_layer` and `layer_norm`.
    """

    num_heads: int
    dropout_rate: float | int = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n d"], seen: Bool[Array, "b n"], train: bool = False
    ) -> Float[Array, "b n d"]:
        """Returns the tokens after attention to those that are `seen`."""
        attention = BertAttention(
            self.num_heads, self.dropout_rate, self.dtype, name="attention_layer"
        )
        dense = Dense(x.shape[-1], kernel_init=_INIT, dtype=self.dtype, name="dense_layer")
        y = nn.Dropout(self.dropout_rate, deterministic=not train)(dense(attention(x, seen, train)))
        return nn.LayerNorm(EPSILON, dtype=self.dtype, name="layer_norm")(x + y)


class BertWiden(nn.Module):
    """Dense → activation: the first half of an MLP. Parameters: `dense_layer`."""

    mlp_dim: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n m"]:
        """Returns mlp_dim values for each token."""
        dense = Dense(self.mlp_dim, kernel_init=_INIT, dtype=self.dtype, name="dense_layer")
        return ACTIVATIONS["gelu_tanh"](dense(x))  # as the released weights want


class BertMlpBlock(nn.Module):
    """The MLP beside a residual, and a LayerNorm behind both (post-norm).

    Parameters: `mlp/dense_layer` widens d to mlp_dim, `dense_layer` goes back; `layer_norm`.
    """

    mlp_dim: int
    dropout_rate: float | int = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"], train: bool = False) -> Float[Array, "b n d"]:
        """Returns an array of the shape of `x`."""
        widen = BertWiden(self.mlp_dim, self.dtype, name="mlp")
        dense = Dense(x.shape[-1], kernel_init=_INIT, dtype=self.dtype, name="dense_layer")
        y = nn.Dropout(self.dropout_rate, deterministic=not train)(dense(widen(x)))
        return nn.LayerNorm(EPSILON, dtype=self.dtype, name="layer_norm")(x + y)


class BertBlock(nn.Module):
    """Attention, then the MLP. Parameters: `attention_block`, `mlp_block`."""

    num_heads: int
    mlp_dim: int
    dropout_rate: float | int = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n d"], seen: Bool[Array, "b n"], train: bool = False
    ) -> Float[Array, "b n d"]:
        """Returns the tokens after the block; `seen` says which are no padding."""
        attend = BertAttentionBlock(
            self.num_heads, self.dropout_rate, self.dtype, name="attention_block"
        )
        mlp = BertMlpBlock(self.mlp_dim, self.dropout_rate, self.dtype, name="mlp_block")
        return mlp(attend(x, seen, train), train)


class BertLayers(nn.Module):
    """The blocks `layers_i`, one after the other."""

    num_layers: int
    num_heads: int
    mlp_dim: int
    dropout_rate: float | int = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n d"], seen: Bool[Array, "b n"], train: bool = False
    ) -> Float[Array, "b n d"]:
        """Returns the tokens after the last block."""
        for i in range(self.num_layers):
            block = BertBlock(
                self.num_heads, self.mlp_dim, self.dropout_rate, self.dtype, name=f"layers_{i}"
            )
            x = block(x, seen, train)
        return x


class BertStack(nn.Module):
    """A name between the encoder and its blocks, that the released parameters have.

    Parameters: `layer_sequence`.
    """

    layers: dict[str, Any]

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n d"], seen: Bool[Array, "b n"], train: bool = False
    ) -> Float[Array, "b n d"]:
        """Returns the tokens after the last block."""
        return BertLayers(**self.layers, name="layer_sequence")(x, seen, train)


class BertEncoder(nn.Module):
    """Embeddings, a LayerNorm, and post-norm blocks (arXiv:1810.04805, section 3).

    Parameters: `embedder`, `layer_norm`, `encoder_block/layer_sequence/layers_i`; kernels and
    embeddings ~ N(0, 0.02), cut at two standard deviations.

    Fields: the sizes, by the names of the released models, and
      dropout_rate: of the embeddings, the attention weights and each branch, in training.
      dtype: dtype of the computation. Norms' statistics and softmax stay float32.
    """

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_dim: int
    vocab_size: int
    max_length: int
    dropout_rate: float | int = 0.1
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, tokens: Int[Array, "b n"], train: bool = False) -> Float[Array, "b n d"]:
        """Returns the encoded tokens, in `dtype`; token 0 is padding, which nobody attends to.

        With `train`, dropout draws from the "dropout" stream. `ConfigError` for more tokens than
        `max_length`, or a number of heads that does not divide the width.
        """
        embedder = BertEmbedder(self.vocab_size, self.max_length, self.hidden_size, name="embedder")
        x = nn.LayerNorm(EPSILON, dtype=self.dtype, name="layer_norm")(embedder(tokens))
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        layers = {
            "num_layers": self.num_hidden_layers,
            "num_heads": self.num_attention_heads,
            "mlp_dim": self.intermediate_dim,
            "dropout_rate": self.dropout_rate,
            "dtype": self.dtype,
        }
        return BertStack(layers, name="encoder_block")(x, tokens != 0, train)
