"""Reassessed labels: for each image all classes that are right, several or none.

Beyer et al. 2020, "Are we done with ImageNet?" (arXiv:2006.07159), whose file `real.json` this
reads: a list of lists of class indices, one for each validation image in the order of the file
names.
"""

import json
from pathlib import Path
from typing import Any

from vit_jax.data.records import RecordSource
from vit_jax.data.sources import ArraySource, FileSource, Source
from vit_jax.errors import DataError

Valid = list[frozenset[int]]

_NAMELESS = "this dataset keeps none; evaluate on a folder of the images"


def read_real_labels(path: str | Path, source: Source) -> Valid:
    """Returns the valid classes of each example of a source, in its order; none if it has none.

    Args:
      path: JSON: a list of lists of class indices, in the order of the images' file names (of
        images in memory, which have none, in their own), or an object {file name: [indices]}.
      source: the split, not yet held in memory, so that its files have names: of a folder, or of
        records that say what file each was, as those of ImageNet do.

    Raises:
      DataError: no such file, or one that does not fit the images or the classes.
    """
    try:
        given = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"--real={path}: not readable as JSON: {error}") from error
    if not isinstance(given, list | dict):
        raise DataError(f"--real={path}: must hold a list of lists, or {{file name: list}}")
    read = _by_name if isinstance(given, dict) else _in_order
    lists = read(path, given, source)
    return [_checked(path, classes, len(source.class_names)) for classes in lists]


def _by_name(path: str | Path, given: Any, source: Source) -> list[Any]:
    names = _file_names(source)
    if names is None:
        raise DataError(f"--real={path}: names files, but {_NAMELESS}")
    missing = [name for name in names if name not in given]
    if missing:
        raise DataError(
            f"--real={path}: has no entry for {missing[0]} ({len(missing)} images have none); an "
            "image without valid classes needs an empty list"
        )
    return [given[name] for name in names]


def _in_order(path: str | Path, given: Any, source: Source) -> list[Any]:
    names = _file_names(source)
    if names is None and isinstance(source, ArraySource):  # images that never were files
        names = [f"{place:012}" for place in range(len(source))]
    if names is None:
        raise DataError(f"--real={path}: goes by file names, but {_NAMELESS}")
    if len(given) != len(names):
        raise DataError(
            f"--real={path}: has {len(given)} lists for {len(names)} images; there must be one an "
            "image, in the order of the file names"
        )
    order = sorted(range(len(names)), key=lambda place: names[place])
    lists = dict(zip(order, given, strict=True))
    return [lists[place] for place in range(len(names))]


def _file_names(source: Source) -> list[str] | None:
    """Returns the name of each example's file, without folders; None if they are not kept."""
    if isinstance(source, RecordSource):
        paths = source.file_names()
    elif isinstance(source, FileSource | ArraySource) and source.paths is not None:
        paths = [source.name(place) for place in range(len(source))]
    else:
        return None
    return None if paths is None else [Path(path).name for path in paths]


def _checked(path: str | Path, classes: Any, count: int) -> frozenset[int]:
    if not isinstance(classes, list) or not all(
        isinstance(one, int) and 0 <= one < count for one in classes
    ):
        raise DataError(
            f"--real={path}: {str(classes)[:60]} must be a list of class indices from 0 to "
            f"{count - 1}, in the order of the model's classes"
        )
    return frozenset(classes)
