"""Tables resized from grid to grid: the official zoom, and bicubic against its definition."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests import golden
from vit_jax.errors import ConfigError
from vit_jax.grids import resize_grid, square_grid

TABLE = np.random.default_rng(0).normal(size=(4 * 6, 3)).astype(np.float32)


def test_bilinear_is_the_official_zoom():
    numbers = golden.load_arrays("posemb_resize")
    assert numbers
    for case in numbers.values():
        old, new, rows = (int(n) for n in case["grid"])
        table, want = case["from"][0], case["to"][0]
        got = resize_grid(table[rows:], (old, old), (new, new))
        np.testing.assert_allclose(got, want[rows:], atol=1e-6)


def test_bilinear_keeps_the_corners_of_any_grid():
    got = resize_grid(TABLE, (4, 6), (7, 5)).reshape(7, 5, 3)
    old = TABLE.reshape(4, 6, 3)
    for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        np.testing.assert_allclose(got[corner], old[corner], atol=1e-6)
    np.testing.assert_allclose(got[3, 2], old[1:3, 2:4].mean((0, 1)), atol=1e-6)  # the centre


def cubic(x):
    """Keys' kernel with a = -1/2."""
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


@pytest.mark.parametrize("new", [3, 5, 9])
def test_bicubic_by_its_definition(new):
    old, scale = 6, max(6 / new, 1)
    column = TABLE[:6, :1]
    for i, got in enumerate(resize_grid(column, (6, 1), (new, 1), "bicubic")):
        centre = (i + 0.5) * old / new - 0.5
        weights = [cubic((j - centre) / scale) for j in range(old)]
        np.testing.assert_allclose(got, np.dot(weights, column) / sum(weights), atol=1e-6)


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_resizing_keeps_constants_kind_and_equal_grids(method):
    ones = np.ones((12, 2), np.float32)
    np.testing.assert_allclose(resize_grid(ones, (3, 4), (5, 9), method), 1, atol=1e-6)
    assert resize_grid(TABLE, (4, 6), (4, 6), method) is TABLE
    assert isinstance(resize_grid(TABLE, (4, 6), (2, 2), method), np.ndarray)
    assert isinstance(resize_grid(jnp.asarray(TABLE), (4, 6), (2, 2), method), jnp.ndarray)
    assert resize_grid(TABLE, (4, 6), (1, 1), method).shape == (1, 3)


def test_what_does_not_fit_is_said():
    with pytest.raises(ConfigError, match="resize='cubic' is none of bilinear, bicubic"):
        resize_grid(TABLE, (4, 6), (2, 2), "cubic")
    with pytest.raises(ConfigError, match="24 position embeddings do not make a grid of 5×5"):
        resize_grid(TABLE, (5, 5), (2, 2))
    assert square_grid(49) == (7, 7)
    assert square_grid(24) is None
