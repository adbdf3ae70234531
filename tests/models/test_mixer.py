"""MlpMixer: grids, features without a head, dtypes, and the messages for wrong input."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.running import apply, random_params
from vit_jax import models
from vit_jax.errors import ConfigError, DataError

FIELDS: dict[str, Any] = {
    "patches": {"size": (8, 4)},
    "num_classes": 5,
    "num_blocks": 2,
    "hidden_dim": 12,
    "tokens_mlp_dim": 6,
    "channels_mlp_dim": 20,
}
IMAGES = jax.random.normal(jax.random.key(0), (2, 16, 24, 3))


@pytest.mark.parametrize(("height", "width"), [(8, 4), (16, 24), (32, 4)])
def test_any_whole_grid_fits(height, width):
    mixer = models.MlpMixer(**FIELDS)
    images = jax.ShapeDtypeStruct((1, height, width, 3), "float32")
    logits, variables = jax.eval_shape(mixer.init_with_output, jax.random.key(0), images)
    assert logits.shape == (1, 5)
    mixing = variables["params"]["MixerBlock_1"]["token_mixing"]
    assert mixing["Dense_0"]["kernel"].shape == (height * width // 32, 6)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((12, 24), "12×24 pixels is no whole number of patches of 8×4.*nearest size is 16×24"),
        ((16, 25), "16×25 pixels is no whole number of patches of 8×4.*nearest size is 16×24"),
        ((2, 2), "nearest size is 8×4"),
    ],
)
def test_parts_of_patches_are_one_clear_error(shape, message):
    images = jax.ShapeDtypeStruct((1, *shape, 3), "float32")
    with pytest.raises(DataError, match=message) as caught:
        jax.eval_shape(models.MlpMixer(**FIELDS).init, jax.random.key(0), images)
    assert "\n" not in str(caught.value)


def test_wrong_patch_size():
    mixer = models.MlpMixer(**{**FIELDS, "patches": {"size": (8,)}})
    with pytest.raises(ConfigError, match=r"patches\.size=\(8,\) must be two positive numbers"):
        jax.eval_shape(mixer.init, jax.random.key(0), IMAGES)


@pytest.mark.parametrize("num_classes", [None, 0])
def test_without_classes_features_come_back(num_classes):
    mixer = models.MlpMixer(**{**FIELDS, "num_classes": num_classes}, dtype=jnp.bfloat16)
    params = random_params(mixer, IMAGES)
    assert "head" not in params
    features = apply(mixer, params, IMAGES)
    assert (features.shape, features.dtype) == ((2, 12), jnp.bfloat16)


def test_the_head_reads_the_mean_of_the_features():
    mixer, headless = (models.MlpMixer(**{**FIELDS, "num_classes": k}) for k in (5, None))
    params = random_params(mixer, IMAGES)
    head = params["head"]
    want = apply(headless, params, IMAGES) @ head["kernel"] + head["bias"][None]
    np.testing.assert_allclose(apply(mixer, params, IMAGES), want, atol=1e-5)


def test_bfloat16_computes_float32_logits_from_float32_parameters():
    mixer, half = (models.MlpMixer(**FIELDS, dtype=d) for d in (jnp.float32, jnp.bfloat16))
    params = random_params(half, IMAGES)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}
    want, got = apply(mixer, params, IMAGES), apply(half, params, IMAGES)
    assert got.dtype == jnp.float32
    largest = np.abs(want).max()
    assert 1e-5 * largest < np.abs(got - want).max() < 0.05 * largest
