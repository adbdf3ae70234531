"""What a folder of images is, as far as the settings of a run depend on it."""

import collections
import dataclasses
import io
import statistics
from pathlib import Path

from vit_jax.data.folder import open_folder, split_folders
from vit_jax.data.folder_index import index_folder
from vit_jax.data.sources import FileSource
from vit_jax.errors import DataError

# One photograph, however often it is cropped, is no class.
LEAST = 2
_LOOKED_AT = 64  # images whose size is read


@dataclasses.dataclass(frozen=True)
class Facts:
    """A folder of images.

    Attributes:
      folder: its path, absolute.
      train_split, test_split: what its parts to train and to test on are called.
      held_out: whether the test images are a fifth that was held out, as the folder has no parts.
      classes: how many.
      train, test: images of the two parts.
      fewest, most: training images of the classes that have the fewest and the most.
      side: median of the shorter sides of training images, in pixels.
    """

    folder: str
    train_split: str
    test_split: str
    held_out: bool
    classes: int
    train: int
    test: int
    fewest: int
    most: int
    side: int


def read_facts(folder: str) -> Facts:
    """Counts the images of a folder, `{train,test}/CLASS/*` or `CLASS/*`, and looks at some.

    Raises:
      DataError: no such folder, no images, fewer than two classes, or a class with too few.
    """
    root = Path(folder).expanduser().absolute()
    train_split, test_split = _splits(root)
    train = open_folder(root, train_split or "train")
    test = open_folder(root, test_split or "test")
    counts = collections.Counter(train.labels.tolist())
    rarest = min(counts, key=counts.__getitem__, default=0)
    if counts[rarest] < LEAST:
        raise DataError(
            f"{root}: class {train.class_names[rarest]!r} has {counts[rarest]} image to train on; "
            f"each class needs {LEAST} or more, and learns well from 20 on: add some, or take the "
            "class away"
        )
    return Facts(
        str(root),
        train_split or "train",
        test_split or "test",
        not train_split,
        len(train.class_names),
        len(train),
        len(test),
        counts[rarest],
        max(counts.values()),
        _median_side(train),
    )


def _splits(root: Path) -> tuple[str, str]:
    """Returns the names of the folders to train and to test on; empty where there are none."""
    if not root.is_dir():
        return "", ""  # `open_folder` says so
    parts = split_folders(index_folder(root))
    if not parts:
        return "", ""
    # Where there are both, `val` is for choosing settings, `test` for the score.
    test = next((name for name in ("test", "val", "validation") if name in parts), None)
    if "train" not in parts or test is None:
        missing = "train" if test else "test"
        fix = f"; or hold out a fifth of the images by naming {root / 'train'}" if not test else ""
        raise DataError(
            f"{root}: has {', '.join(parts)}/, but no {missing}/; put images into "
            f"{root / missing}/CLASS/{fix}"
        )
    return "train", test


def _median_side(source: FileSource) -> int:
    """Returns the median of the shorter sides, from the headers of images all over the source."""
    step = max(1, len(source) // _LOOKED_AT)
    sides = (_shorter_side(source, index) for index in range(0, len(source), step))
    known = [side for side in sides if side is not None]
    if not known:
        raise DataError(f"{source.name(0)}: neither it nor any other image looked at can be read")
    return round(statistics.median(known))


def _shorter_side(source: FileSource, index: int) -> int | None:
    """Returns it in pixels, or None of a damaged image, which training will name."""
    from PIL import Image  # not before usage errors are told

    from vit_jax.data.decoding import FORMATS

    try:
        with Image.open(io.BytesIO(source[index][0]), formats=FORMATS) as image:
            return min(image.size)
    except Exception:  # Pillow's parsers raise whatever damaged bytes lead them to
        return None
