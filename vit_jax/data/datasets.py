"""Opens a dataset by name or by path; what a name means is decided here and nowhere else."""

from collections.abc import Mapping
from pathlib import Path

from vit_jax.data import digits, folder, tfds
from vit_jax.data.arrays import open_npz
from vit_jax.data.sources import Source
from vit_jax.errors import ConfigError, DataError, nearest

NAMES = ("digits",)
ARRAYS = "arrays"


def open_dataset(
    dataset: str,
    split: str,
    arrays: Mapping[str, Source] | None = None,
    tfds_data_dir: str | None = None,
    tfds_manual_dir: str | None = None,
) -> Source:
    """Returns one split of a dataset.

    Args:
      dataset: "digits"; the path of an image folder or `.npz` file; a name of TensorFlow Datasets;
        or "arrays". An existing folder is taken for itself, whatever else has its name.
      split: "train", "test", or what else the dataset has.
      arrays: the splits of "arrays", by name.
      tfds_data_dir: where datasets prepared by TFDS lie; None is its own place.
      tfds_manual_dir: where files lie that TFDS may not download; None is its own place.

    Raises:
      ConfigError: no dataset of that name.
      DataError: the folder, the file, the split or its images are missing.
    """
    if arrays is not None or dataset == ARRAYS:
        return _given(dataset, split, arrays)
    if not dataset:
        raise ConfigError(
            "config.dataset='': the recipe leaves the data to you; give --config.dataset=NAME or a "
            "folder, or, to measure a model without data, vit_jax benchmark infer --config=…"
        )
    if dataset == "digits":
        if split not in digits.SPLITS:
            raise DataError(f"digits: no split {split!r}; has {', '.join(digits.SPLITS)}")
        return digits.open_digits(split)
    path = Path(dataset).expanduser()
    if path.suffix == ".npz" and not path.is_dir():
        return open_npz(path, split)
    if path.is_dir():
        return folder.open_folder(path, split)
    if tfds.is_name(dataset, tfds_data_dir):
        return tfds.open_tfds(dataset, split, tfds_data_dir, tfds_manual_dir)
    if len(path.parts) > 1 or dataset.startswith((".", "~")):
        return folder.open_folder(path, split)  # which says what is missing
    raise ConfigError(
        f"config.dataset={dataset!r}: neither a known dataset ({', '.join(NAMES)}, or a name of "
        f"TensorFlow Datasets) nor a folder{nearest(dataset, [*NAMES, *tfds.names()])}"
    )


def is_at_hand(dataset: str, tfds_data_dir: str | None = None) -> bool:
    """Returns whether a dataset is on this machine, so that `open_dataset` downloads nothing."""
    is_local = dataset in NAMES or Path(dataset).expanduser().exists()
    return is_local or tfds.is_prepared(dataset, tfds_data_dir)


def _given(dataset: str, split: str, arrays: Mapping[str, Source] | None) -> Source:
    """Returns a split that was passed from Python, which the config says too: it is recorded."""
    if arrays is None or dataset != ARRAYS:
        raise ConfigError(
            f"config.dataset={dataset!r}: {ARRAYS!r} and the argument `arrays` of the Python "
            "functions, {split: source}, go together; give both or neither"
        )
    if split not in arrays:
        raise DataError(f"arrays: no split {split!r}; has {', '.join(arrays) or 'none'}")
    return arrays[split]
