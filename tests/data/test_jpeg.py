"""JPEG by the short way: the same pixels, whole or in part, and the same refusals."""

import struct

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from tests.data import pictures
from vit_jax.data.decoding import decode, decode_box, decode_pixels
from vit_jax.data.jpeg import open_jpeg
from vit_jax.errors import DataError

ORIENTATION = 0x0112
PIXELS = pictures.smooth(90, 70) // 2 + pictures.noise(90, 70) // 8
SUBSAMPLINGS = ["4:4:4", "4:2:2", "4:2:0"]


def _file(**options):
    options = {"quality": 80, "subsampling": "4:2:0"} | options
    return pictures.encoded(PIXELS, "JPEG", **options)


def _turned(orientation, **options):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return _file(exif=exif, **options)


def _opened(data):
    photo = open_jpeg(data)
    assert photo is not None
    return photo


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_pixels_are_those_of_pillow_but_for_the_transform(subsampling, progressive):
    data = _file(subsampling=subsampling, progressive=progressive)
    exact, quick = np.asarray(decode(data, "x")), decode_pixels(data, "x")
    assert quick.shape == exact.shape
    assert np.abs(quick.astype(int) - exact).mean() < 2
    assert (quick != exact).any()  # or this went the long way


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("restart", [0, 1])
def test_rows_left_out_change_none_of_the_others(subsampling, restart):
    _check_rows(_file(subsampling=subsampling, restart_marker_rows=restart))


@pytest.mark.parametrize("subsampling", ["411", "440"])  # those that Pillow does not write
def test_nor_where_chroma_is_subsampled_in_a_rare_way(subsampling):
    _check_rows(simplejpeg.encode_jpeg(PIXELS, 80, colorsubsampling=subsampling))


def _check_rows(data):
    photo = _opened(data)
    whole = photo.pixels()
    for rows in range(1, 91):
        top = photo.pixels(rows)
        assert rows <= len(top) <= rows + 1
        np.testing.assert_array_equal(top[:rows], whole[:rows])


def test_a_box_gets_the_rows_it_needs():
    data = _file()
    pixels, box = decode_box(data, "x", lambda size: (3.0, 5.5, size[0] - 1.0, 40.2))
    assert box == (3.0, 5.5, 69.0, 40.2)
    assert 41 <= len(pixels) < 90
    np.testing.assert_array_equal(pixels[:41], decode_pixels(data, "x")[:41])


def test_rows_of_progressive_and_of_unfinished_files_are_all_unpacked():
    for data in (_file(progressive=True), _file() + b"\0\0", _turned(3)):
        assert _opened(data).frame is None
        assert len(_opened(data).pixels(20)) == 90


@pytest.mark.parametrize("orientation", range(1, 9))
def test_size_and_pixels_are_upright(orientation):
    data = _turned(orientation, quality=95)
    upright = np.asarray(decode(data, "x"))
    photo = _opened(data)
    assert photo.size == (upright.shape[1], upright.shape[0])
    np.testing.assert_allclose(photo.pixels(), upright, atol=12)
    pixels, box = decode_box(data, "x", lambda size: (0.0, 0.0, float(size[0]), size[1] / 2))
    assert box[2:] == (upright.shape[1], upright.shape[0] / 2)
    np.testing.assert_allclose(pixels[:35], upright[:35], atol=12)


def test_grey_becomes_three_equal_colours():
    grey = Image.fromarray(PIXELS).convert("L")
    data = pictures.encoded(grey, "JPEG", quality=90)
    pixels = decode_pixels(data, "x")
    assert _opened(data).size == (70, 90)
    np.testing.assert_allclose(pixels, np.asarray(grey)[..., None].repeat(3, -1), atol=20)
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])


@pytest.mark.parametrize("mode", ["CMYK", "RGB without conversion"])
def test_other_kinds_of_colour_go_by_way_of_pillow(mode):
    if mode == "CMYK":
        data = pictures.encoded(Image.fromarray(PIXELS).convert("CMYK"), "JPEG")
    else:
        data = _file(keep_rgb=True, subsampling=0)
    assert open_jpeg(data) is None
    np.testing.assert_array_equal(decode_pixels(data, "x"), np.asarray(decode(data, "x")))


def test_other_formats_and_pixels_are_as_they_were():
    np.testing.assert_array_equal(decode_pixels(pictures.encoded(PIXELS), "x"), PIXELS)
    np.testing.assert_array_equal(decode_pixels(PIXELS, "x"), PIXELS)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused_whatever_rows_are_asked_for(share):
    data = _file()
    data = data[: int(share * len(data))]
    for bottom in (10.0, 90.0):
        with pytest.raises(DataError, match=r"^a\.jpg: not a"):
            decode_box(data, "a.jpg", lambda size, bottom=bottom: (0.0, 0.0, 70.0, bottom))


@pytest.mark.filterwarnings("ignore::Warning:PIL")
@pytest.mark.parametrize("turned", [False, True])
def test_damage_of_any_kind_is_a_data_error_or_an_image(turned):
    whole = _turned(6) if turned else _file()
    generator, outcomes = np.random.default_rng(0), set()
    for _ in range(150):
        data = np.frombuffer(whole, np.uint8).copy()
        places = generator.integers(0, min(len(data), 250), 3)
        data[places] = generator.integers(0, 256, 3)
        try:
            pixels, _ = decode_box(data.tobytes(), "x", lambda _: (0.0, 0.0, 9.0, 30.0))
            outcomes.add(pixels.shape[-1])
        except DataError:
            outcomes.add("refused")
    assert outcomes == {3, "refused"}


def test_a_decompression_bomb_is_refused_by_its_header():
    data = bytearray(_file())
    place = _opened(bytes(data)).frame
    assert place is not None
    data[place + 5 : place + 9] = struct.pack(">HH", 60_000, 60_000)
    with pytest.raises(DataError, match=r"^bomb\.jpg: .*(more than 134,217,728|exceeds limit)"):
        decode_pixels(bytes(data), "bomb.jpg")


def test_memory_that_is_used_again_holds_the_same_pixels():
    """A large image, then a small one: nothing of the first shows in the second."""
    large, small = _file(quality=95), _file(subsampling=0)
    for data in (large, small, large):
        for bottom in (90.0, 33.3):
            box = (0.0, 0.0, 70.0, bottom)
            reused, _ = decode_box(data, "x", lambda _, box=box: box, reuse=True)
            fresh, _ = decode_box(data, "x", lambda _, box=box: box)
            np.testing.assert_array_equal(reused, fresh)
    first, _ = decode_box(large, "x", lambda _: (0.0, 0.0, 70.0, 90.0), reuse=True)
    decode_box(small, "x", lambda _: (0.0, 0.0, 70.0, 90.0), reuse=True)
    assert not np.array_equal(first, decode_pixels(large, "x"))  # it was written over, as said
