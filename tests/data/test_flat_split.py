"""Splits without class folders: TinyImageNet's and ImageNet's own, and labels that do not fit."""

import numpy as np
import pytest
from scipy.io import savemat

from tests.data import pictures
from vit_jax.data.folder import open_folder
from vit_jax.errors import DataError

CLASSES = ("n01", "n02", "n03")
# Of the images of val, in the order of their names.
GIVEN = ["n03", "n01", "n03", "n02"]
IMAGES = [f"ILSVRC2012_val_{i:08}.JPEG" for i in range(1, 5)]


def _training(root):
    files = {f"train/{name}/{name}_{i}.JPEG": b"" for name in CLASSES for i in range(2)}
    return pictures.write(root, files)


def _labels(root, split="val"):
    """Returns {file name: class} of a split."""
    source = open_folder(root, split)
    assert source.class_names == CLASSES == open_folder(root, "train").class_names
    names = [source.class_names[label] for label in source.labels]
    return dict(zip([path.name for path in source.paths], names, strict=True))


def _flat(root, content, name, place="val/"):
    pictures.write(_training(root), {f"{place}{name}": content.encode()})
    return pictures.write(root, dict.fromkeys([f"val/{image}" for image in IMAGES], b""))


def test_tiny_imagenet(tmp_path):
    lines = [f"val_{i}.JPEG\t{name}\t0\t32\t44\t62" for i, name in enumerate(("n03", "n01", "n02"))]
    files = {
        **{f"train/{name}/images/{name}_0.JPEG": b"" for name in CLASSES},
        **{f"train/{name}/{name}_boxes.txt": b"" for name in CLASSES},
        **{f"val/images/val_{i}.JPEG": b"" for i in range(3)},
        "val/val_annotations.txt": "\n".join(lines).encode(),
        **{f"test/images/test_{i}.JPEG": b"" for i in range(3)},
        "wnids.txt": b"n01\nn02\nn03\n",
        "words.txt": b"n01\tfish\n",
    }
    pictures.write(tmp_path, files)
    assert _labels(tmp_path) == {"val_0.JPEG": "n03", "val_1.JPEG": "n01", "val_2.JPEG": "n02"}
    with pytest.raises(DataError, match="test: images without class folders, and no labels"):
        open_folder(tmp_path, "test")


def test_imagenet_with_class_folders(tmp_path):
    files = {f"val/{name}/{image}": b"" for image, name in zip(IMAGES, GIVEN, strict=True)}
    pictures.write(_training(tmp_path), files)
    assert _labels(tmp_path) == dict(zip(IMAGES, GIVEN, strict=True))


LINES = list(zip(IMAGES, GIVEN, strict=True))[::-1]  # a table may come in any order
LABELS = {
    "val_annotations.txt": [f"{image}\t{name}\t0\t0" for image, name in LINES],
    "val_labels.txt": [f"{image} {name}" for image, name in LINES],
    "val_labels.csv": [f"{image},{name}" for image, name in LINES],
    "LOC_val_solution.csv": [
        "ImageId,PredictionString",
        *(f"{image[:-5]},{name} 1 2 3 4 {name} 5 6 7 8 " for image, name in LINES),
    ],
    "imagenet_2012_validation_synset_labels.txt": GIVEN,
    "imagenet2012_validation_labels.txt": GIVEN,
}


@pytest.mark.parametrize("place", ["", "val/"])
@pytest.mark.parametrize("name", LABELS)
def test_tables_and_lists_of_labels(tmp_path, name, place):
    _flat(tmp_path, "\n".join(LABELS[name]) + "\n", name, place)
    assert _labels(tmp_path) == dict(zip(IMAGES, GIVEN, strict=True))


def _development_kit(folder, numbers):
    """Writes a meta.mat, as MATLAB does, with numbers that do not follow the names."""
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O")]
    rows = [(number, name, "a fish") for name, number in zip(CLASSES, numbers, strict=True)]
    synsets = np.array([rows], dtype=kind).T
    savemat(folder / "meta.mat", {"synsets": synsets})


def test_the_numbers_of_imagenet_are_looked_up_in_its_development_kit(tmp_path):
    numbers = {"n01": 3, "n02": 1, "n03": 2}
    truth = "\n".join(str(numbers[name]) for name in GIVEN)
    name = "ILSVRC2012_validation_ground_truth.txt"
    _flat(tmp_path, truth, name, "")
    with pytest.raises(DataError, match=rf"{name}: holds ILSVRC numbers, .*put it beside, as"):
        open_folder(tmp_path, "val")
    _development_kit(tmp_path, numbers.values())
    assert _labels(tmp_path) == dict(zip(IMAGES, GIVEN, strict=True))
    (tmp_path / name).write_text("1\n2\n3\n4\n")
    with pytest.raises(DataError, match=r"meta\.mat: has no class of number 4$"):
        open_folder(tmp_path, "val")
    (tmp_path / "meta.mat").write_bytes(b"no table")
    with pytest.raises(DataError, match=r"meta\.mat: not the development kit's table: "):
        open_folder(tmp_path, "val")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("other.txt", "", "val: images without class folders, and no labels: put them into .*/val/"
         "CLASS/, or add val_labels.txt with 'IMAGE CLASS' on each line .*LOC_val_solution.csv"),
        ("val_labels.txt", f"{IMAGES[0]} n01\n", f"has no line for val/{IMAGES[1]}; add its class"),
        ("val_labels.txt", "\n".join(f"{i} n04" for i in IMAGES), "unknown class 'n04'; did you"),
        ("val_labels.txt", "n01\nn02\n", "lists 2 classes for 4 images; there must be one"),
        ("val_labels.txt", "", "lists 0 classes for 4 images"),
        ("val_labels.txt", "n01\nn02\nn03\nn9\n", "unknown class 'n9'"),
    ],
)  # fmt: skip
def test_labels_that_do_not_fit_are_one_line(tmp_path, name, content, message):
    _flat(tmp_path, content, name)
    with pytest.raises(DataError, match=message) as caught:
        open_folder(tmp_path, "val")
    assert "\n" not in str(caught.value)
    assert len(open_folder(tmp_path, "train")) == 6  # which needs no labels
