"""Mutated files of weights: arrays or our error, never anything else, never much memory."""

import contextlib
import tempfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checkpoints.weights import make_arrays
from tests.golden import shared
from vit_jax.checkpoints.arrays import read_arrays, read_metadata, write_npz, write_safetensors
from vit_jax.errors import CheckpointError

few = settings(max_examples=150, derandomize=True, deadline=None, database=None)

# Where the declarations are: the opening of the file, and of a zip also the end.
POSITION = st.one_of(st.integers(0, 400), st.integers(-1200, -1), st.integers(0, 2**20))
BYTES = st.one_of(
    st.binary(min_size=1, max_size=8),
    st.sampled_from([b"\xff" * 8, bytes(8), b"PK\x01\x02", b"PK\x06\x06", b"|O", b"9" * 12, b"-1"]),
)
MUTATION = st.tuples(st.sampled_from(["overwrite", "insert", "delete", "copy"]), POSITION, BYTES)


def seed(kind: str) -> bytes:
    """The bytes of one small intact file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        if kind == "npz":
            write_npz(path, make_arrays(), {"config.json": '{"vit_jax": {}}'})
        if kind == "compressed":
            with path.open("wb") as file:
                np.savez_compressed(file, **make_arrays())  # type: ignore[arg-type]
        if kind == "safetensors":
            write_safetensors(path, make_arrays(), {"format": "pt"})
        return path.read_bytes()


SEEDS = {kind: seed(kind) for kind in ("npz", "compressed", "safetensors")}


def mutate(content: bytes, mutations: list[tuple[str, int, bytes]], end: int | None) -> bytes:
    for kind, position, patch in mutations:
        at = position % max(len(content), 1)
        rest = {
            "overwrite": at + len(patch),
            "insert": at,
            "delete": at + len(patch),
            "copy": at,
        }[kind]
        middle = {"delete": b"", "copy": content[at : at + 200]}.get(kind, patch)
        content = content[:at] + middle + content[rest:]
    return content[: None if end is None else end % (len(content) + 1)]


def check(content: bytes) -> bool:
    """Reads a file of this content; True if it was refused."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(content)
        try:
            arrays, message = read_arrays(path), ""
            read_metadata(path)
        except CheckpointError as error:
            arrays, message = {}, str(error)
        assert "\n" not in message
        assert len(message) < 1500
        assert sum(array.nbytes for array in arrays.values()) <= 2 * len(content) + 2**25
        return bool(message)


@pytest.mark.parametrize("kind", SEEDS)
def test_a_mutated_file_gives_arrays_or_our_error(kind: str) -> None:
    refused = []

    @few
    @given(st.lists(MUTATION, min_size=1, max_size=4), st.none() | st.integers(0, 2**20))
    def fuzz(mutations: list[tuple[str, int, bytes]], end: int | None) -> None:
        refused.append(check(mutate(SEEDS[kind], mutations, end)))

    tracemalloc.start()
    fuzz()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * 2**20
    assert any(refused)


def test_every_byte_of_a_safetensors_header_and_of_a_zip_directory() -> None:
    """A changed byte in a name or in unused bits may pass; nothing may fail otherwise."""
    for kind, positions in (("npz", range(-600, 0)), ("safetensors", range(300))):
        content = SEEDS[kind]
        for position in positions:
            damaged = bytearray(content)
            damaged[position] ^= 1 << (position % 8)
            check(bytes(damaged))


def test_every_truncation_is_refused() -> None:
    for content in SEEDS.values():
        for end in [*range(0, len(content) - 1, 23), len(content) - 1]:
            assert check(content[:end])


def test_the_released_golden_file_mutated() -> None:
    content = shared("golden", "vit_token.released.npz").read_bytes()

    @settings(few, max_examples=60)
    @given(st.lists(MUTATION, min_size=1, max_size=3), st.none() | st.integers(0, 2**20))
    def fuzz(mutations: list[tuple[str, int, bytes]], end: int | None) -> None:
        check(mutate(content, mutations, end))

    assert not check(content)
    fuzz()


LITERAL = st.recursive(
    st.one_of(st.integers(), st.booleans(), st.none(), st.text(max_size=5), st.just("<f4")),
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.sampled_from(["descr", "fortran_order", "shape", "x"]), inner)
    ),
    max_leaves=6,
)
DICTIONARY = st.fixed_dictionaries(
    {
        "descr": st.sampled_from(["<f4", "|V2", "|O", "<M8[s]", ">f8", "|S4"]) | LITERAL,
        "fortran_order": st.booleans() | LITERAL,
        "shape": st.lists(st.integers(-2, 2**64), max_size=3).map(tuple) | LITERAL,
    }
)


@few
@given(DICTIONARY, st.binary(max_size=40))
def test_lying_npy_headers(header: dict[str, object], data: bytes) -> None:
    text = repr(header).encode("utf-8", "replace")
    content = b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little") + text + data
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.npy", content)
        with contextlib.suppress(CheckpointError):
            assert read_arrays(path)["a"].nbytes <= len(data)
