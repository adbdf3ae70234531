"""The Vision Transformer (arXiv:2010.11929), with the official fields and parameter tree."""

import inspect
from collections.abc import Collection
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vit_jax.errors import ConfigError, nearest
from vit_jax.models.compact import ConvTokenizer
from vit_jax.models.encoder import Encoder, Look
from vit_jax.models.pooling import CLASSIFIERS, POOLS, MAPHead, SequencePool
from vit_jax.models.posemb import Positions, TokenLayout
from vit_jax.models.products import Dense
from vit_jax.models.resnet import ResNet
from vit_jax.models.stems import ConvStem, Fields, PatchEmbed, patch_size

# What may stand in the place of patches, by the name that the field `stem` has for it.
STEMS: dict[str, type[ConvStem] | type[ConvTokenizer]] = {"conv": ConvStem, "cct": ConvTokenizer}

# What a model gives beside its logits, when asked.
OUTPUTS = ("attention", "hidden_states", "patch_features", "pre_logits")


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
      encoder: the module class built with `transformer`, and with `dtype`. One of your own is
        called with the tokens and `train`, and with those further arguments of `Encoder` that its
        call takes.
      model_name: for the reader; changes nothing.
      stem: None for patches, cut from the image or from the ResNet's output; in their place
        "conv" for a `ConvStem`, "cct" for a `ConvTokenizer`.
      stem_fields: fields of that stem; None for its defaults.
      pool: None for what `classifier` says; otherwise, whatever that says, what the head reads:
        "token" (the class token), "mean" (of all tokens), "sequence" (`SequencePool`),
        "attention" (`MAPHead`, with the heads and MLP width of the encoder) or "none" (each
        token) or "distilled" (class and distillation token, `cls` and `dist`, with the mean of the
        logits of `head` and `head_dist`; DeiT, arXiv:2012.12877, section 4). Of these, "token"
        and "distilled" alone put a class token in front of the others.
      pool_norm: whether the last LayerNorm stands after pooling, as `pool_norm`, instead of before
        it as `encoder_norm` (timm's `fc_norm`).
      positions: "learned", "sincos2d", "none", or a mapping of the attributes of
        `vit_jax.models.posemb.Positions`, such as {"resize": "bilinear"}.
      num_registers: learned tokens, the parameter `registers`, between the class token and the
        patches, that the head does not read and positions skip (arXiv:2309.16588).
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
    pool_norm: bool = False
    positions: str | Fields = "learned"
    num_registers: int = 0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "b h w c"],
        train: bool = False,
        *,
        outputs: Collection[str] = (),
        layers: Collection[int] | None = None,
        head_mask: Float[Array, "layers heads"] | None = None,
    ) -> Any:
        """Classifies images.

        Args:
          images: of any size of at least one patch; b h w c, normalised.
          train: whether this is training: dropout draws from the "dropout" stream, and
            `batch_stats`, where a stem has them, must be mutable.
          outputs: what to return beside the logits, any of `OUTPUTS`; nothing else is kept.
          layers: those whose attention is returned; None for all.
          head_mask: a factor for what each head of each layer finds: 0 silences a head.

        Returns:
          Float32 logits, b k, or b n k where the classifier keeps the tokens apart; without a head
          the features, b d or b n d, in `dtype`. If `outputs` names any, a pair of them and a
          dictionary:

            "attention": {layer: weights b h n n}, float32, rows sum to 1;
            "hidden_states": the tokens b n d before the first block, after it, after the second …;
            "patch_features": the encoded patches as a grid, b gh gw d;
            "pre_logits": what the head reads, b d (or b n d).

        Raises:
          ConfigError: fields or arguments that do not fit together, or images of another grid than
            learned positions were made for.
          DataError: images smaller than one patch. Both are ValueErrors.
        """
        pool, class_token = self._pooling()
        look = self._look(outputs, layers)
        x = self._embed(images, train)
        layout = self._layout((x.shape[1], x.shape[2]), pool, class_token)
        x = x.reshape(x.shape[0], -1, self.hidden_size)  # b gh gw d -> b (gh gw) d
        seen = {"attention": {}, "hidden_states": ()}
        if self.transformer is not None:
            x = self._put_in_front(x, layout)
            x, seen = self._encode(x, train, layout, head_mask, look)
        seen["patch_features"] = x[:, -layout.grid[0] * layout.grid[1] :].reshape(
            x.shape[0], *layout.grid, -1
        )
        x = self._pooled(x, pool, layout)
        if self.pool_norm:
            x = nn.LayerNorm(self._epsilon(), dtype=self.dtype, name="pool_norm")(x)
        if self.representation_size is not None:
            x = Dense(self.representation_size, dtype=self.dtype, name="pre_logits")(x)
            x = nn.tanh(x)
        seen["pre_logits"] = x
        logits = self._logits(x, pool) if self.num_classes else x
        return (logits, {name: seen[name] for name in outputs}) if outputs else logits

    def _look(self, outputs: Collection[str], layers: Collection[int] | None) -> Look | None:
        """Returns what the encoder is to keep; None for nothing."""
        for name in outputs:
            if name not in OUTPUTS:
                raise ConfigError(
                    f"outputs={name!r} is none of {', '.join(OUTPUTS)}{nearest(name, OUTPUTS)}"
                )
        if not {"attention", "hidden_states"} & {*outputs}:
            return None
        if layers is None:
            layers = range((self.transformer or {}).get("num_layers", 0))
        wanted = layers if "attention" in outputs else ()
        return Look(frozenset(wanted), "hidden_states" in outputs)

    def _layout(self, grid: tuple[int, int], pool: str, class_token: bool) -> TokenLayout:
        front = 0 if self.transformer is None else class_token + (pool == "distilled")
        return TokenLayout(grid, front, self.num_registers if self.transformer is not None else 0)

    def _encode(
        self,
        x: Array,
        train: bool,
        layout: TokenLayout,
        head_mask: Array | None,
        look: Look | None,
    ) -> tuple[Array, dict[str, Any]]:
        """b n d -> b n d, and what was kept."""
        further = {
            "layout": layout,
            "positions": Positions.parse(self.positions),
            "final_norm": not self.pool_norm,
            "head_mask": head_mask,
            "look": look,
        }
        taken = inspect.signature(self.encoder.__call__).parameters
        further = {name: value for name, value in further.items() if name in taken}
        fields = self.transformer or {}
        encoded = self.encoder(**fields, dtype=self.dtype, name="Transformer")(
            x, train=train, **further
        )
        return encoded if further.get("look") is not None else (encoded, {})

    def _epsilon(self) -> float:
        """That of the encoder's norms, for the norms around it."""
        return (self.transformer or {}).get("epsilon", 1e-6)

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
            x = images if self.resnet is None else self._resnet(images, self.resnet, train=train)
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

    def _resnet(self, images: Array, fields: Fields, *, train: bool) -> Array:
        """b h w c -> b h' w' c', with the parameters beside the model's own, as officially."""
        resnet = ResNet(**fields, dtype=self.dtype, name="resnet")
        nn.share_scope(self, resnet)
        return resnet(images, train=train)

    def _put_in_front(self, x: Array, layout: TokenLayout) -> Array:
        """b n d -> b (front + registers + n) d, before positions are added."""
        shape, zeros = (1, 1, self.hidden_size), nn.initializers.zeros
        tokens = [self.param(name, zeros, shape) for name in ("cls", "dist")[: layout.front]]
        if layout.registers:
            init = nn.initializers.normal(stddev=1e-6)
            shape = (1, layout.registers, self.hidden_size)
            tokens.append(self.param("registers", init, shape))
        tokens = [jnp.broadcast_to(t, (x.shape[0], *t.shape[1:])).astype(x.dtype) for t in tokens]
        return jnp.concatenate([*tokens, x], axis=1)

    def _pooled(self, x: Array, pool: str, layout: TokenLayout) -> Array:
        """b n d -> b d, b 2 d for two heads, or b n d where every token has logits of its own."""
        if pool == "token":
            return x[:, 0]
        if pool == "distilled":
            return x[:, :2]
        if layout.registers:  # after the tokens in front; nobody reads them
            front, rest = x[:, : layout.front], x[:, layout.front + layout.registers :]
            x = jnp.concatenate([front, rest], axis=1)
        if pool == "mean":
            return x.mean(axis=1)
        if pool == "sequence":
            return SequencePool(self.dtype, name="pool")(x)
        if pool == "attention":
            return self._attention_pool()(x)
        return x

    def _attention_pool(self) -> MAPHead:
        fields = dict(self.transformer or {})
        if not isinstance(fields["num_heads"], int):  # one number for each layer: take the first's
            fields["num_heads"] = fields["num_heads"][0]
        known = ("num_heads", "mlp_dim", "activation", "epsilon")
        fields = {name: fields[name] for name in known if name in fields}
        return MAPHead(**fields, dtype=self.dtype, name="pool")

    def _logits(self, x: Array, pool: str) -> Array:
        """… d -> … k in float32; with a distillation token, the mean of both heads'."""
        if pool != "distilled":
            return self._head("head")(x)
        return (self._head("head")(x[:, 0]) + self._head("head_dist")(x[:, 1])) / 2

    def _head(self, name: str) -> nn.Dense:
        """A zero kernel makes a new head say nothing at first."""
        return nn.Dense(
            self.num_classes or 0,
            kernel_init=nn.initializers.zeros,
            bias_init=nn.initializers.constant(self.head_bias_init),
            dtype=jnp.float32,
            name=name,
        )
