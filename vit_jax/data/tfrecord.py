"""Any record of TFRecord files, without reading the ones before it and without TensorFlow.

A record is its length (8 bytes, little endian), a checksum of that (4), its bytes, and a checksum
of those (4), which is not looked at. Going from length to length finds where each begins; this is
done once and cached.
"""

import hashlib
import os
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64

from vit_jax.errors import DataError
from vit_jax.runtime import cache

_HEADER, _FOOTER = 12, 4
_VERSION = 1
_THREADS = 16  # files are walked through at once: what takes time is waiting for the disk


class Part(NamedTuple):
    """Records skip … skip + take - 1 of a file."""

    filename: str
    skip: int
    take: int


class TfRecords:
    """The records of parts of TFRecord files, one after another; no file is held open.

    Raises:
      DataError: a file is missing or damaged, or has fewer records than a part of it.
    """

    def __init__(self, parts: Sequence[Part]):
        lengths = _lengths([part.filename for part in parts])
        self._files = [part.filename for part in parts]
        sizes, starts = [], []
        for part in parts:
            size = lengths[part.filename]
            if len(size) < part.skip + part.take:
                raise DataError(
                    f"{part.filename}: has {len(size)} records, but its dataset_info.json says "
                    f"{part.skip + part.take} or more; fetch it anew"
                )
            chosen = slice(part.skip, part.skip + part.take)
            start = np.cumsum(size + (_HEADER + _FOOTER)) - size - _FOOTER
            sizes.append(size[chosen])
            starts.append(start[chosen])
        self._file = np.repeat(np.arange(len(parts)), [part.take for part in parts])
        self._start = np.concatenate([np.empty(0, np.int64), *starts])
        self._size = np.concatenate([np.empty(0, np.int64), *sizes])

    def __len__(self) -> int:
        return len(self._start)

    def __getitem__(self, index: int, /) -> bytes:
        with open(self._files[self._file[index]], "rb", buffering=0) as file:
            file.seek(int(self._start[index]))
            record = file.read(int(self._size[index]))
        if len(record) < self._size[index]:
            raise OSError(0, "the file ends within the record")
        return record


def _lengths(files: Sequence[str]) -> dict[str, Int64[np.ndarray, "n"]]:
    """Returns the lengths of the records of each file, from the cache where it did not change."""
    files = sorted(set(files))
    key = hashlib.sha256("\n".join(os.path.abspath(file) for file in files).encode()).hexdigest()
    name = f"tfrecords/{key[:32]}.json"
    stored = cache.read_json(name)
    is_ours = isinstance(stored, dict) and stored.get("version") == _VERSION
    known = stored["files"] if is_ours else {}
    with ThreadPoolExecutor(_THREADS) as pool:
        found = dict(zip(files, pool.map(lambda f: _walked(f, known.get(f)), files), strict=True))
    if any(found[file] is not known.get(file) for file in files):
        cache.write_json(name, {"version": _VERSION, "files": found})
    return {file: np.asarray(lengths, np.int64) for file, (_, _, lengths) in found.items()}


def _walked(path: str, known: list | None) -> list:
    """Returns [size, time of change, lengths of the records] of a file."""
    try:
        status = os.stat(path)
        if known is not None and known[:2] == [status.st_size, status.st_mtime_ns]:
            return known
        with open(path, "rb", buffering=0) as file:
            return [status.st_size, status.st_mtime_ns, _walk(file, path, status.st_size)]
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _walk(file: FileIO, path: str, end: int) -> list[int]:
    """Returns the lengths of the records of a file of `end` bytes."""
    lengths, place = [], 0
    while place < end:
        file.seek(place)
        header = file.read(_HEADER)
        length = struct.unpack("<Q", header[:8])[0] if len(header) == _HEADER else end
        place += _HEADER + length + _FOOTER
        if place > end:
            raise DataError(f"{path}: ends within record {len(lengths)}; fetch it anew")
        lengths.append(length)
    return lengths
