"""Augmentation in the step: geometry, bounds, and one draw for an example, wherever it lies."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests.data import pictures
from tests.data.crop_sizes import TENSORFLOW_CROPS, crop_sizes
from vit_jax.data import decoding
from vit_jax.data.augment_device import _box, augment, example_keys
from vit_jax.data.augment_host import ASPECT
from vit_jax.data.augmentation import Augmentation
from vit_jax.data.preprocess import Preprocess
from vit_jax.mesh import batch_sharding, make_mesh

BASE = jax.random.key(0)
ALL = Augmentation((0.3, 1.0), flip=True, rotate=20.0, shift=0.1, scale=0.2)


def _keys(count, epoch=0):
    return example_keys(BASE, jnp.full(count, epoch, jnp.int32), jnp.arange(count))


def _batch(count, height=8, width=8):
    return jnp.asarray(np.stack([pictures.noise(height, width, seed) for seed in range(count)]))


@functools.cache
def _compiled(settings, size, antialias):
    return jax.jit(lambda images, keys: augment(images, keys, settings, size, antialias=antialias))


def _augmented(settings, images, keys=None, size=None, antialias=False):
    keys = _keys(len(images)) if keys is None else keys
    return np.asarray(_compiled(settings, size or images.shape[1:3], antialias)(images, keys))


@functools.cache
def _boxes(area, shape, count=2000, rule="torchvision"):
    """Returns the crops (top, left, height, width) of the first examples."""

    def box(key):
        return jnp.stack(_box(jax.random.fold_in(key, 1), Augmentation(area, rule), *shape))

    return np.asarray(jax.jit(jax.vmap(box))(_keys(count)), np.float64)


def test_no_settings_change_nothing():
    images = _batch(4)
    assert augment(images, _keys(4), Augmentation(), (8, 8)) is images


def test_about_half_of_the_images_are_mirrored_exactly():
    images = _batch(400)
    result = _augmented(Augmentation(flip=True), images)
    assert result.dtype == np.uint8
    same = (result == images).all((1, 2, 3))
    mirrored = (result == images[:, :, ::-1]).all((1, 2, 3))
    assert (same ^ mirrored).all()
    assert 160 < mirrored.sum() < 240  # four standard deviations


def test_the_same_images_are_mirrored_when_they_are_also_cropped():
    images = _batch(32)
    plain = _augmented(Augmentation(flip=True), images)
    whole = _augmented(Augmentation((1.0, 1.0), flip=True), images)
    np.testing.assert_allclose(whole, plain, atol=1e-3)


@pytest.mark.parametrize(("area", "shape"), [(None, (8, 8)), ((1.0, 1.0), (20, 30))])
def test_the_whole_image_is_resized_as_for_evaluation(shape, area):
    images = _batch(3, *shape)
    result = _augmented(Augmentation(area), images, size=(16, 12))
    expected = Preprocess((16, 12)).on_device(images)
    np.testing.assert_allclose(result, expected, atol=1e-2)


@pytest.mark.parametrize("rule", ["torchvision", "tensorflow"])
@pytest.mark.parametrize(("area", "shape"), [((0.05, 0.2), (100, 100)), ((0.3, 0.9), (90, 160))])
def test_crops_keep_to_their_bounds(shape, area, rule):
    top, left, height, width = _boxes(area, shape, rule=rule).T
    assert min(top.min(), left.min()) >= 0
    assert (top + height).max() <= shape[0] + 1e-4
    assert (left + width).max() <= shape[1] + 1e-4
    whole = (height == shape[0]) & (width == shape[1])
    assert whole.mean() < 0.01
    share, aspect = height * width / math.prod(shape), width / height
    assert share[~whole].min() >= area[0] - 1e-5
    assert share[~whole].max() <= area[1] + 1e-5
    assert aspect[~whole].min() >= ASPECT[0] - 1e-5
    assert aspect[~whole].max() <= ASPECT[1] + 1e-5


def test_crops_lie_everywhere_and_have_every_shape():
    top, left, height, width = _boxes((0.05, 0.2), (100, 100)).T
    assert (height * width / 1e4).mean() == pytest.approx(0.125, abs=0.005)
    assert np.log(width / height).mean() == pytest.approx(0, abs=0.02)
    assert np.histogram(height * width / 1e4, 5, (0.05, 0.2))[0].min() > 300
    assert (top + height / 2).mean() == pytest.approx(50, abs=2)
    assert (left + width / 2).mean() == pytest.approx(50, abs=2)
    assert min(top.min(), left.min()) < 1
    assert max((top + height).max(), (left + width).max()) > 99


@pytest.mark.parametrize(("size", "area", "expected"), TENSORFLOW_CROPS)
def test_crops_by_the_rule_of_tensorflow_are_as_large_as_its_own(size, area, expected):
    _, _, height, width = _boxes(area, size[::-1], 20_000, "tensorflow").T
    assert crop_sizes(width, height, size) == pytest.approx(expected, abs=0.012)


def test_a_crop_shows_the_part_of_the_image_that_it_covers():
    """Each pixel of a slope tells the place it was taken from."""
    y, x = np.mgrid[0.5:64, 0.5:64]
    images = jnp.asarray(np.stack([y, x, y], axis=-1)[None].repeat(20, 0), jnp.float32)
    result = _augmented(Augmentation((0.1, 0.5)), images, size=(32, 32))
    boxes = _boxes((0.1, 0.5), (64, 64), 20)
    for picture, (top, left, height, width) in zip(result, boxes, strict=True):
        centres = (np.arange(2, 30) + 0.5) / 32
        np.testing.assert_allclose(picture[2:30, 5, 0], top + centres * height, atol=1e-3)
        np.testing.assert_allclose(picture[5, 2:30, 1], left + centres * width, atol=1e-3)


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("size", [(12, 10), (96, 80)])
def test_a_crop_is_cut_and_resized_as_on_the_host(antialias, size):
    """The host rounds to whole levels; smaller boxes are enlarged, larger ones shrunk."""
    images, area = _batch(8, 40, 50), (0.05, 0.9)
    result = _augmented(Augmentation(area), images, size=size, antialias=antialias)
    for pixels, image, box in zip(result, images, _boxes(area, (40, 50), 8), strict=True):
        top, left, height, width = box.tolist()
        pixels_in, part = np.asarray(image), (left, top, left + width, top + height)
        if antialias:
            smooth = Image.Resampling.BILINEAR
            expected = np.asarray(Image.fromarray(pixels_in).resize(size[::-1], smooth, part))
        else:
            expected = decoding.crop_and_resize(pixels_in, part, size)
        # Pillow rounds between its two passes too.
        np.testing.assert_allclose(pixels, expected, atol=1.6 if antialias else 0.51)


def test_shrinking_is_smoothed_before_images_move():
    """A one-pixel checkerboard shrunk fourfold is grey then; taken in steps it is not."""
    y, x = np.mgrid[:64, :64]
    board = np.repeat(((y // 2 + x // 2) % 2 * 255)[None, :, :, None], 3, axis=-1).repeat(4, 0)
    settings, images = Augmentation((0.9, 1.0), rotate=5.0), jnp.asarray(board, jnp.uint8)
    smooth = _augmented(settings, images, size=(16, 16), antialias=True)
    sharp = _augmented(settings, images, size=(16, 16))
    assert np.abs(smooth - 127.5).max() < 40 < sharp.std()


def test_images_are_enlarged_to_any_size_without_host_work():
    """32 px in, 384 px out, from uint8 on the device, as evaluation sees them."""
    images = _batch(2, 32, 32)
    result = _augmented(Augmentation(), images, size=(384, 384))
    assert result.shape == (2, 384, 384, 3)
    np.testing.assert_allclose(result, Preprocess((384, 384)).on_device(images), atol=1e-3)


def test_a_turn_as_slight_as_that_of_cifar_100_recipes_is_felt():
    """±0.02°, between pixels: the nearest pixel would be the same everywhere."""
    images = _batch(4, 64, 64).astype(jnp.float32)
    change = np.abs(_augmented(Augmentation(rotate=0.02), images) - images)
    assert 0.1 < change.max() < 8


def _dots(*places, height=81, width=81):
    """Returns an image with a soft dot at each (down, across) from the centre, in pixels."""
    y, x = np.mgrid[:height, :width]
    y, x = y - (height - 1) / 2, x - (width - 1) / 2
    dots = [np.exp(-((y - a) ** 2 + (x - b) ** 2) / 8) for a, b in places]
    return jnp.asarray(np.stack(dots, axis=-1) * 200, jnp.float32)


def _places(images):
    """Returns where the dot of each channel (b, 3, 2) is, as (down, across) from the centre."""
    _, height, width, _ = images.shape
    y, x = np.mgrid[:height, :width]
    mass = images.sum((1, 2))
    down = (images * y[..., None]).sum((1, 2)) / mass - (height - 1) / 2
    across = (images * x[..., None]).sum((1, 2)) / mass - (width - 1) / 2
    return np.stack([down, across], axis=-1)


@pytest.mark.parametrize(("width", "scale"), [(81, 0.0), (121, 0.4)])
def test_a_turn_keeps_distances_and_right_angles(width, scale):
    """Also in an image that is wider than high, and where all distances change alike."""
    dots = _dots((0, 20), (20, 0), (0, 0), width=width)
    moved = _places(_augmented(Augmentation(rotate=90.0, scale=scale), jnp.stack([dots] * 64)))
    first, second, centre = moved[:, 0], moved[:, 1], moved[:, 2]
    np.testing.assert_allclose(centre, 0, atol=0.02)
    np.testing.assert_allclose(np.hypot(*first.T), 20, atol=20 * scale + 0.1)
    # (down, across) (0, 20) leads to (20, 0) by a right angle; so must what they are turned to.
    np.testing.assert_allclose(second, first[:, ::-1] * [1, -1], atol=0.1)
    angles = np.degrees(np.arctan2(first[:, 0], first[:, 1]))
    assert angles.min() < -60
    assert angles.max() > 60
    assert np.abs(angles).max() < 90
    far = np.abs(angles) > 60  # the angle says nothing of the scale
    assert np.ptp(np.hypot(*first[far].T)) >= 20 * 1.5 * scale


def test_a_shift_moves_all_alike_and_no_farther_than_allowed():
    dots = _dots((0, 10), (10, 0), (0, 0))
    moved = _places(_augmented(Augmentation(shift=0.25), jnp.stack([dots] * 64)))
    shifts = moved[:, 2]
    np.testing.assert_allclose(moved[:, 0] - shifts, [[0, 10]] * 64, atol=0.02)
    np.testing.assert_allclose(moved[:, 1] - shifts, [[10, 0]] * 64, atol=0.02)
    assert np.abs(shifts).max() <= 0.25 * 81
    assert (shifts.min(axis=0) < -10).all()
    assert (shifts.max(axis=0) > 10).all()
    assert abs(np.corrcoef(shifts.T)[0, 1]) < 0.4  # down and across are drawn apart


def test_scaling_is_about_the_centre_and_within_its_share():
    dots = _dots((0, 20), (20, 0), (0, 0))
    moved = _places(_augmented(Augmentation(scale=0.5), jnp.stack([dots] * 64)))
    np.testing.assert_allclose(moved[:, 2], 0, atol=0.02)
    scales = moved[:, 0, 1] / 20
    np.testing.assert_allclose(moved[:, 0, 0], 0, atol=0.1)
    np.testing.assert_allclose(moved[:, 1, 0] / 20, scales, atol=0.01)
    assert 0.49 < scales.min() < 0.7
    assert 1.3 < scales.max() < 1.51


def test_an_example_has_a_key_of_its_own_in_each_epoch():
    epochs, indices = jnp.array([0, 0, 1, 1, 0]), jnp.array([0, 1, 0, 1, 0])
    data = jax.random.key_data(example_keys(BASE, epochs, indices)).tolist()
    assert data[0] == data[4]
    assert len({tuple(key) for key in data}) == 4


@pytest.mark.parametrize("settings", [ALL, Augmentation(flip=True)])
def test_an_example_is_augmented_alike_in_any_batch_and_place(settings):
    images, keys = _batch(16), _keys(16)
    expected = _augmented(settings, images)
    backwards = _augmented(settings, images[::-1], keys[::-1])
    np.testing.assert_allclose(backwards[::-1], expected, atol=1e-3)
    sharding = batch_sharding(make_mesh())
    half = (jax.device_put(x[8:], sharding) for x in (images, keys))  # one on each device
    np.testing.assert_allclose(_augmented(settings, *half), expected[8:], atol=1e-3)


def test_each_epoch_augments_anew():
    images = _batch(16)
    now, later = (_augmented(ALL, images, _keys(16, epoch)) for epoch in (0, 1))
    assert (np.abs(now - later).mean((1, 2, 3)) > 1).all()
