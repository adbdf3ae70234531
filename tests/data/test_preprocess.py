"""What the model is fed: the official pixels, on the host as on the device."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests import golden
from tests.data import pictures
from vit_jax.data.decoding import decode_pixels
from vit_jax.data.preprocess import Preprocess, central_box
from vit_jax.errors import ConfigError, DataError

GOLDEN = "official_eval_preprocessing"

# The pixels are the official ones, rounded to grey levels and by the file's float16.
TOLERANCE = 0.002


@pytest.mark.parametrize("number", range(6))
def test_official_evaluation_images(number):
    expected = golden.load_arrays(GOLDEN)[str(number)]
    path = golden.shared("data", *str(expected["file"]).split("/"))
    image = decode_pixels(path.read_bytes(), str(path))
    sizes = [int(name) for name in expected if name.isdigit()]
    assert sizes == [96, 224]
    for size in sizes:
        preprocess = Preprocess((size, size))
        pixels = preprocess.normalize(jnp.asarray(preprocess.pixels(image))[None])[0]
        difference = np.abs(pixels - expected[str(size)].astype(np.float32))
        assert difference.mean() < TOLERANCE
        assert difference.max() < 0.005
        # A shift of the grid by a pixel would not get past this, but could get past the mean.
        assert np.corrcoef(pixels.ravel(), expected[str(size)].ravel())[0, 1] > 0.999


def _agreement(preprocess, height, width):
    pixels = pictures.noise(height, width)
    host = preprocess.pixels(Image.fromarray(pixels))
    device = jax.jit(preprocess.on_device)(jnp.asarray(pixels)[None])[0]
    assert host.shape == device.shape == (*preprocess.size, 3)
    return np.abs(host - np.asarray(device, np.float32)).max()


SIZES = [(20, 20), (9, 13), (40, 35)]  # (height, width), around 16 x 16


@pytest.mark.parametrize(
    ("size", "resize"), [((16, 16), None), ((16, 16), 16), ((12, 16), 19), ((20, 12), None)]
)
@pytest.mark.parametrize("source", SIZES)
def test_host_and_device_agree_to_rounding(source, size, resize):
    assert _agreement(Preprocess(size, resize), *source) <= 0.501


@pytest.mark.parametrize("resize", [None, 19])
@pytest.mark.parametrize("source", SIZES)
def test_host_and_device_agree_when_smoothing(source, resize):
    """Pillow rounds to grey levels twice, after each direction, which makes up to one of them."""
    assert _agreement(Preprocess((16, 16), resize, antialias=True), *source) <= 1.01


def test_smoothing_and_plain_differ_when_shrinking():
    image = Image.fromarray(pictures.noise(64, 64))
    plain, smoothed = (
        Preprocess((8, 8)).pixels(image),
        Preprocess((8, 8), antialias=True).pixels(image),
    )
    assert smoothed.std() < 0.5 * plain.std()


def test_images_at_their_size_stay_as_they_are_on_the_device():
    images = jnp.asarray(pictures.noise(8, 8))[None]
    assert Preprocess((8, 8)).on_device(images) is images
    assert Preprocess((8, 8), resize=8).on_device(images) is images


def test_the_central_crop_is_cut_from_images_at_their_size_too():
    images = jnp.asarray(pictures.noise(8, 8))[None]
    assert not np.array_equal(Preprocess((8, 8), resize=10).on_device(images), images)


def test_central_box_by_hand():
    assert central_box((40, 20), (8, 8), None) == (0, 0, 40, 20)
    assert central_box((40, 20), (8, 8), 10) == (12, 2, 28, 18)  # 2 pixels for each of the 8
    assert central_box((20, 40), (8, 4), 10) == (6, 12, 14, 28)


def test_cutting_the_box_is_resizing_and_then_cropping():
    pixels = np.repeat(np.arange(24, dtype=np.uint8)[:, None, None] * 10, 24, 1).repeat(3, 2)
    cut = Preprocess((8, 8), 12).pixels(Image.fromarray(pixels))
    whole = Preprocess((12, 12)).pixels(Image.fromarray(pixels))
    np.testing.assert_array_equal(cut, whole[2:10, 2:10])


def test_rounding_never_takes_the_box_out_of_the_image():
    """7 * (29 / 7) is more than 29, and Pillow refuses such a box."""
    for resize in range(1, 300):
        for side in range(1, 1000, 7):
            left, top, right, bottom = central_box((side, side), (resize, resize), resize)
            assert 0 <= left < right <= side
            assert 0 <= top < bottom <= side
    assert Preprocess((7, 7), 7, antialias=True).pixels(Image.new("RGB", (29, 29))).shape == (
        7,
        7,
        3,
    )


def test_official_normalisation():
    pixels = jnp.array([0.0, 127.5, 255.0]).reshape(1, 1, 1, 3)
    normalized = Preprocess((1, 1)).normalize(pixels)
    np.testing.assert_array_equal(normalized.ravel(), [-1.0, 0.0, 1.0])
    assert normalized.dtype == jnp.float32


def test_normalisation_by_colour():
    preprocess = Preprocess((1, 1), mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.2))
    normalized = preprocess.normalize(jnp.full((2, 1, 1, 3), 102, jnp.uint8))
    np.testing.assert_allclose(normalized[1, 0, 0], [0.6, 0.8, 0.5], rtol=1e-5)


@pytest.mark.parametrize(
    "preprocess",
    [Preprocess((224, 224)), Preprocess((8, 12), 16, True, (0.1, 0.2, 0.3), (1.0, 0.5, 0.25))],
)
def test_it_comes_back_from_json_the_same(preprocess):
    assert Preprocess.from_dict(json.loads(json.dumps(preprocess.to_dict()))) == preprocess


BICUBIC = Preprocess((16, 16), 19, True, interpolation="bicubic")


@pytest.mark.parametrize("source", SIZES)
def test_host_and_device_agree_in_bicubic(source):
    """Pillow rounds to grey levels twice; nothing here is so bright or dark that it is cut off."""
    pixels = pictures.noise(*source) // 2 + 64
    host = BICUBIC.pixels(Image.fromarray(pixels))
    device = jax.jit(BICUBIC.on_device)(jnp.asarray(pixels)[None])[0]
    assert np.abs(host - np.asarray(device, np.float32)).max() <= 1.51


def test_bicubic_is_cut_off_where_it_runs_past_black_and_white():
    """Stripes along one axis, as Pillow cuts off between its two passes, too."""
    columns = np.repeat(pictures.noise(1, 12)[:, :, :1] // 128 * 255, 3, axis=-1)
    pixels = np.repeat(columns, 10, axis=0)
    host = BICUBIC.pixels(Image.fromarray(pixels))
    device = np.asarray(jax.jit(BICUBIC.on_device)(jnp.asarray(pixels)[None])[0])
    assert (device.min(), device.max()) == (0, 255)
    assert np.abs(host - device).max() <= 1.51


def test_bicubic_is_sharper():
    image = Image.fromarray(pictures.noise(64, 64))
    bilinear = Preprocess((16, 16), antialias=True).pixels(image)
    bicubic = Preprocess((16, 16), antialias=True, interpolation="bicubic").pixels(image)
    assert bicubic.std() > 1.1 * bilinear.std()


@pytest.mark.parametrize("fields", [{"interpolation": "bicubic"}, {"interpolation": "bilinaer"}])
def test_an_interpolation_that_cannot_be(fields):
    with pytest.raises(ConfigError, match=r"antialias=True|did you mean 'bilinear'"):
        Preprocess((8, 8), **fields)


def test_files_images_arrays_and_lists_make_the_same_batch(tmp_path):
    pixels = pictures.noise(20, 30)
    image, file = Image.fromarray(pixels), tmp_path / "picture.png"
    image.save(file)
    want = BICUBIC.normalize(jnp.asarray(BICUBIC.pixels(image))[None])
    assert want.shape == (1, 16, 16, 3)
    for one in (file, str(file), image, pixels, jnp.asarray(pixels), [pixels], pixels[None]):
        np.testing.assert_array_equal(BICUBIC(one), want)
    assert BICUBIC([file, image, pixels]).shape == (3, 16, 16, 3)
    with_alpha = image.convert("RGBA")
    np.testing.assert_array_equal(BICUBIC(with_alpha), want)


@pytest.mark.parametrize(
    "wrong", ["no_such.png", np.zeros((8, 8, 3)), np.zeros((8, 8), np.uint8), []]
)
def test_what_is_no_image_is_an_error(wrong):
    with pytest.raises(DataError, match=r"no_such\.png|is no image|no images"):
        BICUBIC(wrong)


def test_another_size_crops_the_same_share():
    assert Preprocess((224, 224), 256).at((384, 384)).resize == 439
    assert Preprocess((224, 224)).at((384, 256)) == Preprocess((384, 256))


def _official_lit(pixels: np.ndarray, size: int, crop: bool) -> np.ndarray:
    """What the official LiT feeds its models: resized whole, or cropped after, and cast to uint8.

    In float64, a grey level's thousandth up, as sums in float32 may end on either side of one.
    """

    def sampled(values: np.ndarray, count: int) -> np.ndarray:
        places = (np.arange(count) + 0.5) * (len(values) / count) - 0.5
        places = np.clip(places, 0, len(values) - 1)
        below = np.minimum(places.astype(int), len(values) - 2)
        weight = (places - below).reshape(-1, *[1] * (values.ndim - 1))
        return values[below] * (1 - weight) + values[below + 1] * weight

    height, width = (size, size)
    if crop:
        ratio = size / min(pixels.shape[:2])
        height, width = (int(np.rint(side * ratio)) for side in pixels.shape[:2])
    resized = sampled(pixels.astype(np.float64), height)
    resized = sampled(resized.swapaxes(0, 1), width).swapaxes(0, 1)
    top, left = (height - size) // 2, (width - size) // 2
    return np.floor(resized[top : top + size, left : left + size] + 1e-3).astype(np.uint8)


@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize("source", [(40, 35), (9, 13), (31, 57), (16, 16), (23, 16)])
def test_the_official_lit_rounds_down(source, crop):
    pixels = pictures.noise(*source)
    preprocess = Preprocess((16, 16), resize=16 if crop else None, rounding="down")
    expected = _official_lit(pixels, 16, crop)
    found = preprocess.pixels(pixels)
    device = np.asarray(preprocess.on_device(jnp.asarray(pixels)[None])[0])
    for got in (found, device):
        different = got != expected
        assert different.mean() < 0.002  # where a sum ends a hair from a grey level
        assert np.abs(got.astype(int) - expected).max() <= 1
    plain = Preprocess((16, 16), resize=16 if crop else None).pixels(pixels)
    if source != (16, 16) and not crop:
        assert plain.mean() - found.mean() > 0.4  # half a grey level, which rounding keeps
    scaled = np.asarray(preprocess.normalize(jnp.asarray(found)[None])[0])
    np.testing.assert_allclose(scaled, found / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(16, 10), (10, 16)])
def test_the_central_crop_of_the_official_lit_leaves_borders_out(height, width):
    pixels = np.full((height, width, 3), 255, np.uint8)
    across = pixels if height > width else pixels.swapaxes(0, 1)
    across[:2], across[-2:] = 0, 0
    whole, cropped = (Preprocess((4, 4), resize, rounding="down") for resize in (None, 4))
    assert whole.pixels(pixels).mean() < 255
    assert cropped.pixels(pixels).min() == 255


def test_rounding_is_checked():
    with pytest.raises(ConfigError, match="rounding='up'"):
        Preprocess((4, 4), rounding="up")
    with pytest.raises(ConfigError, match="rounding='down' with antialias=True"):
        Preprocess((4, 4), antialias=True, rounding="down")
