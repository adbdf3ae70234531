"""The encoder's further fields, each against its definition."""

import logging
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.running import apply, new_params, random_params
from vit_jax import models, trees
from vit_jax.errors import ConfigError
from vit_jax.models import kernels
from vit_jax.models.encoder import REMAT

B, N, D, HEADS, LAYERS = 3, 5, 12, 3, 3
X = jax.random.normal(jax.random.key(0), (B, N, D))
SIZES: dict[str, Any] = {
    "num_layers": LAYERS,
    "mlp_dim": 16,
    "num_heads": HEADS,
    "dropout_rate": 0.0,
    "attention_dropout_rate": 0.0,
}
PLAIN = models.Encoder(**SIZES)


def loss_and_gradient(module: nn.Module, params: Any) -> Any:
    def loss(params):
        out: Any = module.apply({"params": params}, X)
        return jnp.sum(jnp.sin(out))

    return jax.jit(jax.value_and_grad(loss))(params)


def assert_close(got: Any, want: Any, relative: float = 1e-5) -> None:
    """To `relative` of the largest entry of each leaf; a key's bias has a true gradient of zero."""
    whole = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(want))
    for path, leaf in trees.flatten(want).items():
        scale = whole if path.endswith("key/bias") else float(jnp.abs(leaf).max())
        np.testing.assert_allclose(
            trees.flatten(got)[path], leaf, atol=relative * scale, rtol=0, err_msg=path
        )


@pytest.mark.parametrize(
    "fields",
    [{"attention": {"merged_qkv": True}}, {"attention": "xla"}, *({"remat": p} for p in REMAT)],
)
def test_ways_of_computing_change_neither_result_nor_gradient_nor_tree(fields):
    other = models.Encoder(**SIZES, **fields)
    params = random_params(PLAIN, X)
    assert trees.difference(new_params(PLAIN, X), new_params(other, X)) == []
    assert_close(loss_and_gradient(other, params), loss_and_gradient(PLAIN, params))


def test_merged_projection_is_one_product():
    def products(**attention):
        layer = models.MultiHeadDotProductAttention(HEADS, **attention)
        params = random_params(layer, X)
        text = str(jax.make_jaxpr(lambda p: layer.apply({"params": p}, X))(params))
        return text.count("dot_general")

    assert products() - products(merged_qkv=True) == 2


def test_remat_computes_again_what_it_does_not_keep():
    """Nothing saved: the backward pass repeats the forward products of each block."""

    def products(**fields):
        module = models.Encoder(**SIZES, **fields)
        params = random_params(module, X)

        def total(params):
            out: Any = module.apply({"params": params}, X)
            return out.sum()

        return str(jax.jit(jax.grad(total)).lower(params).compile().as_text()).count(" dot(")

    assert products(remat="nothing_saveable") > products()


def test_remat_drops_alike():
    """Dropout draws the same again in the repeated forward pass."""
    rates = {"dropout_rate": 0.3, "attention_dropout_rate": 0.3, "drop_path_rate": 0.3}
    params = random_params(PLAIN, X)

    def gradient(**fields):
        module = models.Encoder(**{**SIZES, **rates, **fields})

        def loss(params):
            rngs = {"dropout": jax.random.key(1)}
            out: Any = module.apply({"params": params}, X, True, rngs=rngs)
            return jnp.sin(out).sum()

        return jax.jit(jax.grad(loss))(params)

    assert_close(gradient(remat="nothing_saveable"), gradient())


def test_layer_scale_scales_each_branch():
    block = models.Encoder1DBlock(16, HEADS, 0.0, 0.0, layer_scale=1e-5)
    plain = models.Encoder1DBlock(16, HEADS, 0.0, 0.0)
    start = new_params(block, X)
    np.testing.assert_array_equal(start["layer_scale_0"], np.full(D, 1e-5, np.float32))
    params = random_params(plain, X)
    zeros, ones = np.zeros(D, np.float32), np.ones(D, np.float32)
    scaled = {**params, "layer_scale_0": ones, "layer_scale_1": ones}
    assert_close(apply(block, scaled, X), apply(plain, params, X))
    np.testing.assert_array_equal(
        apply(block, {**params, "layer_scale_0": zeros, "layer_scale_1": zeros}, X), X
    )
    # The first scale multiplies what attention adds: with the MLP off, the change is linear in it.
    half = apply(block, {**params, "layer_scale_0": 0.5 * ones, "layer_scale_1": zeros}, X)
    whole = apply(block, {**params, "layer_scale_0": ones, "layer_scale_1": zeros}, X)
    np.testing.assert_allclose(whole - X, 2 * (half - X), atol=1e-5)


def test_stochastic_depth_leaves_out_whole_branches():
    """A branch is left out for an image as a whole, or scaled by 1 / (1 - rate)."""
    block = models.Encoder1DBlock(16, HEADS, 0.0, 0.0, drop_path_rate=0.5)
    params = random_params(block, X)
    params["MlpBlock_0"] = jax.tree.map(jnp.zeros_like, params["MlpBlock_0"])
    x = jax.random.normal(jax.random.key(3), (64, N, D))
    branch = apply(block, params, x) - x
    added = apply(block, params, x, train=True, rngs={"dropout": jax.random.key(0)}) - x
    dropped = np.abs(added).max((1, 2)) < 1e-6
    assert 0.3 < dropped.mean() < 0.7
    np.testing.assert_allclose(added[~dropped], 2 * branch[~dropped], atol=1e-4)


def test_stochastic_depth_grows_linearly_from_zero_or_as_given():
    rates = []

    def record(call, args, kwargs, context):
        block = isinstance(context.module, models.Encoder1DBlock)
        if block and context.method_name == "__call__":
            rates.append(context.module.drop_path_rate)
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        encoder = models.Encoder(**SIZES, drop_path_rate=0.2)
        jax.eval_shape(encoder.init, jax.random.key(0), X)
        jax.eval_shape(PLAIN.init, jax.random.key(0), X)
        uniform = models.Encoder(**SIZES, drop_path_rate=(0.2, 0.1, 0.3))
        jax.eval_shape(uniform.init, jax.random.key(0), X)
    np.testing.assert_allclose(rates, [0, 0.1, 0.2, 0, 0, 0, 0.2, 0.1, 0.3])


def test_epsilon_is_that_of_every_norm():
    tiny = 1e-3 * X  # a variance near 1e-6: ε decides
    module = models.Encoder(**SIZES, epsilon=1.0, add_position_embedding=False)
    params = new_params(module, tiny)
    # With ε = 1 the norms hardly enlarge; with 1e-6 they do by three orders.
    assert float(jnp.abs(apply(module, params, tiny)).max()) < 0.1
    plain = models.Encoder(**SIZES, add_position_embedding=False)
    assert float(jnp.abs(apply(plain, params, tiny)).max()) > 0.3


def test_query_key_norm_bounds_the_logits():
    """LayerNorm makes queries and keys as long as √c each: the scale of the tokens drops out."""
    layer = models.MultiHeadDotProductAttention(HEADS, qk_norm=True)
    params = random_params(layer, X)
    assert params["query_ln"]["scale"].shape == params["key_ln"]["bias"].shape == (D // HEADS,)
    params = {**params, "query_ln": {"scale": jnp.ones(4), "bias": jnp.zeros(4)}}
    params |= {"key_ln": params["query_ln"]}
    for name in ("query", "key"):
        params[name] = {**params[name], "bias": jnp.zeros((HEADS, 4))}
    _, weights = apply(layer, params, X, return_weights=True)
    _, of_larger = apply(layer, params, 100 * X, return_weights=True)
    np.testing.assert_allclose(weights, of_larger, atol=1e-3)
    ratio = np.asarray(weights).max(-1) / np.asarray(weights).min(-1)
    assert np.log(ratio).max() <= 2 * np.sqrt(4) + 1e-3  # |q·k| / √c ≤ √c


def test_projections_without_biases():
    layer = models.MultiHeadDotProductAttention(HEADS, qkv_bias=False)
    params = random_params(layer, X)
    assert set(params["query"]) == {"kernel"}
    assert set(params["out"]) == {"kernel", "bias"}
    biased = models.MultiHeadDotProductAttention(HEADS)
    zero = {n: {**params[n], "bias": jnp.zeros((HEADS, 4))} for n in ("query", "key", "value")}
    np.testing.assert_array_equal(apply(layer, params, X), apply(biased, {**params, **zero}, X))


def test_heads_may_differ_from_layer_to_layer():
    fields = {**SIZES, "num_heads": (3, 1, 2), "attention": {"head_width": 4}}
    params = new_params(models.Encoder(**fields), X)
    shapes = [
        params[f"encoderblock_{i}"]["MultiHeadDotProductAttention_0"]["query"]["kernel"].shape
        for i in range(LAYERS)
    ]
    assert shapes == [(D, 3, 4), (D, 1, 4), (D, 2, 4)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"remat": "dot_saveable"}, "remat='dot_saveable' is none of .*; did you mean 'dots_"),
        ({"num_heads": (3, 3)}, r"num_heads=\(3, 3\) must be .* each of the 3 layers"),
        ({"drop_path_rate": (0.1, 0.1)}, r"drop_path_rate=\(0.1, 0.1\) must be .* the 3 layers"),
        ({"attention": "cuddn"}, "attention='cuddn' is none of .*; did you mean 'cudnn'"),
        ({"attention": {"kernal": "xla"}}, "attention field 'kernal' is unknown; .*'kernel'"),
    ],
)
def test_wrong_fields_are_one_line(fields, message):
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(models.Encoder(**{**SIZES, **fields}).init, jax.random.key(0), X)


def test_a_kernel_that_cannot_serve_says_so_once(caplog):
    kernels._log_once.cache_clear()
    layer = models.MultiHeadDotProductAttention(HEADS, kernel="cudnn")
    params = random_params(layer, X)
    with caplog.at_level(logging.WARNING, logger="vit_jax"):
        got = apply(layer, params, X)
        apply(layer, params, X[:2])
    plain = models.MultiHeadDotProductAttention(HEADS, kernel="xla")
    np.testing.assert_array_equal(got, apply(plain, params, X))
    (line,) = [r.getMessage() for r in caplog.records if "cudnn" in r.getMessage()]
    assert "needs an NVIDIA GPU, and this runs on cpu" in line


@pytest.mark.parametrize(
    ("platform", "capability", "dtype", "width", "dropout", "reason"),
    [
        ("gpu", 9.0, "bfloat16", 64, False, None),
        ("cuda", 8.0, "float16", 80, False, None),
        ("tpu", None, "bfloat16", 64, False, "NVIDIA GPU, and this runs on tpu"),
        ("gpu", None, "bfloat16", 64, False, "NVIDIA GPU, and this one is not"),
        ("gpu", 7.5, "bfloat16", 64, False, r"capability 8.0 (Ampere), and this GPU has 7.5"),
        ("gpu", 9.0, "float32", 64, False, "dtype bfloat16 or float16, not float32"),
        ("gpu", 9.0, "bfloat16", 12, False, "divisible by 8"),
        ("gpu", 9.0, "bfloat16", 136, False, "up to 128"),
        ("gpu", 9.0, "bfloat16", 64, True, "no dropout"),
    ],
)
def test_what_cudnn_needs(platform, capability, dtype, width, dropout, reason):
    query = jnp.zeros((1, 2, 3, width), dtype)
    why = kernels.why_not_cudnn(platform, capability, query, dropout=dropout)
    assert why is None if reason is None else reason in why


@pytest.mark.parametrize("tokens", [4, 5])
def test_fused_attention_equals_the_plain_one(tokens):
    """XLA stands in for cuDNN: what is tested is the token that evens the number out."""
    q, k, v = (jax.random.normal(jax.random.key(i), (2, tokens, 3, 8)) for i in range(3))

    def both(kernel):
        return jax.value_and_grad(lambda q, k, v: jnp.sin(kernel(q, k, v)).sum(), (0, 1, 2))

    plain = both(lambda q, k, v: kernels.weighted_sum(kernels.attention_weights(q, k), v))
    fused = both(lambda q, k, v: kernels.fused_attention(q, k, v, "xla"))
    assert_close(fused(q, k, v), plain(q, k, v))
