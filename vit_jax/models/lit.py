"""LiT (arXiv:2111.07991): an image and a text tower that meet in one space, as officially."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from vit_jax.errors import ConfigError, nearest
from vit_jax.models.bert import bert_sizes
from vit_jax.models.stems import Fields
from vit_jax.models.text import TEXT_MODELS
from vit_jax.models.vit import VisionTransformer

Embeddings = tuple[Float[Array, "b d"] | None, Float[Array, "m d"] | None, Float[Array, "1"]]


class LitModel(nn.Module):
    """Embeddings of images and of texts, of length 1; the fields down to `model_name` are official.

    Parameters: `img`, those of a `VisionTransformer`; `txt`, those of the text tower; `t`, the
    logarithm of the temperature, which starts at 0.

    Fields:
      image: fields of the `VisionTransformer`, `num_classes` left out.
      text_model: "bert" (`BertModel`) or "text_transformer" (`TextTransformer`).
      text: fields of the text tower, `num_classes` left out.
      pp: how to prepare images and texts: {"tokenizer_name": "bert" or "sentencepiece", "size":
        pixels of an image's side, "max_len": tokens of a text}; the model itself does not read it.
      out_dim: width of the images' and of the texts' head; None for no head.
      model_name: for the reader; changes nothing.
      dtype: dtype of the computation. Parameters, heads, norms and embeddings stay float32.
    """

    image: Fields
    text_model: str
    text: Fields
    pp: Fields
    out_dim: int | Sequence[int | None]
    model_name: str | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "b h w c"] | None = None,
        tokens: Int[Array, "m n"] | None = None,
        train: bool = False,
    ) -> Embeddings:
        """Embeds images, texts or both; initialise with both, or one tower has no parameters.

        Args:
          images: b h w c, in [-1, 1]; None for none.
          tokens: m n, as the tokenizer of `pp` gives them; None for none.
          train: whether dropout draws from the "dropout" stream.

        Returns:
          (images' embeddings b d, texts' embeddings m d, temperature (1,)): float32, of length 1,
          None where none were given; softmax reads temperature × image · text (eq. 1).

        Raises:
          ConfigError: fields that do not fit. DataError: images smaller than one patch.
        """
        self._check()
        zimg = None if images is None else normalized(self._image_tower()(images, train))
        ztxt = None if tokens is None else normalized(self._text_tower()(tokens, train))
        return zimg, ztxt, jnp.exp(self.param("t", nn.initializers.zeros, (1,)))

    def _image_tower(self) -> VisionTransformer:
        fields: dict[str, Any] = {**self.image, "num_classes": self._out_dims()[0]}
        return VisionTransformer(**{"dtype": self.dtype, **fields}, name="img")

    def _text_tower(self) -> nn.Module:
        fields: dict[str, Any] = {"num_classes": self._out_dims()[1], **self.text}
        return TEXT_MODELS[self.text_model](**{"dtype": self.dtype, **fields}, name="txt")

    def _out_dims(self) -> tuple[int | None, int | None]:
        if isinstance(self.out_dim, int):
            return self.out_dim, self.out_dim
        image, text = self.out_dim
        return image, text

    def _check(self) -> None:
        if self.text_model not in TEXT_MODELS:
            raise ConfigError(
                f"text_model={self.text_model!r} is none of {', '.join(TEXT_MODELS)}"
                f"{nearest(str(self.text_model), TEXT_MODELS)}"
            )
        image, text = self._out_dims()
        if self.text_model == "text_transformer" and not text:
            raise ConfigError(
                f"out_dim={self.out_dim}: a text_transformer needs a head, whose width is the "
                f"second number, such as out_dim=(None, {self.image['hidden_size']})"
            )
        widths = (
            image or self._image_width(),
            text or bert_sizes(self.text["config"])["hidden_size"],
        )
        if widths[0] != widths[1]:
            raise ConfigError(
                f"out_dim={self.out_dim} gives images {widths[0]} and texts {widths[1]} numbers "
                f"each, and both need as many: out_dim=(None, {self._image_width()}), for example"
            )

    def _image_width(self) -> int:
        """The width of the image tower's features, before a head."""
        return self.image.get("representation_size") or self.image["hidden_size"]


def normalized(x: Float[Array, "b d"]) -> Float[Array, "b d"]:
    """Returns rows of length 1 in float32, officially x / (|x| + 1e-8); zeros stay zeros.

    The gradient is finite for zeros too, which a new image head gives at first.
    """
    x = x.astype(jnp.float32)
    square = jnp.sum(x * x, axis=1, keepdims=True)
    length = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    return x / (length + 1e-8)
