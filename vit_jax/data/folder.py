"""Image folders: `{train,test}/CLASS/*`, or one `CLASS/` level split by a hash of the path."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from vit_jax.data.sources import FileSource
from vit_jax.errors import DataError, nearest

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
SPLITS = ("train", "val", "validation", "test")
# Share of a folder without split folders that is held out, in percent.
TEST_PERCENT = 20


def open_folder(folder: str | Path, split: str) -> FileSource:
    """Returns one split of an image folder.

    With split folders (train, val, validation, test) the classes are the folder names found in any
    of them, sorted, and each of them must be in every split used. Without, the folder's own
    sub-folders are the classes, and about 20 % of the files, chosen by a hash of their relative
    path, are "test", the rest "train": adding a file moves no other.

    Raises:
      DataError: no such folder or split, no class, or a class without images.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise DataError(f"{root}: no such image folder{_nearest_folder(root)}")
    parts = {part.name: part for part in _folders(root) if part.name in SPLITS}
    return _one_part(root, parts, split) if parts else _hashed_part(root, split)


def _one_part(root: Path, parts: dict[str, Path], split: str) -> FileSource:
    """Reads root/SPLIT/CLASS/*."""
    if split not in parts:
        raise DataError(
            f"{root}: no split {split!r}; has {', '.join(sorted(parts))} (set config.pp.test or "
            "config.pp.train)"
        )
    classes = sorted(
        {part.name for split_folder in parts.values() for part in _folders(split_folder)}
    )
    files = {name: _images(parts[split] / name) for name in classes}
    return _source(parts[split], files)


def _hashed_part(root: Path, split: str) -> FileSource:
    """Reads the share of root/CLASS/* whose hash falls into the split."""
    if split not in ("train", "test"):
        raise DataError(
            f"{root}: no split {split!r}; a folder without split folders has train and test"
        )
    files = {
        part.name: [
            path for path in _images(part) if _is_test(path.relative_to(root)) == (split == "test")
        ]
        for part in _folders(root)
    }
    return _source(root, files, hashed=split)


def _source(root: Path, files: dict[str, list[Path]], hashed: str | None = None) -> FileSource:
    """Joins the files of all classes; every class needs at least one."""
    if not files:
        raise DataError(f"{root}: holds no class folders; expected {root}/CLASS/*.jpg")
    for name, paths in files.items():
        if not paths:
            why = f" in its {hashed} share; add images, or split train/ and test/ yourself"
            raise DataError(f"{root / name}: class {name!r} has no images{why if hashed else ''}")
    labels = [label for label, paths in enumerate(files.values()) for _ in paths]
    return FileSource(
        [path for paths in files.values() for path in paths],
        np.asarray(labels, np.int32),
        tuple(files),
    )


def _folders(root: Path) -> list[Path]:
    """Returns the visible sub-folders, in the order of their names."""
    return sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")


def _images(folder: Path) -> list[Path]:
    """Returns the image files below a folder, at any depth, in a fixed order."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in EXTENSIONS and not _hidden(path, folder) and path.is_file()
    )


def _hidden(path: Path, folder: Path) -> bool:
    return any(part[0] == "." for part in path.relative_to(folder).parts)


def _is_test(relative: Path) -> bool:
    digest = hashlib.sha256(relative.as_posix().encode()).digest()
    return int.from_bytes(digest[:8], "big") % 100 < TEST_PERCENT


def _nearest_folder(root: Path) -> str:
    siblings: Iterable[str] = ()
    if root.parent.is_dir():
        siblings = (path.name for path in root.parent.iterdir() if path.is_dir())
    return nearest(root.name, siblings)
