"""Binary PPM: pixels as they lie in the file, by a short way that Pillow's agrees with."""

import numpy as np
import pytest

from tests.data import pictures
from vit_jax.data.decoding import decode, decode_box, decode_pixels
from vit_jax.data.folder import open_folder
from vit_jax.data.packing import pack
from vit_jax.data.ppm import as_ppm, open_ppm
from vit_jax.errors import DataError

PIXELS = pictures.noise(11, 7)


def test_pixels_go_there_and_back_without_a_copy():
    data = as_ppm(PIXELS)
    found = open_ppm(data)
    assert found is not None
    np.testing.assert_array_equal(found, PIXELS)
    assert not found.flags.owndata
    np.testing.assert_array_equal(np.asarray(decode(data, "x")), PIXELS)  # Pillow's way
    pixels, box = decode_box(data, "x", lambda size: (1.0, 2.0, size[0] - 1.0, 9.0))
    np.testing.assert_array_equal(pixels, PIXELS)
    assert box == (1.0, 2.0, 6.0, 9.0)


def test_other_headers_go_by_way_of_pillow():
    data = as_ppm(PIXELS)
    commented = data.replace(b"P6\n", b"P6\n# drawn by hand\n", 1)
    assert open_ppm(commented) is None
    np.testing.assert_array_equal(decode_pixels(commented, "x"), PIXELS)
    assert open_ppm(pictures.encoded(PIXELS, "PNG")) is None


@pytest.mark.parametrize(
    "data",
    [
        as_ppm(PIXELS)[:-1],
        b"P6\n0 0\n255\n",
        b"P6\n99999999 99999999\n255\nshort",
        b"P6\n7 11\n",
    ],
)
def test_damage_is_an_error_that_names_the_file(data):
    assert open_ppm(data) is None
    with pytest.raises(DataError, match=r"a\.ppm"):
        decode_pixels(data, "a.ppm")


def test_a_folder_packed_as_ppm_has_the_pixels_of_its_source(tmp_path):
    files = {f"train/{name}/{i}.png": pictures.noise(9, 12, seed=i) for i, name in enumerate("ab")}
    source = open_folder(pictures.write(tmp_path / "photos", files), "train")
    packed = pack(source, tmp_path / "raw" / "train", size=64, kind="ppm")
    found = open_folder(tmp_path / "raw", "train")
    assert [path.suffix for path in found.paths] == [".ppm", ".ppm"]
    for index in range(2):
        expected = decode_pixels(source[index][0], "")
        np.testing.assert_array_equal(decode_pixels(found[index][0], ""), expected)
    assert packed.bytes == 2 * (9 * 12 * 3 + len(b"P6\n12 9\n255\n"))
