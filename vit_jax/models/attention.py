"""Multi-head self-attention with the official parameters: query, key, value, out."""

from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vit_jax.errors import ConfigError
from vit_jax.models.kernels import (
    attention_weights,
    choose_kernel,
    fused_attention,
    weighted_sum,
)
from vit_jax.models.products import dense


def head_width(width: int, num_heads: int) -> int:
    """Returns the width of one head; `ConfigError` unless the heads share the width evenly."""
    if num_heads < 1 or width % num_heads:
        divisors = [n for n in range(1, width + 1) if width % n == 0]
        closest = min(divisors, key=lambda n: abs(n - num_heads))
        raise ConfigError(
            f"num_heads={num_heads} must divide the width {width} (hidden_size); "
            f"the closest number that does is {closest}"
        )
    return width // num_heads


class HeadProjection(nn.Module):
    """The parameters of one projection from tokens to heads, for the attention to use.

    Parameters: `kernel` (d, h, c), Xavier-uniform as a matrix d × (h c), and `bias` (h, c).
    """

    num_heads: int
    head_width: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, width: int) -> tuple[Float[Array, "d h c"], Float[Array, "h c"]]:
        """Returns kernel and bias for tokens of that width; a bias of zeros where there is none.

        Given parameters with fewer heads, as `prune_heads` leaves them, are taken as they are.
        """
        heads = (self.num_heads, self.head_width)
        if self.has_variable("params", "kernel"):
            stored = self.get_variable("params", "kernel").shape
            if stored[::2] == (width, self.head_width) and stored[1] < self.num_heads:
                heads = stored[1:]

        init = nn.initializers.xavier_uniform(in_axis=0, out_axis=(1, 2))
        # As arrays: parameters may come as NumPy's.
        kernel = jnp.asarray(self.param("kernel", init, (width, *heads)))
        if not self.use_bias:
            return kernel, jnp.zeros(heads)
        return kernel, jnp.asarray(self.param("bias", nn.initializers.zeros, heads))


class OutProjection(nn.Module):
    """From what the heads found back to tokens.

    Parameters: `kernel` (h, c, features), Xavier-uniform as a matrix (h c) × features, and `bias`.
    """

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n h c"]) -> Float[Array, "n d"]:
        """Returns d = `features` values for every token, whatever number of heads it has."""
        init = nn.initializers.xavier_uniform(in_axis=(0, 1), out_axis=2)
        kernel = jnp.asarray(self.param("kernel", init, (*x.shape[1:], self.features)))
        bias = jnp.asarray(self.param("bias", nn.initializers.zeros, (self.features,)))
        tokens = x.reshape(x.shape[0], -1).astype(self.dtype)
        return dense(tokens, kernel.reshape(-1, self.features), bias)


class MultiHeadDotProductAttention(nn.Module):
    """Self-attention (arXiv:1706.03762, section 3.2.2), with the official parameter tree.

    Parameters: `query`, `key`, `value` with kernels (d, h, c) and biases (h, c), and `out` with
    kernel (h, c, d) and bias (d). In training, `dropout_rate` of the attention weights are
    dropped, drawn anew for every image and head as the official code does, not shared over them.

    Fields:
      num_heads: heads h.
      kernel: "auto", "xla" or "cudnn"; see `vit_jax.models.kernels`.
      merged_qkv: compute query, key and value by one matrix product, from the same parameters.
      qk_norm: LayerNorm of each head's queries and keys (arXiv:2302.05442, section 2), with the
        parameters `query_ln` and `key_ln`.
      qkv_bias: whether query, key and value have biases (official: yes).
      head_width: width c of a head; None for d / h.
      epsilon: that of these norms.
    """

    num_heads: int
    dropout_rate: float | int = 0.0
    dtype: DTypeLike = jnp.float32
    kernel: str = "auto"
    merged_qkv: bool = False
    qk_norm: bool = False
    qkv_bias: bool = True
    head_width: int | None = None
    epsilon: float = 1e-6

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b n d"],
        train: bool = False,
        head_mask: Float[Array, "heads"] | None = None,
        return_weights: bool = False,
    ) -> Any:
        """Lets every token attend to all.

        Args:
          x: the tokens.
          train: whether to drop attention weights.
          head_mask: what each head's result is multiplied by: 0 silences it.
          return_weights: whether to return the attention weights too.

        Returns:
          The tokens b n d, or a pair of them and the weights b h n n (float32, before dropout).

        Raises:
          ConfigError: num_heads does not divide d.
        """
        width = x.shape[-1]
        query, key, value = self._project(x)
        if self.qk_norm:
            norm = partial(nn.LayerNorm, self.epsilon, dtype=self.dtype)
            query, key = norm(name="query_ln")(query), norm(name="key_ln")(key)
        mixed, weights = self._attend(query, key, value, train, return_weights)
        if head_mask is not None:
            if head_mask.shape != mixed.shape[2:3]:
                raise ConfigError(
                    f"head_mask of shape {head_mask.shape} must have one factor for each of the "
                    f"{mixed.shape[2]} heads"
                )
            mixed = mixed * head_mask.astype(mixed.dtype)[None, None, :, None]
        out = OutProjection(width, self.dtype, name="out")
        y = out(mixed.reshape(-1, *mixed.shape[2:])).reshape(x.shape)  # b n h c -> b n d
        return (y, weights) if return_weights else y

    def _project(self, x: Array) -> tuple[Array, ...]:
        """b n d -> query, key and value, each b n h c."""
        b, n, width = x.shape
        c = self.head_width or head_width(width, self.num_heads)
        kernels, biases = zip(
            *(
                HeadProjection(self.num_heads, c, self.qkv_bias, name=name)(width)
                for name in ("query", "key", "value")
            ),
            strict=True,
        )
        tokens = x.reshape(b * n, width).astype(self.dtype)
        if self.merged_qkv:  # head by head, so that heads that devices share stay where they are
            kernel, bias = (jnp.stack(parts, axis=-2) for parts in (kernels, biases))
            merged = _to_heads(tokens, kernel, bias).reshape(b, n, *bias.shape)
            return tuple(merged[:, :, :, i] for i in range(3))
        return tuple(
            _to_heads(tokens, kernel, bias).reshape(b, n, *bias.shape)
            for kernel, bias in zip(kernels, biases, strict=True)
        )

    def _attend(
        self, query: Array, key: Array, value: Array, train: bool, return_weights: bool
    ) -> tuple[Array, Array | None]:
        """Each b n h c -> mixed values b n h c, and the weights b h n n if they are asked for."""
        dropout = train and self.dropout_rate > 0
        kernel = choose_kernel(self.kernel, query, dropout=dropout, weights_wanted=return_weights)
        if kernel == "cudnn":
            return fused_attention(query, key, value), None
        weights = attention_weights(query, key)
        kept = nn.Dropout(self.dropout_rate, deterministic=not train)(weights)
        return weighted_sum(kept, value), weights if return_weights else None


def _to_heads(x: Float[Array, "n d"], kernel: Float[Array, "d ..."], bias: Array) -> Array:
    """n d -> n (…): one matrix product, in the dtype of `x`."""
    return dense(x, kernel.reshape(kernel.shape[0], -1), bias.reshape(-1))
