"""Datasets as TFDS prepares them, under their real names, made of a few images for a test."""

import io
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_data_source import ArrayRecordDataSource

from tests.data import pictures

# What else an example of these has; TFDS refuses one that lacks any of its features. Files of
# ImageNet are numbered backwards: the order of records is not that of names.
OTHERS: dict[str, dict[str, Any]] = {
    "cifar10": {"id": "7"},
    "cifar100": {"id": "7", "coarse_label": 3},
    "imagenet2012": {"file_name": lambda number: f"ILSVRC2012_val_{100 - number:08}.JPEG"},
    "oxford_iiit_pet": {
        "file_name": "7",
        "species": 1,
        "head_bbox": tfds.features.BBox(0.0, 0.0, 1.0, 1.0),
    },
    "cats_vs_dogs": {"image/filename": "7.jpg"},
    "oxford_flowers102": {"file_name": "7"},
    "imagenet_resized/64x64": {},
    "mnist": {},
}
PER_SHARD = 7


def image_shape(name: str) -> tuple[int | None, ...]:
    """Returns (height, width, channels) of a dataset's images, None where each has its own."""
    features: Any = tfds.builder(name, try_gcs=False).info.features
    return features["image"].shape


def image_of(index: int, shape: tuple[int | None, ...]) -> np.ndarray:
    """Returns the pixels of example `index`, of a size of its own where the dataset has none."""
    height, width, bands = shape
    size = (height or 8 + index % 3, width or 9)
    return pictures.noise(*size, seed=index)[..., : bands or 3].squeeze()


def write_set(
    root: Path,
    name: str,
    counts: Mapping[str, int],
    file_format: str = "array_record",
    label: int | None = None,
) -> Path:
    """Writes splits of so many examples with TFDS's own writer; returns the folder of the dataset.

    Examples are numbered through all splits; example i has label i % 2, or the one given.
    """
    builder = tfds.builder(name, data_dir=root, file_format="array_record", try_gcs=False)
    info, folder = builder.info, Path(builder.data_dir)
    folder.mkdir(parents=True)
    writer = tfds.core.SequentialWriter(info, PER_SHARD, file_format="array_record")
    writer.initialize_splits(list(counts))
    number = 0
    for split, count in counts.items():
        for _ in range(count):
            writer.add_examples({split: [_example(name, info, number, label)]})
            number += 1
    writer.close_all()
    if file_format == "tfrecord":
        _as_tfrecord(folder)
    return folder


def _example(name: str, info: Any, number: int, label: int | None) -> dict[str, Any]:
    pixels = image_of(number, info.features["image"].shape)
    others = {key: own(number) if callable(own) else own for key, own in OTHERS[name].items()}
    if "segmentation_mask" in info.features:
        others["segmentation_mask"] = io.BytesIO(pictures.encoded(pixels[..., 0]))
    return {
        "image": io.BytesIO(pictures.encoded(pixels)),
        "label": number % 2 if label is None else label,
        **others,
    }


def _as_tfrecord(folder: Path) -> None:
    """Rewrites a dataset as TFDS would have written it with TensorFlow."""
    for path in folder.glob("*.array_record-*"):
        records = ArrayRecordDataSource([str(path)])
        content = b"".join(tfrecord(records[i]) for i in range(len(records)))
        path.with_name(path.name.replace("array_record", "tfrecord")).write_bytes(content)
        path.unlink()
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))


def tfrecord(record: bytes) -> bytes:
    """Returns a record as it stands in a TFRecord file."""
    length = struct.pack("<Q", len(record))
    sums = (struct.pack("<I", _masked_checksum(part)) for part in (length, record))
    return length + next(sums) + record + next(sums)


def _masked_checksum(data: bytes) -> int:
    """CRC-32C (polynomial 0x1EDC6F41, bits reversed), turned and shifted as the format wants it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 * (crc & 1))
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
