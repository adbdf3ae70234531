"""Labels of a split whose images lie side by side, as in TinyImageNet's and ImageNet's `val/`.

A labels file, in the split's folder or beside it, is either a table of (image, class) or a list of
classes in the order of the file names.
"""

import csv
from collections.abc import Sequence
from pathlib import Path

from vit_jax.errors import DataError, nearest

LIST_NAMES = (
    "ILSVRC2012_validation_ground_truth.txt",
    "imagenet_2012_validation_synset_labels.txt",
    "imagenet2012_validation_labels.txt",
)
TABLE_NAMES = ("LOC_val_solution.csv",)


def flat_labels(root: Path, split: str, images: Sequence[str], classes: Sequence[str]) -> list[str]:
    """Returns the class of each image of a split without class folders.

    Args:
      root: the image folder.
      split: name of the split, which is its folder.
      images: paths of its images, from the root, in the order of their names.
      classes: names of the classes, from the splits that have folders of them.

    Raises:
      DataError: no labels file, or one that does not fit the images or the classes.
    """
    file = _labels_file(root, split)
    rows = _rows(file)
    if all(len(row) == 1 for row in rows):
        found = _by_order(file, [row[0] for row in rows], len(images), classes)
    else:
        found = _by_name(file, rows, images, classes)
    known = set(classes)
    for name in found:
        if name not in known:
            raise DataError(f"{file}: unknown class {name!r}{nearest(name, classes)}")
    return found


def _labels_file(root: Path, split: str) -> Path:
    names = [f"{split}_{what}" for what in ("annotations.txt", "labels.txt", "labels.csv")]
    if split in ("val", "validation"):
        names += [*TABLE_NAMES, *LIST_NAMES]
    for folder in (root / split, root):
        for name in names:
            if (folder / name).is_file():
                return folder / name
    raise DataError(
        f"{root / split}: images without class folders, and no labels: put them into "
        f"{root / split}/CLASS/, or add {split}_labels.txt with 'IMAGE CLASS' on each line "
        f"(known: {', '.join(names)})"
    )


def _rows(file: Path) -> list[list[str]]:
    """Returns the fields of each line, parted by tabs, commas or spaces."""
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from error
    lines = [line.strip() for line in lines if line.strip()]
    mark = next((mark for mark in "\t," if lines and mark in lines[0]), None)
    return list(csv.reader(lines, delimiter=mark)) if mark else [line.split() for line in lines]


def _by_name(
    file: Path, rows: Sequence[Sequence[str]], images: Sequence[str], classes: Sequence[str]
) -> list[str]:
    """Reads (image, class, …) lines; images may be named without folder and extension."""
    table = {Path(row[0]).stem: row[1] for row in rows if len(row) > 1}
    known, found = set(classes), []
    for image in images:
        name = table.get(Path(image).stem)
        if name is None:
            raise DataError(f"{file}: has no line for {image}; add its class, or take it out")
        # ImageNet's table goes on with the boxes of the objects: "n01440764 10 20 110 220".
        found.append(name if name in known or not name.split() else name.split()[0])
    return found


def _by_order(file: Path, listed: Sequence[str], count: int, classes: Sequence[str]) -> list[str]:
    if len(listed) != count:
        raise DataError(
            f"{file}: lists {len(listed)} classes for {count} images; there must be one an image, "
            "in the order of the file names"
        )
    if set(listed) <= set(classes) or not all(name.isdecimal() for name in listed):
        return list(listed)
    names = _wordnet_ids(file)
    missing = next((number for number in listed if int(number) not in names), None)
    if missing is not None:
        raise DataError(f"{file.parent / 'meta.mat'}: has no class of number {missing}")
    return [names[int(number)] for number in listed]


def _wordnet_ids(file: Path) -> dict[int, str]:
    """Returns {ILSVRC number: WordNet id}: the numbers follow no order that could be worked out."""
    meta = file.parent / "meta.mat"
    if not meta.is_file():
        raise DataError(
            f"{file}: holds ILSVRC numbers, whose classes meta.mat of the development kit names; "
            f"put it beside, as {meta}"
        )
    from scipy.io import loadmat  # slow to import, and only needed here

    try:
        synsets = loadmat(meta, squeeze_me=True)["synsets"]
        pairs = zip(synsets["ILSVRC2012_ID"], synsets["WNID"], strict=True)
        return {int(number): str(name) for number, name in pairs}
    except Exception as error:  # of a damaged file, of any kind
        reason = " ".join(str(error).split())
        raise DataError(f"{meta}: not the development kit's table: {reason}") from error
