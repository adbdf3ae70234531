"""RandAugment: each operation against its definition, at no, full and more strength."""

import numpy as np
import pytest
from PIL import Image

from tests.data import pictures
from vit_jax.data.randaugment import OPERATIONS, randaugment

GREY = 128


def _apply(name, pixels, level, sign=1, place=(0.5, 0.5)):
    return np.asarray(OPERATIONS[name](Image.fromarray(pixels), level, sign, place))


def _noise(height=20, width=30):
    return pictures.noise(height, width)


def _enhanced(degenerate, pixels, factor):
    """Blends as Pillow does: beyond the image where the factor is above 1."""
    return np.clip(degenerate + factor * (pixels.astype(float) - degenerate), 0, 255)


def _grey(pixels):
    return np.asarray(Image.fromarray(pixels).convert("L"), float)


def test_the_operations_are_those_of_the_authors():
    assert set(OPERATIONS) == set(
        "AutoContrast Equalize Invert Rotate Posterize Solarize SolarizeAdd Color Contrast "
        "Brightness Sharpness ShearX ShearY TranslateX TranslateY Cutout".split()
    )


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("level", [0.0, 1.0, 3.0])
def test_any_level_gives_an_image_of_the_same_size_and_leaves_its_input(name, level):
    pixels = _noise()
    image = Image.fromarray(pixels)
    for sign, place in ((1, (0.0, 0.0)), (-1, (0.999, 0.999))):
        result = OPERATIONS[name](image, level, sign, place)
        assert (result.mode, result.size) == ("RGB", image.size)
    np.testing.assert_array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize(
    "name", "Rotate ShearX ShearY TranslateX TranslateY Cutout SolarizeAdd".split()
)
def test_without_strength_shapes_stay(name):
    np.testing.assert_array_equal(_apply(name, _noise(), 0.0), _noise())


def test_colours_by_their_definitions():
    pixels = _noise()
    np.testing.assert_array_equal(_apply("Invert", pixels, 0.3), 255 - pixels)
    narrow = (pixels // 4 + 60).astype(np.uint8)
    low, high = narrow.min((0, 1)).astype(float), narrow.max((0, 1))
    spread = (narrow - low) / (high - low) * 255
    np.testing.assert_allclose(_apply("AutoContrast", narrow, 0.3), spread, atol=1)
    ramp = np.broadcast_to(np.arange(64, 128, dtype=np.uint8)[:, None, None], (64, 256, 3)).copy()
    even = np.linspace(0, 255, 64)[:, None, None]  # what was as frequent ends as far apart
    assert np.abs(_apply("Equalize", ramp, 0.3) - even).max() < 2


@pytest.mark.parametrize(
    ("level", "bits"), [(0.0, 1), (0.3, 1), (0.5, 2), (1.0, 4), (1.5, 6), (3.0, 8)]
)
def test_posterize_keeps_the_highest_bits(level, bits):
    expected = _noise() & (0x100 - (1 << (8 - bits)))
    np.testing.assert_array_equal(_apply("Posterize", _noise(), level), expected)


@pytest.mark.parametrize(("level", "threshold"), [(0.0, 0), (0.5, 128), (1.0, 256), (2.0, 512)])
def test_solarize_inverts_what_is_bright(level, threshold):
    pixels = _noise()
    expected = np.where(pixels < threshold, pixels, 255 - pixels)
    np.testing.assert_array_equal(_apply("Solarize", pixels, level), expected)


@pytest.mark.parametrize(("level", "more"), [(0.5, 55), (1.0, 110), (2.0, 220)])
def test_solarize_add_brightens_what_is_dark(level, more):
    pixels = _noise().astype(int)
    expected = np.where(pixels < 128, np.minimum(pixels + more, 255), pixels)
    np.testing.assert_array_equal(_apply("SolarizeAdd", _noise(), level), expected)


@pytest.mark.parametrize(("level", "factor"), [(0.0, 0.1), (0.5, 1.0), (1.0, 1.9), (2.0, 3.7)])
def test_enhancements_by_their_factor(level, factor):
    pixels = _noise()
    grey = _grey(pixels)
    mean = np.floor(grey.mean() + 0.5)
    for name, degenerate in (("Brightness", 0.0), ("Contrast", mean), ("Color", grey[..., None])):
        expected = _enhanced(degenerate, pixels, factor)
        np.testing.assert_allclose(_apply(name, pixels, level), expected, atol=1)
    around = sum(
        pixels[1 + y : 19 + y, 1 + x : 29 + x].astype(float) for y in (-1, 0, 1) for x in (-1, 0, 1)
    )
    smooth = (around + 4.0 * pixels[1:-1, 1:-1]) / 13
    expected = _enhanced(smooth, pixels[1:-1, 1:-1], factor)
    sharpened = _apply("Sharpness", pixels, level)[1:-1, 1:-1]
    np.testing.assert_allclose(sharpened, expected, atol=1.5 + factor)  # `smooth` is rounded


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("level", [0.4, 1.0, 1.6])
def test_translations_move_by_a_share_of_the_side(level, sign):
    """100 of 224 pixels at level 1: 25 of 56, and 50 of 112."""
    pixels = pictures.noise(56, 112)
    for name, axis, full in (("TranslateY", 0, 25), ("TranslateX", 1, 50)):
        result = _apply(name, pixels, level, sign)
        sources = np.arange(pixels.shape[axis]) + sign * round(full * level)
        inside = (sources >= 0) & (sources < len(sources))
        kept = np.take(pixels, sources[inside], axis)
        np.testing.assert_array_equal(np.compress(inside, result, axis), kept)
        assert (np.compress(~inside, result, axis) == GREY).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_shears_move_each_line_by_its_distance(sign):
    pixels = pictures.noise(40, 40)
    by_row = _apply("ShearX", pixels, 1.0, sign)
    by_column = _apply("ShearY", pixels.swapaxes(0, 1).copy(), 1.0, sign).swapaxes(0, 1)
    for result in (by_row, by_column):
        for line in range(40):
            sources = np.floor(np.arange(40) + 0.5 + sign * 0.3 * (line + 0.5)).astype(int)
            inside = (sources >= 0) & (sources < 40)
            np.testing.assert_array_equal(result[line, inside], pixels[line, sources[inside]])
            assert (result[line, ~inside] == GREY).all()


def test_a_turn_is_of_30_degrees_at_full_strength():
    y, x = np.mgrid[:81, :81] - 40.0
    dot = np.exp(-(y**2 + (x - 25) ** 2) / 12) * 250
    pixels = np.repeat(dot[..., None], 3, axis=-1).astype(np.uint8)
    for level, sign, degrees in ((1.0, 1, 30), (0.5, -1, -15), (2.0, 1, 60)):
        turned = _apply("Rotate", pixels, level, sign)[..., 0].astype(float)
        turned[np.hypot(y, x) > 38] = 0  # the grey corners
        down, across = (turned * y).sum(), (turned * x).sum()
        assert np.degrees(np.arctan2(-down, across)) == pytest.approx(degrees, abs=1)


@pytest.mark.parametrize("place", [(0.5, 0.5), (0.0, 0.99)])
def test_cutout_covers_a_square_about_its_place(place):
    """40 of 224 pixels to each side at level 1: of 56, 10."""
    pixels = pictures.noise(56, 80)
    result = _apply("Cutout", pixels, 1.0, place=place)
    y, x = np.mgrid[:56, :80]
    down, across = y - int(place[0] * 56), x - int(place[1] * 80)
    covered = (down >= -10) & (down < 10) & (across >= -10) & (across < 10)
    assert (result[covered] == GREY).all()
    np.testing.assert_array_equal(result[~covered], pixels[~covered])


def _results(count, layers=2, magnitude=15, seed=0):
    image, generator = Image.fromarray(_noise()), np.random.default_rng(seed)
    return [
        np.asarray(randaugment(image, layers, magnitude, generator)).tobytes() for _ in range(count)
    ]


def test_what_is_drawn_follows_from_the_generator_alone():
    assert _results(5) == _results(5)
    assert len(set(_results(20))) > 15
    assert _results(5, seed=1) != _results(5)


def test_every_operation_is_drawn_as_often_as_any_other(monkeypatch):
    counts = dict.fromkeys(OPERATIONS, 0)

    def counting(name):
        def operation(image, level, sign, place):
            assert level == 1.5
            counts[name] += 1
            return image

        return operation

    for name in list(OPERATIONS):
        monkeypatch.setitem(OPERATIONS, name, counting(name))
    _results(1600, layers=3)
    assert sum(counts.values()) == 4800
    assert min(counts.values()) > 230  # four standard deviations below 300
    assert max(counts.values()) < 370
