"""Positions: learned, fixed, none; on rectangles, and resized when the model is called."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.running import apply, dense, new_params, random_params
from vit_jax import models, trees
from vit_jax.errors import ConfigError
from vit_jax.grids import resize_grid
from vit_jax.models.posemb import AddPositionEmbs, Positions, TokenLayout, sincos2d

D = 8
TRANSFORMER = {
    "num_layers": 1,
    "mlp_dim": 12,
    "num_heads": 2,
    "dropout_rate": 0.0,
    "attention_dropout_rate": 0.0,
}


def images(height: int, width: int) -> jax.Array:
    return jax.random.normal(jax.random.key(height * width), (2, height, width, 3))


def vit(**fields: Any) -> models.VisionTransformer:
    return models.VisionTransformer(
        **{
            "num_classes": 3,
            "patches": {"size": (4, 4)},
            "transformer": TRANSFORMER,
            "hidden_size": D,
            **fields,
        }
    )


def with_table(params: Any, table: Any) -> Any:
    flat = trees.flatten(params)
    flat["Transformer/posembed_input/pos_embedding"] = jnp.asarray(table)
    return trees.unflatten(flat)


@pytest.mark.parametrize("registers", [0, 2])
@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_images_of_another_size_resize_the_positions_when_asked(method, registers):
    small, large = images(12, 12), images(8, 20)
    fields: dict[str, Any] = {"num_registers": registers}
    params = random_params(vit(**fields), small)
    table = params["Transformer"]["posembed_input"]["pos_embedding"][0]
    resized = resize_grid(np.asarray(table[1:]), (3, 3), (2, 5), method)
    by_hand = with_table(params, np.concatenate([table[:1], resized])[None])
    got = apply(vit(positions={"resize": method}, **fields), params, large)
    np.testing.assert_allclose(got, apply(vit(**fields), by_hand, large), rtol=1e-5, atol=1e-5)


def test_otherwise_one_line_names_both_grids_and_the_remedy():
    params = random_params(vit(), images(12, 12))
    with pytest.raises(ConfigError) as caught:
        vit().apply({"params": params}, images(8, 20))
    message = str(caught.value).splitlines()[0]
    assert "a grid of 2×5 patches" in message
    assert "made for 3×3" in message
    assert "positions={'resize': 'bilinear'}" in message


def test_a_table_that_makes_no_square_needs_its_grid():
    wide, large = images(8, 20), images(16, 16)
    params = random_params(vit(), wide)
    with pytest.raises(ConfigError, match="10 position embeddings, which make no square"):
        vit(positions={"resize": "bilinear"}).apply({"params": params}, large)
    named = vit(positions={"resize": "bilinear", "grid": [2, 5]})
    table = params["Transformer"]["posembed_input"]["pos_embedding"][0]
    resized = resize_grid(np.asarray(table[1:]), (2, 5), (4, 4))
    by_hand = with_table(params, np.concatenate([table[:1], resized])[None])
    np.testing.assert_allclose(
        apply(named, params, large), apply(vit(), by_hand, large), rtol=1e-5, atol=1e-5
    )


def test_the_same_number_of_patches_in_another_shape_is_another_grid():
    params = random_params(vit(), images(8, 20))
    named = vit(positions={"grid": (2, 5)})
    with pytest.raises(ConfigError, match=r"a grid of 5×2 patches, .* made for 2×5"):
        named.apply({"params": params}, images(20, 8))


def test_a_named_grid_is_resized_for_as_many_patches_in_another_shape():
    square, wide = images(16, 16), images(8, 32)
    params = random_params(vit(), square)
    table = params["Transformer"]["posembed_input"]["pos_embedding"][0]
    resized = resize_grid(np.asarray(table[1:]), (4, 4), (2, 8))
    by_hand = with_table(params, np.concatenate([table[:1], resized])[None])
    named = vit(positions={"resize": "bilinear", "grid": (4, 4)})
    np.testing.assert_allclose(
        apply(named, params, wide), apply(vit(), by_hand, wide), rtol=1e-5, atol=1e-5
    )


def test_a_named_grid_is_that_of_new_parameters_too():
    named = vit(positions={"resize": "bilinear", "grid": (3, 3)})
    found = new_params(named, images(8, 20))["Transformer"]["posembed_input"]["pos_embedding"]
    assert found.shape == (1, 10, D)


def test_sincos_by_its_definition():
    table = sincos2d((2, 3), D).reshape(2, 3, D)
    for y in range(2):
        for x in range(3):
            angles = [[v / 10_000 ** (i / 1) for i in (0, 1)] for v in (x, y)]
            want = np.concatenate([f(a) for a in angles for f in (np.sin, np.cos)])
            np.testing.assert_allclose(table[y, x], want, atol=1e-6)


def test_fixed_positions_have_no_parameters_and_serve_any_grid():
    model = vit(positions="sincos2d")
    params = random_params(model, images(12, 12))
    assert "posembed_input" not in params["Transformer"]
    for size in ((8, 20), (12, 12)):
        layout = TokenLayout((size[0] // 4, size[1] // 4), front=1)
        table = sincos2d(layout.grid, D)
        learned = with_table(params, np.concatenate([np.zeros((1, D)), table])[None])
        x = images(*size)
        np.testing.assert_allclose(apply(model, params, x), apply(vit(), learned, x), atol=1e-5)


def test_without_positions_the_order_of_the_patches_does_not_matter():
    x = images(4, 12)
    model = vit(positions="none")
    params = random_params(model, x)
    assert "posembed_input" not in params["Transformer"]
    turned = jnp.concatenate([x[:, :, 8:], x[:, :, :8]], axis=2)
    np.testing.assert_allclose(
        apply(model, params, x), apply(model, params, turned), rtol=1e-4, atol=1e-5
    )


def test_the_class_token_may_have_no_position():
    """Then the table has the patches' rows alone, and those alone are moved."""
    x = jax.random.normal(jax.random.key(0), (2, 7, D))
    layout = TokenLayout((2, 2), front=1, registers=2)
    positions = AddPositionEmbs(Positions(class_row=False))
    params = random_params(positions, x, layout=layout)
    table = params["pos_embedding"]
    assert table.shape == (1, 4, D)
    got = apply(positions, params, x, layout=layout)
    np.testing.assert_array_equal(got[:, :3], x[:, :3])
    np.testing.assert_allclose(got[:, 3:], x[:, 3:] + table, atol=1e-6)


def test_registers_are_between_class_token_and_patches_without_position():
    x = images(8, 8)
    model = vit(num_registers=3)
    start = new_params(model, x)
    assert start["registers"].shape == (1, 3, D)
    assert start["Transformer"]["posembed_input"]["pos_embedding"].shape == (1, 5, D)
    params = random_params(model, x)
    _, seen = apply(model, params, x, outputs=("hidden_states", "patch_features"))
    first = seen["hidden_states"][0]
    assert first.shape == (2, 1 + 3 + 4, D)
    np.testing.assert_allclose(first[0, 1:4], params["registers"][0], atol=1e-6)
    assert seen["patch_features"].shape == (2, 2, 2, D)


@pytest.mark.parametrize("pool", ["mean", "none"])
def test_pools_do_not_read_registers(pool):
    x = images(8, 8)
    model = vit(num_registers=2, pool=pool)
    params = random_params(model, x)
    logits, seen = apply(model, params, x, outputs=("patch_features",))
    features = seen["patch_features"].reshape(2, 4, D)
    read = features.mean(1) if pool == "mean" else features
    np.testing.assert_allclose(logits, dense(read, params["head"]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ("learnt", "positions='learnt' is none of learned, .*; did you mean 'learned'"),
        ({"resise": "bilinear"}, "positions field 'resise' is unknown; did you mean 'resize'"),
    ],
)
def test_wrong_positions_are_one_line(positions, message):
    with pytest.raises(ConfigError, match=message):
        jax.eval_shape(vit(positions=positions).init, jax.random.key(0), images(8, 8))


def test_sincos_needs_a_width_of_four():
    with pytest.raises(ConfigError, match=r"hidden_size=10 must be a multiple of 4 .* 12"):
        sincos2d((2, 2), 10)
