"""What tells the content of two sources apart, without reading it where files say enough."""

import hashlib
import os
from collections.abc import Iterable

from vit_jax.data.caption_folder import FilePairs
from vit_jax.data.pairs import ClassPairs, PairSource
from vit_jax.data.record_pairs import RecordPairs
from vit_jax.data.records import RecordSource
from vit_jax.data.sources import ArraySource, FileSource
from vit_jax.data.tar_pairs import TarPairs


def stamp(source: object) -> str | None:
    """Returns a digest that differs where the images of two sources do, or their order.

    Of files it knows path, size and time. None for a source of a kind that says nothing of itself.
    """
    if isinstance(source, PairSource):
        return stamp(source.pairs)
    if isinstance(source, ClassPairs):
        return stamp(source.images)
    if isinstance(source, ArraySource):
        return digest([str(source.images.shape).encode(), source.images.tobytes()])
    if isinstance(source, FileSource | FilePairs):
        return digest(_of_file(source.name(index)) for index in range(len(source)))
    if isinstance(source, TarPairs):
        keys = (sample.key.encode() for samples in source.samples for sample in samples)
        return digest([*(_of_file(str(path)) for path in source.shards), *keys])
    if isinstance(source, RecordSource | RecordPairs):
        # Datasets of TFDS have versions; the ends tell a part of one from another.
        said = [source.title.encode(), str(len(source)).encode()]
        return digest([*said, *(source.records[i] for i in (0, len(source) - 1))])
    return None


def listing(source: object) -> str | None:
    """Returns a digest of the names and labels of a source, in order: what a copy of it shares.

    None where names or labels are not at hand without reading the data, as of datasets of TFDS.
    """
    if not isinstance(source, ArraySource | FileSource):
        return None
    names = "\0".join(source.paths.names if source.paths else ())
    return digest(
        [
            source.labels.astype("<i4").tobytes(),
            names.encode(errors="surrogateescape"),
        ]
    )


def _of_file(path: str) -> bytes:
    try:
        status = os.stat(path)
    except OSError:  # gone: who reads it will say so
        return path.encode(errors="surrogateescape")
    return f"{path}|{status.st_size}|{status.st_mtime_ns}".encode(errors="surrogateescape")


def digest(parts: Iterable[bytes]) -> str:
    """Returns the SHA-256 of parts, each with its length: no two lists of them are alike."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(len(part).to_bytes(8, "big") + part)
    return sha.hexdigest()
