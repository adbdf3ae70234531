"""Small JPEG files out of any dataset: the same examples in the same order, and less to load."""

import numpy as np
import pytest
from PIL import Image

from tests.data import pictures
from vit_jax.data.arrays import from_arrays
from vit_jax.data.decoding import decode
from vit_jax.data.folder import open_folder
from vit_jax.data.packing import pack
from vit_jax.errors import DataError
from vit_jax.main import main

SIZES = ((40, 60), (64, 32), (20, 90))  # (height, width)


@pytest.fixture
def photos(tmp_path):
    files = {
        f"{split}/{'ab'[i % 2]}/{i:02}.png": pictures.smooth(*SIZES[i % 3]) // 2 + 9 * i
        for split in ("train", "test")
        for i in range(12)
    }
    return pictures.write(tmp_path / "photos", files)


def test_a_packed_folder_holds_the_same_examples_in_the_same_order(photos, tmp_path):
    source = open_folder(photos, "train")
    packed = pack(source, tmp_path / "small" / "train", size=32)
    found = open_folder(tmp_path / "small", "train")
    assert found.class_names == source.class_names
    np.testing.assert_array_equal(found.labels, source.labels)
    for index in range(len(source)):
        large, small = decode(source[index][0], ""), decode(found[index][0], "")
        assert min(small.size) == min(32, *large.size)
        assert small.width / small.height == pytest.approx(large.width / large.height, rel=0.03)
        expected = large.resize(small.size, Image.Resampling.BICUBIC)
        np.testing.assert_allclose(np.asarray(small), np.asarray(expected), atol=12)
    assert packed.images == 12
    assert packed.bytes == sum(path.stat().st_size for path in found.paths)


def test_a_small_jpeg_is_copied_as_it_is(tmp_path):
    data = pictures.encoded(pictures.smooth(20, 30), "JPEG")
    files = {f"train/{name}/1.jpg": data for name in "ab"}
    source = open_folder(pictures.write(tmp_path / "photos", files), "train")
    pack(source, tmp_path / "small" / "train", size=32)
    assert (tmp_path / "small" / "train" / "b" / "00000001.jpg").read_bytes() == data


def test_arrays_are_packed_too(tmp_path):
    images = np.stack([np.full((8, 8, 3), 40 * i, np.uint8) for i in range(6)])
    source = from_arrays(images, [0, 1, 0, 1, 1, 0], ["cat", "dog"])
    pack(source, tmp_path / "small" / "train")
    found = open_folder(tmp_path / "small", "train")
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1]
    order = [0, 2, 5, 1, 3, 4]
    for index, place in enumerate(order):
        np.testing.assert_allclose(np.asarray(decode(found[index][0], "")), images[place], atol=2)


def test_the_same_call_goes_on_where_another_stopped(photos, tmp_path):
    source, target = open_folder(photos, "train"), tmp_path / "small" / "train"
    whole = pack(source, target)
    paths = sorted(target.rglob("*.jpg"))
    before = {path: path.stat().st_mtime_ns for path in paths}
    paths[3].unlink()
    assert pack(source, target) == whole
    folders = [target / "a", target / "b"]
    assert sorted(target.rglob("*")) == sorted([*paths, *folders, target / ".packed.json"])
    for path in paths:
        assert (path.stat().st_mtime_ns == before[path]) == (path != paths[3])


def test_a_target_keeps_to_what_it_was_begun_with(photos, tmp_path):
    """Numbers name the files: those of another packing would be taken for its own."""
    source, target = open_folder(photos, "train"), tmp_path / "small"
    pack(source, target, size=16)
    for size, quality, kind in ((24, 85, "jpeg"), (16, 50, "jpeg"), (16, 85, "ppm")):
        with pytest.raises(DataError, match="small: holds other files, or those of another source"):
            pack(source, target, size, quality, kind=kind)
    pictures.write(photos, {"train/a/0.png": pictures.smooth(20, 30)})
    with pytest.raises(DataError, match="name another folder, or delete this one"):
        pack(open_folder(photos, "train"), target, size=16)
    with pytest.raises(DataError, match="photos: holds other files"):
        pack(source, photos)


def test_a_source_is_never_packed_into_itself(photos, capsys, monkeypatch):
    before = sorted(photos.rglob("*"))
    for source, target in ((photos, photos), (photos, photos / "inner"), (".", "small")):
        monkeypatch.chdir(photos)
        assert main(["pack", str(source), str(target), "--size=16"]) == 2
        assert "lies in the source" in capsys.readouterr().err
    assert sorted(photos.rglob("*")) == before


def test_what_cannot_be_packed_is_named(photos, tmp_path):
    source = open_folder(photos, "train")
    source.paths[5].write_text("no image")
    with pytest.raises(DataError, match=f"^{source.paths[5]}: not an image"):
        pack(source, tmp_path / "small")
    named = from_arrays(np.zeros((2, 8, 8, 3), np.uint8), [0, 1], ["cat", "a/b"])
    with pytest.raises(DataError, match="class 'a/b' cannot name a folder"):
        pack(named, tmp_path / "other")


def test_the_command(photos, tmp_path, capsys):
    target = tmp_path / "so small"
    assert main(["pack", str(photos), str(target), "--size=16"]) == 0
    said = capsys.readouterr().out
    assert f"vit_jax train --config='folder:{target}' --workdir" in said
    assert f"{target}/train  12 images" in said
    assert f"{target}/test  12 images" in said
    assert len(open_folder(target, "test")) == 12
    for flag, says in (
        ("--size=0", "--size=0: must be at least 1"),
        ("--quality=99", "--quality=99: must be from 1 to 95"),
        ("--splits=train,tset", "no split 'tset'"),
    ):
        assert main(["pack", str(photos), str(target), flag]) in (2, 3)
        assert says in capsys.readouterr().err
