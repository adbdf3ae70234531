"""The images that a user names: files, folders, patterns, URLs, lines of standard input."""

import glob
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from vit_jax.checkpoints import locations, transfer
from vit_jax.data.folder_index import EXTENSIONS
from vit_jax.errors import CheckpointError, DataError

STANDARD_INPUT = "-"
MOST_BYTES = 2**26  # of an image from the web

_PATTERN = "*?["


def expand(given: Sequence[str], lines: Iterable[str] = ()) -> list[str]:
    """Returns the names of all images: paths and URLs.

    Args:
      given: a file, or a URL (http, https), which is taken as it is, whether there is one or not;
        a folder, for the image files at any depth in it, in order of their paths; a pattern with *,
        ? or [ ], where ** stands for folders at any depth, for the files that it matches; or "-".
      lines: of standard input, for "-": a file or a URL each.

    Raises:
      DataError: a folder without images, a pattern that matches no file, or no image at all.
    """
    names = [name for one in given for name in _expanded(one, lines)]
    if not names:
        raise DataError("standard input names no image: give one path or URL a line")
    return names


def _expanded(given: str, lines: Iterable[str]) -> Iterator[str]:
    if given == STANDARD_INPUT:
        yield from (line for line in (line.rstrip("\r\n") for line in lines) if line.strip())
    elif is_url(given):
        yield given
    elif os.path.isdir(given):
        yield from _of_folder(given)
    elif any(mark in given for mark in _PATTERN) and not os.path.lexists(given):
        yield from _matches(given)
    else:
        yield given


def _of_folder(folder: str) -> list[str]:
    """By the ending of the name: what has another is not looked into."""
    found, seen = [], {os.path.realpath(folder)}
    for root, folders, names in os.walk(folder, followlinks=True):
        found += [os.path.join(root, name) for name in names if _is_image(name)]
        # A link may lead back to where it lies.
        real = {name: os.path.realpath(os.path.join(root, name)) for name in folders}
        folders[:] = [name for name in folders if real[name] not in seen]
        seen.update(real.values())
    if not found:
        endings = ", ".join(sorted(EXTENSIONS))
        raise DataError(f"{folder}: holds no image file; their names end in {endings}")
    return sorted(found)


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in EXTENSIONS and not name.startswith(".")


def _matches(pattern: str) -> list[str]:
    found = sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
    if not found:
        raise DataError(f"{pattern}: matches no file")
    return found


def is_url(name: str) -> bool:
    """Whether a name is that of an image on the web."""
    return name.lower().startswith(("http://", "https://"))


def read(name: str) -> bytes:
    """Returns the content of a file, or of a URL, which is kept nowhere.

    Raises:
      DataError: it cannot be had, or has more than `MOST_BYTES` on the web.
    """
    if is_url(name):
        return _downloaded(name)
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror}") from error


def _downloaded(url: str) -> bytes:
    if locations.is_offline():
        raise DataError(f"{locations.shown(url)}: {locations.OFFLINE} forbids downloads; unset it")

    def check(done: int, total: int | None) -> None:
        if max(done, total or 0) > MOST_BYTES:
            limit = MOST_BYTES // 2**20
            raise CheckpointError(f"{locations.shown(url)} is larger than {limit} MB")

    with tempfile.TemporaryDirectory(prefix="vit_jax_image_") as folder:
        part = Path(folder, "image")
        try:
            transfer.download(url, part, check)
        except CheckpointError as error:
            raise DataError(str(error)) from error
        return part.read_bytes()
