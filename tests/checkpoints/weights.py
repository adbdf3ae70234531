"""Small sets of named arrays, and files that lie about theirs."""

import io
import json
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np


def make_arrays() -> dict[str, np.ndarray]:
    """Arrays of every kind that weights come in."""
    random = np.random.default_rng(0)
    values = random.standard_normal((2, 3, 4))
    return {
        "Transformer/encoder_norm/scale": values.astype(np.float32),
        "head/kernel": values.astype(ml_dtypes.bfloat16),
        "half": values.astype(np.float16),
        "double": np.asfortranarray(values),
        "step": np.array(10_000),
        "mask": values > 0,
        "empty": np.zeros((0, 5), np.int8),
        "swapped": values.astype(">f4"),
    }


def assert_same(actual: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    """Asserts equal names, shapes and bits, in the native byte order."""
    assert set(actual) == set(expected)
    for name, want in expected.items():
        want, got = want.astype(want.dtype.newbyteorder("=")), actual[name]
        assert (got.dtype, got.shape) == (want.dtype, want.shape), name
        assert got.tobytes() == want.tobytes(), name


def npy(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    """The bytes of a .npy file; object arrays are pickled into it."""
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version)
    return file.getvalue()


def npy_header(text: str) -> bytes:
    """The opening of a .npy file that declares `text`."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode("latin-1")


def write_zip(
    path: Path, members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED
) -> Path:
    """Writes members as they are; a name may stand twice."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            info.compress_type = compression
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a name that stands twice
                archive.writestr(info, content)
    return path


def write_st(path: Path, header: Any, data: bytes = b"") -> Path:
    """Writes a safetensors file with any header, an object or the text itself."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(dtype: str, shape: list[Any], start: Any, end: Any) -> dict[str, Any]:
    """An array as a safetensors header describes it."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
