"""ConvStem and BatchNorm against PyTorch's numbers, and in the place of patches."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import golden
from tests.models.running import QUICK
from vit_jax import models, trees

FIELDS: dict[str, Any] = {
    "num_classes": 5,
    "patches": None,
    "hidden_size": 16,
    "transformer": {"num_layers": 1, "mlp_dim": 24, "num_heads": 2, "dropout_rate": 0.0},
    "stem": "conv",
}


def run(module: nn.Module, variables: Any, x: Any, **kwargs: Any) -> Any:
    """Returns the output; with `train`, the pair of it and the new statistics."""
    mutable = ["batch_stats"] if kwargs.get("train") else False
    return jax.jit(lambda v, x: module.apply(v, x, mutable=mutable, **kwargs))(variables, x)


def load_case() -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the golden arrays and the variables of a ConvStem that they give."""
    case = golden.load_arrays("conv_stem")
    torch = case["params"]
    params: dict[str, Any] = {"embedding": {"kernel": torch["proj.weight"].T}}
    for i in range(3):
        norm = f"conv_layers.{3 * i + 1}"
        kernel = torch[f"conv_layers.{3 * i}.weight"].transpose(2, 3, 1, 0)  # OIHW -> HWIO
        params[f"conv_{i}"] = {"kernel": kernel}
        params[f"norm_{i}"] = {"scale": torch[f"{norm}.weight"], "bias": torch[f"{norm}.bias"]}
    return case, {"params": params, "batch_stats": statistics(torch)}


def statistics(arrays: dict[str, Any]) -> dict[str, Any]:
    return {
        f"norm_{i}": {
            name: arrays[f"conv_layers.{3 * i + 1}.running_{name}"] for name in ("mean", "var")
        }
        for i in range(3)
    }


def tokens(case: dict[str, Any], grid: Any) -> Any:
    """The golden output goes on to class token and positions."""
    x = grid.reshape(grid.shape[0], -1, grid.shape[-1])
    cls = jnp.broadcast_to(case["params"]["clf_token"], (x.shape[0], 1, x.shape[-1]))
    return jnp.concatenate([cls, x], axis=1) + case["params"]["pos_token"]


@pytest.mark.parametrize("train", [False, True])
def test_conv_stem_is_pytorchs(train):
    case, variables = load_case()
    images = jnp.asarray(case["input"].transpose(0, 2, 3, 1))
    stem = models.ConvStem(hidden_size=24)
    shapes = jax.eval_shape(lambda: stem.init(jax.random.key(0), images, train=train))
    assert trees.flatten(shapes).keys() == trees.flatten(variables).keys()

    out = run(stem, variables, images, train=train)
    grid, after = out if train else (out, variables)
    name = "output_train" if train else "output"
    golden.assert_close_to_largest({name: tokens(case, grid)}, {name: case[name]}, 1e-5)
    want = statistics(case["after"]) if train else variables["batch_stats"]
    golden.assert_close_to_largest(after["batch_stats"], want, 1e-6)


def test_batch_norm_normalises_as_flax_does():
    x = 3 + 2 * jax.random.normal(jax.random.key(0), (4, 6, 5, 7))
    theirs = nn.BatchNorm(use_running_average=False, momentum=0.9, use_fast_variance=False)
    variables: Any = models.BatchNorm().init(jax.random.key(0), x, train=False)
    reference: Any
    want, reference = theirs.apply(variables, x, mutable=["batch_stats"])
    got, after = run(models.BatchNorm(), variables, x, train=True)
    np.testing.assert_allclose(got, want, atol=1e-5)
    stats, flax_stats = after["batch_stats"], reference["batch_stats"]
    np.testing.assert_allclose(stats["mean"], flax_stats["mean"], rtol=1e-5)
    # The running variance is the unbiased one, of 120 values a channel.
    unbiased = 0.9 + (flax_stats["var"] - 0.9) * 120 / 119
    np.testing.assert_allclose(stats["var"], unbiased, rtol=1e-5)


def test_batch_norm_of_a_single_value_is_finite():
    norm = models.BatchNorm()
    x = jnp.ones((1, 1, 1, 3))
    variables: Any = norm.init(jax.random.key(0), x, train=True)
    assert float(variables["batch_stats"]["var"].min()) == 1.0  # initialising moves nothing
    y, after = run(norm, variables, x, train=True)
    assert np.isfinite(y).all()
    np.testing.assert_allclose(after["batch_stats"]["var"], np.full(3, 0.9), rtol=1e-6)


@pytest.mark.parametrize(
    ("height", "width", "grid"),
    [(64, 64, (4, 4)), (32, 48, (2, 3)), (17, 1, (2, 1)), (8, 8, (1, 1))],
)
def test_every_image_size_has_a_position_for_each_token(height, width, grid):
    images = jax.ShapeDtypeStruct((3, height, width, 3), "float32")
    stem = models.ConvStem(16)
    embedded, _ = jax.eval_shape(
        lambda x: stem.init_with_output(jax.random.key(0), x, train=False), images
    )
    assert embedded.shape == (3, *grid, 16)

    model = models.VisionTransformer(**FIELDS)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    params = variables["params"]
    assert sorted(params) == ["Transformer", "cls", "head", "stem"]
    positions = params["Transformer"]["posembed_input"]["pos_embedding"]
    assert positions.shape == (1, 1 + grid[0] * grid[1], 16)
    assert sorted(variables["batch_stats"]["stem"]) == ["norm_0", "norm_1", "norm_2"]


def test_training_moves_the_statistics_and_evaluation_reads_them():
    images = jax.random.normal(jax.random.key(0), (4, 16, 16, 3))
    model = models.VisionTransformer(**{**FIELDS, "num_classes": None})
    init = jax.jit(model.init, compiler_options=QUICK)
    variables = init(jax.random.key(0), images)
    before = run(model, variables, images)
    rngs = {"dropout": jax.random.key(1)}
    _, after = run(model, variables, images, train=True, rngs=rngs)
    assert trees.difference(variables["batch_stats"], after["batch_stats"]) != []
    moved = run(model, {**variables, **after}, images)
    assert np.abs(moved - before).max() > 1e-3


def test_bfloat16_keeps_statistics_in_float32():
    images = jax.random.normal(jax.random.key(0), (4, 16, 16, 3))
    stem = models.ConvStem(16, dtype=jnp.bfloat16)
    variables = stem.init(jax.random.key(0), images, train=False)
    y, after = run(stem, variables, images, train=True)
    assert y.dtype == jnp.bfloat16
    leaves = jax.tree.leaves((variables, after))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.float32)}
