"""Convolutions by matrix products: XLA's numbers and gradients, and where they are used."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from tests.models.running import apply, random_params
from vit_jax import models
from vit_jax.models.convolution import conv_by_products, max_pool, training_convolution

LAYOUT = ("NHWC", "HWIO", "NHWC")


@pytest.mark.parametrize(
    ("size", "window", "strides", "padding"),
    [
        ((9, 12), (3, 3), (1, 1), ((1, 1), (1, 1))),
        ((9, 12), (3, 3), (2, 2), ((1, 1), (1, 1))),
        ((9, 12), (7, 7), (2, 2), ((3, 3), (3, 3))),
        ((9, 12), (4, 2), (3, 1), ((0, 2), (1, 0))),
        ((9, 12), (1, 1), (2, 2), ((0, 0), (0, 0))),
        ((3, 3), (3, 3), (4, 4), ((1, 1), (1, 1))),
    ],
)
def test_products_have_the_values_and_gradients_of_xla_s_convolution(
    size, window, strides, padding
):
    images = jax.random.normal(jax.random.key(0), (2, *size, 3))
    kernel = jax.random.normal(jax.random.key(1), (*window, 3, 5))

    def ours(images, kernel):
        return conv_by_products(images, kernel, strides, padding)

    def xla_s(images, kernel):
        conv = jax.lax.conv_general_dilated
        return conv(images, kernel, strides, padding, dimension_numbers=LAYOUT)

    (got, got_back), (want, want_back) = (jax.vjp(f, images, kernel) for f in (ours, xla_s))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    cotangent = jax.random.normal(jax.random.key(2), want.shape)
    for a, b in zip(got_back(cotangent), want_back(cotangent), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)


def test_products_keep_the_dtype():
    images, kernel = jnp.ones((1, 4, 4, 2), jnp.bfloat16), jnp.ones((3, 3, 2, 4), jnp.bfloat16)
    assert conv_by_products(images, kernel, (1, 1), ((1, 1), (1, 1))).dtype == jnp.bfloat16


@pytest.mark.parametrize("option", [{"feature_group_count": 3}, {"rhs_dilation": (2, 2)}])
def test_other_convolutions_are_refused(option):
    images, kernel = jnp.ones((1, 4, 4, 3)), jnp.ones((3, 3, 3, 3))
    with pytest.raises(NotImplementedError, match=next(iter(option))):
        conv_by_products(images, kernel, (1, 1), ((1, 1), (1, 1)), **option)


def test_only_training_on_a_cpu_is_by_products(monkeypatch):
    assert training_convolution(train=True) is conv_by_products
    assert training_convolution(train=False) is None
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert training_convolution(train=True) is None


@pytest.mark.parametrize(
    "stem", [models.ConvTokenizer(8, 2, 3, 1), models.ConvTokenizer(8, 1, 7, 2)]
)
def test_a_stem_gives_the_same_in_training(stem):
    images = jax.random.normal(jax.random.key(0), (2, 16, 20, 3))
    params = random_params(stem, images, train=False)
    predicting, training = (apply(stem, params, images, train=train) for train in (False, True))
    np.testing.assert_allclose(training, predicting, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "stride", "padding"),
    [
        (3, 2, ((1, 1), (1, 1))),
        (2, 2, ((1, 1), (1, 1))),
        (3, 1, ((1, 1), (1, 1))),
        (3, 4, ((1, 1), (1, 1))),
        (3, 2, ((0, 1), (1, 0))),
    ],
)
def test_max_pooling_has_flax_s_gradient(size, stride, padding):
    x = jax.random.normal(jax.random.key(0), (2, 13, 16, 3))

    def ours(x):
        return max_pool(nn.relu(x), size, stride, padding)

    def flax(x):
        return nn.max_pool(nn.relu(x), (size, size), (stride, stride), padding)

    (got, got_back), (want, want_back) = jax.vjp(ours, x), jax.vjp(flax, x)
    np.testing.assert_array_equal(got, want)
    cotangent = jax.random.normal(jax.random.key(1), got.shape)
    np.testing.assert_allclose(got_back(cotangent)[0], want_back(cotangent)[0], atol=1e-6)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_resnet_gives_the_same_in_training(stride):
    x = jax.random.normal(jax.random.key(0), (2, 8, 12, 128))
    unit = models.ResidualUnit(features=32, stride=stride)
    params = random_params(unit, x)
    predicting, training = (apply(unit, params, x, train=train) for train in (False, True))
    np.testing.assert_allclose(training, predicting, rtol=1e-4, atol=1e-4)
