"""Files of several valid labels an image, matched to the images of a split."""

import json

import numpy as np
import pytest

from tests.data import pictures
from vit_jax.data.folder import open_folder
from vit_jax.data.holding import hold
from vit_jax.data.real_labels import read_real_labels
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


def test_a_source_without_file_names_is_refused(tmp_path):
    class Records:
        class_names, labels = ("ant", "bee"), np.zeros(1, np.int32)

        def __len__(self):
            return 1

        def __getitem__(self, index):
            return b"", 0

        def name(self, index):
            return "example 0"

    with pytest.raises(DataError, match="file names, which this dataset does not keep"):
        read_real_labels(write(tmp_path, [[0]]), Records())
