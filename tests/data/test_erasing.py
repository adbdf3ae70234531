"""Random erasing: one rectangle within its bounds, filled as asked, and how often."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.data.augment_device import example_keys
from vit_jax.data.augmentation import Augmentation
from vit_jax.data.erasing import ASPECT, erase

MEAN = (0.5, 0.25, 1.0)
COUNT = 1000


def _keys(epoch=0):
    count = jnp.arange(COUNT)
    return example_keys(jax.random.key(0), jnp.full(COUNT, epoch), count)


@functools.cache
def _erased(epoch=0, height=40, width=60, **settings):
    """Returns black images with their rectangles."""
    images = jnp.zeros((COUNT, height, width, 3), jnp.uint8)
    plan = Augmentation(**settings)
    return np.asarray(jax.jit(lambda x, k: erase(x, k, plan, MEAN))(images, _keys(epoch)))


def test_without_it_images_stay_as_they_are():
    images = jnp.zeros((2, 4, 4, 3), jnp.uint8)
    assert erase(images, _keys()[:2], Augmentation(), MEAN) is images


def test_about_as_many_images_are_erased_as_asked():
    touched = _erased(erase=0.25).any((1, 2, 3))
    assert touched.mean() == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize("area", [(0.02, 0.4), (0.2, 0.3)])
def test_the_rectangle_keeps_to_its_bounds_and_lies_anywhere(area):
    masks = np.any(_erased(erase=1.0, erase_area=area, erase_fill="mean") > 0, axis=-1)
    rows, columns = masks.any(2), masks.any(1)
    np.testing.assert_array_equal(masks, rows[:, :, None] & columns[:, None])
    high, wide = rows.sum(1), columns.sum(1)
    assert (high > 0).all()
    # Sides are rounded to whole pixels: by half of one, each.
    assert ((high - 0.5) * (wide - 0.5) <= area[1] * 2400).all()
    assert ((high + 0.5) * (wide + 0.5) >= area[0] * 2400).all()
    assert ((high - 0.5) / (wide + 0.5) <= ASPECT[1]).all()
    assert ((high + 0.5) / (wide - 0.5) >= ASPECT[0]).all()
    # What does not fit is drawn again, so large ones are a little rarer.
    assert np.histogram(high * wide / 2400, 4, area)[0].min() > 100
    assert np.log(high / wide).mean() == pytest.approx(0, abs=0.2)
    often = masks.mean(0)
    assert min(rows[:, 0].mean(), columns[:, 0].mean()) > 0.01  # up to the edges
    np.testing.assert_allclose(often, often[::-1, ::-1], atol=0.1)


def test_fills():
    mean = _erased(erase=1.0, erase_fill="mean")
    covered = mean.any(-1)
    np.testing.assert_allclose(mean[covered], [np.array(MEAN) * 255] * covered.sum())
    noise = _erased(erase=1.0)
    np.testing.assert_array_equal(noise.any(-1), covered)  # the fill does not move the rectangle
    assert noise.min() >= 0
    assert noise.max() < 255
    values = noise[covered]
    assert np.histogram(values, 5, (0, 255))[0].min() > 0.19 * values.size
    assert abs(np.corrcoef(values.T)[0, 1]) < 0.01  # each colour of its own


def test_each_epoch_erases_elsewhere():
    now, later = (_erased(epoch, erase=1.0, erase_fill="mean") > 0 for epoch in (0, 1))
    assert (now != later).any((1, 2, 3)).mean() > 0.95
    assert (now[0] != now[1]).any()


def test_where_no_rectangle_fits_the_image_stays():
    assert not _erased(height=1, width=60, erase=1.0, erase_area=(0.4, 0.4)).any()
