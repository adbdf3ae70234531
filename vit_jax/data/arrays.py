"""Images in memory: NumPy arrays from Python, and `.npz` files of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8

from vit_jax.data.held_out import is_test
from vit_jax.data.sources import ArraySource
from vit_jax.errors import DataError

# Names of a split's images and labels: Keras's, those of medical collections, and plain ones.
_LAYOUTS = (("x_{}", "y_{}"), ("{}_images", "{}_labels"), ("images_{}", "labels_{}"))
_UNDIVIDED = (("images", "labels"), ("x", "y"))
_SPLITS = ("train", "val", "validation", "test")


def from_arrays(images: Any, labels: Any, class_names: Sequence[str] | None = None) -> ArraySource:
    """Returns arrays as a source, to train or evaluate on.

    Args:
      images: uint8, (n, h, w, 3), or (n, h, w) or (n, h, w, 1) for grey.
      labels: class index of each, (n,) or (n, 1) integers from 0.
      class_names: names of all classes, the same for every split; None numbers those in `labels`.

    Raises:
      DataError: another dtype or shape, labels out of range, or fewer than two classes.
    """
    return _source("arrays", np.asarray(images), np.asarray(labels), class_names)


def open_npz(path: Path, split: str) -> ArraySource:
    """Returns one split of an `.npz` file.

    It holds `x_train`, `y_train`, `x_test`, `y_test` as Keras writes them, or `train_images`,
    `train_labels` and so on, or `images` and `labels` alone, of which about 20 % are "test". The
    names of the classes may be there as `class_names`. Pickled objects are never loaded.

    Raises:
      DataError: the file, the split or an array is missing, damaged, or as in `from_arrays`.
    """
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("a single array; save images and labels with np.savez")
    except Exception as error:  # the parsers raise whatever damaged bytes lead them to
        raise DataError(f"{path}: not a readable .npz file: {_line(error)}") from error
    with file:
        return _open_split(path, file, split)


def _open_split(path: Path, file: np.lib.npyio.NpzFile, split: str) -> ArraySource:
    splits = _splits(file.files)
    whole = next((pair for pair in _UNDIVIDED if set(pair) <= set(file.files)), None)
    if not splits and whole is None:
        raise DataError(
            f"{path}: holds {', '.join(file.files) or 'nothing'}; expected x_train, y_train, "
            "x_test, y_test, or images, labels"
        )
    known = list(splits) or ["train", "test"]
    if split not in known:
        raise DataError(f"{path}: no split {split!r}; has {', '.join(known)}")
    # Every split is asked for its labels, as the classes are those of all.
    labels = {name: _read(path, file, key) for name, (_, key) in splits.items()}
    if not splits:
        assert whole is not None
        labels = {"": _read(path, file, whole[1])}
    names = _class_names(path, file, labels)
    if splits:
        return _source(str(path), _read(path, file, splits[split][0]), labels[split], names)
    assert whole is not None
    source = _source(str(path), _read(path, file, whole[0]), labels[""], names)
    chosen = np.array([is_test(str(i)) == (split == "test") for i in range(len(source))])
    return ArraySource(source.images[chosen], source.labels[chosen], source.class_names)


def _splits(keys: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Returns {split: names of its images and labels}."""
    found = {}
    for split in _SPLITS:
        for pair in _LAYOUTS:
            images, labels = (name.format(split) for name in pair)
            if images in keys and labels in keys:
                found[split] = (images, labels)
    return found


def _class_names(
    path: Path, file: np.lib.npyio.NpzFile, labels: Mapping[str, np.ndarray]
) -> tuple[str, ...]:
    if "class_names" in file.files:
        names = _read(path, file, "class_names").ravel().tolist()
        return tuple(
            name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
            for name in names
        )
    checked = [_checked_labels(str(path), given) for given in labels.values()]
    return _numbered(max(int(given.max(initial=-1)) for given in checked))


def _read(path: Path, file: np.lib.npyio.NpzFile, key: str) -> np.ndarray:
    try:
        return file[key]
    except Exception as error:
        raise DataError(f"{path}: {key} cannot be read: {_line(error)}") from error


def _source(
    name: str, images: np.ndarray, labels: np.ndarray, class_names: Sequence[str] | None
) -> ArraySource:
    pixels, classes = _checked_images(name, images), _checked_labels(name, labels)
    if len(pixels) != len(classes):
        raise DataError(f"{name}: {len(pixels)} images, but {len(classes)} labels")
    if not len(classes):
        raise DataError(f"{name}: holds no images")
    last = int(classes.max())
    names = tuple(class_names) if class_names is not None else _numbered(last)
    if last >= len(names):
        raise DataError(f"{name}: label {last} for {len(names)} classes; they count from 0")
    if len(names) < 2:
        raise DataError(f"{name}: holds one class only; a classifier needs two or more")
    return ArraySource(pixels, classes, names)


def _checked_images(name: str, images: np.ndarray) -> UInt8[np.ndarray, "n h w 3"]:
    """Returns RGB images; grey ones have three equal colours then."""
    if images.dtype != np.uint8:
        raise DataError(
            f"{name}: images are {images.dtype}, but must be uint8 from 0 to 255; scale and round "
            "them, then .astype('uint8')"
        )
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape[1:]:
        raise DataError(
            f"{name}: images of shape {images.shape}, but must be (n, height, width, 3), or "
            "without the last axis for grey"
        )
    return images if images.shape[-1] == 3 else np.repeat(images, 3, axis=-1)


def _checked_labels(name: str, labels: np.ndarray) -> Int32[np.ndarray, "n"]:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(
            f"{name}: labels are {labels.dtype} of shape {labels.shape}, but must be integers of "
            "shape (n,), the class of each image; of one-hot rows take .argmax(-1)"
        )
    if labels.min(initial=0) < 0:
        raise DataError(f"{name}: label {labels.min()} is negative; classes count from 0")
    return labels.astype(np.int32)


def _numbered(last: int) -> tuple[str, ...]:
    return tuple(str(number) for number in range(last + 1))


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
