"""TFRecord files at random access, as TensorFlow writes them."""

import os

import pytest

from tests.data import tfds_sets
from vit_jax.data import tfrecord
from vit_jax.data.tfrecord import Part, TfRecords
from vit_jax.errors import DataError

# Written by TensorFlow 2.21: no bytes, "hello", and the bytes 250 to 255.
RECORDS = [b"", b"hello", bytes(range(250, 256))]
WRITTEN = bytes.fromhex(
    "000000000000000029039807d8ea82a20500000000000000eab2043e68656c6c6fbb1f1c19"
    "06000000000000007369d537fafbfcfdfefff4cee3f5"
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("VIT_JAX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "x.tfrecord"
    path.write_bytes(WRITTEN)
    return path


def _read(*parts):
    records = TfRecords([Part(str(path), skip, take) for path, skip, take in parts])
    return [records[i] for i in range(len(records))]


def test_what_tensorflow_wrote_is_read(file):
    assert _read((file, 0, 3)) == RECORDS


def test_the_files_of_these_tests_are_those_of_tensorflow():
    assert b"".join(map(tfds_sets.tfrecord, RECORDS)) == WRITTEN


def test_parts_of_several_files_follow_one_another(file, tmp_path):
    other = tmp_path / "y.tfrecord"
    other.write_bytes(b"".join(tfds_sets.tfrecord(b"%d" % i) for i in range(5)))
    found = _read((file, 1, 2), (other, 3, 1), (file, 0, 2), (other, 0, 2))
    assert found == [*RECORDS[1:], b"3", *RECORDS[:2], b"0", b"1"]


def test_a_file_is_walked_through_once(file, monkeypatch):
    walked, walk = [], tfrecord._walk
    monkeypatch.setattr(
        tfrecord, "_walk", lambda *arguments: walked.append(arguments) or walk(*arguments)
    )
    assert _read((file, 0, 3)) == _read((file, 0, 3)) == RECORDS
    assert len(walked) == 1
    file.write_bytes(WRITTEN + tfds_sets.tfrecord(b"more"))
    assert _read((file, 3, 1)) == [b"more"]
    assert len(walked) == 2


@pytest.mark.parametrize(("end", "record"), [(1, 0), (12, 0), (15, 0), (20, 1), (36, 1), (58, 2)])
def test_a_file_that_was_cut_off_is_named(file, end, record):
    file.write_bytes(WRITTEN[:end])
    with pytest.raises(DataError, match=rf"x\.tfrecord: ends within record {record}; fetch"):
        _read((file, 0, 3))


def test_a_file_that_lacks_records_or_is_missing_is_named(file):
    with pytest.raises(DataError, match=r"x\.tfrecord: has 3 records, but its .* says 4 or more"):
        _read((file, 2, 2))
    file.unlink()
    with pytest.raises(DataError, match=r"x\.tfrecord: cannot be read: No such file"):
        _read((file, 0, 3))


def test_a_file_that_shrinks_while_it_is_read_is_an_error(file):
    records = TfRecords([Part(str(file), 0, 3)])
    file.write_bytes(WRITTEN[:30])
    with pytest.raises(OSError, match="ends within the record"):
        records[1]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux's list of open files")
def test_no_file_is_held_open(file):
    records = TfRecords([Part(str(file), 0, 3)])
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        records[1]
    assert len(os.listdir("/proc/self/fd")) == before
