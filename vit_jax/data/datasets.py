"""Opens a dataset by name or by path."""

from pathlib import Path

from vit_jax.data import digits, folder
from vit_jax.data.sources import Source
from vit_jax.errors import ConfigError, DataError, nearest

NAMES = ("digits",)


def open_dataset(dataset: str, split: str) -> Source:
    """Returns one split of a named dataset or of an image folder.

    Args:
      dataset: "digits", or the path of an image folder.
      split: "train", "test", or what else the dataset has.

    Raises:
      ConfigError: no dataset of that name.
      DataError: the folder, the split or its images are missing.
    """
    if dataset == "digits":
        if split not in digits.SPLITS:
            raise DataError(f"digits: no split {split!r}; has {', '.join(digits.SPLITS)}")
        return digits.open_digits(split)
    path = Path(dataset).expanduser()
    looks_like_path = path.is_dir() or len(path.parts) > 1 or dataset.startswith((".", "~"))
    if not dataset or not looks_like_path:
        raise ConfigError(
            f"config.dataset={dataset!r}: neither a known dataset ({', '.join(NAMES)}) nor a "
            f"folder{nearest(dataset, NAMES)}"
        )
    return folder.open_folder(path, split)
