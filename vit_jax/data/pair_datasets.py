"""Opens image-text pairs by name or by path; what a name means is decided here and nowhere else."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from vit_jax.data import caption_folder, tar_pairs, tfds
from vit_jax.data.datasets import NAMES, open_dataset
from vit_jax.data.pairs import ClassPairs, PairSource
from vit_jax.data.sources import Source
from vit_jax.errors import ConfigError, DataError, nearest


def open_class_pairs(
    dataset: str,
    split: str,
    templates: Sequence[str],
    spoken: Callable[[str], str],
    arrays: Mapping[str, Source] | None = None,
    tfds_data_dir: str | None = None,
    tfds_manual_dir: str | None = None,
) -> PairSource:
    """Returns a split of a dataset of classes, with captions made of their names.

    Args:
      templates: captions with "{}" in the place of the name.
      spoken: what a class is called in a caption, from what it is called in the data.
      dataset, split, arrays, tfds_data_dir, tfds_manual_dir: as `open_dataset` takes them.

    Raises:
      ConfigError, DataError: as `open_dataset`.
    """
    images = open_dataset(dataset, split, arrays, tfds_data_dir, tfds_manual_dir)
    return PairSource(ClassPairs(images, tuple(templates), spoken), images.class_names)


def open_pairs(
    dataset: str, split: str, tfds_data_dir: str | None = None, tfds_manual_dir: str | None = None
) -> PairSource:
    """Returns a split of a dataset whose images have captions of their own.

    Args:
      dataset: the path of a folder of tar shards or of images with captions; or a name of
        TensorFlow Datasets, such as "coco_captions".
      split, tfds_data_dir, tfds_manual_dir: as `open_dataset` takes them.

    Raises:
      ConfigError: no dataset of that name.
      DataError: the folder, the split or its images are missing, or TFDS's has no captions.
    """
    path = Path(dataset).expanduser()
    if path.is_dir():
        is_tar = bool(tar_pairs.tar_files(path))
        opened = tar_pairs.open_tar_pairs if is_tar else caption_folder.open_caption_folder
        return PairSource(opened(path, split))
    if tfds.is_name(dataset, tfds_data_dir):
        return PairSource(tfds.open_tfds_pairs(dataset, split, tfds_data_dir, tfds_manual_dir))
    if dataset and (len(path.parts) > 1 or dataset.startswith((".", "~"))):
        raise DataError(f"{path}: no such folder of images with captions")
    classes = f"; {dataset} has classes: config.captions=classes" if dataset in NAMES else ""
    raise ConfigError(
        f"config.dataset={dataset!r}: neither a folder nor a name of TensorFlow Datasets"
        f"{classes or nearest(dataset, tfds.names())}"
    )
