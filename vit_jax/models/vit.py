"""The Vision Transformer (arXiv:2010.11929), with the official fields and parameter tree."""

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vit_jax.errors import ConfigError, nearest
from vit_jax.models.attention import MultiHeadDotProductAttention
from vit_jax.models.compact import ConvTokenizer
from vit_jax.models.mlp import mlp_class
from vit_jax.models.pooling import CLASSIFIERS, POOLS, MAPHead, SequencePool
from vit_jax.models.posemb import AddPositionEmbs
from vit_jax.models.resnet import ResNet
from vit_jax.models.stems import ConvStem, Fields, PatchEmbed, patch_size

# What may stand in the place of patches, by the name that the field `stem` has for it.
STEMS: dict[str, type[ConvStem] | type[ConvTokenizer]] = {"conv": ConvStem, "cct": ConvTokenizer}


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
      stem: None for patches, cut from the image or from the ResNet's output; in their place
        "conv" for a `ConvStem`, "cct" for a `ConvTokenizer`.
      stem_fields: fields of that stem; None for its defaults.
      pool: None for what `classifier` says; otherwise, whatever that says, what the head reads:
        "token" (the class token), "mean" (of all tokens), "sequence" (`SequencePool`),
        "attention" (`MAPHead`, with the heads and MLP width of the encoder) or "none" (each
        token). Of these, "token" alone puts a class token in front of the others.
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
    stem_fields: Fields | None = None
    pool: str | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], train: bool = False
    ) -> Float[Array, "b ... k"]:
        """Returns float32 logits, b k, or b n k where the classifier keeps the tokens apart.

        Without a head the features come back, b d or b n d, in `dtype`. With `train`, dropout
        draws from the "dropout" stream, and `batch_stats`, where a stem has them, must be mutable.
        `ConfigError` for fields that do not fit together, `DataError` for images smaller than one
        patch; both are ValueErrors.
        """
        pool, class_token = self._pooling()
        x = self._embed(images, train)
        x = x.reshape(x.shape[0], -1, self.hidden_size)  # b gh gw d -> b (gh gw) d
        if self.transformer is not None:
            if class_token:
                x = self._prepend_class_token(x)
            encoder = self.encoder(**self.transformer, dtype=self.dtype, name="Transformer")
            x = encoder(x, train=train)
        x = self._pooled(x, pool)
        if self.representation_size is not None:
            x = nn.Dense(self.representation_size, dtype=self.dtype, name="pre_logits")(x)
            x = nn.tanh(x)
        return self._head(x, self.num_classes) if self.num_classes else x

    def _pooling(self) -> tuple[str, bool]:
        """Returns how to pool, and whether there is a class token, from `pool` or `classifier`."""
        self._check_names()
        if self.pool is None:
            field, others = f"classifier={self.classifier!r}", "'gap' or 'unpooled'"
            pool, class_token = CLASSIFIERS[self.classifier]
        else:
            field, others = f"pool={self.pool!r}", "'mean' or 'sequence'"
            pool, class_token = POOLS[self.pool]
        if self.transformer is None and (class_token or pool == "attention"):
            need = "to fill the class token" if class_token else "for its heads and width"
            raise ConfigError(
                f"{field} needs a transformer {need}, and transformer=None; use {others}"
            )
        return pool, class_token

    def _check_names(self) -> None:
        for field, known in (("classifier", CLASSIFIERS), ("pool", POOLS)):
            name = getattr(self, field)
            if name not in known and not (field == "pool" and name is None):
                raise ConfigError(
                    f"{field}={name!r} is none of {', '.join(known)}{nearest(str(name), known)}"
                )

    def _embed(self, images: Array, train: bool) -> Array:
        """b h w c -> b gh gw d."""
        self._check_stem()
        if self.stem is None:
            x = images if self.resnet is None else self._resnet(images, self.resnet)
            size = patch_size(self.patches)
            return PatchEmbed(self.hidden_size, size, self.dtype, name="embedding")(x)
        fields = self.stem_fields or {}
        stem = STEMS[self.stem](self.hidden_size, **fields, dtype=self.dtype, name="stem")
        return stem(images, train=train)

    def _check_stem(self) -> None:
        if self.stem is None and self.stem_fields:
            raise ConfigError(
                f"stem_fields={dict(self.stem_fields)} needs a stem, one of {', '.join(STEMS)}"
            )
        if self.stem is not None and self.stem not in STEMS:
            raise ConfigError(
                f"stem={self.stem!r} is none of {', '.join(STEMS)}{nearest(self.stem, STEMS)}"
            )
        if self.stem is not None and self.resnet is not None:
            raise ConfigError(
                f"stem={self.stem!r} and resnet={dict(self.resnet)} both come first; leave one out"
            )

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

    def _pooled(self, x: Array, pool: str) -> Array:
        """b n d -> b d, or b n d where every token has logits of its own."""
        if pool == "token":
            return x[:, 0]
        if pool == "mean":
            return x.mean(axis=1)
        if pool == "sequence":
            return SequencePool(self.dtype, name="pool")(x)
        if pool == "attention":
            fields = {
                key: self.transformer[key]
                for key in ("num_heads", "mlp_dim", "activation")
                if self.transformer and key in self.transformer
            }
            return MAPHead(**fields, dtype=self.dtype, name="pool")(x)
        return x

    def _head(self, x: Array, num_classes: int) -> Array:
        """… d -> … k in float32; the zero kernel makes a new head say nothing at first."""
        return nn.Dense(
            num_classes,
            kernel_init=nn.initializers.zeros,
            bias_init=nn.initializers.constant(self.head_bias_init),
            dtype=jnp.float32,
            name="head",
        )(x)
