"""Image-text pairs in tar shards, as WebDataset writes them: NAME.jpg beside NAME.txt or .json.

The shards are read at the places that a step asks for, and nothing else of them: which pairs a step
takes is a true permutation of all pairs, found from the step alone, so that a run goes on exactly
where it was. Each process reads the pairs of its own rows of a batch, from whichever shards.
"""

import bisect
import dataclasses
import functools
import itertools
import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from vit_jax.data.folder import SPLITS
from vit_jax.data.held_out import is_test
from vit_jax.data.tar_index import Sample, index_tar
from vit_jax.errors import DataError

_THREADS = 16
_CAPTIONS = ("caption", "captions", "text")  # the fields of a .json, the first that is there
_PART = re.compile(rf"(?:.*/)?({'|'.join(SPLITS)})(?![A-Za-z])")


@dataclasses.dataclass(frozen=True)
class TarPairs:
    """The pairs of some tar files.

    Attributes:
      shards: the files.
      samples: for each of them, those that count.
    """

    shards: Sequence[Path]
    samples: Sequence[Sequence[Sample]]

    def __len__(self) -> int:
        return self._ends[-1]

    def image(self, index: int) -> bytes:
        shard, sample = self._at(index)
        return self._read(shard, sample.key, sample.image)

    def captions(self, index: int) -> tuple[str, ...]:
        shard, sample = self._at(index)
        if sample.text is None:
            return ()
        found = self._read(shard, sample.key, sample.text)
        try:
            text = found.decode("utf-8-sig")
            return _of_json(text) if sample.text[0] == ".json" else tuple(text.splitlines())
        except (ValueError, TypeError, RecursionError) as error:
            raise DataError(f"{self.name(index)}: its caption cannot be read: {error}") from error

    def name(self, index: int) -> str:
        shard, sample = self._at(index)
        return f"{self.shards[shard]}, {sample.key}{sample.image[0]}"

    @functools.cached_property
    def _ends(self) -> list[int]:
        return list(itertools.accumulate(map(len, self.samples)))

    def _at(self, index: int) -> tuple[int, Sample]:
        shard = bisect.bisect_right(self._ends, index)
        return shard, self.samples[shard][index - self._ends[shard]]  # counted from its end

    def _read(self, shard: int, key: str, place: tuple[str, int, int]) -> bytes:
        path, (_, start, size) = self.shards[shard], place
        try:
            with open(path, "rb", buffering=0) as file:
                file.seek(start)
                found = file.read(size)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
        if found is None or len(found) < size:
            raise DataError(f"{path}, {key}: ends before its end; was the file changed?")
        return found


def _of_json(text: str) -> tuple[str, ...]:
    said = json.loads(text)
    if not isinstance(said, dict):
        raise TypeError("not a JSON object")
    found = next((said[name] for name in _CAPTIONS if said.get(name)), ())
    listed = [found] if isinstance(found, str) else found
    if not all(isinstance(one, str) for one in listed):
        raise TypeError("no text, and no list of texts")
    return tuple(listed)


def tar_files(folder: Path) -> list[Path]:
    """Returns the tar files in a folder and in the folders in it, in order."""
    return sorted([*folder.glob("*.tar"), *folder.glob("*/*.tar")])


def open_tar_pairs(folder: Path, split: str) -> TarPairs:
    """Returns one split of a folder of shards.

    A shard belongs to a split by its folder or by how its name begins (`train-000001.tar`,
    `val/0001.tar`). Where no name says so, a hash of the names of the samples holds about 20 % out.

    Raises:
      DataError: no such split, no images, or a shard that cannot be read.
    """
    files = tar_files(folder)
    parts = {path: _part(path.relative_to(folder)) for path in files}
    known = sorted({part for part in parts.values() if part})
    if split not in (known or ("train", "test")):
        has = ", ".join(known) or "train and test, as no shard's name begins with a split"
        raise DataError(f"{folder}: no split {split!r}; has {has}")
    chosen = [path for path in files if parts[path] == split] if known else files
    with ThreadPoolExecutor(_THREADS) as pool:
        samples = list(pool.map(index_tar, chosen))
    if not known:
        samples = [
            [sample for sample in each if is_test(sample.key) == (split == "test")]
            for each in samples
        ]
    if not any(samples):
        raise DataError(f"{folder}: its {len(chosen)} tar files hold no images for {split!r}")
    return TarPairs(chosen, samples)


def _part(path: Path) -> str | None:
    """Returns the split that a shard's path names."""
    found = _PART.match(path.as_posix())
    return found[1] if found else None
