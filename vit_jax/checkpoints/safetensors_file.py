"""safetensors files: a length, a JSON header, then the bytes of the arrays.

Read here and not with the library of that name: it keeps the last of two arrays with one name
without a word, knows bfloat16 in NumPy only of late, and writes metadata in any order. The format:
https://github.com/huggingface/safetensors#format.
"""

import io
import itertools
import json
import operator
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vit_jax.checkpoints.atomic import replacing
from vit_jax.checkpoints.headers import (
    BFLOAT16,
    Header,
    check_asked,
    check_header,
    check_name,
    check_total,
)
from vit_jax.errors import CheckpointError

MAX_HEADER = 16 * 2**20  # bytes; a ViT with a thousand arrays has 150 kB

_CODES = {
    "BOOL": "?",
    **{f"I{8 * n}": f"<i{n}" for n in (1, 2, 4, 8)},
    **{f"U{8 * n}": f"<u{n}" for n in (1, 2, 4, 8)},
    **{f"F{8 * n}": f"<f{n}" for n in (2, 4, 8)},
}
_DTYPES = {"BF16": BFLOAT16, **{code: np.dtype(kind) for code, kind in _CODES.items()}}


class _Entry(NamedTuple):
    header: Header
    start: int  # of the elements, in bytes from the beginning of the file


class _Content(NamedTuple):
    entries: dict[str, _Entry]
    metadata: dict[str, str]


def read_headers(path: Path) -> dict[str, Header]:
    """Returns {name: dtype and shape} in the file's order; see `arrays.read_headers`."""
    return {name: entry.header for name, entry in _content(path).entries.items()}


def read_metadata(path: Path) -> dict[str, str]:
    """Returns what the writer noted in `__metadata__`."""
    return _content(path).metadata


def read_arrays(path: Path, names: Collection[str] | None) -> dict[str, np.ndarray]:
    """Returns {name: array}; see `arrays.read_arrays`."""
    entries = _content(path).entries
    names = entries.keys() if names is None else names
    check_asked(names, entries, path)
    try:
        with path.open("rb") as file:
            return {name: _read(file, entries[name], f"{path}: {name}") for name in names}
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error


def write_safetensors(
    path: str | Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes {name: array}, and notes for `__metadata__`; equal content makes equal bytes.

    The arrays are in the order of their names, the widest dtypes first, so that each is aligned.
    The file appears whole or not at all.

    Raises:
      CheckpointError: a dtype that would not be read back, a name that the format keeps for
          itself, or the file cannot be written.
    """
    path = Path(path)
    for name, array in arrays.items():
        check_name(name, path)
        check_header(Header(array.dtype.newbyteorder("="), array.shape), f"{path}: {name}")
    if "__metadata__" in arrays:
        raise CheckpointError(f"{path}: the format keeps the name '__metadata__'; use another")
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    ends = itertools.accumulate((arrays[name].nbytes for name in order), initial=0)
    for name, (start, end) in zip(order, itertools.pairwise(ends), strict=True):
        array = arrays[name]
        header[name] = {
            "dtype": _code(array.dtype),
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the elements begin at a multiple of eight
    with replacing(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            array = np.ascontiguousarray(arrays[name])
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            file.write(little.reshape(-1).view(np.uint8).data)


def parse_json(text: bytes, path: Path, what: str) -> dict[str, Any]:
    """Returns a JSON object in which no name stands twice, or raises `CheckpointError`."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"{twice!r} stands twice")
        return content

    try:
        content = json.loads(text, object_pairs_hook=unique)
        if isinstance(content, dict):
            return content
        reason = "not a JSON object"
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
    raise CheckpointError(f"{path}: {what} cannot be read ({reason}); the file is damaged")


def _code(dtype: np.dtype) -> str:
    native = dtype.newbyteorder("=")
    return next(code for code, known in _DTYPES.items() if known.newbyteorder("=") == native)


def _content(path: Path) -> _Content:
    """Reads and checks the header: every byte after it belongs to exactly one array."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(MAX_HEADER, size - 8):
                raise CheckpointError(
                    f"{path}: declares a header of {length} bytes in a file of {size} (at most "
                    f"{MAX_HEADER} are read): not a safetensors file, or a truncated one"
                )
            header = parse_json(file.read(length), path, "the header")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    metadata = check_metadata(header.pop("__metadata__", None), path)
    for name in header:
        check_name(name, path)
    entries = {name: _entry(entry, 8 + length, f"{path}: {name}") for name, entry in header.items()}
    _check_layout(entries, 8 + length, size, path)
    check_total((entry.header for entry in entries.values()), path)
    return _Content(entries, metadata)


def check_metadata(metadata: Any, path: Path, what: str = "__metadata__") -> dict[str, str]:
    """Returns notes that map names to texts, {} for None; or raises `CheckpointError`."""
    if metadata is None:
        return {}
    if isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values()):
        return metadata
    raise CheckpointError(f"{path}: {what} does not map names to texts; the file is damaged")


def _entry(entry: Any, origin: int, where: str) -> _Entry:
    """Reads {"dtype", "shape", "data_offsets"}; the offsets count from `origin`."""
    try:
        code, shape, (start, end) = str(entry["dtype"]), entry["shape"], entry["data_offsets"]
        length = operator.index(end) - operator.index(start)
        header = Header(_DTYPES[code].newbyteorder("="), tuple(shape)) if code in _DTYPES else None
    except (TypeError, KeyError, ValueError):
        raise CheckpointError(
            f"{where}: is not described by a dtype, a shape and two offsets; the file is damaged"
        ) from None
    if header is None:
        raise CheckpointError(
            f"{where}: dtype {code[:40]!r} is not read; known are {', '.join(_DTYPES)}"
        )
    check_header(header, where)
    if length != header.nbytes:
        raise CheckpointError(
            f"{where}: {header.dtype}{list(header.shape)} takes {header.nbytes} bytes, its offsets "
            f"{start} and {end} hold {length}; the file is damaged"
        )
    return _Entry(header, origin + start)


def _check_layout(entries: Mapping[str, _Entry], origin: int, size: int, path: Path) -> None:
    """The arrays follow each other without a gap or an overlap, from the header to the end."""
    position = origin
    for name, entry in sorted(
        entries.items(), key=lambda item: (item[1].start, item[1].header.nbytes)
    ):
        if entry.start != position:
            raise CheckpointError(
                f"{path}: {name}: begins at byte {entry.start}, where {position} is due: arrays "
                "overlap or leave a gap, and the file is damaged"
            )
        position += entry.header.nbytes
    if position != size:
        raise CheckpointError(
            f"{path}: {size} bytes, but its header describes {position}; the file is "
            f"{'truncated' if size < position else 'damaged'}: download or copy it again"
        )


def _read(file: io.BufferedReader, entry: _Entry, where: str) -> np.ndarray:
    data = np.empty(entry.header.nbytes, np.uint8)
    file.seek(entry.start)
    if file.readinto(data.data) != data.size:
        raise CheckpointError(f"{where}: the file became shorter while it was read")
    array = data.view(entry.header.dtype).reshape(entry.header.shape)
    return array if sys.byteorder == "little" else array.byteswap()
