"""Files of several valid labels an image, matched to the images of a split."""

import dataclasses
import json

import numpy as np
import pytest

from tests.data import pictures, tfds_sets
from vit_jax.data.datasets import open_dataset
from vit_jax.data.folder import open_folder
from vit_jax.data.holding import hold
from vit_jax.data.real_labels import read_real_labels
from vit_jax.data.records import RecordSource
from vit_jax.data.sources import ArraySource
from vit_jax.errors import DataError


@pytest.fixture
def folder(tmp_path):
    """Images whose file names do not follow the order of their classes."""
    places = ("test/ant/3.png", "test/ant/1.png", "test/bee/2.png")
    pictures.write(tmp_path / "photos", {place: pictures.noise(4, 4) for place in places})
    return open_folder(tmp_path / "photos", "test")


def write(tmp_path, content):
    path = tmp_path / "real.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_list_is_in_the_order_of_file_names(folder, tmp_path):
    valid = read_real_labels(write(tmp_path, [[0], [0, 1], []]), folder)
    names = [folder.name(place)[-5] for place in range(3)]
    assert dict(zip(names, valid, strict=True)) == {"1": {0}, "2": {0, 1}, "3": set()}


def test_an_object_goes_by_file_name(folder, tmp_path):
    given = {"3.png": [1], "1.png": [], "2.png": [0], "elsewhere.png": [1]}
    valid = read_real_labels(write(tmp_path, given), folder)
    assert [given[f"{folder.name(place)[-5]}.png"] for place in range(3)] == [*map(list, valid)]


def test_files_in_memory_keep_their_names(folder, tmp_path):
    held = hold(folder, 10**6)
    assert isinstance(held, ArraySource)
    for given in ([[0], [0, 1], []], {"3.png": [1], "1.png": [], "2.png": [0]}):
        path = write(tmp_path, given)
        assert [*read_real_labels(path, held)] == [*read_real_labels(path, folder)]


def test_images_in_memory_have_the_order_of_their_own(tmp_path):
    images = np.stack([pictures.noise(4, 4)] * 12)
    source = ArraySource(images, np.zeros(12, np.int32), ("ant", "bee"))
    given = [[place % 2] for place in range(12)]
    assert [*map(list, read_real_labels(write(tmp_path, given), source))] == given


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[[0], ", "not readable as JSON"),
        (3, "list of lists"),
        ([[0], [1]], "2 lists for 3 images"),
        ([[0], [1], [2]], r"\[2\] must be a list of class indices from 0 to 1"),
        ([[0], [1], 1], "1 must be a list of class indices"),
        ({"1.png": [0]}, r"no entry for .*\.png \(2 images"),
    ],
)
def test_what_does_not_fit_is_one_line(content, says, folder, tmp_path):
    with pytest.raises(DataError, match=says):
        read_real_labels(write(tmp_path, content), folder)


@pytest.fixture(params=["array_record", "tfrecord"])
def imagenet(request, tmp_path):
    """Three validation images of ImageNet by TFDS, of files 100, 99 and 98 in this order."""
    tfds_sets.write_set(tmp_path / "tfds", "imagenet2012", {"validation": 3}, request.param)
    return open_dataset("imagenet2012", "validation", None, str(tmp_path / "tfds"))


def test_records_go_by_the_file_names_that_they_hold(imagenet, tmp_path):
    in_order = read_real_labels(write(tmp_path, [[98], [], [7, 100]]), imagenet)
    assert in_order == [{7, 100}, set(), {98}]
    names = [f"ILSVRC2012_val_{number:08}.JPEG" for number in (98, 99, 100)]
    given = dict(zip(names, [[98], [], [7, 100]], strict=True))
    assert read_real_labels(write(tmp_path, given), imagenet) == in_order


def test_names_in_records_are_read_when_asked_for(tmp_path, monkeypatch):
    tfds_sets.write_set(tmp_path, "imagenet2012", {"validation": 3})
    asked, own = [], RecordSource._file_name

    def noted(source, index):
        asked.append(index)
        return own(source, index)

    monkeypatch.setattr(RecordSource, "_file_name", noted)
    source = open_dataset("imagenet2012", "validation", None, str(tmp_path))
    assert source.labels.tolist() == [0, 1, 0]
    assert asked == []
    read_real_labels(write(tmp_path, [[0]] * 3), source)
    assert sorted(asked) == [0, 1, 2]


@pytest.mark.parametrize("content", [[[0]] * 3, {"1.png": [0]}])
def test_records_without_file_names_are_refused(content, tmp_path):
    tfds_sets.write_set(tmp_path, "mnist", {"test": 3})
    source = open_dataset("mnist", "test", None, str(tmp_path))
    with pytest.raises(DataError, match="keeps none; evaluate on a folder"):
        read_real_labels(write(tmp_path, content), source)


def test_a_record_that_lacks_its_file_name_says_so(imagenet, tmp_path):
    damaged = dataclasses.replace(imagenet, file_name="elsewhere")
    with pytest.raises(DataError, match="validation, example 0: has no elsewhere"):
        read_real_labels(write(tmp_path, [[0]] * 3), damaged)


def test_a_source_without_file_names_is_refused(tmp_path):
    class Records:
        class_names, labels = ("ant", "bee"), np.zeros(1, np.int32)

        def __len__(self):
            return 1

        def __getitem__(self, index):
            return b"", 0

        def name(self, index):
            return "example 0"

    with pytest.raises(DataError, match="file names, but this dataset keeps none"):
        read_real_labels(write(tmp_path, [[0]]), Records())
