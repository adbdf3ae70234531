"""Colour jitter within its bounds, and 3-Augment with each of its three."""

from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from tests.data import pictures
from vit_jax.data import colour
from vit_jax.data.colour import color_jitter, three_augment


class _Numbers(np.random.Generator):
    """A generator that gives the numbers it was told."""

    def __init__(self, *numbers):
        super().__init__(np.random.Philox(0))
        self._numbers = list(numbers)

    def random(self, *args: Any, **kwargs: Any) -> Any:
        (count,) = args
        taken, self._numbers = self._numbers[:count], self._numbers[count:]
        assert len(taken) == count
        return np.array(taken)


IN_ORDER, SAME = (0.1, 0.2, 0.3), (0.5, 0.5, 0.5)


def _image(height=16, width=24):
    return Image.fromarray(pictures.noise(height, width))


def _jittered(strength, *numbers, image=None):
    return np.asarray(color_jitter(image or _image(), strength, _Numbers(*numbers)), float)


def test_jitter_in_the_middle_of_its_range_changes_nothing():
    np.testing.assert_array_equal(_jittered(0.4, *SAME, *IN_ORDER), _image())


@pytest.mark.parametrize(("number", "factor"), [(0.0, 0.6), (0.25, 0.8), (1.0, 1.4)])
def test_each_factor_reaches_its_bounds(number, factor):
    pixels = np.asarray(_image(), float)
    bright = _jittered(0.4, number, 0.5, 0.5, *IN_ORDER)
    np.testing.assert_allclose(bright, np.clip(pixels * factor, 0, 255), atol=1)
    grey = np.asarray(_image().convert("L"), float)
    contrast = _jittered(0.4, 0.5, number, 0.5, *IN_ORDER)
    mean = np.floor(grey.mean() + 0.5)
    np.testing.assert_allclose(contrast, np.clip(mean + factor * (pixels - mean), 0, 255), atol=1)
    saturated = _jittered(0.4, 0.5, 0.5, number, *IN_ORDER)
    expected = grey[..., None] + factor * (pixels - grey[..., None])
    np.testing.assert_allclose(saturated, np.clip(expected, 0, 255), atol=1)


def test_a_factor_is_never_negative():
    assert not _jittered(2.0, 0.0, 1 / 3, 1 / 3, *IN_ORDER).any()  # brightness 0


def test_the_order_is_drawn():
    factors = (1.0, 0.0, 0.2)
    results = {
        _jittered(0.9, *factors, *order).tobytes()
        for order in ((0.1, 0.2, 0.3), (0.3, 0.2, 0.1), (0.2, 0.1, 0.3))
    }
    assert len(results) == 3


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((0.1, 0.5), lambda image: ImageOps.grayscale(image).convert("RGB")),
        ((0.5, 0.5), lambda image: ImageOps.solarize(image, 128)),
        ((0.9, 0.0), lambda image: image.filter(ImageFilter.GaussianBlur(0.1))),
        ((0.9, 1.0), lambda image: image.filter(ImageFilter.GaussianBlur(2.0))),
    ],
)
def test_3_augment_takes_one_of_three(numbers, expected):
    result = three_augment(_image(), _Numbers(*numbers, *SAME, *IN_ORDER))
    np.testing.assert_array_equal(np.asarray(result), np.asarray(expected(_image())))


def test_3_augment_then_jitters_by_03():
    numbers = (0.5, 0.5, 0.0, 0.5, 0.5, *IN_ORDER)
    result = np.asarray(three_augment(_image(), _Numbers(*numbers)), float)
    expected = np.asarray(ImageOps.solarize(_image()), float) * 0.7
    np.testing.assert_allclose(result, expected, atol=1)


def test_each_of_the_three_comes_as_often(monkeypatch):
    counts = dict.fromkeys(("grey", "solarised", "blurred"), 0)

    def count(name):
        counts[name] += 1
        return _image()

    monkeypatch.setattr(colour.ImageOps, "grayscale", lambda image: count("grey"))
    monkeypatch.setattr(colour.ImageOps, "solarize", lambda image: count("solarised"))
    monkeypatch.setattr(colour, "color_jitter", lambda image, strength, generator: image)
    image = _image()
    monkeypatch.setattr(image, "filter", lambda kernel: count("blurred"))
    generator = np.random.default_rng(0)
    for _ in range(900):
        three_augment(image, generator)
    assert min(counts.values()) > 243  # four standard deviations below 300
