"""Text towers: from tokens to one embedding for each text."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from vit_jax.models.bert import BertEncoder, bert_sizes
from vit_jax.models.encoder import Encoder
from vit_jax.models.products import for_each
from vit_jax.models.stems import Fields


class BertModel(nn.Module):
    """The first token's output of a BERT encoder, through a linear head if there is one.

    Parameters: `BertEncoder_0` and, with `num_classes`, `head`.

    Fields:
      config: "base", "large", or a mapping of the sizes of a `BertEncoder`.
      num_classes: width k of the embedding; None or 0 for the encoder's own.
      dtype: dtype of the computation.
    """

    config: str | Fields
    num_classes: int | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, tokens: Int[Array, "b n"], train: bool = False) -> Float[Array, "b k"]:
        """Embeds texts, `[CLS]` in front and zeros behind; float32 with a head, else in `dtype`.

        `ConfigError` for sizes that are unknown or do not fit.
        """
        encoder = BertEncoder(**bert_sizes(self.config), dtype=self.dtype, name="BertEncoder_0")
        x = encoder(tokens, train)[:, 0]
        return _head(self.num_classes)(x) if self.num_classes else x


class TextTransformer(nn.Module):
    """A pre-norm Transformer over tokens with learned positions; the last token's output, a head.

    Nothing masks padding: the tokenizer fills a text with its end token, and the last token is one.
    Parameters: `Embed_0`, `pos_embedding` (1, n, width) ~ N(0, 1 / √width), `Encoder_0`, `head`.

    Fields:
      num_classes: width k of the embedding.
      width: width d of a token.
      num_layers, mlp_dim, num_heads, dropout_rate: of the `Encoder`.
      vocab_size: how many tokens there are.
      dtype: dtype of the computation.
    """

    num_classes: int
    width: int = 512
    num_layers: int = 12
    mlp_dim: int = 2048
    num_heads: int = 8
    dropout_rate: float | int = 0.0
    vocab_size: int = 32_000
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, tokens: Int[Array, "b n"], train: bool = False) -> Float[Array, "b k"]:
        """Embeds texts of the number of tokens that the positions were made for; float32."""
        x = nn.Embed(self.vocab_size, self.width, dtype=self.dtype, name="Embed_0")(tokens)
        init = nn.initializers.normal(stddev=self.width**-0.5)
        positions = self.param("pos_embedding", init, (1, *x.shape[1:]))
        encoder = Encoder(
            num_layers=self.num_layers,
            mlp_dim=self.mlp_dim,
            num_heads=self.num_heads,
            dropout_rate=self.dropout_rate,
            attention_dropout_rate=0.0,
            add_position_embedding=False,
            dtype=self.dtype,
            name="Encoder_0",
        )
        x = encoder(x + for_each(jnp.asarray(positions), x), train)
        return _head(self.num_classes)(x[:, -1])


def _head(width: int) -> nn.Dense:
    return nn.Dense(width, dtype=jnp.float32, name="head")


# By the name that the field `text_model` has for it.
TEXT_MODELS: dict[str, Any] = {"bert": BertModel, "text_transformer": TextTransformer}
