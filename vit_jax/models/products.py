"""Matrix products, written so that bfloat16 is fast on a CPU too.

XLA has code for a CPU's bfloat16 instructions (AVX512-BF16, AMX), but only for products whose sum
stays float32 and whose operands lie as they are; all others it converts, and computes in float32.
So on a CPU the three products of a bfloat16 layer, of the result and of both gradients, are put
this way: each is summed in float32 and rounded once, to the dtype that it is wanted in
(benchmarks/LOG.md, "bfloat16 on a CPU"). This takes derivatives by hand, which `jax.jvp` cannot
differentiate forward. Elsewhere, and in other dtypes, products are JAX's own, but for two things
that it would compute otherwise than the rest: the gradients of inner products, in float32, and
those of parameters that all rows share, as sums of as many terms in bfloat16.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float


class Dense(nn.Module):
    """A linear map of the last axis, with the parameters and initial values of `nn.Dense`.

    Parameters: `kernel` (d, features) and, with `use_bias`, `bias` (features).
    """

    features: int
    use_bias: bool = True
    dtype: DTypeLike = jnp.float32
    kernel_init: Callable[..., Array] = nn.initializers.lecun_normal()
    bias_init: Callable[..., Array] = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Float[Array, "*n d"]) -> Float[Array, "*n k"]:
        """Returns k = `features` values in `dtype` for every vector of d."""
        # As arrays: parameters may come as NumPy's.
        shape = (x.shape[-1], self.features)
        kernel = jnp.asarray(self.param("kernel", self.kernel_init, shape))
        bias = jnp.asarray(self.param("bias", self.bias_init, shape[1:])) if self.use_bias else None
        # 2-D: on a CPU the weight gradient takes twice as long, or longer, for 3-D tokens.
        y = dense(x.reshape(-1, x.shape[-1]).astype(self.dtype), kernel, bias)
        return y.reshape(*x.shape[:-1], self.features)


def dense(
    x: Float[Array, "n d"], kernel: Float[Array, "d k"], bias: Float[Array, "k"] | None = None
) -> Float[Array, "n k"]:
    """Returns x · kernel + bias in the dtype of `x`, to which the parameters are converted."""
    if _wants_care(x):
        return _dense(x, kernel, jnp.zeros(kernel.shape[1]) if bias is None else bias)
    y = x @ kernel.astype(x.dtype)
    return y if bias is None else _plus(y, bias)


def for_each(parameter: Float[Array, "..."], x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns a parameter in the shape and dtype of `x`; its gradient is summed in its own dtype.

    That of `parameter.astype(x.dtype)` would be a sum over all tokens in bfloat16.
    """
    return jnp.broadcast_to(parameter, x.shape).astype(x.dtype)


@jax.custom_jvp
def _plus(y: Array, bias: Array) -> Array:
    return y + bias.astype(y.dtype)[None]  # as XLA knows to make it part of the product


@_plus.defjvp
def _(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    of_y, of_bias = tangents
    return _plus(*primals), of_y + for_each(of_bias, of_y)


def product(a: Float[Array, "*b n k"], b: Float[Array, "*b k m"]) -> Float[Array, "*b n m"]:
    """Returns a · b in the dtype of `a`, which is that of `b`."""
    return _product(a, b) if _wants_care(a) else a @ b


def inner_products(a: Float[Array, "*b n k"], b: Float[Array, "*b m k"]) -> Float[Array, "*b n m"]:
    """Returns a · bᵀ, of each row with each, in float32.

    The gradients of bfloat16 are products of bfloat16, as cuDNN has them.
    """
    if jnp.finfo(a.dtype).bits >= 32:
        return a @ b.swapaxes(-1, -2)
    return _inner_products(a, b)


def _wants_care(x: Array) -> bool:
    return x.dtype == jnp.bfloat16 and jax.default_backend() == "cpu"


@jax.custom_vjp
def _dense(x: Array, kernel: Array, bias: Array) -> Array:
    return (_dot(x, kernel.astype(x.dtype)) + bias.astype(jnp.float32)[None]).astype(x.dtype)


def _dense_forward(x: Array, kernel: Array, bias: Array) -> tuple[Array, Any]:
    return _dense(x, kernel, bias), (x, kernel, bias)


def _dense_backward(kept: Any, g: Array) -> tuple[Array, Array, Array]:
    x, kernel, bias = kept
    of_x = _dot(g, kernel.astype(g.dtype), second_transposed=True).astype(x.dtype)
    of_kernel, of_bias = _dot_and_sum(x, g)
    return of_x, of_kernel.astype(kernel.dtype), of_bias.astype(bias.dtype)


_dense.defvjp(_dense_forward, _dense_backward)


@jax.custom_vjp
def _product(a: Array, b: Array) -> Array:
    return _dot(a, b).astype(a.dtype)


def _product_backward(kept: Any, g: Array) -> tuple[Array, Array]:
    a, b = kept
    of_a = _dot(g, b, second_transposed=True)
    return of_a.astype(a.dtype), _dot_first_transposed(a, g).astype(b.dtype)


_product.defvjp(lambda a, b: (_product(a, b), (a, b)), _product_backward)


@jax.custom_vjp
def _inner_products(a: Array, b: Array) -> Array:
    return _dot(a, b, second_transposed=True)


def _inner_products_backward(kept: Any, g: Array) -> tuple[Array, Array]:
    a, b = kept
    g = g.astype(a.dtype)
    if not _wants_care(a):
        return g @ b, g.swapaxes(-1, -2) @ a
    return _dot(g, b).astype(a.dtype), _dot_first_transposed(g, a).astype(b.dtype)


_inner_products.defvjp(lambda a, b: (_inner_products(a, b), (a, b)), _inner_products_backward)


def _dot(a: Array, b: Array, *, second_transposed: bool = False) -> Array:
    """… n k, … k m (or … m k) -> … n m in float32."""
    batch = tuple(range(a.ndim - 2))
    axes = ((a.ndim - 1,), (b.ndim - 1 if second_transposed else b.ndim - 2,))
    return jax.lax.dot_general(a, b, (axes, (batch, batch)), preferred_element_type=jnp.float32)


def _dot_first_transposed(a: Array, b: Array) -> Array:
    """… k n, … k m -> … n m in float32: aᵀ · b, or (bᵀ · a)ᵀ, whichever transposes less."""
    if a.shape[-1] <= b.shape[-1]:
        return _dot(_transposed_over_ones(a), b)[..., :-1, :]
    return _dot(_transposed_over_ones(b), a)[..., :-1, :].swapaxes(-1, -2)


def _dot_and_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """k n, k m -> aᵀ · b, n m, and the sum of b over k, m; both in float32."""
    if a.shape[-1] <= b.shape[-1]:
        both = _dot(_transposed_over_ones(a), b)
        return both[:-1], both[-1]
    return _dot_first_transposed(a, b), _dot(jnp.ones((1, len(b)), b.dtype), b)[0]


def _transposed_over_ones(x: Array) -> Array:
    """… k n -> … (n + 1) k, with ones in the last row.

    A mere transpose XLA would make part of the product, which then lies as it must not. The ones
    prevent that, and give the sum of what they are multiplied with.
    """
    transposed = x.swapaxes(-1, -2)
    ones = jnp.ones((*transposed.shape[:-2], 1, transposed.shape[-1]), x.dtype)
    return jnp.concatenate([transposed, ones], axis=-2)
