"""The Transformer encoder (arXiv:2010.11929, section 3.1), with the official parameter tree."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vit_jax.errors import ConfigError, nearest
from vit_jax.models.attention import MultiHeadDotProductAttention
from vit_jax.models.mlp import mlp_class
from vit_jax.models.posemb import AddPositionEmbs, Positions, TokenLayout
from vit_jax.models.products import for_each
from vit_jax.models.stems import Fields

# What the backward pass may keep of a block's intermediate results; the rest is computed again.
# The names are those of jax.checkpoint_policies.
REMAT = (
    "nothing_saveable",
    "dots_saveable",
    "dots_with_no_batch_dims_saveable",
    "everything_saveable",
)


@dataclasses.dataclass(frozen=True)
class Look:
    """What an encoder keeps, beside its result, of what it computes.

    Attributes:
      attention: layers whose attention weights are kept.
      hidden_states: whether the tokens before the first block and after every block are.
    """

    attention: frozenset[int] = frozenset()
    hidden_states: bool = False


class Encoder1DBlock(nn.Module):
    """One pre-norm Transformer block: attention, then the MLP, each beside a residual.

    Beside the official fields:

    Fields:
      activation: the MLP's non-linearity; see `vit_jax.models.mlp.ACTIVATIONS`.
      mlp: "mlp" for the official MLP, "gated" for a `GatedMLP`.
      epsilon: that of both LayerNorms.
      layer_scale: first value of a learned scale of each residual branch, the parameters
        `layer_scale_0` and `layer_scale_1` (d); None for none (CaiT, arXiv:2103.17239, eq. 4).
      drop_path_rate: share of images for which training leaves out a residual branch (stochastic
        depth, arXiv:1603.09382), independently for both branches.
      attention: the kernel's name, or a mapping of further fields of
        `MultiHeadDotProductAttention`: kernel, merged_qkv, qk_norm, qkv_bias, head_width.
    """

    mlp_dim: int
    num_heads: int
    dropout_rate: float | int = 0.1
    attention_dropout_rate: float | int = 0.1
    activation: str = "gelu_tanh"
    mlp: str = "mlp"
    dtype: DTypeLike = jnp.float32
    epsilon: float = 1e-6
    layer_scale: float | None = None
    drop_path_rate: float | int = 0.0
    attention: str | Fields = "auto"

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n d"],
        train: bool = False,
        head_mask: Float[Array, "heads"] | None = None,
        return_weights: bool = False,
    ) -> Any:
        """Returns the tokens after the block (arXiv:2010.11929, eq. 2 and 3).

        With `return_weights`, a pair of them and the attention weights b h n n; `head_mask`
        multiplies what each head finds.
        """
        attention = MultiHeadDotProductAttention(
            self.num_heads,
            self.attention_dropout_rate,
            self.dtype,
            epsilon=self.epsilon,
            **attention_fields(self.attention),
            name="MultiHeadDotProductAttention_0",
        )
        mlp = mlp_class(self.mlp)(
            self.mlp_dim, self.dropout_rate, self.activation, self.dtype, name="MlpBlock_0"
        )
        dropout = nn.Dropout(self.dropout_rate, deterministic=not train)

        y = attention(self._norm(x, 0), train, head_mask, return_weights)
        y, weights = y if return_weights else (y, None)
        x = x + self._branch(dropout(y), 0, train)
        y = mlp(self._norm(x, 1), deterministic=not train)
        x = x + self._branch(y, 1, train)
        return (x, weights) if return_weights else x

    def _norm(self, x: Array, i: int) -> Array:
        return nn.LayerNorm(self.epsilon, dtype=self.dtype, name=f"LayerNorm_{i}")(x)

    def _branch(self, y: Array, i: int, train: bool) -> Array:
        """b n d -> b n d: scaled where the block learns to, and left out for some images."""
        if self.layer_scale is not None:
            init = nn.initializers.constant(self.layer_scale)
            scale = self.param(f"layer_scale_{i}", init, (y.shape[-1],))
            y = y * for_each(scale, y)
        whole_image = (1, 2)
        return nn.Dropout(self.drop_path_rate, whole_image, deterministic=not train)(y)


class Encoder(nn.Module):
    """Position embeddings, `num_layers` blocks `encoderblock_i`, and a last LayerNorm.

    The first six fields are official; `num_heads` may also be one number for each block. Those of
    `Encoder1DBlock` follow, where `drop_path_rate` may be that of each block too; a single one is
    the last block's, and grows linearly from 0 in the first (arXiv:1603.09382, section 3).

    Fields:
      remat: a name of `REMAT`: what the backward pass keeps of a block; None for all it needs.
    """

    num_layers: int
    mlp_dim: int
    num_heads: int | Sequence[int]
    dropout_rate: float | int = 0.1
    attention_dropout_rate: float | int = 0.1
    add_position_embedding: bool = True
    activation: str = "gelu_tanh"
    mlp: str = "mlp"
    dtype: DTypeLike = jnp.float32
    epsilon: float = 1e-6
    layer_scale: float | None = None
    drop_path_rate: float | int | Sequence[float | int] = 0.0
    attention: str | Fields = "auto"
    remat: str | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n d"],
        train: bool = False,
        *,
        layout: TokenLayout | None = None,
        positions: Positions | None = None,
        final_norm: bool = True,
        head_mask: Float[Array, "layers heads"] | None = None,
        look: Look | None = None,
    ) -> Any:
        """Returns the encoded tokens; with `train`, dropout draws from the "dropout" stream.

        Args:
          x: the tokens.
          train: whether to drop what the rates say.
          layout: what the tokens are; None for patches alone, in a row.
          positions: which positions they are given; None for learned ones.
          final_norm: whether the last LayerNorm is there.
          head_mask: a factor for each head of each layer: 0 silences it.
          look: what to keep; None for nothing.

        Returns:
          The tokens b n d; with `look`, a pair of them and a dictionary of what was kept:
          "attention": {layer: b h n n}, "hidden_states": (b n d before the first block, after it,
          after the second, …), where they were asked for.

        Raises:
          ConfigError: fields, layers or a mask that do not fit.
        """
        seen, look_at = {"attention": {}, "hidden_states": ()}, look or Look()
        self._check(head_mask, look_at)
        x = self._positioned(x, train, layout, positions or Positions())
        if look_at.hidden_states:
            seen["hidden_states"] = (x,)
        x = self._encode(x, train, head_mask, look_at, seen)
        if final_norm:
            x = nn.LayerNorm(self.epsilon, dtype=self.dtype, name="encoder_norm")(x)
        return x if look is None else (x, seen)

    def _positioned(
        self, x: Array, train: bool, layout: TokenLayout | None, positions: Positions
    ) -> Array:
        """b n d -> b n d."""
        if not self.add_position_embedding or positions.kind == "none":
            return x
        x = AddPositionEmbs(positions, name="posembed_input")(x, layout)
        return nn.Dropout(self.dropout_rate, deterministic=not train)(x)

    def _encode(
        self, x: Array, train: bool, head_mask: Array | None, look: Look, seen: dict[str, Any]
    ) -> Array:
        """b n d -> b n d, through all blocks; what is to be kept is added to `seen`."""
        heads = heads_of_layers(self.num_heads, self.num_layers)
        for i, num_heads in enumerate(heads):
            mask = None if head_mask is None else head_mask[i, :num_heads]
            looked = i in look.attention
            x = self._block(i, num_heads, name=f"encoderblock_{i}")(x, train, mask, looked)
            if looked:
                x, seen["attention"][i] = x
            if look.hidden_states:
                seen["hidden_states"] += (x,)
        return x

    def _block(self, i: int, num_heads: int, **flax: Any) -> Encoder1DBlock:
        block_class = Encoder1DBlock
        if self.remat is not None:
            policy = getattr(jax.checkpoint_policies, self.remat)
            block_class = nn.remat(Encoder1DBlock, policy=policy, static_argnums=(2, 4))
        return block_class(
            mlp_dim=self.mlp_dim,
            num_heads=num_heads,
            dropout_rate=self.dropout_rate,
            attention_dropout_rate=self.attention_dropout_rate,
            activation=self.activation,
            mlp=self.mlp,
            dtype=self.dtype,
            epsilon=self.epsilon,
            layer_scale=self.layer_scale,
            drop_path_rate=rates_of_layers(self.drop_path_rate, self.num_layers)[i],
            attention=self.attention,
            **flax,
        )

    def _check(self, head_mask: Array | None, look: Look) -> None:
        if self.remat is not None and self.remat not in REMAT:
            raise ConfigError(
                f"remat={self.remat!r} is none of {', '.join(REMAT)}{nearest(self.remat, REMAT)}"
            )
        if wrong := sorted(i for i in look.attention if not 0 <= i < self.num_layers):
            raise ConfigError(f"layers={wrong}: the layers are 0 to {self.num_layers - 1}")
        heads = heads_of_layers(self.num_heads, self.num_layers)
        if head_mask is not None and head_mask.shape != (self.num_layers, max(heads)):
            raise ConfigError(
                f"head_mask of shape {head_mask.shape} must have a row for each of the "
                f"{self.num_layers} layers and a column for each of the {max(heads)} heads"
            )


def heads_of_layers(num_heads: int | Sequence[int], num_layers: int) -> tuple[int, ...]:
    """Returns the heads of each layer; `ConfigError` unless there is one number for each."""
    if isinstance(num_heads, int):
        return (num_heads,) * num_layers
    return _of_layers("num_heads", num_heads, num_layers)


def rates_of_layers(
    rate: float | int | Sequence[float | int], num_layers: int
) -> tuple[float | int, ...]:
    """Returns the stochastic depth of each layer: as given, or growing linearly up to the given."""
    if isinstance(rate, float | int):
        return tuple(rate * i / max(num_layers - 1, 1) for i in range(num_layers))
    return _of_layers("drop_path_rate", rate, num_layers)


def _of_layers(field: str, given: Sequence[Any], num_layers: int) -> tuple[Any, ...]:
    if len(given) != num_layers:
        raise ConfigError(
            f"{field}={tuple(given)} must be one number, or one for each of the {num_layers} layers"
        )
    return tuple(given)


def attention_fields(given: str | Fields) -> dict[str, Any]:
    """Returns the fields that `attention` gives to `MultiHeadDotProductAttention`."""
    fields = {"kernel": given} if isinstance(given, str) else dict(given)
    known = ("kernel", "merged_qkv", "qk_norm", "qkv_bias", "head_width")
    for name in fields:
        if name not in known:
            raise ConfigError(
                f"attention field {name!r} is unknown{nearest(name, known)} "
                f"(the fields are {', '.join(known)})"
            )
    return fields
