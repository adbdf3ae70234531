"""What a folder is found to be, and what is said of one that cannot be learned from."""

import pytest

from tests.choosing.setting import photographs
from tests.data import pictures
from vit_jax.choosing.data import read_facts
from vit_jax.data.held_out import is_test
from vit_jax.errors import DataError

PIXELS = pictures.noise(4, 5)


def test_counts_sizes_and_splits(tmp_path):
    root = photographs(tmp_path / "photos", train=6, test=2)
    pictures.write(root, {"train/dark/more.png": pictures.noise(90, 50)})
    found = read_facts(str(root))
    assert (found.classes, found.train, found.test) == (2, 13, 4)
    assert (found.fewest, found.most, found.side) == (6, 7, 40)
    assert (found.train_split, found.test_split, found.held_out) == ("train", "test", False)


def test_test_images_lie_where_they_lie(tmp_path):
    names = ["train/a/1.png", "train/a/2.png", "train/b/1.png", "train/b/2.png"]
    for split in ("validation", "val", "test"):  # each goes before those above
        names += [f"{split}/a/1.png", f"{split}/b/1.png"]
        pictures.write(tmp_path, dict.fromkeys(names, PIXELS))
        assert read_facts(str(tmp_path)).test_split == split


def test_a_fifth_is_held_out_of_a_folder_without_parts(tmp_path):
    names = [f"{name}/{i}.png" for name in "ab" for i in range(40)]
    found = read_facts(str(pictures.write(tmp_path, dict.fromkeys(names, PIXELS))))
    assert found.test == sum(map(is_test, names))
    assert found.train == 80 - found.test
    assert found.held_out


def test_damaged_images_are_left_to_training(tmp_path):
    root = photographs(tmp_path / "photos")
    (root / "train/dark/0.png").write_bytes(b"no image")
    assert read_facts(str(root)).side == 40


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a/1.png", "a/2.png"], "one class only"),
        ([], "no class folders"),
        (["train/a/1.png", "train/b/1.png"], r"no test/.*a fifth of the images by naming .*train"),
        (["test/a/1.png", "test/b/1.png"], r"has test/, but no train/"),
        (["Train/a/1.png", "Test/b/1.png"], r"look like splits.*rename them to test, train"),
        (
            ["train/a/1.png", "train/a/2.png", "train/b/1.png", "test/a/1.png", "test/b/1.png"],
            r"class 'b' has 1 image to train on; each class needs 2",
        ),
        (["train/a/1.png", "train/a/2.png", "train/b/1.txt", "test/a/1.png"], "'b' has no images"),
    ],
)
def test_what_cannot_be_learned_from(tmp_path, names, words):
    pictures.write(tmp_path, dict.fromkeys(names, PIXELS))
    with pytest.raises(DataError, match=words):
        read_facts(str(tmp_path))


def test_a_missing_folder_names_the_nearest(tmp_path):
    photographs(tmp_path / "photos", 2, 1)
    with pytest.raises(DataError, match=r"no such image folder; did you mean 'photos'"):
        read_facts(str(tmp_path / "photo"))


def test_a_folder_of_damaged_images(tmp_path):
    names = [
        f"{split}/{name}/{i}.png" for split in ("train", "test") for name in "ab" for i in "12"
    ]
    pictures.write(tmp_path, dict.fromkeys(names, b"no image"))
    with pytest.raises(DataError, match="nor any other"):
        read_facts(str(tmp_path))
