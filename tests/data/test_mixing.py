"""mixup and CutMix: images and targets share alike, by the distributions of their papers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax.data.augmentation import Augmentation
from vit_jax.data.mixing import cutmix, mix, mixup

KEY = jax.random.key(0)
NEIGHBOUR = [3, 0, 1, 2]


def _examples(height=1, width=2):
    """Returns four images of noise and their one-hot targets."""
    targets = jnp.eye(5)[jnp.array([0, 1, 2, 4])]
    return jax.random.normal(KEY, (4, height, width, 3)), targets


def _many(function, *examples, count=2000):
    """Returns images and targets of many draws."""
    draws = jax.jit(jax.vmap(lambda key: function(key, *examples)))
    return tuple(map(np.asarray, draws(jax.random.split(KEY, count))))


@functools.cache
def _mixups():
    return _many(lambda key, *given: mixup(key, 2.0, *given), *_examples())


@functools.cache
def _cutmixes(height=6, width=10):
    return _many(lambda key, *given: cutmix(key, 1.0, *given), *_examples(height, width))


def test_mixup_blends_images_and_targets_with_one_weight():
    images, targets = map(np.asarray, _examples())
    blended, mixed = _mixups()
    np.testing.assert_allclose(mixed.sum(-1), 1, rtol=1e-6)
    for some, labels in zip(blended[:20], mixed[:20], strict=True):
        weight = labels[1, 1]
        expected = weight * targets + (1 - weight) * targets[NEIGHBOUR]
        np.testing.assert_allclose(labels, expected, atol=1e-6)
        expected = weight * images + (1 - weight) * images[NEIGHBOUR]
        np.testing.assert_allclose(some, expected, atol=1e-6)


def test_the_weight_of_mixup_follows_its_beta_distribution():
    weights = _mixups()[1][:, 1, 1]
    assert weights.min() >= 0
    assert weights.max() <= 1
    assert weights.mean() == pytest.approx(0.5, abs=0.02)
    assert weights.var() == pytest.approx(1 / 20, abs=0.005)  # of Beta(2, 2)


def test_the_share_of_a_label_in_cutmix_is_the_area_of_its_pixels():
    images, targets = map(np.asarray, _examples(6, 10))
    mixed, labels = _cutmixes()
    pasted = (mixed == images[NEIGHBOUR]).all(-1)
    assert (pasted | (mixed == images).all(-1)).all()  # each pixel is of one or the other
    assert (pasted == pasted[:, :1]).all()  # one box for the batch
    share = pasted[:, 0].mean((1, 2))
    np.testing.assert_allclose(labels[:, 1, 0], share, rtol=3e-7)  # but for the last bit
    expected = (1 - share)[:, None, None] * targets + share[:, None, None] * targets[NEIGHBOUR]
    np.testing.assert_allclose(labels, expected, atol=1e-6)


def test_the_box_of_cutmix_is_one_box_that_lies_anywhere():
    pasted = (_cutmixes()[0][:, 1] == np.asarray(_examples(6, 10)[0])[0]).all(-1)
    for box in pasted[:200]:
        rows, columns = box.any(1), box.any(0)
        np.testing.assert_array_equal(box, rows[:, None] & columns)
        assert (np.abs(np.diff(np.pad(rows, 1).astype(int))).sum()) <= 2  # without a gap
        assert (np.abs(np.diff(np.pad(columns, 1).astype(int))).sum()) <= 2
    often = pasted.mean(0)
    assert often.min() > 0.1
    # With Beta(1, 1) the box covers half of the image on average, less what sticks out of it.
    assert 0.2 < often.mean() < 0.45
    np.testing.assert_allclose(often, often[::-1, ::-1], atol=0.12)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_batch_takes_either_mixup_or_cutmix(share):
    images, targets = _examples(6, 10)
    settings = Augmentation(mixup=0.8, cutmix=1.0, cutmix_share=share)
    mixed, labels = _many(lambda key, *given: mix(key, settings, *given), images, targets)
    np.testing.assert_allclose(labels.sum(-1), 1, rtol=1e-6)
    either = (mixed == np.asarray(images)) | (mixed == np.asarray(images)[NEIGHBOUR])
    is_cut = either.all((1, 2, 3, 4))
    assert is_cut.mean() == pytest.approx(share, abs=0.04)


def test_alone_each_is_what_mix_does_and_without_them_nothing_is_mixed():
    examples = _examples(6, 10)
    for settings, alone in (
        (Augmentation(mixup=0.8), mixup(KEY, 0.8, *examples)),
        (Augmentation(cutmix=0.7), cutmix(KEY, 0.7, *examples)),
        (Augmentation(), examples),
    ):
        for got, expected in zip(mix(KEY, settings, *examples), alone, strict=True):
            np.testing.assert_array_equal(got, expected)
