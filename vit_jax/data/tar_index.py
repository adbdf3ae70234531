"""Where the members of tar files lie, found once: a tar file is then at random access."""

import dataclasses
import hashlib
import os
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from vit_jax.data.folder_index import EXTENSIONS
from vit_jax.errors import DataError
from vit_jax.runtime import cache

_VERSION = 1
_SETTLED_NS = 2 * 10**9  # a file that changed so shortly ago may change again and not show it

Place = tuple[int, int]  # where the content of a member begins in the tar file, and its bytes


@dataclasses.dataclass(frozen=True)
class Sample:
    """What a tar file holds under one name.

    Attributes:
      key: the path of its members up to the first dot of their file name.
      image: extension and place of the image.
      text: those of the caption (".txt" or ".json"); None where there is none.
    """

    key: str
    image: tuple[str, int, int]
    text: tuple[str, int, int] | None


def index_tar(path: Path) -> tuple[Sample, ...]:
    """Returns the samples of a tar file that have an image, in order.

    They follow the convention of WebDataset: members whose names are the same up to the first dot
    belong together. What was found is kept in the cache, and holds as long as size and time of the
    file stay as they were.

    Raises:
      DataError: not a whole, uncompressed tar file, or one that has two images of one name.
    """
    name = f"shards/{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]}.json"
    try:
        status = path.stat()
        stamp = [status.st_size, status.st_mtime_ns]
        known = cache.read_json(name)
        if isinstance(known, dict) and (known.get("version"), known.get("stamp")) == (
            _VERSION,
            stamp,
        ):
            return tuple(_from_json(row) for row in known["samples"])
        started = time.time_ns()
        samples = _grouped(path, _members(path, status.st_size))
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: not a tar file that can be read: {reason}") from error
    if stamp[1] < started - _SETTLED_NS:
        rows = [dataclasses.astuple(sample) for sample in samples]
        cache.write_json(name, {"version": _VERSION, "stamp": stamp, "samples": rows})
    return samples


def _from_json(row: Any) -> Sample:
    key, image, text = row
    return Sample(key, tuple(image), text and tuple(text))


def _members(path: Path, size: int) -> Iterator[tuple[str, Place]]:
    """Yields the name of each file in a tar file, and where its content lies."""
    # "r:" opens no compressed file: within one there is no random access.
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            if not member.isfile():
                continue
            if member.offset_data + member.size > size:
                raise DataError(f"{path}: ends inside of {member.name}; copy the file again")
            yield member.name, (member.offset_data, member.size)


def _grouped(path: Path, members: Iterator[tuple[str, Place]]) -> tuple[Sample, ...]:
    found: dict[str, dict[str, tuple[str, int, int]]] = {}
    for name, place in members:
        inner = PurePosixPath(name)
        if inner.name.startswith("."):  # what some systems add beside each file
            continue
        stem, dot, extension = inner.name.partition(".")
        extension = (dot + extension).lower()
        kind = "image" if extension in EXTENSIONS else "text"
        if kind == "text" and extension not in (".txt", ".json"):
            continue
        key = (inner.parent / stem).as_posix()
        parts = found.setdefault(key, {})
        if kind == "image" and kind in parts:
            raise DataError(f"{path}: holds two images called {key}; give each its own name")
        if kind not in parts or extension == ".txt":  # which says nothing but the caption
            parts[kind] = (extension, *place)
    return tuple(
        Sample(key, parts["image"], parts.get("text"))
        for key, parts in found.items()
        if "image" in parts
    )
