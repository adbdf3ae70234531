"""Image folders: what is found, in which order, and what is said where something is missing."""

import numpy as np
import pytest

from tests import golden
from tests.data import pictures
from vit_jax.data.decoding import decode
from vit_jax.data.folder import open_folder
from vit_jax.data.held_out import is_test
from vit_jax.errors import DataError

PIXELS = pictures.noise(4, 5)


def _folder(root, *names):
    return pictures.write(root, dict.fromkeys(names, PIXELS))


def _found(source, root):
    return [path.relative_to(root).as_posix() for path in source.paths]


def test_split_folders_give_examples_labels_and_classes(tmp_path):
    _folder(tmp_path, "train/dog/b.png", "train/cat/1.png", "train/dog/a.png",
            "test/dog/z.png", "test/cat/y.png")  # fmt: skip
    train, test = open_folder(tmp_path, "train"), open_folder(str(tmp_path), "test")
    assert _found(train, tmp_path) == ["train/cat/1.png", "train/dog/a.png", "train/dog/b.png"]
    assert train.labels.tolist() == [0, 1, 1]
    assert _found(test, tmp_path) == ["test/cat/y.png", "test/dog/z.png"]
    assert train.class_names == test.class_names == ("cat", "dog")
    data, label = train[1]
    assert (data, label) == ((tmp_path / "train/dog/a.png").read_bytes(), 1)
    assert train.name(1) == str(tmp_path / "train/dog/a.png")


def test_only_visible_image_files_count_whatever_their_depth_and_case(tmp_path):
    wanted = {"train/a/1.PNG", "train/a/2.JpG", "train/a/deep/er/3.webp", "train/b/4.jpeg"}
    _folder(tmp_path, *wanted, "train/a/.hidden.png", "train/a/.thumbnails/1.png",
            "train/.cache/5.png", "train/6.png", "7.png", "notes/8.png")  # fmt: skip
    pictures.write(
        tmp_path, {"train/a/.DS_Store": b"", "train/a/readme.txt": b"", ".DS_Store": b""}
    )
    (tmp_path / "train/a/folder.png").mkdir()
    source = open_folder(tmp_path, "train")
    assert set(_found(source, tmp_path)) == wanted
    assert source.class_names == ("a", "b")


def test_a_dataset_below_a_hidden_folder_is_seen(tmp_path):
    root = _folder(tmp_path / ".data", "train/a/1.png", "train/b/2.png")
    assert len(open_folder(root, "train")) == 2


@pytest.mark.parametrize("name", ["train", "val", "validation", "test"])
def test_split_names(tmp_path, name):
    _folder(tmp_path, f"{name}/a/1.png", f"{name}/b/1.png")
    assert len(open_folder(tmp_path, name)) == 2


@pytest.mark.parametrize(
    ("files", "split", "message"),
    [
        (["train/a/1.png"], "test", "{root}: no split 'test'; has train (set config.pp.test"),
        (["a/1.png"], "val", "{root}: no split 'val'; a folder without split folders has train"),
        (["1.png"], "train", "{root}: holds no class folders; expected {root}/CLASS/*.jpg"),
        (["train/1.png"], "train", "{root}/train: holds no class folders; expected"),
        (["train/a/1.png", "train/b/x.txt"], "train", "{root}/train/b: class 'b' has no images"),
        (["train/a/1.png", "train/b/2.png", "test/a/3.png"], "test",
         "{root}/test/b: class 'b' has no images"),
        (["train/a/1.png", "test/a/3.png", "test/b/3.png"], "train",
         "{root}/train/b: class 'b' has no images"),
        (["a/3.png", "b/3.png"], "test", "{root}/a: class 'a' has no images in its test share;"),
        (["a/x.txt", "b/x.txt"], "train", "{root}: holds no images in its 2 class folders"),
        (["train/a/x.txt", "train/b/x.txt"], "train", "{root}/train: holds no images in its 2"),
        (["a/1.png"], "train", "{root}: holds one class only ('a'); a classifier needs two"),
        (["train/a/1.png"], "train", "{root}/train: holds one class only ('a'); a classifier"),
        (["Cat/1.png", "cat/1.png"], "train", "{root}: classes 'Cat' and 'cat' differ in case"),
        (["train/Cat/1.png", "test/cat/1.png"], "train", "{root}/train: classes 'Cat' and 'cat'"),
        (["test/a/1.png", "val/a/1.png"], "train", "{root}: no split 'train'; has test, val"),
        (["Training/a/1.png", "Testing/a/1.png"], "train",
         "{root}: Testing, Training look like splits, which are not told from classes by these "
         "names; rename them to test, train"),
        (["training_set/a/1.png", "test_set/a/1.png", "notes/x.txt"], "test",
         "{root}: test_set, training_set look like splits"),
        (["train/a/1.png", "valid/a/1.png"], "test",
         "{root}: no split 'test'; has train (set config.pp.test or config.pp.train; or rename "
         "valid to train, val, validation, test)"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_in_one_line(tmp_path, files, split, message):
    _folder(tmp_path, *files)
    with pytest.raises(DataError) as caught:
        open_folder(tmp_path, split)
    assert str(caught.value).startswith(message.replace("{root}", str(tmp_path)))
    assert "\n" not in str(caught.value)


def test_classes_may_be_called_nearly_as_splits_are(tmp_path):
    _folder(tmp_path, "training/1.png", "training/2.png", "walking/1.png", "walking/2.png")
    assert open_folder(tmp_path, "train").class_names == ("training", "walking")


def test_photographs_that_cannot_be_read_stay_and_are_counted(tmp_path, caplog):
    files = {f"train/phone/{i}.HEIC": b"" for i in range(3)}
    pictures.write(tmp_path, files | {"train/web/1.jpg": b"", "test/web/2.jpg": b""})
    source = open_folder(tmp_path, "train")
    assert len(source) == 4
    assert "3 of 4 images (train/phone/0.HEIC …) are HEIC" in caplog.text
    assert "convert them to JPEG" in caplog.text


def test_a_missing_folder_names_the_nearest(tmp_path):
    (tmp_path / "cats_dogs").mkdir()
    (tmp_path / "cat_dogs.zip").touch()  # no folder
    with pytest.raises(DataError, match="cat_dogs: no such image folder; did you mean 'cats_dogs'"):
        open_folder(tmp_path / "cat_dogs", "train")
    with pytest.raises(DataError, match=r"no such image folder$"):
        open_folder(tmp_path / "no" / "where", "train")


def test_a_file_that_vanishes_is_named(tmp_path):
    source = open_folder(_folder(tmp_path, "train/a/1.png", "train/b/1.png"), "train")
    source.paths[0].unlink()
    with pytest.raises(DataError, match=r"train/a/1\.png: cannot be read: No such file"):
        source[0]


def _single_level(root, count):
    """Makes empty files, of two classes: only their names matter."""
    pictures.write(root, {f"{'ab'[i % 2]}/{i}.png": b"" for i in range(count)})
    return {split: set(_found(open_folder(root, split), root)) for split in ("train", "test")}


def test_a_single_level_is_split_by_hash_and_adding_files_moves_none(tmp_path):
    before = _single_level(tmp_path, 1000)
    assert not before["train"] & before["test"]
    assert len(before["train"] | before["test"]) == 1000
    assert 160 < len(before["test"]) < 240  # 20 %, within three standard deviations
    after = _single_level(tmp_path, 1100)
    assert before["train"] < after["train"]
    assert before["test"] < after["test"]
    assert open_folder(tmp_path, "train").class_names == ("a", "b")


@pytest.mark.parametrize(
    ("numbers", "test"),
    [
        (range(8), {3}),  # no hash of these says test
        ([8, 11, 14], {8, 14}),  # those of all do
        (range(9), {8}),  # as the hashes say
    ],
)
def test_few_images_of_a_class_are_in_both_shares(tmp_path, numbers, test):
    names = [f"cat/{i}.jpg" for i in numbers]
    pictures.write(tmp_path, dict.fromkeys([*names, *(f"dog/{i}.jpg" for i in range(20))], b""))
    found = {split: set(_found(open_folder(tmp_path, split), tmp_path)) & set(names)
             for split in ("train", "test")}  # fmt: skip
    assert found["test"] == {f"cat/{i}.jpg" for i in test}
    assert found["train"] == set(names) - found["test"]


def test_the_hash_of_a_path_never_changes():
    """Or models would be tested on what an earlier version of this program trained them on."""
    held_out = [i for i in range(20) if is_test(f"cat/{i}.jpg")]
    assert held_out == [8, 11, 14]


def test_the_folder_between_a_class_and_its_images_is_no_class(tmp_path):
    _folder(tmp_path, "train/n01/images/n01_0.png", "train/n02/images/n02_0.png")
    pictures.write(tmp_path, {"train/n01/n01_boxes.txt": b"n01_0.png\t0\t0\t62\t57\n"})
    source = open_folder(tmp_path, "train")
    assert source.class_names == ("n01", "n02")
    assert _found(source, tmp_path) == ["train/n01/images/n01_0.png", "train/n02/images/n02_0.png"]


def test_photographs():
    root = golden.shared("data", "cats_dogs")
    train, test = open_folder(root, "train"), open_folder(root, "test")
    assert (len(train), len(test)) == (80, 30)
    assert train.class_names == test.class_names == ("cats", "dogs")
    assert np.bincount(test.labels).tolist() == [15, 15]
    sizes = [decode(test[i][0], test.name(i)).size for i in range(len(test))]
    assert min(min(size) for size in sizes) >= 100
    assert max(max(size) for size in sizes) <= 1050


def test_cifar():
    root = golden.shared("data", "cifar10_small")
    train, test = open_folder(root, "train"), open_folder(root, "test")
    assert np.bincount(train.labels).tolist() == [60] * 10
    assert np.bincount(test.labels).tolist() == [20] * 10
    assert train.class_names == test.class_names
    assert train.class_names[:3] == ("airplane", "automobile", "bird")
