"""Attention rollout and distances against sums by hand; models without a class token."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests.data.pictures import noise
from vit_jax.data.preprocess import Preprocess
from vit_jax.models import MlpMixer, VisionTransformer
from vit_jax.pictures.attention import (
    attention_distances,
    attention_rollout,
    draw_attention,
    draw_distances,
    look,
)
from vit_jax.pictures.figure import CannotDrawError

IMAGES = np.stack([noise(8, 12, seed) for seed in range(2)])
PREPROCESS = Preprocess((8, 12))
TRANSFORMER = {"num_layers": 3, "mlp_dim": 24, "num_heads": 2, "dropout_rate": 0.0}


def vit(**fields):
    model = VisionTransformer(
        **{
            "num_classes": 5,
            "patches": {"size": (4, 4)},
            "transformer": TRANSFORMER,
            "hidden_size": 16,
            **fields,
        }
    )
    variables = jax.jit(model.init)(jax.random.key(1), jnp.zeros((1, 8, 12, 3)))
    return model, variables


def weights_of(model, variables):
    images = PREPROCESS.normalize(jnp.asarray(IMAGES))
    _, seen = model.apply(variables, images, outputs=("attention",))
    return [np.asarray(seen["attention"][layer], np.float64) for layer in range(3)]


def test_rollout_is_the_product_of_the_layers_the_last_one_first():
    draw = np.random.default_rng(0)
    layers = [draw.dirichlet(np.ones(4), size=(2, 3, 4)).astype(np.float32) for _ in range(3)]
    found = attention_rollout([jnp.asarray(layer) for layer in layers])
    a, b, c = (0.5 * layer.mean(1) + 0.5 * np.eye(4) for layer in layers)
    np.testing.assert_allclose(found, c @ b @ a, atol=1e-6)
    np.testing.assert_allclose(np.asarray(found).sum(-1), 1, atol=1e-6)


@pytest.mark.parametrize("front", [0, 1])
def test_distances_are_in_pixels_and_of_patches_alone(front):
    """A row of three patches, 4 wide: to itself 0, to the next 4 or, from the last, 8 back."""
    itself, onward = np.eye(3), np.eye(3)[[1, 2, 0]]
    even = np.full((3, 3), 1 / 3)
    heads = np.stack([itself, onward, even])[None].astype(np.float32)
    weights = np.full((1, 3, 3 + front, 3 + front), 0.7, np.float32)
    weights[:, :, front:, front:] = 0.3 * heads  # the rest of a row goes to the class token
    found = attention_distances(jnp.asarray(weights), (1, 3), (5.0, 4.0))
    np.testing.assert_allclose(found, [0, (4 + 4 + 8) / 3, (12 + 8 + 12) / 9], rtol=1e-6)
    down = attention_distances(jnp.asarray(weights), (3, 1), (5.0, 4.0))
    np.testing.assert_allclose(down[1], (5 + 5 + 10) / 3, rtol=1e-6)


def looking_at_the_class_token():
    """Returns a model whose second head of the first layer gives all weight to the class token.

    The weights of the patches are exp(-1,000) of it, which is 0 in float32.
    """
    model, variables = vit()
    first = variables["params"]["Transformer"]["encoderblock_0"]
    attention = first["MultiHeadDotProductAttention_0"]
    table = variables["params"]["Transformer"]["posembed_input"]
    table["pos_embedding"] = table["pos_embedding"].at[:, 0].set(jnp.tile(jnp.array([9, -9]), 8))
    along = jnp.tile(jnp.array([1.0, -1.0]), 8)
    attention["query"]["bias"] = attention["query"]["bias"].at[1].set(100.0)
    attention["key"]["kernel"] = attention["key"]["kernel"].at[:, 1].set(100 * along[:, None])
    return model, variables


def test_patches_that_look_at_the_class_token_alone_have_no_distance(tmp_path):
    """Their other weights underflow, as those of a first layer after 10 epochs on photographs."""
    front, grid = 1, (1, 3)
    weights = np.zeros((2, 2, 4, 4), np.float32)
    weights[..., 0] = 1
    weights[0, 0, front] = [0.5, 0.0, 0.5, 0.0]  # one patch looks at its neighbour, 4 away
    found = attention_distances(jnp.asarray(weights), grid, (5.0, 4.0))
    np.testing.assert_array_equal(found, [4, np.nan])
    model, variables = looking_at_the_class_token()
    assert weights_of(model, variables)[0][:, 1, 1:, 1:].max() == 0
    looked = look(model, variables, PREPROCESS, IMAGES)
    assert [np.isnan(one).tolist() for one in looked.distances] == [
        [False, True], [False, False], [False, False]
    ]  # fmt: skip
    draw_distances(looked, tmp_path / "distances.png", "title")
    nowhere = tuple(np.full(2, np.nan, np.float32) for _ in range(3))
    with pytest.raises(CannotDrawError, match="no head attends to patches"):
        draw_distances(dataclasses.replace(looked, distances=nowhere), tmp_path / "d.png", "x")


def test_the_class_token_is_read_and_what_is_in_front_is_left_out():
    model, variables = vit(pool="distilled", num_registers=1)
    looked: Any = look(model, variables, PREPROCESS, IMAGES)
    weights = weights_of(model, variables)
    for layer in range(3):
        expected = weights[layer].mean(1)[:, 0, 3:].reshape(2, 2, 3)
        np.testing.assert_allclose(looked.class_maps[layer], expected, atol=1e-6)
    rolled = np.asarray(attention_rollout([jnp.asarray(w, jnp.float32) for w in weights]))
    np.testing.assert_allclose(looked.rollout, rolled[:, 0, 3:].reshape(2, 2, 3), atol=1e-6)


@pytest.mark.parametrize("pool", ["mean", "sequence"])
def test_without_a_class_token_the_pooling_is_rolled_out(pool):
    model, variables = vit(pool=pool)
    looked: Any = look(model, variables, PREPROCESS, IMAGES)
    rolled = attention_rollout([jnp.asarray(w, jnp.float32) for w in weights_of(model, variables)])
    share = np.full((2, 6), 1 / 6)
    if pool == "sequence":
        images = PREPROCESS.normalize(jnp.asarray(IMAGES))
        _, seen = model.apply(variables, images, outputs=("patch_features",))
        dense = variables["params"]["pool"]["attention_pool"]
        tokens = np.asarray(seen["patch_features"]).reshape(2, 6, -1)
        share = jax.nn.softmax((tokens @ dense["kernel"])[..., 0] + dense["bias"][None], axis=1)
    expected = np.einsum("bn,bnm->bm", share, rolled).reshape(2, 2, 3)
    np.testing.assert_allclose(looked.rollout, expected, atol=1e-5)
    assert looked.class_maps is None


def test_what_a_model_does_not_have_is_said(tmp_path):
    model, variables = vit(pool="attention")
    looked = look(model, variables, PREPROCESS, IMAGES)
    assert looked.rollout is None
    with pytest.raises(CannotDrawError, match="no class token, and its pooling keeps no weights"):
        draw_attention(looked, tmp_path / "attention.png", "title")
    draw_distances(looked, tmp_path / "distances.png", "title")
    model, variables = vit(transformer=None, classifier="gap")
    with pytest.raises(CannotDrawError, match="no Transformer"):
        look(model, variables, PREPROCESS, IMAGES)
    mixer = MlpMixer({"size": (4, 4)}, 5, 1, 8, 8, 8)
    with pytest.raises(CannotDrawError, match="MlpMixer has no attention"):
        look(mixer, {}, PREPROCESS, IMAGES)


def test_pictures_have_a_row_an_image_and_a_column_a_map(tmp_path):
    looked = look(*vit(), PREPROCESS, IMAGES)
    draw_attention(looked, tmp_path / "attention.png", "title")
    draw_distances(looked, tmp_path / "distances.png", "title")
    with Image.open(tmp_path / "attention.png") as picture:
        width, height = picture.size
    assert width == round(2.1 * 6 * 110)  # image, three layers, rollout, both
    assert height > 2 * 140
