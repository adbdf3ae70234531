"""Datasets of TensorFlow Datasets by name: `cifar10`, `imagenet2012`, `imagenet_resized/64x64` …

What is prepared already, as ArrayRecord or as TFRecord, is read from its files alone: TensorFlow is
not needed, nor the code of the dataset. What is not is downloaded and prepared by TFDS, as
ArrayRecord.
"""

import contextlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax.data.record_pairs import RecordPairs
from vit_jax.data.records import Records, RecordSource, open_records
from vit_jax.data.tfrecord import Part
from vit_jax.errors import ConfigError, DataError, nearest

EXTRA = "pip install 'vit_jax[tfds]'"
_FILE_NAME = "file_name"
_CAPTION_WORDS = ("caption", "text", "sentence", "description")


def names() -> list[str]:
    """Returns the names of all datasets that TFDS knows."""
    import tensorflow_datasets as tfds

    return tfds.list_builders(with_community_datasets=False)


def is_prepared(dataset: str, data_dir: str | None = None) -> bool:
    """Returns whether a dataset of that name lies prepared: reading it downloads nothing."""
    base = dataset.split("/")[0].split(":")[0]
    return base.isidentifier() and _prepared(dataset, data_dir) is not None


def is_name(dataset: str, data_dir: str | None = None) -> bool:
    """Returns whether TFDS knows a dataset, or one of that name lies prepared."""
    base = dataset.split("/")[0].split(":")[0]
    return base.isidentifier() and (base in names() or is_prepared(dataset, data_dir))


def open_tfds(
    dataset: str, split: str, data_dir: str | None = None, manual_dir: str | None = None
) -> RecordSource:
    """Returns one split of a dataset; it is prepared first if it has not been.

    Args:
      dataset: "cifar10", "imagenet_resized/64x64", "imagenet2012:5.1.0".
      split: as TFDS writes it: "train", "train[:98%]", "train[10%:20%]+test".
      data_dir: where prepared datasets lie; None is TFDS's own place.
      manual_dir: where files lie that TFDS may not download; None is TFDS's own place.

    Raises:
      ConfigError: no configuration of that name.
      DataError: no such split, no image or no label in it, or it cannot be downloaded or prepared.
    """
    info = _info(dataset, data_dir, manual_dir, _keys)
    image, label = _keys(info)
    records, title = _records(info, split)
    classes = tuple(info.features[label].names)
    source = RecordSource(records, image, label, classes, title, _file_name_key(info))
    source[0]  # one whose labels were never published is no use, and says so now
    return source


def open_tfds_pairs(
    dataset: str, split: str, data_dir: str | None = None, manual_dir: str | None = None
) -> RecordPairs:
    """Returns one split of a dataset of images with captions, such as "coco_captions".

    The arguments and errors are those of `open_tfds`, but for a text in the place of the label.
    """
    info = _info(dataset, data_dir, manual_dir, _caption_keys)
    image, caption = _caption_keys(info)
    records, title = _records(info, split)
    return RecordPairs(records, image, caption, title)


def _info(
    dataset: str, data_dir: str | None, manual_dir: str | None, keys: Callable[[Any], Any]
) -> Any:
    """Returns what TFDS says of a dataset, which is prepared first if it has not been."""
    found = _prepared(dataset, data_dir)
    return (found or _prepare(dataset, data_dir, manual_dir, keys)).info


def _records(info: Any, split: str) -> tuple[Records, str]:
    """Returns the examples of a split, and what to call it."""
    title = f"{info.full_name} {split}"
    parts = _parts(info, split)
    if not parts:
        raise DataError(f"{title}: holds no examples")
    return open_records(parts, info.file_format.value), title


def _prepared(dataset: str, data_dir: str | None) -> Any:
    """Returns the builder of a dataset whose files are there, or None."""
    from tensorflow_datasets.core import read_only_builder, registered

    try:
        return read_only_builder.builder_from_files(dataset, data_dir=data_dir)
    except (registered.DatasetNotFoundError, FileNotFoundError):
        return None
    except Exception as error:  # of files half copied or damaged: JSON, protocol buffers, versions
        raise DataError(f"{dataset}: its prepared files cannot be read: {_line(error)}") from error


def _parts(info: Any, split: str) -> list[Part]:
    """Returns which records of which files make up a split."""
    try:
        instructions = info.splits[split].file_instructions
    except (ValueError, KeyError, AssertionError) as error:
        raise DataError(
            f"{info.full_name}: no split {split!r}; has {', '.join(info.splits)}, and parts of "
            f"them such as 'train[:98%]'"
        ) from error
    return [Part(str(each.filename), each.skip, each.take) for each in instructions]


def _keys(info: Any) -> tuple[str, str]:
    """Returns the names of the image and of the label."""
    from tensorflow_datasets import features as kinds

    features, images = _images(info)
    labels = [name for name, kind in features.items() if isinstance(kind, kinds.ClassLabel)]
    if not images or not labels:
        raise _lacks(info, features, "label" if images else "image", "a ClassLabel")
    return _meant(info, images, "image"), _meant(info, labels, "label")


def _file_name_key(info: Any) -> str | None:
    """Returns the name of the text that says what file an image was, as ImageNet has it."""
    from tensorflow_datasets import features as kinds

    features: dict[str, Any] = dict(info.features.items())
    return _FILE_NAME if isinstance(features.get(_FILE_NAME), kinds.Text) else None


def _caption_keys(info: Any) -> tuple[str, str]:
    """Returns the names of the image and of its captions: one text, or a sequence of them."""
    from tensorflow_datasets import features as kinds

    features, images = _images(info)
    texts: list[str] = []
    for name, kind in features.items():
        inner = kind.feature if isinstance(kind, kinds.Sequence) else kind
        if isinstance(inner, kinds.FeaturesDict):
            parts: dict[str, Any] = dict(inner.items())
            texts += [f"{name}/{part}" for part, of in parts.items() if isinstance(of, kinds.Text)]
        elif isinstance(inner, kinds.Text):
            texts.append(name)
    texts = [
        name for name in texts if any(word in name for word in _CAPTION_WORDS)
    ]  # no file names
    if not images or not texts:
        said = ", ".join(_CAPTION_WORDS)
        raise _lacks(
            info,
            features,
            "caption" if images else "image",
            f"a Text with one of {said} in its name",
        )
    return _meant(info, images, "image"), texts[0]


def _images(info: Any) -> tuple[dict[str, Any], list[str]]:
    """Returns the features of a dataset by name, and which of them are images."""
    from tensorflow_datasets import features as kinds

    has_names = isinstance(info.features, kinds.FeaturesDict)
    features: dict[str, Any] = dict(info.features.items()) if has_names else {}
    return features, [
        name
        for name, kind in features.items()
        if isinstance(kind, kinds.Image) and kind.np_dtype in (np.uint8, np.uint16)
    ]


def _lacks(info: Any, features: dict[str, Any], what: str, kind: str) -> DataError:
    has = ", ".join(f"{name} ({type(kind).__name__})" for name, kind in features.items())
    return DataError(
        f"{info.full_name}: has no {what} to learn from among its features: "
        f"{has or 'none by name'}; it needs an Image of 8 or 16 bits and {kind}"
    )


def _meant(info: Any, found: list[str], usual: str) -> str:
    # Masks are images too, and species are classes: those meant for training come first.
    return next(
        (name for name in (*(info.supervised_keys or ()), usual) if name in found), found[0]
    )


def _prepare(
    dataset: str, data_dir: str | None, manual_dir: str | None, keys: Callable[[Any], Any]
) -> Any:
    """Downloads and prepares a dataset with TFDS, which shows its progress."""
    import tensorflow_datasets as tfds

    builder = _builder(dataset, data_dir)
    keys(builder.info)  # before hours of downloading what cannot be used
    _check_manual(dataset, builder, manual_dir)
    _hide_accelerators()
    settings = tfds.download.DownloadConfig(manual_dir=manual_dir)
    try:
        builder.download_and_prepare(download_config=settings)
    except ImportError as error:
        raise DataError(
            f"{dataset}: is not prepared in {builder.data_dir}, and to prepare it "
            f"{error.name or 'TensorFlow'} is missing: {EXTRA}, or copy the prepared folder there"
        ) from error
    except Exception as error:  # of the network, the disk or the code of the dataset
        raise DataError(_why_not(dataset, builder, manual_dir, error)) from error
    return builder


def _builder(dataset: str, data_dir: str | None) -> Any:
    import tensorflow_datasets as tfds

    # Its own bucket for prepared files would be asked first, and answers no one by now.
    settings = {"data_dir": data_dir, "file_format": "array_record", "try_gcs": False}
    try:
        return tfds.builder(dataset, **settings)
    except ImportError as error:
        raise DataError(
            f"{dataset}: its code needs {error.name or 'TensorFlow'}: {EXTRA}"
        ) from error
    except Exception as error:
        base, _, config = dataset.partition("/")
        known: list[str] = []
        with contextlib.suppress(Exception):
            known = list(tfds.builder_cls(base.split(":")[0]).builder_configs)
        hint = nearest(config, known)
        raise ConfigError(f"config.dataset={dataset!r}: {_line(error)}{hint}") from error


def _check_manual(dataset: str, builder: Any, manual_dir: str | None) -> None:
    """Raises DataError with TFDS's instructions if files must be fetched by hand, and none were."""
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        place = _manual_place(builder, manual_dir)
        if not place.is_dir() or not any(place.iterdir()):
            raise DataError(_why_not(dataset, builder, manual_dir, f"{place} is empty"))


def _manual_place(builder: Any, manual_dir: str | None) -> Path:
    root = Path(builder._data_dir_root).expanduser()
    return Path(manual_dir).expanduser() if manual_dir else root / "downloads" / "manual"


def _why_not(dataset: str, builder: Any, manual_dir: str | None, reason: object) -> str:
    """Says in one line why a dataset could not be prepared, and what to do."""
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        return (
            f"{dataset}: is not prepared in {builder.data_dir}, and must be fetched by hand into "
            f"{_manual_place(builder, manual_dir)} (config.tfds_manual_dir): {_line(reason)}; TFDS "
            f"says: {_line(builder.MANUAL_DOWNLOAD_INSTRUCTIONS)}"
        )
    return (
        f"{dataset}: could not be downloaded or prepared in {builder.data_dir}: {_line(reason)}; "
        "try again where the network reaches its source, or copy the prepared folder there "
        "(config.tfds_data_dir)"
    )


def _hide_accelerators() -> None:
    """Keeps TensorFlow, where it is installed, from taking the memory of the GPU."""
    if importlib.util.find_spec("tensorflow") is not None:
        tensorflow = importlib.import_module("tensorflow")
        for kind in ("GPU", "TPU"):
            tensorflow.config.set_visible_devices([], kind)


def _line(text: object, limit: int = 400) -> str:
    """Returns a text of many lines as one, of a readable length."""
    words = " ".join(str(text).split()) or type(text).__name__
    return words if len(words) <= limit else f"{words[:limit]}…"
