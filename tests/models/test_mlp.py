"""GatedMLP against PyTorch's numbers, and in the place of the MLP of a Transformer block."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import golden
from tests.models.running import apply, new_params, random_params
from vit_jax import models, trees
from vit_jax.models.mlp import activation_function

X = jax.random.normal(jax.random.key(0), (2, 5, 12))


def test_gated_mlp_is_pytorchs():
    case = golden.load_arrays("gated_mlp")
    torch = case["params"]
    names = {"proj_in": "linear1", "gate": "sgu", "proj_out": "linear2"}
    params: dict[str, Any] = {
        ours: {"kernel": torch[f"{theirs}.weight"].T, "bias": torch[f"{theirs}.bias"]}
        for ours, theirs in names.items()
    }
    params["norm_gate"] = {"scale": torch["ln2.weight"], "bias": torch["ln2.bias"]}
    first = {"scale": torch["ln1.weight"], "bias": torch["ln1.bias"]}
    x = jnp.asarray(case["input"])

    gated = models.GatedMLP(mlp_dim=48, activation="gelu_erf")
    assert trees.flatten(new_params(gated, x, deterministic=True)).keys() == (
        trees.flatten(params).keys()
    )
    # The golden numbers hold what stands around it in a Transformer block, too.
    y = apply(nn.LayerNorm(epsilon=1e-5), first, x)
    got = x + apply(gated, params, y, deterministic=True)
    golden.assert_close_to_largest({"output": got}, {"output": case["output"]}, 1e-5)


@pytest.mark.parametrize(("width", "mlp_dim"), [(1, 2), (12, 8), (7, 30)])
def test_a_new_gate_lets_everything_pass(width, mlp_dim):
    x = X[..., :width]
    gated = models.GatedMLP(mlp_dim)
    params = new_params(gated, x, deterministic=True)
    assert params["proj_in"]["kernel"].shape == (width, mlp_dim)
    assert params["proj_out"]["kernel"].shape == (mlp_dim // 2, width)
    p = params["proj_in"]
    passed = nn.gelu(x @ p["kernel"])[..., : mlp_dim // 2]
    want = passed @ params["proj_out"]["kernel"]
    np.testing.assert_allclose(apply(gated, params, x, deterministic=True), want, atol=1e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("bfloat16", 1e-2)])
def test_gelu_erf_is_that_of_its_paper(dtype, tolerance):
    """x Φ(x), and its derivative Φ(x) + x φ(x), by Python's own float64."""
    x = np.linspace(-6, 6, 101).astype(jnp.dtype(dtype)).astype(float)
    normal = np.array([math.erfc(-v / math.sqrt(2)) / 2 for v in x])
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    gelu = activation_function("gelu_erf")
    got, back = jax.vjp(gelu, jnp.asarray(x, dtype))
    assert got.dtype == dtype
    np.testing.assert_allclose(got.astype(float), x * normal, atol=tolerance, rtol=tolerance)
    slope = back(jnp.ones_like(got))[0].astype(float)
    np.testing.assert_allclose(slope, normal + x * density, atol=tolerance, rtol=tolerance)


def test_tokens_do_not_mix():
    gated = models.GatedMLP(8)
    params = random_params(gated, X, deterministic=True)
    alone, together = (apply(gated, params, x, deterministic=True) for x in (X[:, :1], X))
    np.testing.assert_allclose(alone, together[:, :1], atol=1e-5)


def test_dropout_acts_in_training_alone():
    gated = models.GatedMLP(8, dropout_rate=0.5)
    params = random_params(gated, X, deterministic=True)
    rngs = {"dropout": jax.random.key(0)}
    still, same, dropped = (
        apply(gated, params, X, deterministic=flag, rngs=rngs) for flag in (True, True, False)
    )
    np.testing.assert_array_equal(still, same)
    assert np.abs(still - dropped).max() > 1e-3


def test_gated_mlp_stands_in_the_place_of_the_mlp():
    block = models.Encoder1DBlock(mlp_dim=8, num_heads=2, mlp="gated")
    params = random_params(block, X)
    assert sorted(params["MlpBlock_0"]) == ["gate", "norm_gate", "proj_in", "proj_out"]
    silent = jax.tree.map(jnp.zeros_like, params["MlpBlock_0"])
    y = apply(block, {**params, "MlpBlock_0": silent}, X)  # what attention alone gives
    norm = apply(nn.LayerNorm(), params["LayerNorm_1"], y)
    gated = apply(models.GatedMLP(8), params["MlpBlock_0"], norm, deterministic=True)
    np.testing.assert_allclose(apply(block, params, X), y + gated, atol=1e-5)
