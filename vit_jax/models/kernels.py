"""Attention kernels: the same sum, computed by plain matrix products or by a fused kernel."""

import functools
import logging
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from vit_jax.errors import ConfigError, nearest
from vit_jax.models.products import inner_products, product
from vit_jax.runtime import gpu

KERNELS = ("auto", "xla", "cudnn")
Implementation = Literal["cudnn", "xla"]  # of `jax.nn.dot_product_attention`


def attention_weights(
    query: Float[Array, "b n h c"],
    key: Float[Array, "b m h c"],
    seen: Bool[Array, "b m"] | None = None,
) -> Float[Array, "b h n m"]:
    """Returns softmax(query · key / √c) over the keys m, in float32 (arXiv:1706.03762, eq. 1).

    Keys that are not `seen`, such as padding, get no weight; where none is, all get the same.
    """
    # Heads first, then plain matrix products: on a CPU a quarter faster, backward pass included,
    # than products over the layout b n h c, jax.nn.dot_product_attention among them.
    scaled = (query * query.shape[-1] ** -0.5).transpose(0, 2, 1, 3)
    logits = inner_products(scaled, key.transpose(0, 2, 1, 3))
    if seen is not None:  # finite, so that a row without any key is no NaN
        logits = jnp.where(seen[:, None, None, :], logits, jnp.finfo(jnp.float32).min)
    return _softmax(logits)


@jax.custom_jvp
def _softmax(logits: Float[Array, "*b m"]) -> Float[Array, "*b m"]:
    """The softmax of the last axis, whose derivative needs nothing but its result.

    That of `jax.nn.softmax` keeps the exponentials too, another array of n · m for every head.
    """
    return jax.nn.softmax(logits, axis=-1)


@_softmax.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    weights = _softmax(*primals)
    of_all = (weights * tangents[0]).sum(axis=-1, keepdims=True)
    return weights, weights * (tangents[0] - of_all)


def weighted_sum(
    weights: Float[Array, "b h n m"], value: Float[Array, "b m h c"]
) -> Float[Array, "b n h c"]:
    """Returns, for each query and head, the sum of the values times their weights."""
    mixed = product(weights.astype(value.dtype), value.transpose(0, 2, 1, 3))
    return mixed.transpose(0, 2, 1, 3)


def fused_attention(
    query: Float[Array, "b n h c"],
    key: Float[Array, "b n h c"],
    value: Float[Array, "b n h c"],
    implementation: Implementation = "cudnn",
) -> Float[Array, "b n h c"]:
    """Returns softmax(query · key / √c) · value, without ever holding the weights.

    Where gradients are taken, an odd number of tokens (197, 577) is filled up by one that nobody
    attends to: of cuDNN's backward pass JAX refuses them, as of one with a bias it must.
    """
    return _fused(query, key, value, implementation)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _fused(query: Array, key: Array, value: Array, implementation: Implementation) -> Array:
    return jax.nn.dot_product_attention(query, key, value, implementation=implementation)


def _evened(query: Array, key: Array, value: Array, implementation: Implementation) -> Array:
    b, n = query.shape[:2]
    if n % 2 == 0:
        return jax.nn.dot_product_attention(query, key, value, implementation=implementation)
    query, key, value = (jnp.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0))) for x in (query, key, value))
    lengths = jnp.full((b,), n, jnp.int32)
    mixed = jax.nn.dot_product_attention(
        query, key, value, key_value_seq_lengths=lengths, implementation=implementation
    )
    return mixed[:, :n]


def _fused_forward(*args: Any) -> tuple[Array, Any]:
    query, key, value, implementation = args
    return jax.vjp(functools.partial(_evened, implementation=implementation), query, key, value)


def _fused_backward(implementation: Implementation, backward: Any, g: Array) -> tuple[Array, ...]:
    return backward(g)


_fused.defvjp(_fused_forward, _fused_backward)


def plain_attention(
    query: Float[Array, "b n h c"], key: Float[Array, "b n h c"], value: Float[Array, "b n h c"]
) -> Float[Array, "b n h c"]:
    """Returns softmax(query · key / √c) · value by plain matrix products."""
    return weighted_sum(attention_weights(query, key), value)


def choose_kernel(kernel: str, query: Array, *, dropout: bool, weights_wanted: bool) -> str:
    """Returns "cudnn" or "xla": what computes this attention; the reason for "xla" is logged once.

    Args:
      kernel: "xla"; "cudnn"; or "auto", which is cudnn wherever that serves.
      query: (b, n, h, c), in the dtype of the computation.
      dropout: whether attention weights are dropped.
      weights_wanted: whether the weights are to be returned.

    Raises:
      ConfigError: an unknown kernel.
    """
    if kernel not in KERNELS:
        raise ConfigError(
            f"attention={kernel!r} is none of {', '.join(KERNELS)}{nearest(str(kernel), KERNELS)}"
        )
    if kernel == "xla" or weights_wanted:  # only plain products have weights to show
        return "xla"
    if reason := why_not_cudnn_here(query, dropout=dropout):
        _log_once(logging.WARNING if kernel == "cudnn" else logging.DEBUG, reason)
        return "xla"
    return "cudnn"


def why_not_cudnn_here(query: Array | jax.ShapeDtypeStruct, *, dropout: bool) -> str | None:
    """Returns the same as `why_not_cudnn`, of the devices of this process."""
    return why_not_cudnn(jax.default_backend(), gpu.compute_capability(), query, dropout=dropout)


def why_not_cudnn(
    platform: str,
    capability: float | None,
    query: Array | jax.ShapeDtypeStruct,
    *,
    dropout: bool,
) -> str | None:
    """Returns the reason why cuDNN's fused attention cannot serve, or None if it can.

    Args:
      platform: what JAX calls it.
      capability: compute capability of the GPU; None of one that is not NVIDIA's.
      query: (b, n, h, c), in the dtype of the computation.
      dropout: whether attention weights are dropped.
    """
    width = query.shape[-1]
    if platform not in ("gpu", "cuda"):
        return f"it needs an NVIDIA GPU, and this runs on {platform}"
    if capability is None:
        return "it needs an NVIDIA GPU, and this one is not"
    if capability < gpu.AMPERE:
        return f"it needs compute capability {gpu.AMPERE} (Ampere), and this GPU has {capability}"
    if query.dtype not in (jnp.bfloat16, jnp.float16):
        return f"it needs dtype bfloat16 or float16, not {query.dtype}"
    if width % 8 or width > 128:
        return f"it needs heads of a width divisible by 8, up to 128, not {width}"
    if dropout:
        return "it has no dropout of attention weights"
    return None


@functools.cache
def _log_once(level: int, reason: str) -> None:
    message = "attention: cudnn cannot serve (%s); the plain xla kernel takes over"
    logging.getLogger("vit_jax").log(level, message, reason)
