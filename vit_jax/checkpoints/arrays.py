"""Named arrays in files: npz and safetensors, by content and not by name, nothing unpickled.

A path is an npz or safetensors file, a folder with `model.safetensors`, or a sharded safetensors
model (its folder or its index). Every error is a `CheckpointError` of one line that names the file.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np

from vit_jax.checkpoints import npz, safetensors_file, shards
from vit_jax.checkpoints.headers import Header
from vit_jax.checkpoints.kinds import locate
from vit_jax.checkpoints.npz import write_npz
from vit_jax.checkpoints.safetensors_file import write_safetensors
from vit_jax.errors import CheckpointError

__all__ = [
    "Header",
    "check_finite",
    "read_arrays",
    "read_headers",
    "read_metadata",
    "stream_arrays",
    "write_npz",
    "write_safetensors",
]

_READERS = {"npz": npz, "safetensors": safetensors_file, "index": shards}
_LISTED = 3  # arrays named in one error
_AT_ONCE = 2**28  # bytes of arrays that are streamed together


def read_headers(path: str | Path) -> dict[str, Header]:
    """Returns {name: (dtype, shape)} in the file's order; no array is read.

    Raises:
      CheckpointError: not a file of weights, or a damaged or deceiving one: what is declared
          must agree with the bytes that are there, and stay below 64 GiB and 100 times the size
          of the file.
    """
    file, kind = locate(path)
    return _READERS[kind].read_headers(file)


def read_arrays(path: str | Path, names: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Returns {name: array} for `names`, or for all; all headers are checked first.

    Raises:
      CheckpointError: as `read_headers`; also for a name that is not there, and for elements
          that are cut off or do not agree with their checksum.
    """
    file, kind = locate(path)
    return _READERS[kind].read_arrays(file, names)


def stream_arrays(path: str | Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yields every (name, array) in the file's order, and holds no more than 256 MiB of them.

    A single array that is larger is held alone. Raises as `read_arrays` does.
    """
    together: list[str] = []
    size = 0
    for name, header in read_headers(path).items():
        if together and size + header.nbytes > _AT_ONCE:
            yield from read_arrays(path, together).items()
            together, size = [], 0
        together.append(name)
        size += header.nbytes
    yield from read_arrays(path, together).items()


def read_metadata(path: str | Path) -> dict[str, str]:
    """Returns the notes in a file: `__metadata__` of safetensors, the comment of our own npz.

    {} where there are none, and for an index.
    """
    file, kind = locate(path)
    if kind == "npz":
        return npz.read_metadata(file)
    return safetensors_file.read_metadata(file) if kind == "safetensors" else {}


def check_finite(arrays: Mapping[str, np.ndarray], path: str | Path) -> None:
    """Raises `CheckpointError` if a value is NaN or infinite; `path` is named as their source."""
    counts = {name: _count_not_finite(array) for name, array in arrays.items()}
    bad = {name: count for name, count in counts.items() if count}
    if bad:
        named = [f"{name} ({count} of {arrays[name].size})" for name, count in bad.items()]
        more = f" and {len(bad) - _LISTED} more arrays" if len(bad) > _LISTED else ""
        raise CheckpointError(
            f"{path}: {sum(bad.values())} values are NaN or infinite, in "
            f"{', '.join(named[:_LISTED])}{more}; the file is damaged, or its training "
            "diverged: use another"
        )


def _count_not_finite(array: np.ndarray) -> int:
    if array.dtype.kind in "biu":
        return 0
    return array.size - int(np.count_nonzero(np.isfinite(array)))
