"""Image folders: `{train,test}/CLASS/*`, or one `CLASS/` level split by a hash of the path."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from vit_jax.data.flat_split import flat_labels
from vit_jax.data.folder_index import HEIF, FolderIndex, index_folder
from vit_jax.data.held_out import share_of_class
from vit_jax.data.sources import FilePaths, FileSource
from vit_jax.errors import DataError, nearest

logger = logging.getLogger("vit_jax")

SPLITS = ("train", "val", "validation", "test")
# What splits are called elsewhere, by what they are called here.
_LIKE_SPLITS = {
    split: re.compile(rf"(?:{names})(?:[ _-]?(?:set|data|images|split))?", re.IGNORECASE)
    for split, names in {
        "train": "train|training",
        "val": "val|valid|validation|eval|evaluation",
        "test": "test|testing",
    }.items()
}
# The folder between a class or a split and its images, in TinyImageNet: never a class by itself.
_IMAGES = "images"


def open_folder(folder: str | Path, split: str) -> FileSource:
    """Returns one split of an image folder.

    With split folders (train, val, validation, test) the classes are the folder names found in any
    of them, sorted, and each of them must be in every split used. A split whose images have no
    class folders, as ImageNet's and TinyImageNet's `val`, needs a file of labels (`flat_split`).
    Without split folders, the folder's own sub-folders are the classes, and about 20 % of the
    files, chosen by a hash of their relative path, are "test", the rest "train"; a class of two
    files or more has one at least in both.

    Raises:
      DataError: no such folder or split, fewer than two classes, a class without images, or class
        names that differ in case only.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise DataError(f"{root}: no such image folder{_nearest_folder(root)}")
    index = index_folder(root)
    parts = split_folders(index)
    return _one_part(index, parts, split) if parts else _hashed_part(index, split)


def split_folders(index: FolderIndex) -> list[str]:
    """Returns the names of the split folders; none where the folder is not divided.

    Raises:
      DataError: all its folders are named as splits are elsewhere ("Training", "test_set"), which
        must not be taken for classes: a model would learn to tell training files from test files.
    """
    if parts := [name for name in index.folders() if name in SPLITS]:
        return parts
    holding = sorted(name for name, images in index.images().items() if images)
    meant = {name: split for name in holding if (split := _meant(name))}
    if meant and len(meant) == len(holding):
        raise DataError(
            f"{index.root}: {', '.join(meant)} look like splits, which are not told from classes "
            f"by these names; rename them to {', '.join(meant.values())}"
        )
    return []


def _meant(name: str) -> str | None:
    """Returns the split that a folder of this name holds elsewhere."""
    like = (split for split, names in _LIKE_SPLITS.items() if names.fullmatch(name))
    return next(like, None)


def _one_part(index: FolderIndex, parts: Sequence[str], split: str) -> FileSource:
    """Reads root/SPLIT/CLASS/*, or root/SPLIT/* with a file of labels."""
    root = index.root
    if split not in parts:
        like = [name for name in index.folders() if name not in SPLITS and _meant(name)]
        rename = f"; or rename {', '.join(like)} to {', '.join(SPLITS)}" if like else ""
        raise DataError(
            f"{root}: no split {split!r}; has {', '.join(parts)} (set config.pp.test or "
            f"config.pp.train{rename})"
        )
    folders = {name for part in parts if not _is_flat(index, part) for name in index.folders(part)}
    classes = _checked(root / split, folders)
    found = index.images(split)
    if not _is_flat(index, split):
        _check_any(root / split, found)
        return _source(index, split, {name: found.get(name, []) for name in classes})
    images = sorted(index.loose(split) + found.get(_IMAGES, []), key=lambda path: Path(path).name)
    given = flat_labels(root, split, images, classes)
    files: dict[str, list[str]] = {name: [] for name in classes}
    for image, name in zip(images, given, strict=True):
        files[name].append(image)
    return _joined(index, files)


def _is_flat(index: FolderIndex, split: str) -> bool:
    """Returns whether a split has images, but no folders of classes."""
    folders = index.folders(split)
    return folders == [_IMAGES] or (not folders and bool(index.loose(split)))


def _hashed_part(index: FolderIndex, split: str) -> FileSource:
    """Reads the share of root/CLASS/* whose hash falls into the split."""
    if split not in ("train", "test"):
        raise DataError(
            f"{index.root}: no split {split!r}; a folder without split folders has train and test"
        )
    _checked(index.root, index.folders())
    images = index.images()
    _check_any(index.root, images)
    files = {name: share_of_class(paths, split) for name, paths in images.items()}
    return _source(index, "", files, hashed=split)


def _checked(place: Path, names: Iterable[str]) -> list[str]:
    """Returns the names of the classes in order; there must be two, told apart by any system."""
    classes = sorted(names)
    if not classes:
        raise DataError(f"{place}: holds no class folders; expected {place}/CLASS/*.jpg")
    if len(classes) == 1:
        raise DataError(
            f"{place}: holds one class only ({classes[0]!r}); a classifier needs two or more"
        )
    by_lower: dict[str, str] = {}
    for name in classes:
        other = by_lower.setdefault(name.lower(), name)
        if other != name:
            raise DataError(
                f"{place}: classes {other!r} and {name!r} differ in case only; rename or join them"
            )
    return classes


def _source(
    index: FolderIndex, split: str, files: Mapping[str, list[str]], hashed: str | None = None
) -> FileSource:
    """Joins the files of all classes; every class needs at least one."""
    for name, paths in files.items():
        if not paths:
            why = f" in its {hashed} share; add images, or split train/ and test/ yourself"
            where = index.root / split / name
            raise DataError(f"{where}: class {name!r} has no images{why if hashed else ''}")
    return _joined(index, files)


def _check_any(place: Path, files: Mapping[str, list[str]]) -> None:
    if not any(files.values()):
        raise DataError(f"{place}: holds no images in its {len(files)} class folders")


def _joined(index: FolderIndex, files: Mapping[str, list[str]]) -> FileSource:
    counts = [len(paths) for paths in files.values()]
    images = [path for paths in files.values() for path in paths]
    if heif := [path for path in images if path.lower().endswith(HEIF)]:
        _warn_of_unread(index.root, heif, len(images))
    return FileSource(
        FilePaths(index.root, images),
        np.repeat(np.arange(len(counts), dtype=np.int32), counts),
        tuple(files),
    )


def _warn_of_unread(root: Path, heif: Sequence[str], count: int) -> None:
    # Decoding takes long to import, for which a wrong name of a folder would have to wait.
    from vit_jax.data.decoding import TO_JPEG, UNREAD

    unread = [path for path in heif if path.lower().endswith(UNREAD)]
    if unread:
        logger.warning(
            "%s: %d of %d images (%s …) are HEIC or AVIF, which Pillow does not read here; %s",
            *(root, len(unread), count, unread[0], TO_JPEG),
        )


def _nearest_folder(root: Path) -> str:
    siblings: Iterable[str] = ()
    if root.parent.is_dir():
        siblings = (path.name for path in root.parent.iterdir() if path.is_dir())
    return nearest(root.name, siblings)
