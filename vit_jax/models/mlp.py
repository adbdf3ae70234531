"""The perceptron of a Transformer block: the official one, and one with a gate."""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vit_jax.errors import ConfigError, nearest
from vit_jax.models.products import Dense


def _gelu_erf(x: Array) -> Array:
    """x Φ(x), Φ the normal distribution's (arXiv:1606.08415), as PyTorch writes it.

    `nn.gelu` uses 1 - erf, which a CPU computes five times as slowly; what it is more exact for,
    the far left tail, is below 1e-6.
    """
    return x * 0.5 * (1 + jax.lax.erf(x * math.sqrt(0.5)))


def _rounded_once(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Returns the function, computed in float32 where its argument has fewer bits.

    Function and slope are then rounded once, not after each operation, and the slope is all that
    the backward pass keeps of it: half the memory, and on a CPU much less conversion.
    """

    @jax.custom_jvp
    def rounded(x: Array) -> Array:
        return function(x.astype(jnp.float32)).astype(x.dtype)

    @rounded.defjvp
    def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
        (x,), (tangent,) = primals, tangents
        exact = x.astype(jnp.float32)
        y, slope = jax.jvp(function, (exact,), (jnp.ones_like(exact),))
        return y.astype(x.dtype), tangent * slope.astype(x.dtype)

    return lambda x: rounded(x) if jnp.finfo(x.dtype).bits < 32 else function(x)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    # the official weights
    "gelu_tanh": _rounded_once(partial(nn.gelu, approximate=True)),
    # DeiT, timm and transformers weights
    "gelu_erf": _rounded_once(_gelu_erf),
}


def activation_function(name: str) -> Callable[[Array], Array]:
    """Returns the activation of that name, or raises `ConfigError`."""
    if name not in ACTIVATIONS:
        raise ConfigError(
            f"activation={name!r} is none of {', '.join(ACTIVATIONS)}{nearest(name, ACTIVATIONS)}"
        )
    return ACTIVATIONS[name]


class MlpBlock(nn.Module):
    """Dense → activation → dropout → Dense → dropout, applied to each token on its own.

    Parameters: `Dense_0` widens d to mlp_dim, `Dense_1` goes back to d. Xavier-uniform kernels and
    biases ~ N(0, 1e-6) are the initial values of the official Transformer.
    """

    mlp_dim: int
    dropout_rate: float | int = 0.1
    activation: str = "gelu_tanh"
    dtype: DTypeLike = jnp.float32
    kernel_init: Callable[..., Array] = nn.initializers.xavier_uniform()
    bias_init: Callable[..., Array] = nn.initializers.normal(stddev=1e-6)

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"], *, deterministic: bool) -> Float[Array, "b n d"]:
        """Returns an array of the shape of `x`; `ConfigError` for an unknown activation."""
        dense = partial(
            Dense, kernel_init=self.kernel_init, bias_init=self.bias_init, dtype=self.dtype
        )
        activate = activation_function(self.activation)
        dropout = partial(nn.Dropout(self.dropout_rate), deterministic=deterministic)

        y = x.reshape(-1, x.shape[-1])  # b n d -> (b n) d
        y = dropout(activate(dense(self.mlp_dim, name="Dense_0")(y)))
        y = dropout(dense(x.shape[-1], name="Dense_1")(y))
        return y.reshape(x.shape)


class GatedMLP(nn.Module):
    """Dense → activation → halves (a, b) → a × Dense(LayerNorm(b)) → Dense, for each token.

    The gate of gMLP (arXiv:2105.08050, section 2), but over channels: tokens do not mix. It stands
    in the place of an `MlpBlock`, between the norm and the residual of its Transformer block.
    Parameters: `proj_in` widens d to mlp_dim, `norm_gate` and `gate` act on its second half,
    `proj_out` goes from mlp_dim / 2 back to d. As in gMLP the gate starts as the constant 1: kernel
    ~ N(0, 1e-6), bias 1. `epsilon` is that of `norm_gate`.
    """

    mlp_dim: int
    dropout_rate: float | int = 0.1
    activation: str = "gelu_tanh"
    dtype: DTypeLike = jnp.float32
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"], *, deterministic: bool) -> Float[Array, "b n d"]:
        """Returns an array of the shape of `x`; `ConfigError` if mlp_dim has no halves."""
        if self.mlp_dim < 2 or self.mlp_dim % 2:
            raise ConfigError(
                f"mlp_dim={self.mlp_dim} must be an even number for a gated MLP, which splits it "
                f"in halves; the next one is {max(2, self.mlp_dim + 1)}"
            )
        dense = partial(Dense, kernel_init=nn.initializers.xavier_uniform(), dtype=self.dtype)
        near_zero, ones = nn.initializers.normal(stddev=1e-6), nn.initializers.ones
        dense_gate = dense(self.mlp_dim // 2, kernel_init=near_zero, bias_init=ones, name="gate")
        norm = nn.LayerNorm(self.epsilon, dtype=self.dtype, name="norm_gate")
        activate = activation_function(self.activation)
        dropout = partial(nn.Dropout(self.dropout_rate), deterministic=deterministic)

        y = x.reshape(-1, x.shape[-1])  # b n d -> (b n) d
        y = dropout(activate(dense(self.mlp_dim, name="proj_in")(y)))
        passed, gate = jnp.split(y, 2, axis=-1)
        y = passed * dense_gate(norm(gate))
        y = dropout(dense(x.shape[-1], name="proj_out")(y))
        return y.reshape(x.shape)


# By the name that the encoder's field `mlp` has for it.
MLPS: dict[str, type[MlpBlock] | type[GatedMLP]] = {"mlp": MlpBlock, "gated": GatedMLP}


def mlp_class(name: str) -> type[MlpBlock] | type[GatedMLP]:
    """Returns the module class of that name, or raises `ConfigError`."""
    if name not in MLPS:
        raise ConfigError(f"mlp={name!r} is none of {', '.join(MLPS)}{nearest(name, MLPS)}")
    return MLPS[name]
