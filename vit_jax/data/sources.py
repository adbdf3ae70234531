"""Where images come from: random access to (image, label), whatever holds them.

A source has a length, class names, and `source[i] → (encoded image or uint8 array, label)`.
"""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, overload, runtime_checkable

import numpy as np
from jaxtyping import Int32, UInt8

from vit_jax.errors import DataError


@runtime_checkable
class Source(Protocol):
    """What the pipeline asks of a dataset split."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of all classes of the dataset, the same and in the same order for each split."""
        ...

    @property
    def labels(self) -> Int32[np.ndarray, "n"]:
        """Class index of every example."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[bytes | UInt8[np.ndarray, "h w c"], int]:
        """Returns the file's bytes, or RGB pixels, and the class index."""
        ...

    def name(self, index: int) -> str:
        """Names an example for a message: its path, or its number."""
        ...


@dataclasses.dataclass(frozen=True)
class FilePaths(Sequence[Path]):
    """Paths below a folder, kept as strings: a million of them take a fifth of the memory."""

    root: Path
    names: Sequence[str]  # relative to the root

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Path: ...

    @overload
    def __getitem__(self, index: slice) -> "FilePaths": ...

    def __getitem__(self, index: int | slice) -> "Path | FilePaths":
        if isinstance(index, slice):
            return FilePaths(self.root, self.names[index])
        return self.root / self.names[index]

    def text(self, index: int) -> str:
        """Returns the path as a string, for a ninth of the time."""
        return f"{self.root}{os.sep}{self.names[index]}"


@dataclasses.dataclass(frozen=True)
class ArraySource:
    """Images of one size in memory.

    Attributes:
      images, labels: (n, h, w, 3) and (n,).
      class_names: names of all classes.
      stand_ins: for each example the one to train on in its place, which is another where its own
        image could not be read; None where all could.
      paths: of the files the images were read from, if they were.
    """

    images: UInt8[np.ndarray, "n h w 3"]
    labels: Int32[np.ndarray, "n"]
    class_names: tuple[str, ...]
    stand_ins: Int32[np.ndarray, "n"] | None = None
    paths: FilePaths | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[UInt8[np.ndarray, "h w 3"], int]:
        return self.images[index], int(self.labels[index])

    def name(self, index: int) -> str:
        return self.paths.text(index) if self.paths else f"example {index}"


@dataclasses.dataclass(frozen=True)
class FileSource:
    """Encoded image files, read when asked for."""

    paths: FilePaths
    labels: Int32[np.ndarray, "n"]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[bytes, int]:
        try:
            return content(self.name(index)), int(self.labels[index])
        except OSError as error:
            raise DataError(f"{self.name(index)}: cannot be read: {error.strerror}") from error

    def name(self, index: int) -> str:
        return self.paths.text(index)


def content(path: str) -> bytes:
    """Reads a file with no object in between, which counts where images are small."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        parts, missing = [], os.fstat(descriptor).st_size
        # A network's read may bring less than asked for. Memory for it is never asked for in vain:
        # a read to find the end, with room for a megabyte, took twice the time of the whole file.
        while missing > 0 and (part := os.read(descriptor, missing)):
            parts.append(part)
            missing -= len(part)
    finally:
        os.close(descriptor)
    return parts[0] if len(parts) == 1 else b"".join(parts)
