"""Images with captions: from folders, tar shards, TFDS and the names of classes."""

import collections
import os
import tarfile

import numpy as np
import pytest

from tests import golden
from tests.data import caption_sets, pictures
from vit_jax.data import tar_index
from vit_jax.data.decoding import decode_pixels
from vit_jax.data.pair_datasets import open_class_pairs, open_pairs
from vit_jax.data.pairs import PairSource
from vit_jax.data.reading import Reader
from vit_jax.errors import ConfigError, DataError


def _all(source):
    return [source.captions(i) for i in range(len(source))]


def _check_images(source, numbers):
    """The images are those of these numbers, and their labels their places."""
    for place, number in enumerate(numbers):
        data, label = source[place]
        assert label == place
        pixels = decode_pixels(data, source.name(place))
        np.testing.assert_array_equal(pixels, pictures.noise(8, 9, seed=number))


def test_text_files_beside_the_images(tmp_path):
    source = open_pairs(str(caption_sets.text_folder(tmp_path, 5, per_image=2)), "train")
    assert isinstance(source, PairSource)
    assert _all(source)[3] == ("image 3, line 0", "image 3, line 1")
    assert source.name(3).endswith("train/003.png")
    assert source.class_names == ()
    assert source.labels.tolist() == [0, 1, 2, 3, 4]
    _check_images(source, range(5))


TABLES = {
    "captions.tsv": "sea/a.png\ta boat\nb.png\ta\u2028hill\r\nsea/a.png\tat sea\n",
    "captions.jsonl": '{"image": "sea/a.png", "caption": ["a boat", "at sea"]}\n\n'
    '{"file_name": "b.png", "text": "a\u2028hill"}\n',
}


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("name", TABLES)
def test_tables_of_captions(name, inside, tmp_path):
    """In the split's folder with paths from there, or in the folder with paths from that."""
    table = TABLES[name]
    if not inside:
        table = table.replace("sea/a", "train/sea/a").replace("b.png", "train/b.png")
    files: dict = {f"train/{path}.png": pictures.noise(8, 9) for path in ("sea/a", "b")}
    files[f"train/{name}" if inside else name] = b"\xef\xbb\xbf" + table.encode()
    source = open_pairs(str(pictures.write(tmp_path, files)), "train")
    assert _all(source) == [("a hill",), ("a boat", "at sea")]


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("captions.jsonl", '{"image": "a.png"}', "captions.jsonl, line 2: must be a JSON object"),
        ("captions.jsonl", '{"image": "a.png", "caption": 7}', "line 2: must be a JSON object"),
        ("captions.jsonl", "[1]", "line 2: must be a JSON object"),
        ("captions.jsonl", "{", "line 2: must be a JSON object"),
        ("captions.tsv", "a.png a boat", "captions.tsv, line 2: must read IMAGE, a tab, CAPTION"),
        ("captions.tsv", "\udcff", "captions.tsv: cannot be read as text"),
    ],
)
def test_tables_that_cannot_be_read(name, line, message, tmp_path):
    good = {"captions.jsonl": '{"image": "a.png", "caption": "x"}', "captions.tsv": "a.png\tx"}
    text = f"{good[name]}\n{line}\n".encode(errors="surrogateescape")
    pictures.write(tmp_path, {"train/a.png": pictures.noise(8, 9), name: text})
    with pytest.raises(DataError, match=message):
        open_pairs(str(tmp_path), "train")


def test_an_undivided_folder_is_split_by_a_hash(tmp_path):
    caption_sets.text_folder(tmp_path, 40, split="photos")
    splits = [open_pairs(str(tmp_path), split) for split in ("train", "test")]
    assert sum(map(len, splits)) == 40
    assert 2 <= len(splits[1]) <= 16
    assert not {*_all(splits[0])} & {*_all(splits[1])}


def test_every_caption_has_its_turn_and_the_draw_is_a_function_of_seed_epoch_and_index(tmp_path):
    source = open_pairs(str(caption_sets.text_folder(tmp_path, 2, per_image=4)), "train")
    drawn = [source.caption(7, epoch, 1) for epoch in range(400)]
    counts = collections.Counter(drawn)
    assert sorted(counts) == [f"image 1, line {j}" for j in range(4)]
    assert min(counts.values()) > 60
    assert drawn == [source.caption(7, epoch, 1) for epoch in range(400)]
    assert drawn != [source.caption(8, epoch, 1) for epoch in range(400)]
    assert [text[-1] for text in drawn] != [source.caption(7, e, 0)[-1] for e in range(400)]


@pytest.mark.parametrize("content", [None, b"", b" \n\t\n"])
def test_an_image_without_a_caption_is_as_one_that_cannot_be_read(content, tmp_path, caplog):
    caption_sets.text_folder(tmp_path, 4)
    file = tmp_path / "train" / "002.txt"
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    source = open_pairs(str(tmp_path), "train")
    with pytest.raises(DataError, match=r"train/002.png: has no caption; .*bad_images=skip"):
        Reader(source).read(2)
    reader = Reader(source, limit=3)
    assert reader.read_or_next(2)[1] == 3
    assert reader.skipped == 1
    assert "002.png: has no caption" in caplog.text


def test_captions_made_of_the_names_of_classes(tmp_path):
    files = {
        f"{split}/{name}/{i}.png": pictures.noise(8, 9, seed=i)
        for split in ("train", "test")
        for i, name in enumerate(("polar_bear", "cat"))
    }
    pictures.write(tmp_path, files)
    templates = ("a photo of a {}.", "{}")
    source = open_class_pairs(str(tmp_path), "test", templates, lambda name: name.replace("_", " "))
    assert source.class_names == ("cat", "polar_bear")
    assert _all(source) == [
        ("a photo of a cat.", "cat"),
        ("a photo of a polar bear.", "polar bear"),
    ]
    _check_images(source, (1, 0))


@pytest.fixture
def shards(tmp_path):
    """Seven samples in two shards to train on, and two to test on."""
    names = {"train-000.tar": 4, "train-001.tar": 3, "test/a.tar": 2}
    return caption_sets.shards(tmp_path, names)


def test_tar_shards(shards):
    train, test = (open_pairs(str(shards), split) for split in ("train", "test"))
    assert _all(train) == [(f"sample {i}",) for i in range(7)]
    assert _all(test) == [("sample 7",), ("sample 8",)]
    assert train.name(4).endswith("train-001.tar, 000004.png")
    _check_images(train, range(7))
    _check_images(test, (7, 8))


def test_shards_are_listed_once_and_again_when_they_change(shards, monkeypatch):
    old = 10**9 * 1_600_000_000
    for file in shards.glob("**/*.tar"):
        os.utime(file, ns=(old, old))
    expected = _all(open_pairs(str(shards), "train"))
    opened = []
    listed = tar_index._members
    monkeypatch.setattr(tar_index, "_members", lambda *g: opened.append(g[0].name) or listed(*g))
    assert _all(open_pairs(str(shards), "train")) == expected
    assert opened == []
    caption_sets.shards(shards, {"train-001.tar": 5})
    assert len(open_pairs(str(shards), "train")) == 9
    assert opened == ["train-001.tar"]


def test_shards_without_a_split_in_their_names_are_split_by_a_hash(tmp_path):
    caption_sets.shards(tmp_path, {"a.tar": 30, "b.tar": 30})
    train, test = (open_pairs(str(tmp_path), split) for split in ("train", "test"))
    assert len(train) + len(test) == 60
    assert sorted(_all(train) + _all(test)) == sorted((f"sample {i}",) for i in range(60))
    assert 3 <= len(test) <= 24
    with pytest.raises(DataError, match=r"no split 'val'; has train and test"):
        open_pairs(str(tmp_path), "val")


def test_members_that_are_no_part_of_a_pair(tmp_path):
    image = caption_sets.image_bytes(0)
    members = {
        "deep/a.png": image,
        "deep/._a.png": b"x",
        "deep/a.cls": b"3",
        "deep/a.json": b'{"caption": "worse"}',
        "deep/a.txt": b"a\nb",
        "b.txt": b"no image",
        "c.PNG": image,
    }
    caption_sets.write_tar(tmp_path / "train.tar", members)
    source = open_pairs(str(tmp_path), "train")
    assert len(source) == 2
    assert source.captions(0) == ("a", "b")
    with pytest.raises(DataError, match=r"train.tar, c.png: has no caption"):
        source.captions(1)


@pytest.mark.parametrize("caption", [b"[", b"7", b'{"caption": 7}', b'{"caption": [7]}', b"\xff"])
def test_json_members_that_hold_no_caption(caption, tmp_path):
    members = {"a.png": caption_sets.image_bytes(0), "a.json": caption}
    caption_sets.write_tar(tmp_path / "train.tar", members)
    with pytest.raises(DataError, match=r"train.tar, a.png: its caption cannot be read"):
        open_pairs(str(tmp_path), "train").captions(0)


def test_shards_that_cannot_be_read(shards):
    file = shards / "train-000.tar"
    whole = file.read_bytes()
    source = open_pairs(str(shards), "train")
    file.write_bytes(whole[:1000])
    with pytest.raises(DataError, match=r"train-000.tar, 000003: ends before its end"):
        source.pairs.image(3)
    with pytest.raises(DataError, match=r"train-000.tar: (ends inside of|not a tar file)"):
        open_pairs(str(shards), "train")
    file.write_bytes(b"not a tar file" * 100)
    with pytest.raises(DataError, match=r"train-000.tar: not a tar file that can be read"):
        open_pairs(str(shards), "train")
    with tarfile.open(file, "w:gz") as tar:
        tar.add(shards / "test" / "a.tar", "a.txt")
    with pytest.raises(DataError, match=r"train-000.tar: not a tar file that can be read"):
        open_pairs(str(shards), "train")
    caption_sets.write_tar(file, {"a.png": b"", "a.jpg": b""})
    with pytest.raises(DataError, match=r"train-000.tar: holds two images called a"):
        open_pairs(str(shards), "train")


def test_tfds(tmp_path):
    name = caption_sets.write_set(tmp_path, {"train": 10, "test": 3})
    train = open_pairs(name, "train[:50%]", str(tmp_path))
    assert _all(train) == [(f"image {i}, line 0", f"image {i}, line 1") for i in range(5)]
    _check_images(train, range(5))
    test = open_pairs(name, "test", str(tmp_path))
    with pytest.raises(DataError, match=r"tiny_captions/1.0.0 test, example 2: has no caption"):
        test.captions(2)


def test_a_dataset_without_captions_says_so():
    with pytest.raises(DataError, match=r"oxford_flowers102.*: has no caption to learn from"):
        open_pairs("oxford_flowers102", "train", str(golden.REPOSITORY / "nowhere"))


@pytest.mark.parametrize(
    ("dataset", "error", "message"),
    [
        ("./nowhere", DataError, "nowhere: no such folder of images with captions"),
        ("digits", ConfigError, "config.dataset='digits': .*; digits has classes: config.captions"),
        ("coco_caption", ConfigError, "config.dataset='coco_caption': .*mean 'coco_captions'"),
    ],
)
def test_datasets_that_are_not_there(dataset, error, message):
    with pytest.raises(error, match=message):
        open_pairs(dataset, "train")


def test_a_folder_without_the_split_or_without_images(tmp_path):
    caption_sets.text_folder(tmp_path, 2)
    with pytest.raises(DataError, match="no split 'test'; has train"):
        open_pairs(str(tmp_path), "test")
    (tmp_path / "val").mkdir()
    with pytest.raises(DataError, match="holds no images for the split 'val'"):
        open_pairs(str(tmp_path), "val")
    (tmp_path / "val").rmdir()
    (tmp_path / "train").rename(tmp_path / "training")
    with pytest.raises(DataError, match="training look like splits"):
        open_pairs(str(tmp_path), "train")
