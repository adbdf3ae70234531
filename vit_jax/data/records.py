"""Examples that lie in record files as tf.train.Example protocol buffers, as TFDS writes them."""

import dataclasses
import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32

from vit_jax.data.tfrecord import Part, TfRecords
from vit_jax.errors import DataError

_THREADS = 16


@runtime_checkable
class Records(Protocol):
    """Serialised examples at random access."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> bytes: ...


@dataclasses.dataclass(frozen=True)
class RecordSource:
    """Encoded images and their labels, read when asked for.

    Attributes:
      records: serialised examples.
      image, label: names of their features.
      class_names: names of all classes.
      title: what to call the split in a message.
      file_name: name of the feature that says what file an image was; None where there is none.
    """

    records: Records
    image: str
    label: str
    class_names: tuple[str, ...]
    title: str
    file_name: str | None = None

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        features = read_features(self.records, index, self.name(index))
        try:
            data, label = features[self.image].bytes_list, features[self.label].int64_list
            return data.value[0], self._checked(index, label.value[0])
        except IndexError as error:
            raise DataError(f"{self.name(index)}: has no image or no label") from error

    @property
    def labels(self) -> Int32[np.ndarray, "n"]:
        """Class index of every example; all records are read for them, once."""
        return self._labels

    @functools.cached_property
    def _labels(self) -> Int32[np.ndarray, "n"]:
        with ThreadPoolExecutor(_THREADS) as pool:
            read = pool.map(lambda index: self[index][1], range(len(self)))
            return np.fromiter(read, np.int32, len(self))

    def file_names(self) -> list[str] | None:
        """Returns the file that each image was, if it is kept; all records are read for them."""
        if self.file_name is None:
            return None
        with ThreadPoolExecutor(_THREADS) as pool:
            return [*pool.map(self._file_name, range(len(self)))]

    def _file_name(self, index: int) -> str:
        features = read_features(self.records, index, self.name(index))
        found = features[self.file_name].bytes_list.value
        if not found:
            raise DataError(f"{self.name(index)}: has no {self.file_name}")
        return found[0].decode("utf-8", "replace")

    def name(self, index: int) -> str:
        return f"{self.title}, example {index}"

    def _checked(self, index: int, label: int) -> int:
        if not 0 <= label < len(self.class_names):
            raise DataError(
                f"{self.name(index)}: label {label} for {len(self.class_names)} classes; a split "
                "whose labels were never published has -1, and cannot be used"
            )
        return label


def read_features(records: Records, index: int, name: str) -> Any:
    """Returns the features of an example by name.

    Args:
      records: serialised examples.
      index: which.
      name: what to call it in an error.

    Raises:
      DataError: it cannot be read.
    """
    from google.protobuf.message import DecodeError

    try:
        return _example_class().FromString(records[index]).features.feature
    except DecodeError as error:
        raise DataError(f"{name}: not a tf.train.Example; damaged?") from error
    # What ArrayRecord raises for a damaged or missing file is none of Python's own errors.
    except (OSError, ValueError, RuntimeError, IndexError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{name}: cannot be read: {reason}") from error


@functools.cache
def _example_class() -> Any:
    """Returns tf.train.Example, as TFDS carries it; its module is made by a compiler, untyped."""
    from tensorflow_datasets.proto import tf_example_pb2

    return vars(tf_example_pb2)["Example"]


def open_records(parts: Sequence[Part], file_format: str) -> Records:
    """Returns the records of parts of files, at random access and without TensorFlow.

    Args:
      parts: which records of which files, in order.
      file_format: "array_record" or "tfrecord".

    Raises:
      DataError: another format, or a file that cannot be read.
    """
    if file_format == "tfrecord":
        return TfRecords(parts)
    if file_format != "array_record":
        raise DataError(
            f"{parts[0].filename}: format {file_format!r} is not read; prepare the dataset as "
            "array_record or tfrecord"
        )
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    _allow_open_files(len(parts))
    return ArrayRecordDataSource(
        [f"{part.filename}[{part.skip}:{part.skip + part.take}]" for part in parts]
    )


def _allow_open_files(count: int) -> None:
    """Lets the process hold so many files open besides others, as far as the system allows.

    ArrayRecord keeps every file open that it has read from; ImageNet has 1,024 of them, as many as
    Linux allows a process unless asked.
    """
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 512
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
