"""Named arrays in files: what is written is read, by us and by the formats' own libraries."""

import json
import os
import stat
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from tests.checkpoints.weights import assert_same, make_arrays
from tests.golden import shared
from vit_jax.checkpoints.arrays import (
    Header,
    check_finite,
    read_arrays,
    read_headers,
    read_metadata,
    write_npz,
    write_safetensors,
)
from vit_jax.errors import CheckpointError

WRITERS = {"npz": write_npz, "safetensors": write_safetensors}
Writer = Callable[..., None]


@pytest.fixture(params=WRITERS)
def write(request: pytest.FixtureRequest) -> Writer:
    return WRITERS[request.param]


def test_what_is_written_is_read(tmp_path: Path, write: Writer) -> None:
    path = tmp_path / "weights of no ending"
    write(path, make_arrays())
    assert_same(read_arrays(path), make_arrays())
    headers = read_headers(str(path))
    assert headers["head/kernel"] == Header(np.dtype(ml_dtypes.bfloat16), (2, 3, 4))
    assert headers["step"] == (np.dtype(np.int64), ())
    assert {name: header.nbytes for name, header in headers.items()} == {
        name: array.nbytes for name, array in make_arrays().items()
    }


def test_some_arrays_are_read_in_the_order_asked(tmp_path: Path, write: Writer) -> None:
    write(tmp_path / "file", make_arrays())
    assert list(read_arrays(tmp_path / "file", ["step", "half"])) == ["step", "half"]
    assert read_arrays(tmp_path / "file", []) == {}
    with pytest.raises(CheckpointError, match=r"no array 'stepp'; did you mean 'step'\?"):
        read_arrays(tmp_path / "file", ["half", "stepp"])


def test_equal_arrays_make_equal_bytes(tmp_path: Path, write: Writer) -> None:
    write(tmp_path / "a", make_arrays())
    write(tmp_path / "b", dict(reversed(make_arrays().items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, write: Writer) -> None:
    path = tmp_path / "file"
    write(path, {"a": np.ones(3)})
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="text: dtype <U1 is not one of weights"):
        write(path, {"a": np.zeros(3), "text": np.array(["x"])})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["file"]
    with pytest.raises(CheckpointError, match=r"nowhere/file: cannot be written \(No such file"):
        write(tmp_path / "nowhere" / "file", {})


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_a_file_has_the_permissions_of_any_new_file(tmp_path: Path, write: Writer) -> None:
    write(tmp_path / "file", {})
    (tmp_path / "other").touch()
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "other").stat().st_mode
    )


def test_numpy_reads_our_npz_and_we_read_numpys(tmp_path: Path) -> None:
    write_npz(tmp_path / "ours.npz", make_arrays())
    with np.load(tmp_path / "ours.npz") as file:
        theirs = {name: file[name] for name in file.files}
    assert theirs["head/kernel"].dtype == np.dtype("V2")
    theirs["head/kernel"] = theirs["head/kernel"].view(ml_dtypes.bfloat16)
    theirs["swapped"] = theirs["swapped"].astype(np.float32)  # NumPy keeps the byte order
    assert_same(theirs, make_arrays())
    for name, save in (("a.npz", np.savez), ("b.npz", np.savez_compressed)):
        save(tmp_path / name, **make_arrays())  # type: ignore[arg-type]
        assert_same(read_arrays(tmp_path / name), make_arrays())


def test_the_safetensors_library_reads_our_file_and_we_read_its(tmp_path: Path) -> None:
    arrays = {
        name: np.array(array, array.dtype.newbyteorder("="), order="C")
        for name, array in make_arrays().items()
    }
    write_safetensors(tmp_path / "ours", make_arrays(), {"format": "pt", "epoch": "3"})
    with safetensors.safe_open(tmp_path / "ours", "np") as file:
        assert file.metadata() == {"format": "pt", "epoch": "3"}
    assert_same(safetensors.numpy.load_file(tmp_path / "ours"), arrays)
    safetensors.numpy.save_file(arrays, tmp_path / "theirs", {"format": "pt"})
    assert_same(read_arrays(tmp_path / "theirs"), arrays)
    assert read_metadata(tmp_path / "theirs") == {"format": "pt"}


def test_notes_are_texts_or_nothing(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "a", {}, None)
    write_npz(tmp_path / "b", {})
    assert read_metadata(tmp_path / "a") == read_metadata(tmp_path / "b") == {}
    assert read_arrays(tmp_path / "a") == read_arrays(tmp_path / "b") == {}


def test_notes_of_an_npz_come_back_and_numpy_reads_past_them(tmp_path: Path) -> None:
    notes = {"config.json": '{"names": ["ďábel"]}', "a": "b"}
    write_npz(tmp_path / "a.npz", make_arrays(), notes)
    write_npz(tmp_path / "b.npz", make_arrays(), dict(reversed(notes.items())))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert read_metadata(tmp_path / "a.npz") == notes
    assert_same(read_arrays(tmp_path / "a.npz"), make_arrays())
    with np.load(tmp_path / "a.npz") as file:
        assert set(file.files) == set(make_arrays())


def test_more_notes_than_a_zip_holds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="bytes of notes, where a zip holds 65535"):
        write_npz(tmp_path / "a.npz", {}, {"a": "x" * 2**16})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("comment", "message"),
    [
        (b'{"a": ', "the comment of the zip cannot be read"),
        (b'{"\xff": "b"}', "the comment of the zip cannot be read"),
        (b"{" * 60_000, "the comment of the zip cannot be read"),
        (b'{"config.json": {}}', "the comment of the zip does not map names to texts"),
    ],
)
def test_a_comment_that_makes_no_sense(tmp_path: Path, comment: bytes, message: str) -> None:
    write_npz(tmp_path / "a.npz", make_arrays())
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.comment = comment
    with pytest.raises(CheckpointError, match=message) as error:
        read_metadata(tmp_path / "a.npz")
    assert "\n" not in str(error.value)


def test_the_comment_of_somebody_else_says_nothing(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", make_arrays())
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.comment = b"packed with care"
    assert read_metadata(tmp_path / "a.npz") == {}


@pytest.mark.parametrize("name", ["vit_token.released", "hybrid_r", "mixer"])
def test_golden_npz(name: str) -> None:
    path = shared("golden", f"{name}.npz")
    with np.load(path) as file:
        assert_same(read_arrays(path), {key: file[key] for key in file.files})


@pytest.mark.parametrize("name", ["timm_vit", "timm_vit_gap", "hf_vit"])
def test_golden_safetensors_folder(name: str) -> None:
    folder = shared("golden", name)
    assert_same(read_arrays(folder), safetensors.numpy.load_file(folder / "model.safetensors"))
    assert read_metadata(folder) == {"format": "pt"}


def shard(folder: Path) -> Path:
    """Writes `make_arrays` as a model of two shards; returns its index."""
    arrays = make_arrays()
    first = {name: arrays.pop(name) for name in ("step", "half")}
    write_safetensors(folder / "model-00001-of-00002.safetensors", first)
    write_safetensors(folder / "model-00002-of-00002.safetensors", arrays)
    places = dict.fromkeys(arrays, "model-00002-of-00002.safetensors")
    places |= dict.fromkeys(first, "model-00001-of-00002.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


def test_a_sharded_model_is_read_from_its_folder_or_its_index(tmp_path: Path) -> None:
    index = shard(tmp_path)
    for path in (tmp_path, index):
        assert_same(read_arrays(path), make_arrays())
        assert read_headers(path)["half"] == (np.dtype(np.float16), (2, 3, 4))
        assert list(read_arrays(path, ["half", "mask"])) == ["half", "mask"]
        assert read_metadata(path) == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"new": "model-00001-of-00002.safetensors"}, "'new' is not both in the index and in"),
        ({"half": "model-00002-of-00002.safetensors"}, "'half' is not both in the index and in"),
        ({"half": "model-00003-of-00002.safetensors"}, "00003-of-00002.safetensors is missing"),
        ({"half": "../model.safetensors"}, "is no name of a file beside the index"),
        ({"half": "C:\\model.safetensors"}, "is no name of a file beside the index"),
        ({"half": 3}, "3 is no name of a file beside the index"),
    ],
)
def test_an_index_that_disagrees_with_its_shards(tmp_path: Path, change, message: str) -> None:
    index = shard(tmp_path)
    content = json.loads(index.read_text())
    content["weight_map"] |= change
    index.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=message):
        read_headers(tmp_path)


@pytest.mark.parametrize("text", ["{}", '{"weight_map": []}', '{"weight_map": {', '{"a":1,"a":1}'])
def test_an_index_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(text)
    with pytest.raises(CheckpointError, match=r"has no weight_map|the index cannot be read"):
        read_arrays(path)


def test_values_that_are_not_finite_are_counted_and_named() -> None:
    arrays = make_arrays()
    check_finite(arrays, "fine.npz")
    arrays["half"][0, 0, :2] = np.nan, np.inf
    arrays["head/kernel"][1, 1, 1] = -np.inf
    with warnings.catch_warnings(), pytest.raises(CheckpointError) as error:
        check_finite(arrays, "bad.npz")
    assert str(error.value).startswith(
        "bad.npz: 3 values are NaN or infinite, in head/kernel (1 of 24), half (2 of 24); "
    )
    many = {f"layer_{i}": np.full(2, np.nan) for i in range(5)}
    with pytest.raises(CheckpointError, match=r"layer_2 \(2 of 2\) and 2 more arrays; the file"):
        check_finite(many, "bad.npz")
