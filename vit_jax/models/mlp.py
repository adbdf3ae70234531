"""The two-layer perceptron of a Transformer block."""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vit_jax.errors import ConfigError, nearest

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu_tanh": partial(nn.gelu, approximate=True),  # the official weights
    "gelu_erf": partial(nn.gelu, approximate=False),  # DeiT, timm and transformers weights
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
            nn.Dense, kernel_init=self.kernel_init, bias_init=self.bias_init, dtype=self.dtype
        )
        activate = activation_function(self.activation)
        dropout = partial(nn.Dropout(self.dropout_rate), deterministic=deterministic)

        # 2-D: on a CPU the weight gradient takes twice as long, or longer, for 3-D tokens.
        y = x.reshape(-1, x.shape[-1])  # b n d -> (b n) d
        y = dropout(activate(dense(self.mlp_dim, name="Dense_0")(y)))
        y = dropout(dense(x.shape[-1], name="Dense_1")(y))
        return y.reshape(x.shape)
