"""npz files, read without trust: a zip of .npy arrays, nothing unpickled.

Before one array is read, every member's name, place and header is checked, and its declared size
against the bytes that its dtype and shape take. So a file costs no more memory than its arrays do,
and those are bounded (`check_total`, and `MAX_RATIO` against files that unpack to far more than
they are).
"""

import contextlib
import io
import json
import os
import warnings
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

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
from vit_jax.checkpoints.kinds import PICKLE
from vit_jax.checkpoints.safetensors_file import check_metadata, parse_json
from vit_jax.errors import CheckpointError

# A file may unpack to 100 times its size: weights compress little (1.1:1 for trained ones), zeros
# 1000:1. Small files may hold anything.
MAX_RATIO = 100
SMALL = 32 * 2**20
MAX_NOTES = 2**16 - 1  # bytes of the comment of a zip

_RAW_BFLOAT16 = np.dtype("V2")  # how NumPy stores a bfloat16 array, in the official files too
_HEADER_BYTES = 12 + 10_000  # more than NumPy reads of a header
_CHUNK = 2**20


class _Member(NamedTuple):
    """One array in the zip: where it is, what it is, and how its bytes lie."""

    info: zipfile.ZipInfo
    header: Header
    stored: np.dtype  # as in the file: of either byte order, bfloat16 as raw bytes
    fortran: bool
    offset: int  # of the elements, after the .npy header


def read_headers(path: Path) -> dict[str, Header]:
    """Returns {name: dtype and shape} in the file's order; see `arrays.read_headers`."""
    with _opened(path) as archive:
        return {name: member.header for name, member in _members(archive, path).items()}


def read_arrays(path: Path, names: Collection[str] | None) -> dict[str, np.ndarray]:
    """Returns {name: array}; see `arrays.read_arrays`."""
    with _opened(path) as archive:
        members = _members(archive, path)
        names = members.keys() if names is None else names
        check_asked(names, members, path)
        return {name: _read(archive, members[name], f"{path}: {name}") for name in names}


def read_metadata(path: Path) -> dict[str, str]:
    """Returns what `write_npz` noted in the comment of the zip; {} for anybody else's comment."""
    with _opened(path) as archive:
        if not archive.comment.startswith(b"{"):
            return {}
        notes = parse_json(archive.comment, path, "the comment of the zip")
        return check_metadata(notes, path, "the comment of the zip")


def write_npz(
    path: str | Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes {name: array} so that `numpy.load` reads it; equal content makes equal bytes.

    The arrays are stored uncompressed, in the order of their names; notes, {name: text}, as the
    comment of the zip, which NumPy does not read. The file appears whole or not at all. bfloat16 is
    stored as NumPy and the official files do, as raw 2-byte elements.

    Raises:
      CheckpointError: a name or a dtype that would not be read back, more than `MAX_NOTES`, or the
          file cannot be written.
    """
    path, notes = Path(path), bytes_of_notes(metadata or {})
    if len(notes) > MAX_NOTES:
        raise CheckpointError(
            f"{path}: {len(notes)} bytes of notes, where a zip holds {MAX_NOTES}; write a folder"
        )
    for name, array in arrays.items():
        _check_name(f"{name}.npy", path)
        check_header(Header(array.dtype.newbyteorder("="), array.shape), f"{path}: {name}")
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        archive.comment = notes
        for name in sorted(arrays):
            info = zipfile.ZipInfo(f"{name}.npy")  # of 1980: the time of writing is no content
            info.create_system = 3
            info.external_attr = 0o644 << 16
            with archive.open(info, "w", force_zip64=True) as member:
                array = arrays[name]
                raw = array.view(_RAW_BFLOAT16) if array.dtype == BFLOAT16 else array
                np.lib.format.write_array(member, raw, allow_pickle=False)


def bytes_of_notes(metadata: Mapping[str, str]) -> bytes:
    """Returns the comment that holds notes: a JSON object; nothing for none."""
    return json.dumps(dict(sorted(metadata.items()))).encode() if metadata else b""


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """Yields the archive; whatever damaged bytes lead the parsers to becomes `CheckpointError`."""
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"{path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if "CRC" in text:
        return f"is damaged ({text}); download or copy it again"
    if "not a zip file" in text or isinstance(error, EOFError):
        return "begins like an npz file but its end is missing; download or copy it again"
    if isinstance(error, zlib.error):
        return f"is damaged (an array cannot be unpacked: {text}); download or copy it again"
    return f"is not a readable npz file ({text}); download or copy it again"


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, _Member]:
    """Returns every array's place and header, all of them checked."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
    _check_sizes(infos, path)
    members: dict[str, _Member] = {}
    for info in infos:
        name = _check_name(info.filename, path)
        if name in members:
            raise CheckpointError(
                f"{path}: holds two arrays {name!r}; the file is damaged or made to deceive"
            )
        members[name] = _member(archive, info, f"{path}: {name}")
    check_total((member.header for member in members.values()), path)
    return members


def _check_sizes(infos: list[zipfile.ZipInfo], path: Path) -> None:
    for info in infos:
        if os.path.basename(info.filename) == "data.pkl":
            raise CheckpointError(f"{path}: {PICKLE}")
        if info.flag_bits & 0x1:
            raise CheckpointError(f"{path}: {info.filename[:80]!r} is encrypted; save it without")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise CheckpointError(
                f"{path}: {info.filename[:80]!r} is compressed by a method that NumPy never uses "
                f"({info.compress_type}); save it with numpy.savez"
            )
    size = path.stat().st_size
    declared = sum(info.file_size for info in infos)
    if declared > max(SMALL, MAX_RATIO * size):
        raise CheckpointError(
            f"{path}: {size} bytes that unpack to {declared}; weights never shrink {MAX_RATIO}:1, "
            "so this file is damaged or made to fill the memory"
        )


def _check_name(filename: str, path: Path) -> str:
    """Returns the name of the array in a member: its path without .npy."""
    name, dot, ending = filename.rpartition(".")
    parts = name.split("/")
    if not name or not dot or ending != "npy":
        raise CheckpointError(
            f"{path}: {filename[:80]!r} is not an array (.npy); an npz file holds nothing else"
        )
    if ".." in parts or name.startswith("/") or "\\" in name or ":" in name:
        raise CheckpointError(
            f"{path}: {filename[:80]!r} would lie outside of the archive's folder; no array of "
            "weights is named so"
        )
    check_name(name, path)
    return name


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> _Member:
    """Reads the header of one .npy member, and compares its size with what the zip declares."""
    with archive.open(info) as file:
        beginning = io.BytesIO(file.read(_HEADER_BYTES))
    dtype, shape, fortran = _npy_header(beginning, where)
    if dtype.hasobject:
        raise CheckpointError(
            f"{where}: holds pickled Python objects, and reading them can run any code; where you "
            "trust the file, load it with NumPy and save plain arrays"
        )
    header = Header(BFLOAT16 if dtype == _RAW_BFLOAT16 else dtype.newbyteorder("="), shape)
    check_header(header, where)
    offset = beginning.tell()
    if offset + header.nbytes != info.file_size:
        raise CheckpointError(
            f"{where}: {header.dtype}{list(shape)} takes {offset + header.nbytes} bytes with its "
            f"header, the zip declares {info.file_size}; the file is damaged or made to deceive"
        )
    return _Member(info, header, dtype, fortran, offset)


def _npy_header(file: io.BytesIO, where: str) -> tuple[np.dtype, tuple[int, ...], bool]:
    """Returns dtype, shape and whether the first index varies fastest; the file is then after it.

    Versions 1 and 2 are known: 3 differs by the names of fields, which weights do not have.
    """
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers as Python 2 wrote them, or odd literals
            shape, fortran, dtype = readers[np.lib.format.read_magic(file)](file)
    except Exception as error:  # NumPy evaluates the header as a literal: anything may come of it
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CheckpointError(
            f"{where}: not a readable .npy array ({reason}); the file is damaged"
        ) from error
    return dtype, shape, fortran


def _read(archive: zipfile.ZipFile, member: _Member, where: str) -> np.ndarray:
    """Reads the elements of an array whose header has been checked."""
    data = np.empty(member.header.nbytes, np.uint8)
    view = data.data
    with archive.open(member.info) as file:
        file.read(member.offset)
        filled = 0
        while filled < len(view) and (chunk := file.read(min(_CHUNK, len(view) - filled))):
            view[filled : filled + len(chunk)] = chunk
            filled += len(chunk)
    if filled < len(view):  # all were read otherwise, and zipfile has compared the checksum
        raise CheckpointError(
            f"{where}: {filled} bytes of elements, not the {len(view)} that are declared; "
            "download or copy the file again"
        )
    dtype, shape = member.header
    array = data.view(BFLOAT16 if dtype == BFLOAT16 else member.stored)
    array = array.reshape(shape[::-1]).T if member.fortran else array.reshape(shape)
    return array.astype(dtype, copy=False)
