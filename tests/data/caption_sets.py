"""Image-text pairs made for a test: folders, tar shards and datasets of TFDS."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from tests.data import pictures


def image_bytes(number: int, size: tuple[int, int] = (8, 9)) -> bytes:
    return pictures.encoded(pictures.noise(*size, seed=number))


def text_folder(root: Path, count: int, split: str = "train", per_image: int = 1) -> Path:
    """Writes images with a text file beside each: line j of image i is "image i, line j"."""
    files: dict[str, bytes] = {}
    for i in range(count):
        lines = [f"image {i}, line {j}" for j in range(per_image)]
        files[f"{split}/{i:03}.png"] = image_bytes(i)
        files[f"{split}/{i:03}.txt"] = "\n".join(lines).encode()
    pictures.write(root, files)
    return root


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    """Writes {name: content} as a tar file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def shards(root: Path, counts: Mapping[str, int]) -> Path:
    """Writes {shard's name: samples}; samples are numbered through, every second with a .json."""
    number = 0
    for name, count in counts.items():
        members: dict[str, bytes] = {}
        for _ in range(count):
            key, caption = f"{number:06}", f"sample {number}"
            members[f"{key}.png"] = image_bytes(number)
            if number % 2:
                members[f"{key}.json"] = json.dumps({"caption": caption, "width": 9}).encode()
            else:
                members[f"{key}.txt"] = caption.encode()
            number += 1
        write_tar(root / name, members)
    return root


class TinyCaptions(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """The features of "coco_captions", whose own code needs TensorFlow."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        captions = tfds.features.Sequence(
            {"id": tfds.features.Scalar(np.int64), "text": tfds.features.Text()}
        )
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({
                "image": tfds.features.Image(shape=(None, None, 3)),
                "image/filename": tfds.features.Text(),
                "captions": captions,
            })
        )  # fmt: skip

    def _split_generators(self, _):
        raise NotImplementedError

    def _generate_examples(self):
        raise NotImplementedError


def write_set(root: Path, counts: Mapping[str, int], per_image: int = 2) -> str:
    """Writes splits of so many examples with TFDS's own writer; returns the dataset's name.

    The last example of a split has no caption.
    """
    builder = TinyCaptions(data_dir=root, file_format="array_record")
    Path(builder.data_dir).mkdir(parents=True)
    writer = tfds.core.SequentialWriter(builder.info, 7, file_format="array_record")
    writer.initialize_splits(list(counts))
    for split, count in counts.items():
        for i in range(count):
            texts = [] if i == count - 1 else [f"image {i}, line {j}" for j in range(per_image)]
            example = {
                "image": io.BytesIO(image_bytes(i)),
                "image/filename": f"{i}.png",
                "captions": [{"id": j, "text": text} for j, text in enumerate(texts)],
            }
            writer.add_examples({split: [example]})
    writer.close_all()
    return "tiny_captions"
