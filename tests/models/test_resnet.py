"""The parts of the hybrids' ResNet."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.running import apply, new_params
from vit_jax import models
from vit_jax.models.resnet import standardize


def test_filters_are_standardised():
    kernel = 3 + 5 * jax.random.normal(jax.random.key(0), (3, 3, 16, 8))
    got = np.asarray(standardize(kernel))
    np.testing.assert_allclose(got.mean((0, 1, 2)), np.zeros(8), atol=1e-5)
    np.testing.assert_allclose(got.std((0, 1, 2)), np.ones(8), atol=1e-4)


def test_convolution_ignores_the_offset_and_scale_of_its_filters():
    x = jax.random.normal(jax.random.key(0), (1, 6, 6, 4))
    conv = models.StdConv(features=8, kernel_size=3)
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 4, 8))
    want, got = (apply(conv, {"kernel": k}, x) for k in (kernel, 2 + 3 * kernel))
    np.testing.assert_allclose(got, want, atol=1e-3)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_new_unit_passes_on_its_shortcut(stride):
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 128))
    unit = models.ResidualUnit(features=32, stride=stride)
    params = new_params(unit, x)
    assert ("conv_proj" in params) == (stride == 2)
    out = apply(unit, params, x)
    assert out.shape == (2, 6 // stride, 6 // stride, 128)
    if stride == 1:
        np.testing.assert_array_equal(out, jnp.maximum(x, 0))


@pytest.mark.parametrize(
    ("num_layers", "shape"),
    [((), (2, 3, 32)), ((1,), (2, 3, 128)), ((1, 2), (1, 2, 256))],
)
def test_stages_halve_the_grid_and_double_the_channels(num_layers, shape):
    resnet = models.ResNet(num_layers=num_layers, width_factor=0.5)
    images = jnp.zeros((1, 8, 12, 3))
    out, variables = jax.eval_shape(resnet.init_with_output, jax.random.key(0), images)
    assert out.shape == (1, *shape)
    blocks = {f"block{i + 1}": units for i, units in enumerate(num_layers)}
    assert sorted(variables["params"]) == [*blocks, "conv_root", "gn_root"]
    assert {name: len(variables["params"][name]) for name in blocks} == blocks
