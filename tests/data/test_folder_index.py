"""The list of a folder's images: what is on it, when it is used again, and when it is made anew."""

import json
import os

import numpy as np
import pytest

from tests.data import pictures
from vit_jax.data import folder_index
from vit_jax.data.folder_index import index_folder, is_image
from vit_jax.errors import DataError
from vit_jax.runtime import cache

FILES = ["train/a/1.jpg", "train/a/2.jpg", "train/b/deep/er/1.jpg", "test/a/9.jpg", "7.png"]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder of images, an empty cache, and directories that count as settled."""
    monkeypatch.setenv("VIT_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(folder_index, "_SETTLED_NS", -(10**9))
    return pictures.write(tmp_path / "photos", dict.fromkeys(FILES, b""))


@pytest.fixture
def listings(monkeypatch):
    """Counts how often a folder is listed."""
    made, listed = [], folder_index._listed

    def counted(root, broken):
        made.append(root)
        return listed(root, broken)

    monkeypatch.setattr(folder_index, "_listed", counted)
    return made


def test_what_lies_where(photos):
    index = index_folder(photos)
    assert index.folders() == ["test", "train"]
    assert index.folders("train") == ["a", "b"]
    assert index.folders("nowhere") == []
    assert index.images("train") == {
        "a": ["train/a/1.jpg", "train/a/2.jpg"],
        "b": ["train/b/deep/er/1.jpg"],
    }
    assert index.images()["test"] == ["test/a/9.jpg"]
    assert (index.loose(), index.loose("train")) == (["7.png"], [])
    assert index.loose("train/a") == ["train/a/1.jpg", "train/a/2.jpg"]


def test_a_folder_that_did_not_change_is_listed_once(photos, listings):
    first = index_folder(photos)
    assert index_folder(photos) == first
    assert index_folder(photos).files == first.files
    assert len(listings) == 1


CHANGES = {
    "a file more": lambda root: (root / "train/b/deep/er/2.jpg").touch(),
    "a file less": lambda root: (root / "train/a/2.jpg").unlink(),
    "another name": lambda root: (root / "train/a/2.jpg").rename(root / "train/a/3.jpg"),
    "a file moved": lambda root: (root / "train/a/2.jpg").rename(root / "test/a/2.jpg"),
    "a class more": lambda root: pictures.write(root, {"train/c/1.jpg": b""}),
    "a class less": lambda root: (root / "train/b").rename(root.parent / "b"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_folder_that_changed_is_listed_anew(photos, listings, change):
    before = index_folder(photos)
    change(photos)
    after = index_folder(photos)
    assert len(listings) == 2
    assert after != before
    for path, names in after.files.items():
        assert all((photos / path / name).is_file() for name in names)


def test_a_time_set_back_does_not_hide_a_change(photos):
    """As archives and copying programs do with the directories they fill."""
    place = photos / "train/a"
    before = place.stat()
    index_folder(photos)
    (place / "3.jpg").touch()
    os.utime(place, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert index_folder(photos).files["train/a"] == ("1.jpg", "2.jpg", "3.jpg")


def test_a_folder_that_changes_just_now_is_not_trusted(photos, listings, monkeypatch):
    monkeypatch.setattr(folder_index, "_SETTLED_NS", 10**12)
    index_folder(photos)
    index_folder(photos)
    assert len(listings) == 2
    assert not cache.cache_folder().exists()


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"version":3}', '{"version":2}'])
def test_a_damaged_list_is_made_anew(photos, damage):
    expected = index_folder(photos)
    (stored,) = cache.cache_folder().rglob("*.json")
    stored.write_text(damage)
    assert index_folder(photos) == expected
    assert json.loads(stored.read_text())["version"] == 3
    assert not list(cache.cache_folder().rglob("*.part"))


def test_a_cache_that_cannot_be_written_costs_only_time(photos, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VIT_JAX_CACHE", str(tmp_path / "file" / "cache"))
    assert index_folder(photos).folders() == ["test", "train"]


def test_nothing_is_written_into_the_folder(photos):
    index_folder(photos)
    assert sorted(path.name for path in photos.iterdir()) == ["7.png", "test", "train"]


def test_each_folder_has_a_list_of_its_own(photos, tmp_path):
    other = pictures.write(tmp_path / "other", {"x/1.jpg": b""})
    assert index_folder(photos).folders() == ["test", "train"]
    assert index_folder(other).folders() == ["x"]
    assert index_folder(photos).folders() == ["test", "train"]


def test_the_cache_lies_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("VIT_JAX_CACHE", "~/here")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "here"
    monkeypatch.delenv("VIT_JAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_folder() == tmp_path / "xdg" / "vit_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_folder() == tmp_path / ".cache" / "vit_jax"


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_a_file_of_unknown_extension_is_told_by_its_content(tmp_path, form):
    content = pictures.encoded(pictures.noise(4, 4), form)
    assert is_image(content[:12])
    files = {"image": content, "n01.img": content, "words": b"some words, no image", "none": b""}
    pictures.write(tmp_path, files)
    assert index_folder(tmp_path).loose() == ["image", "n01.img"]


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1", b"avif"])
def test_photographs_of_telephones_are_images_whatever_they_are_called(tmp_path, brand):
    content = b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0"
    pictures.write(tmp_path, {"1.HEIC": b"", "2.avif": b"", "3.heif": b"", "4": content})
    pictures.write(tmp_path, {"film": b"\0\0\0\x18ftypisom\0\0\0\0"})
    assert index_folder(tmp_path).loose() == ["1.HEIC", "2.avif", "3.heif", "4"]


@pytest.mark.parametrize("start", [b"", b"BM", b"BMW and other", b"RIFF....WAVE", b"\xff\xd8"])
def test_starts_of_other_files(start):
    assert not is_image(start[:12])


def test_a_known_extension_is_taken_at_its_word_and_not_opened(tmp_path):
    """Opening a million files would take minutes; the decoder names those that are none."""
    content = pictures.encoded(pictures.noise(4, 4))
    pictures.write(tmp_path, {"1.jpg": b"", "2.jpg": content, "3.txt": content, "4.json": content})
    for path in tmp_path.iterdir():
        path.chmod(0)
    assert index_folder(tmp_path).loose() == ["1.jpg", "2.jpg"]


def test_clutter_is_passed_over(tmp_path):
    names = ["Thumbs.db", ".DS_Store", "._1.jpg", "__MACOSX/1.jpg", "@eaDir/1.jpg", "desktop.ini"]
    pictures.write(tmp_path, dict.fromkeys(names, b"\xff\xd8\xff"))
    assert index_folder(tmp_path).files == {"": ()}


def test_links_are_followed_and_those_that_lead_back_are_not(photos, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "5.jpg").touch()
    for name in ("c", "d"):  # one folder for two classes is odd, but is what was asked for
        (photos / "train" / name).symlink_to(tmp_path / "elsewhere")
    (photos / "train" / "back").symlink_to(photos)
    (photos / "train" / "a" / "0.jpg").symlink_to(tmp_path / "elsewhere" / "5.jpg")
    (photos / "train" / "a" / "gone.jpg").symlink_to(tmp_path / "missing.jpg")
    images = index_folder(photos).images("train")
    assert images["c"] == ["train/c/5.jpg"]
    assert images["d"] == ["train/d/5.jpg"]
    assert images["a"] == ["train/a/0.jpg", "train/a/1.jpg", "train/a/2.jpg"]
    assert not images.get("back")


def test_what_broken_links_lead_to_is_seen_when_it_is_there(photos, tmp_path, listings, caplog):
    """As where a disk is mounted after a first start: no directory of the folder changes."""
    disk = tmp_path / "disk"
    (photos / "train" / "c").symlink_to(disk / "c")
    (photos / "train" / "b" / "2.jpg").symlink_to(disk / "2.jpg")
    assert "c" not in index_folder(photos).folders("train")
    assert "2 links lead nowhere, such as " in caplog.text
    pictures.write(disk, {"c/1.jpg": b"", "2.jpg": b""})
    caplog.clear()
    images = index_folder(photos).images("train")
    assert images["c"] == ["train/c/1.jpg"]
    assert "train/b/2.jpg" in images["b"]
    assert caplog.text == ""
    assert index_folder(photos).images("train") == images
    assert len(listings) == 2


def test_a_directory_that_cannot_be_read_is_named(photos, monkeypatch):
    scandir = os.scandir

    def denied(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(folder_index.os, "scandir", denied)
    with pytest.raises(DataError, match=r"photos/train/b/deep: cannot be read: Permission denied$"):
        index_folder(photos)


def test_names_of_any_characters_go_through_the_cache(photos, listings):
    names = ("a b.jpg", "ü\u0308.jpg", "新しい.jpg", 'quote".jpg', os.fsdecode(b"\xff\xfe.jpg"))
    for name in names:
        (photos / "test" / "a" / name).touch()
    first = index_folder(photos).files["test/a"]
    assert index_folder(photos).files["test/a"] == first
    assert set(names) < set(first)
    assert len(listings) == 1


def test_order_is_that_of_names_whatever_the_file_system_says(tmp_path):
    names = [f"{i:03}.jpg" for i in np.random.default_rng(0).permutation(50)]
    pictures.write(tmp_path, dict.fromkeys(names, b""))
    assert index_folder(tmp_path).loose() == sorted(names)
