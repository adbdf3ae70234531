"""Resizing on the device: Pillow's kernels, on any box, enlarged and shrunk."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests.data import pictures
from vit_jax.data.resizing import resize_box

HOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@pytest.mark.parametrize("kernel", HOW)
@pytest.mark.parametrize("size", [(7, 9), (40, 35), (12, 60)])
def test_smoothed_it_is_what_pillow_does(kernel, size):
    pixels = pictures.noise(24, 31) // 2 + 64  # Pillow cuts what overshoots between its two passes
    image = jnp.asarray(pixels, jnp.float32)
    got = resize_box(image, (0.0, 0.0, 24.0, 31.0), size, kernel=kernel, antialias=True)
    want = np.asarray(Image.fromarray(pixels).resize(size[::-1], HOW[kernel]), float)
    np.testing.assert_allclose(np.clip(got, 0, 255), want, atol=1.1)  # Pillow rounds twice


@pytest.mark.parametrize("kernel", HOW)
@pytest.mark.parametrize("antialias", [True, False])
def test_a_whole_box_of_its_own_size_is_a_copy(kernel, antialias):
    image = jnp.asarray(pictures.noise(12, 10), jnp.float32)
    got = resize_box(image, (3.0, 2.0, 6.0, 5.0), (6, 5), kernel=kernel, antialias=antialias)
    np.testing.assert_allclose(got, image[3:9, 2:7], atol=1e-3)


def test_without_smoothing_two_neighbours_alone_count():
    """At a third of the size, centres fall on every third pixel."""
    image = jnp.asarray(pictures.noise(9, 12), jnp.float32)
    got = resize_box(image, (0.0, 0.0, 9.0, 12.0), (3, 4))
    np.testing.assert_allclose(got, image[1::3, 1::3], atol=1e-3)
    halved = resize_box(image, (0.0, 0.0, 9.0, 12.0), (9, 3))  # 1.5, 5.5, 9.5: halfway
    np.testing.assert_allclose(halved, (image[:, 1::4] + image[:, 2::4]) / 2, atol=1e-3)


def test_flat_images_stay_flat_up_to_their_edges():
    for kernel in HOW:
        got = resize_box(jnp.full((5, 5, 3), 77.0), (0.0, 0.0, 5.0, 5.0), (13, 2), kernel=kernel)
        np.testing.assert_allclose(got, 77, rtol=1e-5)
