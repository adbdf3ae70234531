"""Pools: PyTorch's numbers, formulas in float64, and which of them read a class token."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import golden
from tests.models.running import apply, new_params, random_params
from vit_jax import models, trees
from vit_jax.errors import ConfigError

TRANSFORMER = {"num_layers": 1, "mlp_dim": 24, "num_heads": 2, "attention_dropout_rate": 0.0}
FIELDS: dict[str, Any] = {
    "num_classes": 5,
    "patches": {"size": (8, 8)},
    "transformer": {**TRANSFORMER, "dropout_rate": 0.0},
    "hidden_size": 16,
}
IMAGES = jax.random.normal(jax.random.key(1), (2, 16, 24, 3))
TOKENS = 6
X = jax.random.normal(jax.random.key(0), (3, 7, 12))


def as_double(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def test_sequence_pool_is_pytorchs():
    case = golden.load_arrays("sequence_pool")
    dense = {
        "kernel": case["params"]["attention_pool.weight"].T,
        "bias": case["params"]["attention_pool.bias"],
    }
    x = jnp.asarray(case["input"])
    params = {"attention_pool": dense}
    assert trees.flatten(new_params(models.SequencePool(), x)).keys() == (
        trees.flatten(params).keys()
    )
    got = apply(models.SequencePool(), params, x)
    golden.assert_close_to_largest({"output": got}, {"output": case["output"]}, 1e-6)


@pytest.mark.parametrize(("tokens", "width"), [(1, 1), (2, 5), (50, 3)])
def test_a_sequence_pool_without_preference_is_the_mean(tokens, width):
    x = jax.random.normal(jax.random.key(0), (2, tokens, width))
    pool = models.SequencePool()
    indifferent = jax.tree.map(jnp.zeros_like, new_params(pool, x))
    np.testing.assert_allclose(apply(pool, indifferent, x), x.mean(1), atol=1e-6)


def test_map_head_equals_the_float64_reference():
    head = models.MAPHead(num_heads=3, mlp_dim=20)
    params = random_params(head, X)
    p, x = as_double(params), np.asarray(X, np.float64)
    attention, probe = p["MultiHeadDotProductAttention_0"], p["probe"][0, 0]
    y = np.zeros((len(x), 12)) + attention["out"]["bias"]
    for h in range(3):
        q, k, v = (
            inputs @ attention[name]["kernel"][:, h] + attention[name]["bias"][h]
            for name, inputs in (("query", probe), ("key", x), ("value", x))
        )
        weights = np.exp(k @ q / np.sqrt(4))
        weights /= weights.sum(-1, keepdims=True)
        y += np.einsum("bn,bnc->bc", weights, v) @ attention["out"]["kernel"][h]
    norm, (first, second) = p["LayerNorm_0"], (p["MlpBlock_0"][f"Dense_{i}"] for i in (0, 1))
    z = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-6)
    z = (z * norm["scale"] + norm["bias"]) @ first["kernel"] + first["bias"]
    z = 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))  # tanh GELU
    want = y + z @ second["kernel"] + second["bias"]
    golden.assert_close_to_largest({"out": apply(head, params, X)}, {"out": want}, 1e-5)


@pytest.mark.parametrize("pool", [models.SequencePool, lambda **f: models.MAPHead(3, 20, **f)])
def test_pools_forget_the_order_of_the_tokens_and_keep_their_dtype(pool):
    params = random_params(pool(), X)
    shuffled = X[:, jax.random.permutation(jax.random.key(2), X.shape[1])]
    want = apply(pool(), params, X)
    np.testing.assert_allclose(apply(pool(), params, shuffled), want, atol=1e-5)
    half = apply(pool(dtype=jnp.bfloat16), params, X.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    assert np.abs(half - want).max() < 0.05 * np.abs(want).max()


@pytest.mark.parametrize(
    ("fields", "class_token", "shape"),
    [
        ({}, True, (2, 5)),
        ({"pool": "token"}, True, (2, 5)),
        ({"pool": "token", "classifier": "gap"}, True, (2, 5)),
        ({"pool": "mean"}, False, (2, 5)),
        ({"pool": "sequence"}, False, (2, 5)),
        ({"pool": "attention"}, False, (2, 5)),
        ({"pool": "none"}, False, (2, TOKENS, 5)),
        ({"pool": "none", "classifier": "token_unpooled"}, False, (2, TOKENS, 5)),
        ({"classifier": "token_unpooled"}, True, (2, 1 + TOKENS, 5)),
    ],
    ids=str,
)
def test_only_where_it_is_read_is_there_a_class_token(fields, class_token, shape):
    model = models.VisionTransformer(**{**FIELDS, **fields})
    logits, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), IMAGES)
    params = variables["params"]
    assert logits.shape == shape
    assert ("cls" in params) == class_token
    assert ("pool" in params) == (fields.get("pool") in ("sequence", "attention"))
    positions = params["Transformer"]["posembed_input"]["pos_embedding"]
    assert positions.shape == (1, TOKENS + class_token, 16)


@pytest.mark.parametrize(
    ("pool", "classifier"), [("token", "token"), ("mean", "gap"), ("none", "unpooled")]
)
def test_a_pool_is_another_name_for_a_classifier(pool, classifier):
    named, official = (
        models.VisionTransformer(**FIELDS, **fields)
        for fields in ({"pool": pool}, {"classifier": classifier})
    )
    params = random_params(official, IMAGES)
    np.testing.assert_array_equal(apply(named, params, IMAGES), apply(official, params, IMAGES))


@pytest.mark.parametrize("pool", ["sequence", "attention"])
def test_the_head_reads_the_pooled_tokens(pool):
    model = models.VisionTransformer(**FIELDS, pool=pool)
    params = random_params(model, IMAGES)
    every = models.VisionTransformer(**{**FIELDS, "num_classes": None}, pool="none")
    tokens = apply(every, params, IMAGES)
    layer = models.SequencePool() if pool == "sequence" else models.MAPHead(2, 24)
    features = apply(layer, params["pool"], tokens)
    want = features @ params["head"]["kernel"] + params["head"]["bias"][None]
    np.testing.assert_allclose(apply(model, params, IMAGES), want, atol=1e-4)


def test_heads_of_the_map_head_must_divide_the_width():
    with pytest.raises(ConfigError, match="num_heads=5 must divide the width 12"):
        models.MAPHead(5, 20).init(jax.random.key(0), X)
