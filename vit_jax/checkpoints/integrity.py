"""Digests of a folder of files: sealed once, checked before every read.

A seal is one small JSON file inside the folder, so that it moves and goes with what it describes.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, BinaryIO

SEAL = "integrity.json"
_VERSION = 1


def sync(path: Path) -> None:
    """Makes a file's bytes, or the names in a folder, survive a power cut."""
    if path.is_dir() and os.name != "posix":
        return  # elsewhere a folder cannot be opened, and its names need no flush
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def seal(folder: Path) -> None:
    """Writes the size and SHA-256 of every file in `folder` into its seal, all of it durable.

    The seal appears whole or not at all. It also holds the folder's name: a sealed folder that is
    renamed is no longer valid.

    Raises:
        OSError: a file cannot be read or written.
    """
    files = _files(folder)
    content = {
        "version": _VERSION,
        "folder": folder.name,
        "files": {name: _entry(path) for name, path in sorted(files.items())},
    }
    for path in files.values():
        sync(path)
    temporary = folder / f"{SEAL}.tmp"
    temporary.write_text(json.dumps(content, indent=1))
    sync(temporary)
    temporary.replace(folder / SEAL)
    for path in [*(p for p in folder.rglob("*") if p.is_dir()), folder]:
        sync(path)


def damage(folder: Path, *, digests: bool = True) -> str | None:
    """Returns why `folder` differs from what was sealed ("PATH: reason"), or None if it is intact.

    With `digests=False` only names and sizes are compared: no file but the seal is read. Never
    raises on damaged input; a file that cannot be read is damage, and said to be no more.
    """
    try:
        return difference(folder, digests=digests)
    except OSError as error:
        return unreadable(folder, error)


def unreadable(folder: Path, error: OSError) -> str:
    """Returns which file of `folder` cannot be read, and why."""
    return f"{Path(error.filename or folder).name}: cannot be read ({error.strerror or error})"


def difference(folder: Path, *, digests: bool = True) -> str | None:
    """As `damage`, but only for what has been read.

    Files that systems leave in any folder (.DS_Store, Thumbs.db) make no difference.

    Raises:
        OSError: a file cannot be read, which tells nothing of its bytes.
    """
    if not folder.is_dir():
        return f"{folder.name}: no such folder"
    if not (folder / SEAL).is_file():
        return f"{SEAL}: missing, so nothing vouches for the other files"
    sealed = _read_seal(folder)
    if sealed is None:
        return f"{SEAL}: not a seal of this folder"
    found = {n: path for n, path in _files(folder).items() if n in sealed or not _is_litter(path)}
    for name in sorted(sealed.keys() | found.keys()):
        if name not in found:
            return f"{name}: missing"
        if name not in sealed:
            return f"{name}: not there when the folder was sealed"
        size = found[name].stat().st_size
        if size != sealed[name]["size"]:
            return f"{name}: {size} bytes, not {sealed[name]['size']}"
    for name, path in found.items() if digests else ():
        if _sha256(path) != sealed[name]["sha256"]:
            return f"{name}: other bytes than were written"
    return None


def _read_seal(folder: Path) -> dict[str, Any] | None:
    """Returns {file: {"size", "sha256"}}, or None if the seal was damaged or made elsewhere."""
    try:
        content = json.loads((folder / SEAL).read_text())
        files = dict(content["files"])
        well_formed = all(entry.keys() == {"size", "sha256"} for entry in files.values())
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    ours = (content.get("version"), content.get("folder")) == (_VERSION, folder.name)
    return files if ours and well_formed else None


def _files(folder: Path) -> dict[str, Path]:
    paths = (path for path in folder.rglob("*") if not path.is_dir())
    files = {path.relative_to(folder).as_posix(): path for path in paths}
    files.pop(SEAL, None)
    return files


def _is_litter(path: Path) -> bool:
    return path.name.startswith(".") or path.name == "Thumbs.db"


def _entry(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    file: BinaryIO
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
