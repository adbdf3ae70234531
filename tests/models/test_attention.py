"""Self-attention against float64 NumPy, against flax, and its dropout."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.running import apply, new_params, random_params
from vit_jax import models, trees
from vit_jax.errors import ConfigError
from vit_jax.models.kernels import attention_weights, weighted_sum

B, N, D, HEADS = 2, 5, 12, 3
X = jax.random.normal(jax.random.key(0), (B, N, D))


def reference(params, x):
    """The formulas of arXiv:1706.03762, section 3.2, one head and one image at a time."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    x = np.asarray(x, np.float64)
    out = np.zeros(x.shape) + p["out"]["bias"]
    for b in range(len(x)):
        for h in range(HEADS):
            q, k, v = (
                x[b] @ p[name]["kernel"][:, h] + p[name]["bias"][h]
                for name in ("query", "key", "value")
            )
            logits = q @ k.T / np.sqrt(D // HEADS)
            weights = np.exp(logits - logits.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            out[b] += weights @ v @ p["out"]["kernel"][h]
    return out


def test_equals_the_float64_reference():
    layer = models.MultiHeadDotProductAttention(HEADS)
    params = random_params(layer, X)
    want = reference(params, X)
    got = np.asarray(apply(layer, params, X))
    assert np.abs(got - want).max() / np.abs(want).max() < 1e-6


def test_starts_from_the_same_values_as_flax():
    ours = new_params(models.MultiHeadDotProductAttention(HEADS), X)
    flax_layer = nn.MultiHeadDotProductAttention(
        HEADS, kernel_init=nn.initializers.xavier_uniform()
    )
    assert trees.difference(ours, new_params(flax_layer, X)) == []


def test_weights_are_float32_probabilities():
    query, key = (jax.random.normal(jax.random.key(i), (B, N, HEADS, 4)) for i in (0, 1))
    weights = attention_weights(query.astype(jnp.bfloat16), key.astype(jnp.bfloat16))
    assert weights.dtype == jnp.float32
    assert weights.shape == (B, HEADS, N, N)
    np.testing.assert_allclose(weights.sum(-1), np.ones((B, HEADS, N)), atol=1e-6)


def test_softmax_keeps_nothing_but_the_weights_for_its_derivative():
    query, key = (jax.random.normal(jax.random.key(i), (B, N, HEADS, 4)) for i in (0, 1))

    def plain(query, key):
        logits = jnp.einsum("bnhc,bmhc->bhnm", query, key) / 2
        return jax.nn.softmax(logits)

    _, backward = jax.vjp(attention_weights, query, key)
    kept = [leaf for leaf in jax.tree.leaves(backward) if leaf.shape == (B, HEADS, N, N)]
    assert len(kept) == 1
    given = jax.random.normal(jax.random.key(2), (B, HEADS, N, N))
    for got, want in zip(backward(given), jax.vjp(plain, query, key)[1](given), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)
    ones = (jnp.ones_like(query), jnp.zeros_like(key))
    _, got = jax.jvp(attention_weights, (query, key), ones)
    np.testing.assert_allclose(got, jax.jvp(plain, (query, key), ones)[1], atol=1e-6)


def test_dropout_drops_single_weights_of_single_heads():
    """With 0/1 values and heads read apart, the outputs are sums of the weights that were kept."""
    layer = models.MultiHeadDotProductAttention(num_heads=N, dropout_rate=0.5)
    eye = jnp.eye(N)
    zero = {"kernel": jnp.zeros((N, N, 1)), "bias": jnp.zeros((N, 1))}
    params = {
        "query": zero,
        "key": zero,
        "value": {"kernel": jnp.ones((N, N, 1)), "bias": jnp.zeros((N, 1))},
        "out": {"kernel": eye[:, None], "bias": jnp.zeros(N)},
    }
    x = jnp.broadcast_to(eye[None], (4, N, N))
    got = apply(layer, params, x, train=True, rngs={"dropout": jax.random.key(0)})
    # Uniform weights 1/N are kept with probability ½ and then count 2/N each.
    kept = np.asarray(got) * N / 2
    np.testing.assert_allclose(kept, np.round(kept), atol=1e-5)
    assert 0.3 < kept.mean() / N < 0.7
    assert all(np.ptp(kept, axis=axis).max() > 0 for axis in range(3))


def test_weighted_sum_of_one_hot_weights_picks_values():
    value = jax.random.normal(jax.random.key(0), (B, N, HEADS, 4))
    picks_the_next = jnp.roll(jnp.eye(N), 1, axis=1)
    weights = jnp.broadcast_to(picks_the_next[None, None], (B, HEADS, N, N))
    np.testing.assert_array_equal(weighted_sum(weights, value), jnp.roll(value, -1, axis=1))


@pytest.mark.parametrize(("num_heads", "closest"), [(5, 4), (0, 1), (24, 12)])
def test_heads_must_divide_the_width(num_heads, closest):
    message = f"num_heads={num_heads} must divide the width 12 .*does is {closest}\\b"
    with pytest.raises(ConfigError, match=message):
        models.MultiHeadDotProductAttention(num_heads).init(jax.random.key(0), X)
