"""Files that are no weights, are damaged, or lie: each its own clear error, before any harm."""

import os
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.checkpoints.weights import entry, make_arrays, npy, npy_header, write_st, write_zip
from vit_jax.checkpoints.arrays import read_arrays, read_headers, write_npz, write_safetensors
from vit_jax.errors import CheckpointError


def refusal(path: Path) -> str:
    """Returns the one line with which reading is refused; headers are no more lenient."""
    with pytest.raises(CheckpointError) as error:
        read_arrays(path)
    message = str(error.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.npz", b"", "is empty; download"),
        ("a.npz", b"<!DOCTYPE html><html>Sign in", "is a web page saved in place of the weights"),
        ("a.npz", b"\n  <html lang='en'>", "is a web page"),
        ("a.npz", b"<?xml version='1.0'?><Error><Code>AccessDenied", "access is denied"),
        ("a.npz", b"<Error><Code>AccessDenied", "access is denied"),
        ("a.npz", b"version https://git-lfs.github.com/spec/v1\noid", "run git lfs pull"),
        ("a.h5", b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
        ("a.bin", pickle.dumps({"a": 1}), "is a pickle"),
        ("a", b"\x80\x02\x8a\x0al\xfc\x9cF", "torch.load(sys.argv[1], map_location='cpu'"),
        ("a.pth", b"anything", "is a pickle"),
        ("model.ckpt", b"anything", "is a pickle"),
        ("model.ckpt.index", b"\x00\x00\x06", "is a TensorFlow checkpoint"),
        ("model.ckpt-1.data-00000-of-00001", b"\x00\x00\x06", "is a TensorFlow checkpoint"),
        ("checkpoint", b'model_checkpoint_path: "model.ckpt"', "is a TensorFlow checkpoint"),
        ("flax_model.msgpack", b"\x82\xa3", "is a msgpack file"),
        ("a.npy", npy(np.ones(3)), "single .npy array without a name"),
        ("a.npz.gz", b"\x1f\x8b\x08", "compressed with gzip"),
        ("notes.txt", b"hello", 'is neither an npz nor a safetensors file (it begins with "hello"'),
        ("a.npz", b"PK\x03\x04 and then nothing", "its end is missing"),
    ],
)
def test_other_files_are_named_with_the_remedy(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert says in refusal(path)


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "B_16.npz").touch()
    assert "there is no such file of weights; did you mean 'B_16.npz'?" in refusal(
        tmp_path / "B_61.npz"
    )
    assert "there is no such file" in refusal(tmp_path / "absent" / "B_16.npz")
    assert "is a folder without model.safetensors" in refusal(tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_permission(tmp_path: Path) -> None:
    (tmp_path / "a.npz").touch(0)
    assert "cannot be read (Permission denied)" in refusal(tmp_path / "a.npz")


class Harm:
    """Unpickled, it leaves a file."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.trace,)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    harm = pickle.dumps(Harm(trace))
    objects = npy(np.array([Harm(trace)], dtype=object))
    assert "a: holds pickled Python objects" in refusal(
        write_zip(tmp_path / "a.npz", [("a.npy", objects)])
    )
    assert "is a pickle" in refusal(write_zip(tmp_path / "b.pth", [("archive/data.pkl", harm)]))
    (tmp_path / "c.npz").write_bytes(harm)
    assert "is a pickle" in refusal(tmp_path / "c.npz")
    raw = npy_header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n") + harm
    assert "pickled" in refusal(write_zip(tmp_path / "d.npz", [("a.npy", raw)]))
    assert not trace.exists()
    pickle.loads(harm)
    assert trace.exists(), "the harm would have been done"


ONE = npy(np.ones(3, np.float32))
HEADER = "{{'descr': {!r}, 'fortran_order': False, 'shape': {}}}\n"


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ([("../a.npy", ONE)], "'../a.npy' would lie outside"),
        ([("a/../../b.npy", ONE)], "would lie outside"),
        ([("/a.npy", ONE)], "would lie outside"),
        ([("C:\\a.npy", ONE)], "would lie outside"),
        ([("a\x1b[2J.npy", ONE)], "control characters"),
        ([("a" * 600 + ".npy", ONE)], "more than 500 characters"),
        ([("a", ONE)], "'a' is not an array (.npy)"),
        ([(".npy", ONE)], "is not an array"),
        ([("a.txt", b"hello")], "is not an array"),
        ([("a.npy", ONE), ("a.npy", ONE)], "holds two arrays 'a'"),
        ([("a.npy", b"")], "not a readable .npy array"),
        ([("a.npy", b"hello")], "not a readable .npy array"),
        ([("a.npy", ONE[:20])], "not a readable .npy array"),
        ([("a.npy", ONE[:-1])], "float32[3] takes 140 bytes with its header, the zip declares 139"),
        ([("a.npy", ONE + b"x")], "the zip declares 141"),
        ([("a.npy", npy(np.ones(3, complex)))], "dtype complex128 is not one of weights"),
        ([("a.npy", npy(np.array(["x"])))], "dtype <U1 is not one of weights"),
        ([("a.npy", npy(np.zeros(2, "f4,i4")))], "is not one of weights"),
        ([("a.npy", npy(np.zeros(2, "V3")))], "is not one of weights"),
        ([("a.npy", npy_header(HEADER.format("<f4", "(-1,)")))], "shape (-1,) is not one"),
        ([("a.npy", npy_header(HEADER.format("<f4", "(True,)")) + b"1234")], "is not one of an"),
        ([("a.npy", npy_header(HEADER.format("<f4", (1,) * 40)) + b"1234")], "is not one of an"),
        ([("a.npy", npy_header(HEADER.format("<f4", (1 << 40,))))], "more than 64 GiB"),
        ([("a.npy", npy_header(HEADER.format("<f4", (0, 1 << 60))))], "more than 64 GiB"),
        ([("a.npy", npy_header(HEADER.format("<f4", (1 << 20,))))], "takes 4194"),
        ([("a.npy", npy_header("(" * 5000))], "not a readable .npy array"),
        ([("a.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff")], "not a readable .npy array"),
        ([("a.npy", npy(np.ones(3), (3, 0)))], "not a readable .npy array"),
    ],
)
def test_npz_members(tmp_path: Path, members: list[tuple[str, bytes]], says: str) -> None:
    path = write_zip(tmp_path / "a.npz", members)
    assert says in refusal(path)
    with pytest.raises(CheckpointError):
        read_headers(path)


def test_folders_in_a_zip_are_no_arrays(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.npz", [("Transformer/", b""), ("Transformer/a.npy", ONE)])
    assert list(read_arrays(path)) == ["Transformer/a"]


def test_headers_as_python_2_wrote_them(tmp_path: Path) -> None:
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (3L,), }\n"
    path = write_zip(tmp_path / "a.npz", [("a.npy", npy_header(text) + ONE[-12:])])
    np.testing.assert_array_equal(read_arrays(path)["a"], np.ones(3, np.float32))


def test_other_ways_of_compressing_are_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.npz", [("a.npy", ONE)], zipfile.ZIP_LZMA)
    assert "compressed by a method that NumPy never uses (14)" in refusal(path)
    path = write_zip(tmp_path / "b.npz", [("a.npy", ONE)])
    content = bytearray(path.read_bytes())
    directory = content.rindex(b"PK\x01\x02")
    content[6] |= 1
    content[directory + 8] |= 1
    path.write_bytes(content)
    assert "'a.npy' is encrypted" in refusal(path)


def test_damage_to_the_elements_fails_the_checksum(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", {"a": np.ones(4000)})
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[20_000] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    assert "is damaged (Bad CRC-32 for file 'a.npy')" in refusal(tmp_path / "a.npz")
    assert read_headers(tmp_path / "a.npz")["a"].shape == (4000,)


def patch_sizes(path: Path, size: int) -> None:
    """Makes a zip of one stored member declare `size` for it, on both places."""
    content = bytearray(path.read_bytes())
    directory = content.rindex(b"PK\x01\x02")
    content[18:26] = content[directory + 20 : directory + 28] = struct.pack("<II", size, size)
    path.write_bytes(content)


def test_a_member_that_is_not_as_long_as_declared(tmp_path: Path) -> None:
    long = npy(np.ones(1000))
    path = write_zip(tmp_path / "a.npz", [("a.npy", long[:-500])])
    patch_sizes(path, len(long))
    # The last is what Python's own zipfile says from 3.13 on.
    reasons = ("its end is missing", "elements, not the", "Overlapped entries")
    assert any(reason in refusal(path) for reason in reasons)
    path = write_zip(tmp_path / "b.npz", [("a.npy", npy(np.ones(10)) + bytes(800))])
    patch_sizes(path, len(npy(np.ones(10))))
    assert "CRC" in refusal(path)


def test_a_stream_that_ends_early_with_a_matching_checksum(tmp_path: Path) -> None:
    long = npy(np.ones(4000))
    path = write_zip(tmp_path / "a.npz", [("a.npy", long[:-500])], zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    directory = content.rindex(b"PK\x01\x02")
    for position in (22, directory + 24):
        content[position : position + 4] = struct.pack("<I", len(long))
    path.write_bytes(content)
    assert "31500 bytes of elements, not the 32000 that are declared" in refusal(path)


def bomb(path: Path, members: int) -> Path:
    """A file of some hundred kB that unpacks to 256 MiB."""
    header = npy_header(HEADER.format("<f4", ((1 << 26) // members,)))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for number in range(members):
            with archive.open(f"{number}.npy", "w") as file:
                file.write(header)
                for _ in range((1 << 28) // members // (1 << 20)):
                    file.write(bytes(1 << 20))
    return path


@pytest.mark.parametrize("members", [1, 16])
def test_a_small_file_that_unpacks_to_gigabytes_costs_nothing(tmp_path: Path, members: int) -> None:
    path = bomb(tmp_path / "bomb.npz", members)
    assert path.stat().st_size < 2 * 2**20
    tracemalloc.start()
    message = refusal(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "weights never shrink 100:1" in message
    assert peak < 2**20


@pytest.mark.parametrize(
    ("header", "data", "says"),
    [
        (b"{", b"", "the header cannot be read"),
        (b'{"a":' * 20_000, b"", "the header cannot be read"),
        (b'{"a": \xff}', b"", "the header cannot be read"),
        ({}, b"x", "bytes, but its header describes"),
        ({"a": entry("F32", [1], 0, 4)}, b"123", "truncated: download or copy it again"),
        ({"a": entry("F32", [1], 0, 4)}, b"12345", "damaged: download or copy it again"),
        ({"a": entry("F32", [2], 0, 4)}, b"1234", "float32[2] takes 8 bytes, its offsets 0 and 4"),
        ({"a": entry("F32", [1], 4, 0)}, b"1234", "hold -4"),
        ({"a": entry("F32", [1], -4, 0)}, b"", "overlap or leave a gap"),
        ({"a": entry("F32", [1], 4, 8)}, b"12345678", "begins at byte"),
        (
            {"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 0, 4)},
            b"1234",
            "arrays overlap or leave a gap",
        ),
        ({"a": entry("F8_E4M3", [1], 0, 1)}, b"1", "dtype 'F8_E4M3' is not read; known are BF16"),
        ({"a": entry("F32", [-1], 0, 4)}, b"1234", "shape (-1,) is not one of an array"),
        ({"a": entry("F32", ["1"], 0, 4)}, b"1234", "is not one of an array"),
        ({"a": entry("F32", [1.0], 0, 4)}, b"1234", "is not one of an array"),
        ({"a": entry("F32", [1 << 40], 0, 1 << 42)}, b"", "more than 64 GiB"),
        ({"a": entry("F32", [1], 0, "4")}, b"1234", "is not described by a dtype"),
        ({"a": [1]}, b"", "is not described by a dtype"),
        ({"a\n": entry("F32", [1], 0, 4)}, b"1234", "control characters"),
        ({"__metadata__": {"a": 1}}, b"", "__metadata__ does not map names to texts"),
        (
            b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
            b'"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
            b"1",
            "'a' stands twice",
        ),
    ],
)
def test_safetensors_headers(tmp_path: Path, header: Any, data: bytes, says: str) -> None:
    path = write_st(tmp_path / "a.safetensors", header, data)
    assert says in refusal(path)
    with pytest.raises(CheckpointError):
        read_headers(path)


def test_a_header_longer_than_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
    assert f"declares a header of {1 << 62} bytes in a file of 10" in refusal(path)


def test_names_that_would_not_be_read_are_not_written(tmp_path: Path) -> None:
    for name in ("../a", "/a", "", "a\n"):
        with pytest.raises(CheckpointError):
            write_npz(tmp_path / "a", {name: np.ones(1)})
    for name in ("__metadata__", "a\n"):
        with pytest.raises(CheckpointError):
            write_safetensors(tmp_path / "a", {name: np.ones(1)})
    assert os.listdir(tmp_path) == []
    write_npz(tmp_path / "a", make_arrays())
