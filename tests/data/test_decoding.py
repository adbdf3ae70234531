"""Any image file as RGB, damaged ones as one line, and resizing to the pixel."""

import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.data import pictures
from vit_jax.data.decoding import FORMATS, crop_and_resize, decode, training_crop
from vit_jax.errors import DataError

AVIF = ("AVIF",) if "AVIF" in FORMATS else ()

PIXELS = pictures.noise(16, 24)
RGBA = Image.fromarray(np.dstack([PIXELS, pictures.noise(16, 24, 1)[..., :1]]))
ORIENTATION, SOFTWARE = 0x0112, 0x0131

# The package does this when it is imported, but pytest sets its own filters for each test.
quiet = pytest.mark.filterwarnings("ignore::Warning:PIL")


def _decoded(data):
    return np.asarray(decode(data, "x"))


def _on_white(image):
    pixels = np.asarray(image.convert("RGBA"), np.float32)
    alpha = pixels[..., 3:] / 255
    return pixels[..., :3] * alpha + 255 * (1 - alpha)


@pytest.mark.parametrize(
    ("form", "options"),
    [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True}), ("TIFF", {}),
     ("TIFF", {"compression": "tiff_lzw"})],
)  # fmt: skip
def test_lossless_files_come_back_exactly(form, options):
    image = decode(pictures.encoded(PIXELS, form, **options), "x")
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), PIXELS)


def test_pixels_are_taken_as_they_are():
    np.testing.assert_array_equal(_decoded(PIXELS), PIXELS)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF"])
def test_grey_becomes_three_equal_colours(form):
    grey = PIXELS[..., 0]
    np.testing.assert_array_equal(
        _decoded(pictures.encoded(grey, form)), np.repeat(grey[..., None], 3, axis=-1)
    )


def test_black_and_white_becomes_0_and_255():
    bits = Image.fromarray(PIXELS[..., 0] > 127)
    assert bits.mode == "1"
    decoded = _decoded(pictures.encoded(bits, "PNG"))
    np.testing.assert_array_equal(decoded[..., 1], (PIXELS[..., 0] > 127) * 255)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
def test_transparency_is_laid_on_white(form):
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    decoded = _decoded(pictures.encoded(RGBA, form, **options))
    np.testing.assert_allclose(decoded, _on_white(RGBA), atol=1)


def test_grey_with_transparency_is_laid_on_white():
    image = RGBA.convert("LA")
    np.testing.assert_allclose(_decoded(pictures.encoded(image)), _on_white(image), atol=1)


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_a_palette_keeps_its_colours_and_its_transparent_one_is_white(form):
    image = Image.fromarray(PIXELS).quantize(16)
    plain = _decoded(pictures.encoded(image, form))
    np.testing.assert_array_equal(plain, np.asarray(image.convert("RGB")))
    clear = _decoded(pictures.encoded(image, form, transparency=3))
    hole = np.asarray(image) == 3
    assert hole.any()
    np.testing.assert_array_equal(clear[~hole], plain[~hole])
    assert (clear[hole] == 255).all()


def test_a_palette_with_partial_transparency():
    image = Image.fromarray(PIXELS).quantize(4)
    data = pictures.encoded(image, transparency=bytes([0, 85, 170, 255]))
    alpha = np.asarray(image)[..., None] * (85 / 255)
    expected = np.asarray(image.convert("RGB")) * alpha + 255 * (1 - alpha)
    np.testing.assert_allclose(_decoded(data), expected, atol=1)


def test_one_transparent_colour_of_an_rgb_file_is_white():
    colour = tuple(int(value) for value in PIXELS[3, 4])
    decoded = _decoded(pictures.encoded(PIXELS, "PNG", transparency=colour))
    assert decoded[3, 4].tolist() == [255, 255, 255]
    np.testing.assert_array_equal(decoded[5:], PIXELS[5:])


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "L"])
def test_jpeg_of_any_colour_space(mode):
    image = Image.fromarray(pictures.smooth(32, 48)).convert(mode)
    decoded = _decoded(pictures.encoded(image, "JPEG", quality=100, subsampling=0))
    np.testing.assert_allclose(decoded, np.asarray(image.convert("RGB")), atol=4)


@pytest.mark.parametrize(
    ("form", "kind"), [("PNG", "u2"), ("TIFF", "u2"), ("TIFF", ">u2"), ("TIFF", "i4")]
)
def test_grey_of_16_bits_is_scaled_and_not_clipped(form, kind):
    values = np.array([[0, 255, 256, 511], [512, 32768, 65279, 65535]], np.uint16)
    decoded = _decoded(pictures.encoded(values.astype(kind), form))
    np.testing.assert_array_equal(decoded[..., 0], [[0, 0, 1, 1], [2, 128, 254, 255]])
    np.testing.assert_array_equal(decoded[..., 0], decoded[..., 2])


DEEP = np.array([[[0, 255, 256], [511, 512, 32768]], [[65279, 65280, 65535], [1, 2, 3]]])


@pytest.mark.parametrize("alpha", [None, 0, 65535])
def test_colours_of_16_bits_are_scaled_and_not_clipped(alpha):
    values, expected = DEEP, DEEP // 256
    if alpha is not None:
        values = np.dstack([DEEP, np.full((2, 2), alpha)])
        expected = expected if alpha else np.full_like(expected, 255)
    np.testing.assert_array_equal(_decoded(_deep_png(values)), expected)


def test_the_transparent_grey_of_a_16_bit_png_is_white():
    grey = np.array([[[0], [32768]], [[32769], [65535]]])
    clear = _chunk(b"tRNS", struct.pack(">H", 32768))
    decoded = _decoded(_deep_png(grey, clear))
    np.testing.assert_array_equal(decoded[..., 0], [[0, 255], [128, 255]])


def test_jpeg_ink_is_read_as_adobe_writes_it_with_its_mark_and_without():
    """Full ink is stored as 0; white paper, no ink at all, as 255."""
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[:8, :, 0] = 255  # cyan above, paper below
    data = pictures.encoded(Image.fromarray(ink, "CMYK"), "JPEG", quality=100, subsampling=0)
    mark = data.index(b"\xff\xee")
    (length,) = struct.unpack(">H", data[mark + 2 : mark + 4])
    assert data[mark + 4 : mark + 9] == b"Adobe"
    for form in (data, data[:mark] + data[mark + 2 + length :]):
        decoded = _decoded(form)
        np.testing.assert_allclose(decoded[:8], [[[0, 255, 255]] * 16] * 8, atol=3)
        np.testing.assert_allclose(decoded[8:], 255, atol=3)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_the_content_tells_the_format_and_not_the_name(form):
    assert decode(pictures.encoded(PIXELS, form), "picture.txt").size == (24, 16)


@pytest.mark.parametrize("form", ["EPS", "ICO", "PDF"])
def test_formats_that_no_folder_holds_are_not_opened(form):
    with pytest.raises(DataError, match=r"^a\.jpg: not an image of a known format \(JPEG, PNG"):
        decode(pictures.encoded(PIXELS, form), "a.jpg")


def test_avif_is_read_where_pillow_reads_it():
    if not AVIF:
        pytest.skip("Pillow reads AVIF from 11.3 on")
    smooth = pictures.smooth(32, 48)
    read = np.asarray(decode(pictures.encoded(smooth, "AVIF", quality=100), "x.avif"))
    assert np.abs(read.astype(int) - smooth).max() < 8


def test_heic_is_named_with_what_to_do():
    content = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
    with pytest.raises(DataError, match=r"IMG_1\.HEIC: HEIC, .*convert them to JPEG"):
        decode(content, "IMG_1.HEIC")


@pytest.mark.parametrize("values", [[[-1, 5]], [[0, 65536]]])
def test_integers_beyond_16_bits_are_refused(values):
    data = pictures.encoded(np.array(values, np.int32), "TIFF")
    with pytest.raises(DataError, match=r"^a\.tif: .* pixels outside 0 … 65,535; save them as 8"):
        decode(data, "a.tif")


def test_float_pixels_are_refused_as_their_white_is_not_known():
    data = pictures.encoded(np.ones((2, 2), np.float32), "TIFF")
    with pytest.raises(DataError, match=r"^a\.tif: .* float pixels have no known range; save them"):
        decode(data, "a.tif")


# By the EXIF standard: where the first row and the first column of the file are to be seen.
UPRIGHT = {
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: x.swapaxes(0, 1)[:, ::-1],
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: x.swapaxes(0, 1)[::-1],
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", *AVIF])
def test_exif_orientation_is_applied(form, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    pixels = pictures.smooth(32, 48)
    options = {"quality": 95} if form in ("JPEG", "WEBP", "AVIF") else {}
    decoded = _decoded(pictures.encoded(pixels, form, exif=exif, **options))
    np.testing.assert_allclose(decoded, UPRIGHT[orientation](pixels), atol=12)


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_an_orientation_out_of_range_leaves_the_image_as_it_is(orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    np.testing.assert_array_equal(_decoded(pictures.encoded(PIXELS, exif=exif)), PIXELS)


@quiet
@pytest.mark.parametrize("exif", [b"", b"nonsense", b"II*\0", b"II*\0\x08\0\0\0\xff\xff"])
def test_damaged_exif_does_not_cost_the_image(exif):
    data = pictures.encoded(PIXELS, "JPEG", quality=95, exif=b"Exif\0\0" + exif)
    assert _decoded(data).shape == PIXELS.shape


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_gives_its_first_frame(form):
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if form == "WEBP" else {}
    data = pictures.encoded(frames[0], form, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(_decoded(data), np.asarray(frames[0]))


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width, height, bits=8, colour=2, extra=b"", pixels=b""):
    """Returns a PNG of the size claimed; without pixels it holds next to nothing."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = _chunk(b"IDAT", zlib.compress(pixels)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + extra + body


def _deep_png(values, extra=b""):
    """Returns the PNG of 16-bit values (h, w, 1, 3 or 4), which Pillow cannot write."""
    height, width, bands = values.shape
    pixels = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))
    return _png(width, height, 16, {1: 0, 3: 2, 4: 6}[bands], extra, pixels)


NOT_IMAGES = {
    "empty": b"",
    "text": b"<html>404</html>",
    "no width": _png(0, 5),
    "no pixels": _png(0, 0),
    "empty pixels": _png(5, 5),
    **{
        f"truncated {form}": (lambda data: data[: len(data) // 2])(pictures.encoded(PIXELS, form))
        for form in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")
    },
}


@pytest.mark.parametrize("data", NOT_IMAGES.values(), ids=NOT_IMAGES.keys())
def test_what_is_no_image_is_named_in_one_line(data):
    with pytest.raises(DataError) as caught:
        decode(data, "pets/cat 1.jpg")
    message = str(caught.value)
    assert message.startswith(("pets/cat 1.jpg: not an image of", "pets/cat 1.jpg: not a readable"))
    assert "\n" not in message
    assert "object at 0x" not in message


@quiet
@pytest.mark.parametrize("form", ["BMP", "JPEG", "GIF", "TIFF", *AVIF])
def test_damage_of_any_kind_is_a_data_error_or_an_image(form):
    """Pillow's parsers raise struct.error, TypeError and others for damaged bytes."""
    generator = np.random.default_rng(0)
    exif = {} if form in ("BMP", "GIF") else {"exif": _exif()}
    whole, outcomes = pictures.encoded(PIXELS, form, **exif), set()
    for _ in range(80):
        data = np.frombuffer(whole, np.uint8).copy()
        places = generator.integers(0, min(len(data), 200), 3)
        data[places] = generator.integers(0, 256, 3)
        try:
            outcomes.add(decode(data.tobytes(), "x").mode)
        except DataError:
            outcomes.add("refused")
    assert outcomes == {"RGB", "refused"}


def _exif():
    exif = Image.Exif()
    exif[ORIENTATION], exif[SOFTWARE] = 6, "the name of a program"
    return exif


@quiet
@pytest.mark.parametrize("side", [12_000, 30_000, 100_000])
@pytest.mark.parametrize("limit", ["Pillow's", "none"])
def test_a_decompression_bomb_is_refused_by_its_header(side, limit, monkeypatch):
    """A decoder that went on would report the missing pixels, or fill the memory."""
    if limit == "none":  # as other code in the process may have set it
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    claim = rf"{side} x {side} pixels, more than 134,217,728|more than 134,217,728 pixels"
    with pytest.raises(
        DataError, match=rf"^bomb\.png: .* header claims ({claim}); make it smaller"
    ):
        decode(_png(side, side), "bomb.png")


NO_WARNINGS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from vit_jax.data.decoding import decode
from vit_jax.errors import DataError

odd, large = (Path(name).read_bytes() for name in sys.argv[1:])
with ThreadPoolExecutor(8) as pool:
    print(set(pool.map(lambda _: decode(odd, "odd").size, range(400))))
try:
    decode(large, "large")
except DataError as error:
    print(error)
"""


def test_no_warning_leaks_from_any_thread(tmp_path):
    """Warnings are errors in the process below, but for those that the package sets aside."""
    exif = _exif().tobytes()
    odd = pictures.encoded(PIXELS, "JPEG", exif=exif[:-10])  # the name ends too soon
    with pytest.warns(UserWarning, match="Truncated File Read|Corrupt EXIF|larger than file"):
        decode(odd, "x")  # where Pillow is allowed to, it warns
    pictures.write(tmp_path, {"odd.jpg": odd, "large.png": _png(10_000, 10_000)})
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", NO_WARNINGS, "odd.jpg", "large.png"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.stderr == ""
    turned, refused = ran.stdout.splitlines()
    assert turned == "{(16, 24)}"
    assert refused.startswith("large: not a readable image: ")
    assert "exceeds limit" not in refused  # which is the text of Pillow's warning


def _empty(size):
    return np.zeros((*size, 3), np.uint8)


@pytest.mark.parametrize("box", [(0.0, 0.0, 24.0, 16.0), (3.0, 2.0, 13.0, 9.0)])
def test_a_box_of_whole_pixels_is_cut_out_exactly(box):
    left, top, right, bottom = map(int, box)
    size, expected = (bottom - top, right - left), PIXELS[top:bottom, left:right]
    np.testing.assert_array_equal(crop_and_resize(PIXELS, box, size), expected)
    for antialias in (False, True):
        cut = training_crop(PIXELS, box, _empty(size), antialias=antialias)
        np.testing.assert_array_equal(cut, expected)


ROW = np.repeat(np.array([0, 100, 200, 40], np.uint8)[None, :, None], 3, axis=-1)


def test_bilinear_values_by_hand():
    def resized(left, right, count):
        return crop_and_resize(ROW, (left, 0.0, right, 1.0), (1, count))[0, :, 0].tolist()

    assert resized(0.0, 4.0, 2) == [50, 120]  # centres fall between two pixels
    assert resized(0.0, 2.0, 4) == [0, 25, 75, 125]  # the last reaches beyond the box
    assert resized(0.5, 3.5, 3) == [50, 150, 120]


def test_training_crops_by_hand():
    def crop(left, right, count, antialias=False):
        box = (left, 0.0, right, 1.0)
        return training_crop(ROW, box, _empty((1, count)), antialias=antialias)[0, :, 0].tolist()

    assert crop(0.0, 4.0, 2) == [50, 120]
    assert crop(0.0, 2.0, 4) == [0, 25, 75, 100]  # nothing beyond the box is seen
    assert crop(0.6, 2.6, 2) == [100, 200]  # rounded to whole pixels
    assert crop(3.9, 4.0, 1) == [40]  # of a sliver one pixel is left
    # Triangles of base 4 about 1 and 3, cut at the border: weights 3, 3, 1 and 1, 3, 3.
    assert crop(0.0, 4.0, 2, antialias=True) == [round(500 / 7), round(820 / 7)]


@pytest.mark.parametrize("box", [(0.0, 0.0, 90.0, 70.0), (31.0, 3.0, 52.0, 24.0)])
@pytest.mark.parametrize("size", [(16, 16), (64, 40)])
def test_a_training_crop_is_the_official_one_to_a_grey_level(box, size):
    """Officially the crop is cut out and then resized, so that its edge repeats."""
    pixels = pictures.noise(70, 90)
    left, top, right, bottom = box
    part = pixels[int(top) : int(bottom), int(left) : int(right)]
    expected = crop_and_resize(part, (0.0, 0.0, right - left, bottom - top), size)
    cut = training_crop(pixels, box, _empty(size), antialias=False)
    assert np.abs(cut.astype(int) - expected).max() <= 1
    assert (cut != expected).mean() < 0.2
