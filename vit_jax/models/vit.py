"""The Vision Transformer (arXiv:2010.11929), with the official fields and parameter tree."""

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vit_jax.errors import ConfigError, nearest
from vit_jax.models.attention import MultiHeadDotProductAttention
from vit_jax.models.mlp import mlp_class
from vit_jax.models.posemb import AddPositionEmbs
from vit_jax.models.resnet import ResNet
from vit_jax.models.stems import Fields, PatchEmbed, patch_size, stem_class

CLASSIFIERS = ("token", "gap", "unpooled", "token_unpooled")
WITH_CLASS_TOKEN = ("token", "token_unpooled")


class Encoder1DBlock(nn.Module):
    """One pre-norm Transformer block: attention, then the MLP, each beside a residual."""

    mlp_dim: int
    num_heads: int
    dropout_rate: float | int = 0.1
    attention_dropout_rate: float | int = 0.1
    activation: str = "gelu_tanh"
    mlp: str = "mlp"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"], train: bool = False) -> Float[Array, "b n d"]:
        """Returns the tokens after the block (arXiv:2010.11929, eq. 2 and 3)."""
        attention = MultiHeadDotProductAttention(
            self.num_heads,
            self.attention_dropout_rate,
            self.dtype,
            name="MultiHeadDotProductAttention_0",
        )
        mlp = mlp_class(self.mlp)(
            self.mlp_dim, self.dropout_rate, self.activation, self.dtype, name="MlpBlock_0"
        )
        dropout = nn.Dropout(self.dropout_rate, deterministic=not train)

        y = attention(nn.LayerNorm(dtype=self.dtype, name="LayerNorm_0")(x), train)
        x = x + dropout(y)
        y = mlp(nn.LayerNorm(dtype=self.dtype, name="LayerNorm_1")(x), deterministic=not train)
        return x + y


class Encoder(nn.Module):
    """Position embeddings, `num_layers` blocks `encoderblock_i`, and a last LayerNorm.

    The first six fields are official. `activation` names the MLP's non-linearity (see
    `vit_jax.models.mlp.ACTIVATIONS`); `mlp` is "mlp" for the official block or "gated" for a
    `GatedMLP` in its place; `dtype` is that of the computation.
    """

    num_layers: int
    mlp_dim: int
    num_heads: int
    dropout_rate: float | int = 0.1
    attention_dropout_rate: float | int = 0.1
    add_position_embedding: bool = True
    activation: str = "gelu_tanh"
    mlp: str = "mlp"
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"], train: bool = False) -> Float[Array, "b n d"]:
        """Returns the encoded tokens; with `train`, dropout draws from the "dropout" stream."""
        if self.add_position_embedding:
            x = AddPositionEmbs(name="posembed_input")(x)
            x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        for i in range(self.num_layers):
            x = Encoder1DBlock(
                mlp_dim=self.mlp_dim,
                num_heads=self.num_heads,
                dropout_rate=self.dropout_rate,
                attention_dropout_rate=self.attention_dropout_rate,
                activation=self.activation,
                mlp=self.mlp,
                dtype=self.dtype,
                name=f"encoderblock_{i}",
            )(x, train)
        return nn.LayerNorm(dtype=self.dtype, name="encoder_norm")(x)


def pool_tokens(x: Float[Array, "b n d"], classifier: str) -> Float[Array, "b ... d"]:
    """Returns what the head sees: the class token, the mean of all tokens, or every token."""
    if classifier == "token":
        return x[:, 0]
    if classifier == "gap":
        return x.mean(axis=1)
    return x


class VisionTransformer(nn.Module):
    """An image classifier; the fields down to `model_name` are the official ones.

    Fields:
      num_classes: the head's outputs k; None or 0 for no head.
      patches: {"size": (height, width)} of a patch, in pixels of its input; not read with `stem`.
      transformer: fields of the encoder; None for no encoder.
      hidden_size: width d of a token.
      resnet: {"num_layers": (units of each stage, …), "width_factor": factor}, for hybrids.
      representation_size: width of the Dense + tanh `pre_logits` before the head; None for none.
      classifier: what the head sees: "token" (the class token), "gap" (the mean of the tokens),
        "unpooled" (each token) or "token_unpooled" (each token, the class token first).
      head_bias_init: initial value of the head's bias.
      encoder: the module class built with `transformer`, and with `dtype`.
      model_name: for the reader; changes nothing.
      stem: None for patches, cut from the image or from the ResNet's output; "conv" for a
        `ConvStem` in their place.
      dtype: dtype of the computation. Parameters, the statistics of the norms, softmax and logits
        stay float32.
    """

    num_classes: int | None
    patches: Fields | None
    transformer: Fields | None
    hidden_size: int
    resnet: Fields | None = None
    representation_size: int | None = None
    classifier: str = "token"
    head_bias_init: float | int = 0.0
    encoder: type[nn.Module] = Encoder
    model_name: str | None = None
    stem: str | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], train: bool = False
    ) -> Float[Array, "b ... k"]:
        """Returns float32 logits, b k, or b n k where the classifier keeps the tokens apart.

        Without a head the features come back, b d or b n d, in `dtype`. With `train`, dropout
        draws from the "dropout" stream, and `batch_stats`, where a stem has them, must be mutable.
        `ConfigError` for fields that do not fit together,
        `DataError` for images smaller than one patch; both are ValueErrors.
        """
        self._check_classifier()
        x = self._embed(images, train)
        x = x.reshape(x.shape[0], -1, self.hidden_size)  # b gh gw d -> b (gh gw) d
        if self.transformer is not None:
            if self.classifier in WITH_CLASS_TOKEN:
                x = self._prepend_class_token(x)
            encoder = self.encoder(**self.transformer, dtype=self.dtype, name="Transformer")
            x = encoder(x, train=train)
        x = pool_tokens(x, self.classifier)
        if self.representation_size is not None:
            x = nn.Dense(self.representation_size, dtype=self.dtype, name="pre_logits")(x)
            x = nn.tanh(x)
        return self._head(x, self.num_classes) if self.num_classes else x

    def _check_classifier(self) -> None:
        if self.classifier not in CLASSIFIERS:
            raise ConfigError(
                f"classifier={self.classifier!r} is none of {', '.join(CLASSIFIERS)}"
                f"{nearest(self.classifier, CLASSIFIERS)}"
            )
        if self.transformer is None and self.classifier in WITH_CLASS_TOKEN:
            raise ConfigError(
                f"classifier={self.classifier!r} needs a transformer to fill the class token, "
                "and transformer=None; use 'gap' or 'unpooled'"
            )

    def _embed(self, images: Array, train: bool) -> Array:
        """b h w c -> b gh gw d."""
        if self.stem is None:
            x = images if self.resnet is None else self._resnet(images, self.resnet)
            size = patch_size(self.patches)
            return PatchEmbed(self.hidden_size, size, self.dtype, name="embedding")(x)
        if self.resnet is not None:
            raise ConfigError(
                f"stem={self.stem!r} and resnet={dict(self.resnet)} both come first; leave one out"
            )
        stem = stem_class(self.stem)(self.hidden_size, dtype=self.dtype, name="stem")
        return stem(images, train=train)

    def _resnet(self, images: Array, fields: Fields) -> Array:
        """b h w c -> b h' w' c', with the parameters beside the model's own, as officially."""
        resnet = ResNet(**fields, dtype=self.dtype, name="resnet")
        nn.share_scope(self, resnet)
        return resnet(images)

    def _prepend_class_token(self, x: Array) -> Array:
        """b n d -> b (1 + n) d, before positions are added; the token starts as zeros."""
        cls = self.param("cls", nn.initializers.zeros, (1, 1, self.hidden_size))
        cls = jnp.broadcast_to(cls.astype(x.dtype), (x.shape[0], 1, self.hidden_size))
        return jnp.concatenate([cls, x], axis=1)

    def _head(self, x: Array, num_classes: int) -> Array:
        """… d -> … k in float32; the zero kernel makes a new head say nothing at first."""
        return nn.Dense(
            num_classes,
            kernel_init=nn.initializers.zeros,
            bias_init=nn.initializers.constant(self.head_bias_init),
            dtype=jnp.float32,
            name="head",
        )(x)
