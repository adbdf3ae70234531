"""What a file of weights declares of each array, and what it may declare.

Weights come from strangers: a header is checked before memory is taken for what it promises.
"""

import math
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from vit_jax.errors import CheckpointError, nearest

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = (*(np.dtype(code) for code in "? i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8".split()), BFLOAT16)

MAX_BYTES = 64 * 2**30  # declared by one file; the largest published ViT takes 8 GB
MAX_DIMENSIONS = 32
MAX_NAME = 500


class Header(NamedTuple):
    """The dtype (bfloat16 is that of ml_dtypes) and the shape of one stored array."""

    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """The bytes of the array's elements."""
        return math.prod(self.shape) * self.dtype.itemsize


def check_header(header: Header, where: str) -> None:
    """Raises `CheckpointError`, opened with `where`, for an array that cannot or may not be."""
    if header.dtype not in DTYPES:
        raise CheckpointError(
            f"{where}: dtype {header.dtype} is not one of weights; booleans, integers, float16, "
            "bfloat16, float32 and float64 are read"
        )
    shape = header.shape
    if len(shape) > MAX_DIMENSIONS or any(type(n) is not int or n < 0 for n in shape):
        raise CheckpointError(
            f"{where}: shape {_short(shape)} is not one of an array; the file is damaged"
        )
    # An empty array takes no bytes, but NumPy still multiplies its other dimensions.
    if math.prod(n or 1 for n in shape) * header.dtype.itemsize > MAX_BYTES:
        raise CheckpointError(
            f"{where}: shape {_short(shape)} declares more than {MAX_BYTES >> 30} GiB, the most "
            "that is read; the file is damaged or no file of weights"
        )


def check_name(name: str, path: Path) -> None:
    """Raises `CheckpointError` for a name that cannot be shown in one line of an error."""
    if not name.isprintable() or len(name) > MAX_NAME:
        raise CheckpointError(
            f"{path}: {name[:80]!r} is no name of an array: control characters, or more than "
            f"{MAX_NAME} characters; the file is damaged"
        )


def check_total(headers: Iterable[Header], path: Path) -> None:
    """Raises `CheckpointError` if the arrays of one file take more than `MAX_BYTES` together."""
    if (total := sum(header.nbytes for header in headers)) > MAX_BYTES:
        raise CheckpointError(
            f"{path}: declares {total} bytes of arrays; no more than {MAX_BYTES >> 30} GiB are "
            "read from one file"
        )


def check_asked(names: Iterable[str], known: Collection[str], path: Path) -> None:
    """Raises `CheckpointError` for the first name that is not one of the file's."""
    for name in names:
        if name not in known:
            raise CheckpointError(f"{path}: holds no array {name!r}{nearest(name, known)}")


def _short(shape: tuple[Any, ...]) -> str:
    text = str(shape)
    return text if len(text) <= 80 else f"{text[:80]}…"
