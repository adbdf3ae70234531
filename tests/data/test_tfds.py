"""Datasets of TFDS by name: written by its own writer, read without TensorFlow."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tests import golden
from tests.data import pictures, tfds_sets
from vit_jax.data import records
from vit_jax.data.datasets import open_dataset
from vit_jax.data.decoding import decode
from vit_jax.data.holding import hold
from vit_jax.data.records import RecordSource
from vit_jax.data.sources import ArraySource
from vit_jax.errors import DataError

COUNTS = {"train": 20, "test": 10}


@pytest.fixture(scope="module", params=["array_record", "tfrecord"])
def prepared(request, tmp_path_factory):
    """A folder in which some datasets lie prepared."""
    root = tmp_path_factory.mktemp(request.param)
    for name in tfds_sets.OTHERS:
        tfds_sets.write_set(root, name, COUNTS, request.param)
    return root


def _open(root, name, split="train"):
    source = open_dataset(name, split, None, str(root))
    assert isinstance(source, RecordSource)
    return source


def _numbers(source, name):
    """Returns which of the examples written a source holds, in its order."""
    shape = tfds_sets.image_shape(name)
    numbers = {decode(_rgb(tfds_sets.image_of(n, shape)), "").tobytes(): n for n in range(30)}
    return [numbers[decode(source[i][0], "").tobytes()] for i in range(len(source))]


def _rgb(pixels):
    return pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=-1)


@pytest.mark.parametrize("name", tfds_sets.OTHERS)
def test_images_labels_and_classes(prepared, name):
    train, test = _open(prepared, name), _open(prepared, name, "test")
    assert _numbers(train, name) == list(range(20))
    assert _numbers(test, name) == list(range(20, 30))
    assert train.labels.tolist() == [i % 2 for i in range(20)]
    assert train.labels.dtype == np.int32
    assert train.class_names == test.class_names


CLASSES = {
    "cifar10": (10, ("0", "1")),  # of which the downloaded archive has the names
    "cats_vs_dogs": (2, ("cat", "dog")),
    "imagenet2012": (1000, ("n01440764", "n01443537")),
    "oxford_iiit_pet": (37, ("Abyssinian", "american_bulldog")),
}


@pytest.mark.parametrize("name", CLASSES)
def test_names_of_classes_are_those_of_the_dataset(prepared, name):
    names = _open(prepared, name).class_names
    assert (len(names), names[:2]) == CLASSES[name]


SPLITS = {
    "train[:50%]": range(10),
    "train[10%:20%]+test": [2, 3, *range(20, 30)],
    "train[5:9]": range(5, 9),
    "train[-3:]": range(17, 20),
    "test[:1]+train[:1]": [20, 0],
    "train[:33%]": range(7),
}


@pytest.mark.parametrize("split", SPLITS)
def test_parts_of_splits(prepared, split):
    source = _open(prepared, "cifar10", split)
    assert _numbers(source, "cifar10") == list(SPLITS[split])
    assert source.name(0) == f"cifar10/3.0.2 {split}, example 0"


def test_versions_and_configurations_may_be_named(prepared):
    for name in ("cifar10:3.0.2", "cifar10:3.*.*", "imagenet_resized/64x64:0.1.0"):
        assert len(_open(prepared, name)) == 20


@pytest.mark.parametrize("split", ["nope", "train[", "train[:3]+nope", "train[a:b]", ""])
def test_an_unknown_split_is_one_line_with_those_there_are(prepared, split):
    with pytest.raises(
        DataError, match=r"^cifar10/3\.0\.2: no split .*; has train, test"
    ) as caught:
        _open(prepared, "cifar10", split)
    assert "\n" not in str(caught.value)


def test_a_part_without_examples_is_an_error(prepared):
    with pytest.raises(DataError, match=r"cifar10/3\.0\.2 train\[20:\]: holds no examples"):
        _open(prepared, "cifar10", "train[20:]")


def test_images_of_one_size_go_to_the_device_and_others_are_streamed(prepared):
    held = hold(_open(prepared, "cifar10"), 10**6)
    assert isinstance(held, ArraySource)
    np.testing.assert_array_equal(held.images[7], tfds_sets.image_of(7, (32, 32, 3)))
    assert held.labels[7] == 1
    streamed = pictures.feed(hold(_open(prepared, "cats_vs_dogs"), 10**6))
    assert not streamed.resident
    batch = next(streamed.training(0, 1))
    np.testing.assert_array_equal(batch["label"], np.asarray(batch["index"]) % 2)


def test_a_split_without_published_labels_is_refused(tmp_path):
    tfds_sets.write_set(tmp_path, "imagenet2012", {"test": 3}, label=-1)
    with pytest.raises(
        DataError, match=r"test, example 0: label -1 for 1000 classes; a split whose"
    ):
        _open(tmp_path, "imagenet2012", "test")


def test_damaged_records_are_named(tmp_path):
    folder = tfds_sets.write_set(tmp_path, "mnist", COUNTS)
    source = _open(tmp_path, "mnist")
    shard = sorted(folder.glob("*train.array_record-*"))[-1]
    content = shard.read_bytes()
    shard.write_bytes(
        content[:64] + bytes(byte ^ 255 for byte in content[64:6000]) + content[6000:]
    )
    with pytest.raises(DataError, match=r"^mnist/3\.0\.1 train, example 19: cannot be") as caught:
        source[19]
    assert "\n" not in str(caught.value)
    assert source[0][1] == 0


def test_a_file_that_vanishes_is_named(tmp_path):
    folder = tfds_sets.write_set(tmp_path, "mnist", COUNTS, "tfrecord")
    source = _open(tmp_path, "mnist")
    sorted(folder.glob("*train.tfrecord-*"))[-1].unlink()
    with pytest.raises(DataError, match=r"train, example 19: cannot be read: .*No such file"):
        source[19]
    assert source[0][1] == 0


def test_files_half_copied_are_named(tmp_path):
    folder = tfds_sets.write_set(tmp_path, "mnist", COUNTS)
    (folder / "features.json").write_text("{")
    with pytest.raises(DataError, match=r"^mnist: its prepared files cannot be read: ") as caught:
        _open(tmp_path, "mnist")
    assert "\n" not in str(caught.value)


def test_other_formats_are_refused_by_name(tmp_path):
    part = records.Part(str(tmp_path / "x.riegeli"), 0, 1)
    with pytest.raises(DataError, match=r"x\.riegeli: format 'riegeli' is not read; prepare"):
        records.open_records([part], "riegeli")


def test_many_shards_may_be_open_at_once():
    resource = pytest.importorskip("resource", reason="Windows has no such limit")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] < 2000:
        pytest.skip("this system allows no more files than it does already")
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (600, before[1]))
        records._allow_open_files(1024)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 1536
        records._allow_open_files(8)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 1536
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


NO_TENSORFLOW = """
import sys
from tests.data import pictures
from vit_jax.data.datasets import open_dataset
from vit_jax.data.holding import hold

for name in ("cats_vs_dogs", "cifar10"):
    source = open_dataset(name, "train[:98%]", None, sys.argv[1])
    feed = pictures.feed(hold(source, 10**6))
    batch = next(feed.training(0, 1))
    print(name, feed.resident, batch["image"].shape, "_labels" in vars(source))
print("tensorflow" in sys.modules)
"""


def test_no_tensorflow_in_the_process_and_no_reading_of_all_for_their_labels(prepared, tmp_path):
    """Also where it is installed: the package found first stops whoever imports it."""
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('TensorFlow was imported')")
    path = f"{tmp_path}:{golden.REPOSITORY}"
    ran = subprocess.run(
        [sys.executable, "-c", NO_TENSORFLOW, str(prepared)],
        cwd=golden.REPOSITORY, env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [
        "cats_vs_dogs False (8, 8, 8, 3) False",
        "cifar10 True (8, 32, 32, 3) False",
        "False",
    ]
