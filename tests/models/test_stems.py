"""PatchEmbed against the VALID convolution it replaces; position embeddings."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tests.models.running import apply, new_params
from vit_jax import models, trees
from vit_jax.models.stems import cut_patches


def test_patch_embed_is_a_valid_convolution():
    images = jax.random.normal(jax.random.key(0), (2, 8, 15, 3))  # three columns fill no patch
    ours = models.PatchEmbed(features=7, patch_size=(4, 6))
    conv = nn.Conv(7, (4, 6), strides=(4, 6), padding="VALID")
    params = new_params(ours, images)
    assert trees.difference(params, new_params(conv, images)) == []

    params = jax.tree.map(lambda p: p + 0.5, params)
    np.testing.assert_allclose(
        apply(ours, params, images), apply(conv, params, images), rtol=1e-5, atol=1e-5
    )


def test_patches_keep_row_column_channel_order():
    images = jnp.arange(4 * 6 * 2, dtype=jnp.float32).reshape(1, 4, 6, 2)
    patches = cut_patches(images, (2, 3))
    assert patches.shape == (1, 2, 2, 12)
    np.testing.assert_array_equal(patches[0, 1, 0], images[0, 2:4, 0:3].ravel())


def test_position_embeddings_are_added_to_every_image():
    x = jax.random.normal(jax.random.key(0), (2, 50, 64))
    layer = models.AddPositionEmbs()
    params = new_params(layer, x)
    embeddings = params["pos_embedding"]
    assert embeddings.shape == (1, 50, 64)
    assert 0.018 < float(embeddings.std()) < 0.022
    assert abs(float(embeddings.mean())) < 0.002
    np.testing.assert_array_equal(apply(layer, params, x), x + embeddings)
    assert apply(layer, params, x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
